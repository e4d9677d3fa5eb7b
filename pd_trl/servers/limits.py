"""Limits that a request keeps whatever the server does: a deadline for all of it, and a size for the whole answer."""

import zlib
from collections.abc import Callable

from .requests import RequestFailed

# Enough of a failed request's body for its message.
_ERROR_BYTES = 65_536


def timed_out(seconds: float) -> RequestFailed:
    """The failure of a request that took too long."""
    return RequestFailed(f"time-out: no whole answer within {seconds:g} s", retry=True)


class Body:
    """
    The body of an answer as it comes, unpacked; of an error's the beginning.

    Args:
        coding (`str`): Its `content-encoding`.
        is_error (`bool`): Whether the answer's status is one of a failure.
        max_bytes (`int`): Largest answer, both as sent and unpacked.

    Raises:
        RequestFailed: When it is packed in a way that was not asked for.
    """

    def __init__(self, coding: str, is_error: bool, max_bytes: int):
        self._decode = _decoder(coding)
        self._is_error, self._limit = is_error, min(max_bytes, _ERROR_BYTES) if is_error else max_bytes
        self._body, self._received = bytearray(), 0

    def add(self, piece: bytes) -> bool:
        """
        Takes the next piece, and says whether more is wanted.

        Raises:
            RequestFailed: When the answer is too large, or cannot be unpacked.
        """
        self._received += len(piece)
        self._body += self._decode(piece, self._limit + 1 - len(self._body))
        if len(self._body) <= self._limit and self._received <= self._limit:
            return True
        if self._is_error:
            return False
        raise RequestFailed(
            f"answer larger than {self._limit:,} bytes (`max_answer_bytes`)", retry=True, answered=True
        )

    def content(self) -> bytes:
        """What came."""
        return bytes(self._body[: self._limit])


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
