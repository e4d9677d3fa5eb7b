"""What a server sends over HTTP/1.1, read from a socket in time and within its limits."""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from .limits import Deadline, limited_body

_PIECE = 65_536
# Longest head of an answer, and longest line between the chunks of its body.
_HEAD_BYTES, _LINE_BYTES = 100_000, 4_096
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: |\Z)")
_HEAD_END = re.compile(rb"\n\r?\n")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;|\Z)")


class Lost(Exception):
    """A connection that ended too early, or on which something else than HTTP came."""


@dataclass(frozen=True)
class Reply:
    """
    What a server answered.

    Args:
        status (`int`): Its status.
        headers (`dict` of `str` to `str`): By name in small letters, the last of each.
        body (`bytes`): Unpacked.
        keeps (`bool`): Whether the connection can take another request.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    keeps: bool


class Reader:
    """
    What comes on a connection.

    Args:
        sock (`socket.socket`): The connection.
        deadline ([`Deadline`]): When to give up.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline):
        self.sock, self.deadline = sock, deadline
        self.data = bytearray()

    def more(self) -> None:
        """Waits for the next bytes."""
        if not self._came():
            raise Lost("it ended before the answer did")

    def _came(self) -> bool:
        self.sock.settimeout(self.deadline.left())
        piece = self.sock.recv(_PIECE)
        self.data += piece
        return bool(piece)

    def _taken(self, size: int) -> bytes:
        piece = bytes(self.data[:size])
        del self.data[:size]
        return piece

    def head(self) -> tuple[int, bool, dict[str, str]]:
        """Status, whether the server keeps connections by itself, and headers, after those that only promise others."""
        while True:
            looked = 0
            while (found := _HEAD_END.search(self.data, looked)) is None:
                if len(self.data) > _HEAD_BYTES:
                    raise Lost("headers without end")
                looked = max(0, len(self.data) - 2)
                self.more()
            lines = self._taken(found.end()).split(b"\n")
            status = _STATUS.match(lines[0].rstrip(b"\r"))
            if status is None:
                raise Lost("what came is no HTTP/1.1")
            if status[2][:1] == b"1" and status[2] != b"101":
                continue
            headers = {}
            for line in lines[1:-2]:
                name, colon, value = line.partition(b":")
                if line[:1] in (b" ", b"\t"):  # more of the header before, as it was written once
                    continue
                if not colon:
                    raise Lost("what came is no HTTP/1.1")
                headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
            return int(status[2]), status[1] == b"1", headers

    def sized(self, size: int) -> Iterator[bytes]:
        """So many bytes."""
        while size:
            if not self.data:
                self.more()
            piece = self._taken(size)
            size -= len(piece)
            yield piece

    def chunks(self) -> Iterator[bytes]:
        """A body that says the size of each piece."""
        while size := self._size():
            yield from self.sized(size)
            if self._line():
                raise Lost("what came is no HTTP/1.1")
        # Headers may stand behind the body, and nobody reads them.
        length = 0
        while line := self._line():
            length += len(line)
            if length > _HEAD_BYTES:
                raise Lost("headers without end")

    def rest(self) -> Iterator[bytes]:
        """All that comes until the server ends the connection."""
        while self.data or self._came():
            yield self._taken(_PIECE)

    def _size(self) -> int:
        found = _SIZE.match(self._line())
        if found is None:
            raise Lost("what came is no HTTP/1.1")
        return int(found[1], 16)

    def _line(self) -> bytes:
        while (end := self.data.find(b"\n")) < 0:
            if len(self.data) > _LINE_BYTES:
                raise Lost("a line without end")
            self.more()
        return self._taken(end + 1).rstrip(b"\r\n")


def read_reply(sock: socket.socket, deadline: Deadline, max_bytes: int) -> Reply:
    """
    The answer to a request that was sent.

    Raises:
        Lost or OSError: When the connection ends, or no HTTP comes.
        RequestFailed: When it takes too long, or the answer is too large or cannot be unpacked.
    """
    reader = Reader(sock, deadline)
    status, keeps, headers = reader.head()
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if status in (204, 304):
        pieces, keeps = reader.sized(0), False
    elif coding is not None:
        if coding.lower() != "chunked":
            raise Lost("what came is no HTTP/1.1")
        pieces = reader.chunks()
    elif length is not None:
        if not (length.isascii() and length.isdecimal() and len(length) < 16):
            raise Lost("what came is no HTTP/1.1")
        pieces = reader.sized(int(length))
    else:
        pieces, keeps = reader.rest(), False
    body, whole = limited_body(pieces, headers.get("content-encoding", ""), status >= 400, max_bytes)
    keeps = keeps and whole and not reader.data and "close" not in headers.get("connection", "").lower()
    return Reply(status, headers, body, keeps)
