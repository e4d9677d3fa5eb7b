"""The way to a server: straight, or through the proxy that the environment names."""

import base64
import functools
import ssl
import sys
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from .requests import RequestFailed

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """
    A proxy of plain HTTP.

    Args:
        host (`str`): Its name.
        port (`int`): Its port.
        header (`bytes`): The line with its user and password, or nothing.
    """

    host: str
    port: int
    header: bytes


@dataclass(frozen=True)
class Route:
    """
    The way to a server.

    Args:
        host (`str`): Its name, in ASCII.
        port (`int`): Its port.
        tls (`bool`): Whether it is asked over TLS.
        proxy ([`Proxy`], *optional*): Through what.
    """

    host: str
    port: int
    tls: bool
    proxy: Proxy | None

    @property
    def authority(self) -> str:
        """Host and port, as in an address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def start(self, path: bytes) -> bytes:
        """The first line of a request. A proxy is told the whole address, unless it only passes a connection on."""
        if self.proxy is None or self.tls:
            return b"POST %b HTTP/1.1\r\n" % path
        return b"POST http://%b%b HTTP/1.1\r\n%b" % (self.authority.encode(), path, self.proxy.header)


def route_to(url: Any) -> Route:
    """
    The way to the address of a request of httpx.

    Raises:
        RequestFailed: When the environment names a proxy that cannot be used.
    """
    host = url.raw_host.decode("ascii")
    return Route(host, url.port or _PORTS[url.scheme], url.scheme == "https", _proxy(url.scheme, host))


def _proxy(scheme: str, host: str) -> Proxy | None:
    proxies = urllib.request.getproxies()
    address = proxies.get(scheme) or proxies.get("all")
    if not address or urllib.request.proxy_bypass(host):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        name, port = parts.hostname, parts.port or 80
    except ValueError:
        name, port = None, 0
    if parts.scheme != "http" or not name:
        raise RequestFailed(
            f"the proxy for {host} is not at an address such as http://proxy:3128 (it is not shown, it may hold a password). Set "
            f"{scheme.upper()}_PROXY to another, or NO_PROXY={host} to do without.",
            fatal=True,
        )
    header = b""
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        header = b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(login)
    return Proxy(name, port, header)


@functools.cache
def tls_context(package: str) -> ssl.SSLContext:
    """The certificates that httpx, or the package in its place, trusts."""
    context: ssl.SSLContext = sys.modules[package].create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
