"""Requests to a server that may be slow, busy or broken: retried, some at a time, and every answer kept at once."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

from ..errors import InputError
from ..runs.progress import Bar
from ..runs.row_log import RowLog
from ..text.tables import printable
from .settings import RequestSettings

logger = logging.getLogger(__name__)

# After so many failures in a row, the other requests would fail as well.
_FAILURES_IN_A_ROW = 8
# After so many useless answers in a row, a model gives no others.
_USELESS_IN_A_ROW = 32


class RequestFailed(Exception):
    """
    A request without an answer.

    Args:
        message (`str`): Why, without secrets.
        retry (`bool`, *optional*, defaults to `False`): Whether the same request may succeed later.
        wait (`float`, *optional*): Seconds after which the server wants to be asked again.
        fatal (`bool`, *optional*, defaults to `False`): Whether every other request will fail as well.
        answered (`bool`, *optional*, defaults to `False`): Whether there was an answer, which may have cost something.
    """

    def __init__(
        self,
        message: str,
        *,
        retry: bool = False,
        wait: float | None = None,
        fatal: bool = False,
        answered: bool = False,
    ):
        super().__init__(message)
        self.retry, self.wait, self.fatal, self.answered = retry, wait, fatal, answered


class UselessAnswers(InputError):
    """A server that gives only useless answers."""


class RequestPool:
    """
    Sends requests from several threads. A thread writes each answer to a log before it sends its next request, so that a killed run
    asks nothing twice that was answered.

    Args:
        send (`Callable`):
            Sends one request and returns its answer, json-like. Raises [`RequestFailed`].
        log (`RowLog`):
            Answers by key; open.
        settings ([`RequestSettings`]):
            Retries and concurrency.
        unreadable (`Callable`, *optional*):
            Why an answer says nothing, or `None` where it says something. An answer that says nothing is kept, and the question is
            asked again. Raises [`RequestFailed`] for what is no answer at all: it is not kept, and one in the log is forgotten.
    """

    def __init__(
        self,
        send: Callable[[Any], Any],
        log: RowLog,
        settings: RequestSettings,
        unreadable: Callable[[Any], str | None] | None = None,
    ):
        self.send, self.log, self.settings = send, log, settings
        self.unreadable = unreadable or (lambda answer: None)
        self.failures: dict[str, str] = {}
        self.num_sent = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._not_before = 0.0
        self._failed_in_a_row = self._useless_in_a_row = 0
        self._gave_up: InputError | None = None
        self._said_wait = False

    def answers(self, requests: Mapping[str, Any], title: str = "requests") -> Iterator[tuple[str, Any]]:
        """
        Key and answer of each request, known ones first, then as they come; `None` after the last failed try. `failures` has the
        reason of each of these, and of each answer that says nothing.

        Args:
            requests (mapping): Requests by a key that stands for their whole content.
            title (`str`, *optional*, defaults to `"requests"`): Name of the progress bar.

        Raises:
            InputError: When the server refuses every request, or many in a row.
        """
        self._gave_up = None
        self._failed_in_a_row = self._useless_in_a_row = 0
        self._stop.clear()
        known = known_answers(self.log, requests, self.settings, self.unreadable)
        self.failures = {key: reason for key, reason in known.items() if reason is not None}
        yield from ((key, self.log[key]) for key in known)
        open_keys = [key for key in requests if key not in known]
        if not open_keys:
            return
        bar = Bar(total=len(requests), initial=len(known), desc=printable(title), disable=None)
        executor = ThreadPoolExecutor(self.settings.max_concurrency, thread_name_prefix="pd_trl-request")
        try:
            futures: dict[Future, str] = {executor.submit(self._answer, key, requests[key]): key for key in open_keys}
            for future in as_completed(futures):
                key = futures[future]
                try:
                    answer = future.result()
                except RequestFailed as error:
                    self.failures[key] = str(error)
                    answer = None
                if self._gave_up is not None:
                    raise self._gave_up
                bar.update()
                yield key, answer
        finally:
            # Reached on an error, an interrupt, or a caller that has enough: threads must not go on paying.
            self._stop.set()
            executor.shutdown(wait=True, cancel_futures=True)
            bar.close()

    def _most_in_a_row(self, count: int) -> int:
        return max(count, self.settings.max_concurrency)

    def _give_up(self, reason: str, error: str, kind: type[InputError] = InputError) -> None:
        """Stops the other threads at once: the caller may look late, and they must not send more."""
        if self._gave_up is None:
            self._gave_up = kind(
                f"{reason}: {error.rstrip('.')}. Answers so far are kept ({len(self.log.rows)}): remove the cause, and run the "
                "same command again."
            )
            self._stop.set()

    def _count_failure(self, error: RequestFailed) -> None:
        with self._lock:
            self._failed_in_a_row += 1
            if error.fatal:
                self._give_up("The server cannot be used", str(error))
            elif self._failed_in_a_row >= self._most_in_a_row(_FAILURES_IN_A_ROW):
                self._give_up(f"{self._failed_in_a_row} requests in a row failed", str(error))

    def _count_useless(self, reason: str) -> None:
        """Called with the lock held."""
        self._useless_in_a_row += 1
        if self._useless_in_a_row >= self._most_in_a_row(_USELESS_IN_A_ROW):
            self._give_up(f"{self._useless_in_a_row} answers in a row are of no use, the last", reason, UselessAnswers)

    def _answer(self, key: str, request: Any) -> Any:
        left = self.settings.max_askings - self.log.count(key)
        left = max(1, min(left, math.ceil(self.settings.max_askings / 2)))
        failed = 0
        while True:
            self._wait_until(self._not_before)
            with self._lock:
                self.num_sent += 1
            try:
                answer = self.send(request)
                reason = self._keep(key, answer)
            except RequestFailed as error:
                if error.answered:
                    with self._lock:
                        self._count_useless(str(error))
                if not error.retry or failed == self.settings.max_retries:
                    self._count_failure(error)
                    raise
                self._back_off(key, failed, error.wait, str(error))
                failed += 1
                continue
            left -= 1
            if reason is None or not left:
                return answer
            self._back_off(key, failed, None, reason)

    def _keep(self, key: str, answer: Any) -> str | None:
        """Writes an answer down, and gives the reason why it says nothing, where it does."""
        with self._lock:
            reason = self.unreadable(answer)
            try:
                self.log.add(key, answer)
            except (TypeError, ValueError, RecursionError) as error:
                raise RequestFailed(
                    f"the answer cannot be written down ({type(error).__name__})", retry=True, answered=True
                ) from None
            self._failed_in_a_row = 0
            if reason is None:
                self._useless_in_a_row = 0
                self.failures.pop(key, None)
            else:
                self._count_useless(reason)
                self.failures[key] = reason
        return reason

    def _back_off(self, key: str, attempt: int, asked: float | None, reason: str) -> None:
        if asked is not None:
            # What the server says holds for all threads.
            wait = min(asked, self.settings.max_wait)
            if asked > wait and not self._said_wait:
                self._said_wait = True
                logger.warning(
                    "The server asks to wait %.0f s (%s); it is asked again after %.0f s (`max_wait`).", asked, reason, wait
                )  # fmt: skip
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + wait)
            return
        wait = min(self.settings.max_wait, self.settings.retry_wait * 2.0 ** min(attempt, 60))
        # Requests that failed together are not sent together again.
        self._wait_until(time.monotonic() + wait * random.Random(f"{key} {attempt}").uniform(0.5, 1.0))

    def _wait_until(self, moment: float) -> None:
        left = moment - time.monotonic()
        if self._stop.wait(left) if left > 0 else self._stop.is_set():
            raise RequestFailed("Stopped before it was sent.")


def known_answers(
    log: RowLog,
    keys: Iterable[str],
    settings: RequestSettings,
    unreadable: Callable[[Any], str | None],
) -> dict[str, str | None]:
    """
    Keys that need no further request, with `None` where the answer can be read, or the reason where it says nothing and was asked
    for often enough. Rows of the log that are no answer, such as those of an older version, are forgotten.
    """
    known: dict[str, str | None] = {}
    forgotten = 0
    for key in keys:
        if key in log:
            try:
                reason = unreadable(log[key])
            except RequestFailed:
                del log.rows[key]
                forgotten += 1
                continue
            if reason is None:
                known[key] = None
            elif log.count(key) >= settings.max_askings:
                known[key] = f"{reason}, and that again and again (`max_askings`)"
    if forgotten:
        logger.warning("%d kept answers have a wrong shape and are asked for again.", forgotten)
    return known
