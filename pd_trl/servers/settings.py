"""How requests to a server are sent, and what they may cost."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class RequestSettings:
    """
    How requests are sent, and what they may cost at most. A request is tried `max_retries + 1` times, each for `timeout` seconds and
    with waits of `max_wait`. After 8 requests in a row that failed at every try, or 32 answers in a row of no use (or
    `max_concurrency` of either, where that is more), nothing else is sent.

    Args:
        max_concurrency (`int`, *optional*, defaults to `8`):
            Requests that wait for an answer at the same time.
        max_retries (`int`, *optional*, defaults to `8`):
            Further tries of a request after a failure that may pass (429, 5xx, a timeout, a lost connection, what is no answer).
        timeout (`float`, *optional*, defaults to `60.0`):
            Longest time from the start of a request to the end of its answer, in seconds.
        retry_wait (`float`, *optional*, defaults to `1.0`):
            Wait before the first retry, in seconds, doubled for each further one. A `Retry-After` of the server, where it asks for
            some time, comes first.
        max_wait (`float`, *optional*, defaults to `60.0`):
            Longest of these waits, in seconds, whatever the server asks for.
        max_answer_bytes (`int`, *optional*, defaults to `4000000`):
            Largest answer; a larger one is not read to its end.
        max_askings (`int`, *optional*, defaults to `6`):
            Answers that are taken to one question while none of them can be read, half of them in one run. Each is
            kept.

    Raises:
        InputError: When a value is out of range.
    """

    max_concurrency: int = 8
    max_retries: int = 8
    timeout: float = 60.0
    retry_wait: float = 1.0
    max_wait: float = 60.0
    max_answer_bytes: int = 4_000_000
    max_askings: int = 6

    def __post_init__(self) -> None:
        for name in ("max_concurrency", "max_answer_bytes", "max_askings"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.max_retries < 0:
            raise InputError(f"`max_retries` must not be negative, got {self.max_retries}.")
        for name in ("timeout", "retry_wait", "max_wait"):
            if not 0 < getattr(self, name) <= threading.TIMEOUT_MAX:
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
        whole = isinstance(getattr(RequestSettings, name), int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise InputError(f"`{name}` of the requests must be a {'whole ' if whole else ''}number, got {value!r}.")
    return RequestSettings(**given)
