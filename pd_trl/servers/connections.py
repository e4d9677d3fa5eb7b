"""Connections to servers over HTTP/1.1, kept for the next request."""

import collections
import contextlib
import socket
import ssl
import time
import weakref
from collections.abc import Callable

from .limits import Deadline
from .replies import Lost, Reader, Reply, read_reply
from .routes import Route

# Servers end idle connections after some seconds; uvicorn, under vLLM and others, after 5.
_IDLE_SECONDS = 4.0
_Idle = collections.deque[tuple[socket.socket, float]]


class Unreachable(Exception):
    """A connection that could not be made."""


class Connections:
    """
    Connections that are used again, by several threads. The package openai and httpx below it take ten times as long for a
    request (`scripts/bench_client.py`), and their time-outs hold for each piece of data only.

    Args:
        max_bytes (`int`): Largest answer, both as sent and unpacked.
        tls (`Callable`): The context of connections over TLS.
    """

    def __init__(self, max_bytes: int, tls: Callable[[], ssl.SSLContext]):
        self.max_bytes, self._tls = max_bytes, tls
        self._idle: dict[Route, _Idle] = collections.defaultdict(collections.deque)
        weakref.finalize(self, _close_all, self._idle)

    def exchange(self, route: Route, message: bytes, deadline: Deadline) -> Reply:
        """
        The answer to a whole request.

        Raises:
            Unreachable: When there is no connection.
            Lost or OSError: When the connection ends, or no HTTP comes.
            RequestFailed: When it takes too long, or the answer is too large or cannot be unpacked.
        """
        sock = self._kept(route) or self._connected(route, deadline)
        keeps = False
        try:
            sock.settimeout(deadline.left())
            sock.sendall(message)
            reply = read_reply(sock, deadline, self.max_bytes)
            keeps = reply.keeps
        except TimeoutError:
            raise deadline.passed() from None
        finally:
            if keeps:
                self._idle[route].append((sock, time.monotonic()))
            else:
                sock.close()
        return reply

    def _kept(self, route: Route) -> socket.socket | None:
        """A connection that waits, and on which the server has sent nothing, such as its end."""
        idle = self._idle[route]
        while True:
            try:
                sock, since = idle.pop()
            except IndexError:
                return None
            if time.monotonic() - since < _IDLE_SECONDS and _is_silent(sock):
                return sock
            sock.close()

    def _connected(self, route: Route, deadline: Deadline) -> socket.socket:
        proxy = route.proxy
        place = (route.host, route.port) if proxy is None else (proxy.host, proxy.port)
        sock = None
        try:
            sock = socket.create_connection(place, timeout=deadline.left())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if proxy is not None and route.tls:
                _pass_through(sock, route, proxy.header, deadline)
            if route.tls:
                sock.settimeout(deadline.left())
                sock = self._tls().wrap_socket(sock, server_hostname=route.host)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, TimeoutError):
                raise deadline.passed() from None
            if isinstance(error, (OSError, Lost, UnicodeError)):
                raise Unreachable(str(error)) from None
            raise
        return sock


def _pass_through(sock: socket.socket, route: Route, header: bytes, deadline: Deadline) -> None:
    """Has a proxy pass a connection on."""
    place = route.authority.encode()
    sock.sendall(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (place, place, header))
    status, _, _ = Reader(sock, deadline).head()
    if not 200 <= status < 300:
        raise Lost(f"the proxy answers with status {status}")


def _is_silent(sock: socket.socket) -> bool:
    sock.settimeout(0)
    try:
        # Below TLS, where there is some: bytes that nobody waits for are the end of a connection.
        socket.socket.recv(sock, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _close_all(idle: dict[Route, _Idle]) -> None:
    for waiting in idle.values():
        for sock, _ in waiting:
            with contextlib.suppress(OSError):
                sock.close()
