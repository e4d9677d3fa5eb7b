"""Requests to a server that may be slow, busy or broken: retried, some at a time, and every answer kept at once."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields
from typing import Any

from tqdm import tqdm

from ...errors import InputError
from ...report_text import printable
from ...row_log import RowLog

logger = logging.getLogger(__name__)

# So many requests that fail one after the other mean that the rest would fail as well.
_FAILURES_IN_A_ROW = 8


@dataclass(frozen=True)
class RequestSettings:
    """
    How requests are sent.

    Args:
        max_concurrency (`int`, *optional*, defaults to `8`):
            Requests that wait for an answer at the same time.
        max_retries (`int`, *optional*, defaults to `8`):
            Further tries of a request after a failure that may pass (429, 5xx, a timeout, a lost connection).
        timeout (`float`, *optional*, defaults to `60.0`):
            Longest wait for an answer, in seconds.
        retry_wait (`float`, *optional*, defaults to `1.0`):
            Wait before the first retry, in seconds, doubled for each further one. A `Retry-After` of the server comes first.
        max_wait (`float`, *optional*, defaults to `60.0`):
            Longest of these waits, in seconds, that of the server excepted.

    Raises:
        InputError: When a value is out of range.
    """

    max_concurrency: int = 8
    max_retries: int = 8
    timeout: float = 60.0
    retry_wait: float = 1.0
    max_wait: float = 60.0

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise InputError(f"`max_concurrency` must be at least 1, got {self.max_concurrency}.")
        if self.max_retries < 0:
            raise InputError(f"`max_retries` must not be negative, got {self.max_retries}.")
        for name in ("timeout", "retry_wait", "max_wait"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` must be a positive number of seconds, got {getattr(self, name)}.")


def request_settings(given: RequestSettings | Mapping[str, Any] | None) -> RequestSettings:
    """
    Settings of requests from a mapping, as a command line has them.

    Raises:
        InputError: On a name that is none of theirs, or a value of another kind.
    """
    if given is None or isinstance(given, RequestSettings):
        return given or RequestSettings()
    names = [entry.name for entry in fields(RequestSettings)]
    if not isinstance(given, Mapping):
        raise InputError(f"The settings of requests must be a mapping with some of {', '.join(names)}, got {given!r}.")
    wrong = sorted(set(map(str, given)) - set(names))
    if wrong:
        raise InputError(f"Requests have no setting {', '.join(wrong)}; they have {', '.join(names)}.")
    for name, value in given.items():
        whole = name in ("max_concurrency", "max_retries")
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise InputError(f"`{name}` of the requests must be a {'whole ' if whole else ''}number, got {value!r}.")
    return RequestSettings(**given)


class RequestFailed(Exception):
    """
    A request without an answer.

    Args:
        message (`str`): Why, without secrets.
        retry (`bool`, *optional*, defaults to `False`): Whether the same request may succeed later.
        wait (`float`, *optional*): Seconds after which the server wants to be asked again.
        fatal (`bool`, *optional*, defaults to `False`): Whether every other request will fail as well.
    """

    def __init__(self, message: str, *, retry: bool = False, wait: float | None = None, fatal: bool = False):
        super().__init__(message)
        self.retry, self.wait, self.fatal = retry, wait, fatal


class RequestPool:
    """
    Sends requests from several threads and writes each answer to a log before the next one is sent by the same thread,
    so that a run that is killed asks nothing twice that was answered.

    Args:
        send (`Callable`):
            Sends one request and returns its answer, json-like. Raises [`RequestFailed`].
        log (`RowLog`):
            Answers by key; open.
        settings ([`RequestSettings`]):
            Retries and concurrency.
    """

    def __init__(self, send: Callable[[Any], Any], log: RowLog, settings: RequestSettings):
        self.send, self.log, self.settings = send, log, settings
        self.failures: dict[str, str] = {}
        self.num_sent = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._not_before = 0.0
        self._failed_in_a_row = 0
        self._gave_up: RequestFailed | None = None

    def answers(self, requests: Mapping[str, Any], title: str = "judge") -> Iterator[tuple[str, Any]]:
        """
        Key and answer of each request, known ones first, then as they come; `None` after the last failed try, with the
        reason in `failures`.

        Args:
            requests (mapping): Requests by a key that stands for their whole content.
            title (`str`, *optional*, defaults to `"judge"`): Name of the progress bar.

        Raises:
            InputError: When the server refuses every request, or many in a row.
        """
        self.failures, self._failed_in_a_row, self._gave_up = {}, 0, None
        self._stop.clear()
        open_keys = [key for key in requests if key not in self.log]
        yield from ((key, self.log[key]) for key in requests if key in self.log)
        if not open_keys:
            return
        bar = tqdm(total=len(requests), initial=len(requests) - len(open_keys), desc=printable(title), disable=None)
        executor = ThreadPoolExecutor(self.settings.max_concurrency, thread_name_prefix="pd_trl-judge")
        try:
            futures: dict[Future, str] = {executor.submit(self._answer, key, requests[key]): key for key in open_keys}
            for future in as_completed(futures):
                key = futures[future]
                try:
                    answer = future.result()
                except RequestFailed as error:
                    self.failures[key] = str(error)
                    self._check_given_up()
                    answer = None
                bar.update()
                yield key, answer
        finally:
            # Reached on an error, an interrupt, or a caller that has enough: threads must not go on paying.
            self._stop.set()
            executor.shutdown(wait=True, cancel_futures=True)
            bar.close()

    def _check_given_up(self) -> None:
        error = self._gave_up
        if error is not None:
            reason = "The judge cannot be used" if error.fatal else f"{self._most_in_a_row} requests in a row failed"
            raise InputError(
                f"{reason}: {str(error).rstrip('.')}. Answers so far are kept ({len(self.log.rows)}): mend it and run the same command "
                "again."
            )

    @property
    def _most_in_a_row(self) -> int:
        return max(_FAILURES_IN_A_ROW, self.settings.max_concurrency)

    def _count_failure(self, error: RequestFailed) -> None:
        """Called by the thread that failed: the others must stop before they send more, however late the caller looks."""
        with self._lock:
            self._failed_in_a_row += 1
            if self._gave_up is None and (error.fatal or self._failed_in_a_row >= self._most_in_a_row):
                self._gave_up = error
                self._stop.set()

    def _answer(self, key: str, request: Any) -> Any:
        generator = random.Random(key)
        for attempt in range(self.settings.max_retries + 1):
            self._wait_until(self._not_before)
            with self._lock:
                self.num_sent += 1
            try:
                answer = self.send(request)
            except RequestFailed as error:
                if not error.retry or attempt == self.settings.max_retries:
                    self._count_failure(error)
                    raise
                self._back_off(attempt, error, generator)
            else:
                with self._lock:
                    self._failed_in_a_row = 0
                    self.log.add(key, answer)
                return answer
        raise RequestFailed("No try was made.")

    def _back_off(self, attempt: int, error: RequestFailed, generator: random.Random) -> None:
        if error.wait is not None:
            # What the server says holds for all threads.
            if error.wait > self.settings.max_wait:
                logger.warning("The judge's server asks to wait %.0f s (%s).", error.wait, error)
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + error.wait)
            return
        wait = min(self.settings.max_wait, self.settings.retry_wait * 2**attempt)
        self._wait_until(time.monotonic() + wait * generator.uniform(0.5, 1.0))

    def _wait_until(self, moment: float) -> None:
        if self._stop.wait(max(0.0, moment - time.monotonic())):
            raise RequestFailed("Stopped before it was sent.")
