"""Limits that a request keeps whatever the server does: a deadline for all of it, and a size for the whole answer."""

import time
import zlib
from collections.abc import Callable, Iterable

from .requests import RequestFailed

# Enough of a failed request's body for its message.
_ERROR_BYTES = 65_536


class Deadline:
    """
    The moment at which a request ends. Time-outs of a socket hold for each piece of data, and a server that sends a byte now and
    then is never timed out.

    Args:
        seconds (`float`): Longest time from now.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._moment = time.monotonic() + seconds

    def left(self) -> float:
        """
        Seconds that are left.

        Raises:
            RequestFailed: When there are none.
        """
        left = self._moment - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> RequestFailed:
        """The failure of a request that took too long."""
        return RequestFailed(f"time-out: no whole answer within {self.seconds:g} s", retry=True)


def limited_body(pieces: Iterable[bytes], coding: str, is_error: bool, max_bytes: int) -> tuple[bytes, bool]:
    """
    The unpacked body of an answer, of an error's the beginning, and whether all of it was read.

    Args:
        pieces (iterable of `bytes`): The body as it comes.
        coding (`str`): Its `content-encoding`.
        is_error (`bool`): Whether the answer's status is one of a failure.
        max_bytes (`int`): Largest answer, both as sent and unpacked.

    Raises:
        RequestFailed: When it is larger, or cannot be unpacked.
    """
    decode = _decoder(coding)
    limit = min(max_bytes, _ERROR_BYTES) if is_error else max_bytes
    body, received = bytearray(), 0
    for piece in pieces:
        received += len(piece)
        body += decode(piece, limit + 1 - len(body))
        if len(body) > limit or received > limit:
            if is_error:
                return bytes(body[:limit]), False
            raise RequestFailed(f"answer larger than {limit:,} bytes (`max_answer_bytes`)", retry=True, answered=True)
    return bytes(body), True


def _decoder(coding: str) -> Callable[[bytes, int], bytes]:
    """Unpacks pieces of a body up to a size, so that little data cannot fill the memory."""
    names = [name.strip().lower() for name in coding.split(",") if name.strip().lower() not in ("", "identity")]
    if not names:
        return lambda piece, size: piece
    if len(names) > 1 or names[0] not in ("gzip", "x-gzip", "deflate"):
        raise RequestFailed("the answer is packed in a way that was not asked for", retry=True, answered=True)
    # 32: gzip or zlib, as the data says.
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def decode(piece: bytes, size: int) -> bytes:
        try:
            return unpacker.decompress(piece, size)
        except zlib.error:
            raise RequestFailed("the packed answer is damaged", retry=True, answered=True) from None

    return decode
