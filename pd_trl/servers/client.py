"""An OpenAI-compatible server: its clients, their keys, and what its errors mean."""

import datetime
import functools
import itertools
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import InputError
from ..safety.keys import check_key_variable
from ..safety.schema import parse_yaml
from ..safety.secrets import known_secrets, masked, masked_text
from ..text.tables import printable
from ..text.waits import asked_wait
from .answers import read_answer
from .connections import Connections, Lost, Reply, Unreachable, tls_context
from .forms import Form, Forms, http_package, recording_client, request_body
from .requests import RequestFailed
from .settings import RequestSettings

# Arguments that servers refuse, and what to do about it.
_HINTS = {
    "max_tokens": ' Some models want the request arguments {"max_tokens": null, "max_completion_tokens": 16}.',
    "logprobs": " Weighted annotators and expected ratings need log-probabilities: take a model that gives them, or do without.",
    "temperature": ' Some models want the request arguments {"temperature": null, "top_p": null}.',
}


class OpenAIClient:
    """
    Connections to an OpenAI-compatible server. Keys are read from the environment and appear in no message and no file.

    Args:
        base_url (`str`, *optional*):
            Address of the server, such as `"http://localhost:8000/v1"`. `None` is `OPENAI_BASE_URL`, then OpenAI's own.
        api_key_env (`str`, *optional*, defaults to `"OPENAI_API_KEY"`):
            Environment variable with the key, or several with commas between. A server at a `base_url` may need none.
        client_config (`str`, *optional*):
            A file of alpaca_eval's clients; then neither of the two above counts. `None` is `OPENAI_CLIENT_CONFIG_PATH`, unless
            there is a `base_url`.
        model (`str`, *optional*):
            Which of the clients of `client_config` are taken.
        settings ([`RequestSettings`], *optional*):
            Longest time of a request, and largest answer.

    Raises:
        InputError: Without the openai package, or without a key for OpenAI's own server.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        client_config: str | os.PathLike | None = None,
        model: str | None = None,
        settings: RequestSettings | None = None,
    ):
        try:
            import openai
        except ImportError:
            raise InputError(
                'A server is asked with the package openai: install it with `pip install "pd_trl[alpaca]"`.'
            ) from None
        self._openai = openai
        # The package makes the requests and does not send them: its retries are not counted, one thread's wait does not hold the
        # others back, and nonsense is paid for without end (test_nonsense_costs_what_the_bound_says).
        settings = settings or RequestSettings()
        self.timeout = settings.timeout
        self._forms = Forms()
        self._connections = Connections(
            settings.max_answer_bytes, functools.partial(tls_context, http_package(openai))
        )
        http_client = recording_client(openai, settings.timeout)
        common: dict[str, Any] = {"max_retries": 0, "timeout": settings.timeout, "http_client": http_client}
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        if client_config is None and base_url is None:
            client_config = os.environ.get("OPENAI_CLIENT_CONFIG_PATH") or None
        if client_config is not None:
            self.clients = [_client_of(openai, entry, common) for entry in _client_entries(client_config, model)]
        else:
            check_key_variable(api_key_env, base_url)
            keys = [key.strip() for key in os.environ.get(api_key_env, "").split(",") if key.strip()]
            if not keys and base_url is None:
                raise InputError(
                    f"No key for OpenAI: set the environment variable {api_key_env}, name another with `api_key_env`, or give the "
                    "`base_url` of a server of your own."
                )
            _check_address(base_url)
            self.clients = [
                openai.OpenAI(api_key=key, base_url=base_url, **common) for key in keys or ["no key needed"]
            ]
        addresses = [public_address(str(client.base_url)) for client in self.clients]
        self.endpoints = sorted(set(addresses))
        self._secrets = {client.api_key for client in self.clients if client.api_key}
        self._next = itertools.cycle(zip(self.clients, addresses, strict=True))

    def send(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """
        The answer to `{"endpoint": "chat" or "completion", **arguments}`: its choices as dictionaries, the tokens used, the model
        that the server says it was, the day and the address.

        Raises:
            RequestFailed: When there is no answer.
        """
        client, address = next(self._next)
        start = time.perf_counter()
        form, body = self._prepared(client, request)
        given = request.get("timeout")
        seconds = min(self.timeout, given) if isinstance(given, (int, float)) else self.timeout
        try:
            reply = self._connections.post(form.url, form.headers, body, seconds)
        except Unreachable as error:
            raise self._connection_failure("no connection to", error) from None
        except Lost as error:
            raise self._connection_failure("connection lost to", error) from None
        # Texts go to the address that the user named: an answer that points to another is a failure.
        if not 200 <= reply.status < 300:
            raise self._status_failure(reply)
        return {
            **self._read(reply.body, request["endpoint"]),
            "seconds": round(time.perf_counter() - start, 4),
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "endpoint": address,
        }

    def _prepared(self, client: Any, request: Mapping[str, Any]) -> tuple[Form, bytes]:
        try:
            return self._forms.of(client, request), request_body(request)
        except self._openai.OpenAIError as error:
            raise RequestFailed(self._redacted(error)) from None
        except (TypeError, ValueError) as error:
            raise RequestFailed(
                f"the request is not one of the client's: {self._redacted(error)}", fatal=isinstance(error, TypeError)
            ) from None

    def _read(self, body: bytes, endpoint: str) -> dict[str, Any]:
        try:
            return read_answer(body, endpoint)
        except RequestFailed as error:
            raise RequestFailed(self._redacted(error), retry=error.retry, answered=error.answered) from None

    def _connection_failure(self, what: str, cause: Exception) -> RequestFailed:
        return RequestFailed(f"{what} {', '.join(self.endpoints)} ({self._redacted(cause)})", retry=True)

    def _status_failure(self, reply: Reply) -> RequestFailed:
        status, said = reply.status, _said(reply.body)
        message = f"status {status}: {self._redacted(said)}"
        if "insufficient_quota" in said or status in (401, 403, 404):
            hints = {
                401: " Check the key.",
                403: " The key may not use this model.",
                404: " Check model and base_url.",
            }
            return RequestFailed(message + hints.get(status, ""), fatal=True)
        if status in (408, 409, 429) or status >= 500:
            return RequestFailed(message, retry=True, wait=asked_wait(reply.headers))
        return RequestFailed(message + next((hint for word, hint in _HINTS.items() if word in message), ""))

    def _redacted(self, error: BaseException | str) -> str:
        text = printable(" ".join(str(error).split()))
        return masked_text(text, [*self._secrets, *known_secrets()])[:300]


def _said(body: bytes) -> str:
    """The text of an error's body; of json its content, where nothing hides behind escapes."""
    text = body.decode("utf-8", "replace")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return text
    error = content.get("error") if isinstance(content, dict) else None
    return str(error if error else content)


def public_address(url: str) -> str:
    """An address without user, password and query."""
    return str(masked(url)).partition("?")[0].partition("#")[0].rstrip("/")


def _check_address(base_url: str | None) -> None:
    if base_url is None:
        return
    try:
        parts = urlsplit(base_url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise InputError(
            "The `base_url` must be an address such as http://localhost:8000/v1. (Not shown, it may hold a password.)"
        )


def _client_entries(path: str | os.PathLike, model: str | None) -> list[dict[str, Any]]:
    """The entries of a file of alpaca_eval's clients for `model`, or its default ones."""
    try:
        content = parse_yaml(Path(path).expanduser().read_text(encoding="utf-8"), f"The file of clients {path}")
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(
            f"The file of clients {path} cannot be read ({type(error).__name__}). Check OPENAI_CLIENT_CONFIG_PATH."
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"The file of clients {path} must hold a mapping of model to a list of clients.")
    default = content.get("default") or []
    entries = content.get(model) or default
    entries = [*(e for e in entries if e != "default"), *(default if "default" in entries else [])]
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"The file of clients {path} has no list of clients for {model!r}, and none named 'default'.")
    return entries


def _client_of(openai: Any, entry: Mapping[str, Any], common: Mapping[str, Any]) -> Any:
    arguments = dict(entry)
    name = str(arguments.pop("client_class", "openai.OpenAI"))
    cls = getattr(openai, name.rpartition(".")[2], None) if name.startswith("openai.") else None
    if not (isinstance(cls, type) and issubclass(cls, openai.OpenAI)):
        raise InputError(f"The client class {name!r} must be one of the package openai, such as openai.AzureOpenAI.")
    try:
        return cls(**{**arguments, **common})
    except (TypeError, openai.OpenAIError) as error:
        raise InputError(
            f"A client with the entries {sorted(entry)} cannot be made ({type(error).__name__})."
        ) from None
