"""Requests over connections that are kept, by aiohttp."""

import asyncio
import functools
import os
import ssl
import sys
import threading
import urllib.request
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .limits import Body, timed_out
from .requests import RequestFailed

# Servers end idle connections after some seconds; uvicorn, under vLLM and others, after 5.
_IDLE_SECONDS = 4.0
# What aiohttp would add to the headers that the package openai gives.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Unreachable(Exception):
    """A connection that could not be made."""


class Lost(Exception):
    """A connection that ended too early, or on which something else than HTTP came."""


@dataclass(frozen=True)
class Reply:
    """
    What a server answered.

    Args:
        status (`int`): Its status.
        headers (mapping of `str` to `str`): Its headers, whatever the case of their names.
        body (`bytes`): Unpacked.
    """

    status: int
    headers: Any
    body: bytes


class Connections:
    """
    Connections that are used again, by several threads. The package openai and httpx below it take three to four times as
    long for a request (`scripts/bench_client.py`), and their time-outs hold for each piece of data only.

    Args:
        max_bytes (`int`): Largest answer, both as sent and unpacked.
        tls (`Callable`): The context of connections over TLS.
    """

    def __init__(self, max_bytes: int, tls: Callable[[], ssl.SSLContext]):
        self.max_bytes, self._tls = max_bytes, tls
        self._sessions: dict[int, Any] = {}
        weakref.finalize(self, _close_all, self._sessions)

    def post(self, url: str, headers: tuple[tuple[str, str], ...], body: bytes, seconds: float) -> Reply:
        """
        The answer to a request.

        Args:
            url (`str`): Where to.
            headers (`tuple` of pairs): Names and values.
            body (`bytes`): What is sent.
            seconds (`float`): Longest time until the whole answer is there.

        Raises:
            Unreachable: When there is no connection.
            Lost: When the connection ends, or no HTTP comes.
            RequestFailed: When it takes too long, the answer is too large or cannot be unpacked, or the environment names a proxy
                that cannot be used.
        """
        proxy = _proxy(url)
        return _in_loop(self._post(url, headers, body, seconds, proxy))

    async def _post(
        self, url: str, headers: tuple[tuple[str, str], ...], body: bytes, seconds: float, proxy: str | None
    ) -> Reply:
        import aiohttp
        from yarl import URL

        try:
            async with self._session().post(
                # The package openai has quoted what is in need of it.
                URL(url, encoded=True), data=body, headers=headers, proxy=proxy, allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as answer:  # fmt: skip
                kept = Body(answer.headers.get("Content-Encoding", ""), answer.status >= 400, self.max_bytes)
                async for piece in answer.content.iter_any():
                    if not kept.add(piece):
                        answer.close()
                        break
                return Reply(answer.status, answer.headers, kept.content())
        except asyncio.TimeoutError:  # noqa: UP041 - another class in Python 3.10
            raise timed_out(seconds) from None
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.InvalidURL) as error:
            raise Unreachable(_said(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(_said(error)) from None

    def _session(self) -> Any:
        import aiohttp

        # One for each process: connections of a parent are not those of a child.
        found = self._sessions.get(os.getpid())
        if found is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls(), keepalive_timeout=_IDLE_SECONDS)
            found = self._sessions[os.getpid()] = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                skip_auto_headers=_NOT_ADDED,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return found


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="requests", daemon=True).start()


_loops: list[_Loop] = []
_loops_lock = threading.Lock()


def _in_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`, which is done in the thread of this process's event loop."""
    if not _loops or _loops[-1].process != os.getpid():
        with _loops_lock:
            if not _loops or _loops[-1].process != os.getpid():
                _loops.append(_Loop())
    return asyncio.run_coroutine_threadsafe(work, _loops[-1].loop).result()


def _close_all(sessions: dict[int, Any]) -> None:
    session = sessions.pop(os.getpid(), None)
    if session is not None and _loops and _loops[-1].process == os.getpid():
        asyncio.run_coroutine_threadsafe(session.close(), _loops[-1].loop)


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    host = parts.hostname or ""
    if not address or urllib.request.proxy_bypass(host):
        return None
    address = address if "://" in address else f"http://{address}"
    try:
        proxy = urlsplit(address)
        usable = proxy.scheme in ("http", "https") and bool(proxy.hostname) and proxy.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise RequestFailed(
            f"the proxy for {host} is not at an address such as http://proxy:3128 (it is not shown, it may hold a password). Set "
            f"{parts.scheme.upper()}_PROXY to another, or NO_PROXY={host} to do without.",
            fatal=True,
        )
    return address


@functools.cache
def tls_context(package: str) -> ssl.SSLContext:
    """The certificates that httpx, or the package in its place, trusts."""
    context: ssl.SSLContext = sys.modules[package].create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
