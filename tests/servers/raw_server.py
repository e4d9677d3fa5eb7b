"""A server on 127.0.0.1 whose every byte a test decides, with what arrived on each of its connections."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.servers.faults import chat, json_bytes

Answer = Callable[[bytes], bytes | None]
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def whole(content: dict | None = None, head: bytes = b"") -> bytes:
    """A whole answer of a chat endpoint, with further lines of its head."""
    body = json_bytes(content or chat())
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


class RawServer:
    """
    Answers each request by what `answer` makes of its bytes; `None` ends the connection. `requests` are those of each
    connection, in the order in which they were accepted.
    """

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None):
        self.answer, self.context = answer, context
        self.requests: list[list[bytes]] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http{'s' if self.context else ''}://127.0.0.1:{self.port}/v1"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.socket.accept()
                self.open.append(sock)
                self.requests.append([])
                threading.Thread(target=self._serve, args=(sock, self.requests[-1]), daemon=True).start()

    def _serve(self, sock: socket.socket, requests: list[bytes]) -> None:
        with contextlib.suppress(OSError), sock:
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
                self.open.append(sock)
            data = b""
            while piece := sock.recv(65_536):
                data += piece
                end = data.find(b"\r\n\r\n") + 4
                if end < 4:
                    continue
                found = _LENGTH.search(data, 0, end)
                if len(data) < end + (int(found[1]) if found else 0):
                    continue
                requests.append(data)
                answer = self.answer(data)
                data = b""
                if answer is None:
                    break
                sock.sendall(answer)
            sock.close()

    def drop(self) -> None:
        """Ends all connections."""
        for sock in self.open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@contextmanager
def raw_server(answer: Answer, context: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """A server for the block."""
    server = RawServer(answer, context)
    try:
        yield server
    finally:
        server.socket.close()
        server.drop()
