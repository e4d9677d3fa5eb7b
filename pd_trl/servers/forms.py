"""How the package openai sends a request: its address and headers, learnt once for all requests of the same arguments."""

import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .answers import CHAT, COMPLETION

# Parts of a request that its body does not hold under their names.
_APART = frozenset(("endpoint", "extra_headers", "extra_query", "extra_body", "timeout"))


@dataclass(frozen=True)
class Form:
    """
    What requests of the same arguments have in common.

    Args:
        url (`str`): The address.
        headers (`tuple` of pairs): Names and values.
    """

    url: str
    headers: tuple[tuple[str, str], ...]


class Forms:
    """
    Forms of the requests of a client of the package openai. The package checks the names of the arguments, and knows the addresses
    and keys of each kind of client; it costs more than a millisecond, and therefore sees one request of each form.
    """

    def __init__(self) -> None:
        self._known: dict[Any, Form] = {}
        self._lock = threading.Lock()

    def of(self, client: Any, request: Mapping[str, Any]) -> Form:
        """
        The form of a request.

        Raises:
            TypeError or ValueError: When it is not one of the client's.
            openai.OpenAIError: When the client cannot make it.
        """
        options = [repr(request.get(name)) for name in ("extra_headers", "extra_query")]
        # Azure has the model in its addresses.
        key = (id(client), request["endpoint"], request.get("model"), *options, frozenset(request))
        form = self._known.get(key)
        if form is None:
            with self._lock:
                form = self._known[key] = self._known.get(key) or _form(client, request)
        return form


def recording_client(openai: Any, timeout: float) -> Any:
    """The httpx client of a client of the package openai whose requests are looked at and not sent."""
    package = sys.modules[http_package(openai)]
    transport = package.MockTransport(lambda request: package.Response(200, json={}))
    return openai.DefaultHttpxClient(
        transport=transport, headers={"accept-encoding": "gzip"}, timeout=timeout, follow_redirects=False
    )


def http_package(openai: Any) -> str:
    """httpx or its successor: which of them openai takes."""
    base: type = openai.DefaultHttpxClient.__mro__[1]
    return base.__module__.partition(".")[0]


def _form(client: Any, request: Mapping[str, Any]) -> Form:
    calls = {CHAT: client.chat.completions, COMPLETION: client.completions}
    arguments = {name: value for name, value in request.items() if name != "endpoint"}
    made = calls[request["endpoint"]].with_raw_response.create(**arguments).http_request
    headers = []
    for name, value in made.headers.raw:
        if any(mark in name + value for mark in (b"\r", b"\n", b"\0")):
            raise ValueError(f"the header {name.decode('latin-1')!r} has a line break")
        if name.lower() not in (b"content-length", b"transfer-encoding"):
            headers.append((name.decode("latin-1"), value.decode("latin-1")))
    # A user and password in the address are in the headers by now.
    return Form(str(made.url.copy_with(userinfo=b"")), tuple(headers))


def request_body(request: Mapping[str, Any]) -> bytes:
    """
    The body of a request, as the package openai makes it.

    Raises:
        TypeError or ValueError: When it cannot be written as json.
    """
    content = {name: value for name, value in request.items() if name not in _APART}
    content.update(request.get("extra_body") or {})
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
