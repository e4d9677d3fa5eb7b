"""Limits that a request keeps whatever the server does: a deadline for all of it, and a size for the whole answer."""

import contextlib
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from .requests import RequestFailed

# Enough of a failed request's body for its message.
_ERROR_BYTES = 65_536


class RequestLimits:
    """
    Hooks of an httpx client that hold each request of a thread to its limits. httpx's own timeouts hold for each piece of data,
    and a server that sends a byte now and then is never timed out.

    Args:
        timeout (`float`): Longest time from the start of a request to the end of its answer, in seconds.
        max_bytes (`int`): Largest answer, both as sent and unpacked.
    """

    def __init__(self, timeout: float, max_bytes: int):
        self.timeout, self.max_bytes = timeout, max_bytes
        self._local = threading.local()

    @property
    def hooks(self) -> dict[str, list[Callable[[Any], None]]]:
        """The `event_hooks` of the client."""
        return {"request": [self._watch], "response": [self._read]}

    @contextlib.contextmanager
    def deadline(self) -> Iterator[None]:
        """Requests of this thread end in time or raise [`RequestFailed`]."""
        self._local.deadline = time.monotonic() + self.timeout
        try:
            yield
        finally:
            self._local.deadline = None

    def timed_out(self) -> RequestFailed:
        """The failure of a request that took too long."""
        return RequestFailed(f"time-out: no whole answer within {self.timeout:g} s", retry=True)

    def _watch(self, request: Any) -> None:
        request.extensions["trace"] = self._trace

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Each connection that is opened, plain or with TLS, waits no longer than the request that uses it may take."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            stream = info["return_value"]
            stream.read, stream.write = self._limited(stream.read), self._limited(stream.write)

    def _limited(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def limited(data: Any, timeout: float | None = None) -> Any:
            return method(data, self._left(timeout))

        return limited

    def _left(self, timeout: float | None) -> float | None:
        deadline = getattr(self._local, "deadline", None)
        if deadline is None:
            return timeout
        left: float = deadline - time.monotonic()
        if left <= 0:
            raise self.timed_out()
        return left if timeout is None else min(left, timeout)

    def _read(self, response: Any) -> None:
        """Reads the body, before the client does."""
        try:
            body = self._body(response)
        finally:
            response.stream.close()
        response.headers.pop("content-encoding", None)
        # openai takes httpx or its successor, and the response tells which.
        package = sys.modules[type(response).__module__.partition(".")[0]]
        response.stream = package.ByteStream(body)

    def _body(self, response: Any) -> bytes:
        decode = _decoder(response.headers.get("content-encoding", ""))
        is_error = response.status_code >= 400
        limit = min(self.max_bytes, _ERROR_BYTES) if is_error else self.max_bytes
        body, received = bytearray(), 0
        for chunk in response.stream:
            received += len(chunk)
            body += decode(chunk, limit + 1 - len(body))
            if len(body) > limit or received > limit:
                if is_error:
                    break
                raise RequestFailed(
                    f"answer larger than {limit:,} bytes (`max_answer_bytes`)", retry=True, answered=True
                )
        return bytes(body[:limit])


def _decoder(coding: str) -> Callable[[bytes, int], bytes]:
    """Unpacks pieces of a body up to a size, so that little data cannot fill the memory."""
    names = [name.strip().lower() for name in coding.split(",") if name.strip().lower() not in ("", "identity")]
    if not names:
        return lambda chunk, size: chunk
    if len(names) > 1 or names[0] not in ("gzip", "x-gzip", "deflate"):
        raise RequestFailed("the answer is packed in a way that was not asked for", retry=True, answered=True)
    # 32: gzip or zlib, as the data says.
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def decode(chunk: bytes, size: int) -> bytes:
        try:
            return unpacker.decompress(chunk, size)
        except zlib.error:
            raise RequestFailed("the packed answer is damaged", retry=True, answered=True) from None

    return decode
