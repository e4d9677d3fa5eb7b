"""[`ServerPolicy`]: a policy behind an OpenAI-compatible server."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runs.row_log import RowLog
from ..safety.schema import boolean, integer, record, text
from ..safety.secrets import masked
from ..servers import OpenAIClient, RequestPool, RequestSettings, known_answers, public_address
from ..servers.answers import CHAT, COMPLETION
from ..servers.questions import check_arguments, estimated_tokens, request_key
from .instructions import Instruction
from .settings import DecodingConfig

DEFAULT_KEY = "OPENAI_API_KEY"
LOG_NAME = "generated.jsonl"
# What is kept of an answer. `useless` says why it is no output, and is empty where it is one.
_FIELDS = {
    **{"output": text(), "num_tokens": integer(0), "finished": boolean},
    **{"prompt_tokens": integer(0), "finish_reason": text(), "model": text(), "date": text(), "endpoint": text()},
    "useless": text(),
}
SERVER_ROW = record(_FIELDS, required=_FIELDS)


@dataclass(frozen=True)
class ServerPolicy:
    """
    A policy behind an OpenAI-compatible server.

    Args:
        model (`str`): Its name on the server.
        base_url (`str`, *optional*): Address of the server. `None` is `OPENAI_BASE_URL`, then OpenAI's own.
        api_key_env (`str`, *optional*, defaults to `"OPENAI_API_KEY"`): Environment variable with the key.
        settings ([`RequestSettings`], *optional*): Retries and concurrency.
        arguments (mapping, *optional*):
            Further arguments of each request; `None` as a value takes one of ours away. What the API has no place for goes into
            `extra_body`, such as `{"extra_body": {"top_k": 40}}`.
        skip_failed (`bool`, *optional*, defaults to `False`):
            Whether instructions that the server gives no output to are left out and counted, instead of an error.
    """

    model: str
    base_url: str | None = None
    api_key_env: str = DEFAULT_KEY
    settings: RequestSettings = field(default_factory=RequestSettings)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    skip_failed: bool = False

    @property
    def name(self) -> str:
        """Last part of the model's name, as the name of the generator."""
        return self.model.rstrip("/").rpartition("/")[2] or "model"

    @property
    def address(self) -> str:
        """The server's address, without what may be secret."""
        return public_address(self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1")

    def identity(self, config: DecodingConfig) -> dict[str, Any]:
        """All that decides an output beside the instruction. The same model at another address is the same."""
        return {
            "decoding": asdict(config),
            "model": self.model,
            "backend": "server",
            "request_arguments": masked(dict(self.arguments)),
        }

    def settings_of_requests(self) -> dict[str, Any]:
        """What decides a set of outputs beside the model and the decoding."""
        arguments = masked(dict(self.arguments))
        return {"backend": "server", "request_arguments": arguments, "skip_failed": self.skip_failed}

    def connect(self) -> OpenAIClient:
        """
        A client of the server.

        Raises:
            InputError: Without the package openai, an address, or a key.
        """
        return OpenAIClient(self.base_url, self.api_key_env, model=self.model, settings=self.settings)

    def requests(self, instructions: Sequence[Instruction], config: DecodingConfig) -> dict[int, dict[str, Any]]:
        """
        The request of each instruction, by its position.

        Raises:
            InputError: On settings and instructions that the API has no place for.
        """
        self.check(config)
        arguments = {
            "model": self.model,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "max_tokens": config.max_new_tokens,
            "seed": config.seed,
            **self.arguments,
        }
        arguments = {name: value for name, value in arguments.items() if value is not None}
        found = {}
        for position, item in enumerate(instructions):
            if config.use_chat_template is False:
                if not isinstance(item.prompt, str):
                    raise InputError(
                        "Messages need the server's chat template: leave `use_chat_template` out, or pass plain instructions."
                    )
                found[position] = {"endpoint": COMPLETION, "prompt": item.prompt, **arguments}
                continue
            turns = item.prompt if isinstance(item.prompt, list) else [{"role": "user", "content": item.prompt}]
            system = [{"role": "system", "content": config.system_prompt}] if config.system_prompt else []
            found[position] = {"endpoint": CHAT, "messages": [*system, *turns], **arguments}
        return found

    def check(self, config: DecodingConfig) -> None:
        """Raises `InputError` on settings that the API has no place for."""
        extra = self.arguments.get("extra_body") or {}
        if not isinstance(extra, Mapping):
            raise InputError(f"`extra_body` of the request arguments must be a mapping, got {extra!r}.")
        for name, value, example in (
            ("top_k", config.top_k, config.top_k),
            ("chat_template_kwargs", config.chat_template_kwargs, dict(config.chat_template_kwargs)),
        ):
            if value:
                raise InputError(
                    f"OpenAI's API has no place for `{name}`. If your server takes it, leave `{name}` out and send it with the request "
                    f'arguments {{"extra_body": {{"{name}": {example!r}}}}}.'
                )
        check_arguments(self.arguments)
        if config.use_chat_template is False and config.system_prompt:
            raise InputError("A system prompt needs the server's chat template: leave `use_chat_template` out.")

    def plan(
        self, requests: Mapping[int, dict[str, Any]], log: RowLog | None, config: DecodingConfig
    ) -> dict[str, int]:
        """Numbers of requests still to send, of known answers, and of the tokens in and (at most) out that will be paid."""
        by_key = {request_key(request): request for request in requests.values()}
        known = known_answers(log, by_key, self.settings, useless) if log is not None else {}
        left = [request for key, request in by_key.items() if key not in known]
        return {
            "requests": len(left),
            "answered": len(known),
            "prompt tokens": sum(map(estimated_tokens, left)),
            "output tokens": len(left) * config.max_new_tokens,
        }

    def answer(self, requests: Mapping[int, dict[str, Any]], log: RowLog) -> tuple[list[Any], dict[int, str]]:
        """
        A row for each request, `None` where there is no output, and the reasons of these by position.

        Args:
            requests (mapping): Requests by position.
            log ([`RowLog`]): Rows by key; answers are written there before the next request is sent.
        """
        keys = {position: request_key(request) for position, request in requests.items()}
        client = self.connect()
        pool = RequestPool(lambda request: _row(client.send(request)), log, self.settings, useless)
        for _ in pool.answers({keys[position]: request for position, request in requests.items()}, self.name):
            pass
        failed = {position: pool.failures[key] for position, key in keys.items() if key in pool.failures}
        return [None if position in failed else log[keys[position]] for position in requests], failed


def kept_answers(folder: Path, identity: Mapping[str, Any]) -> RowLog | None:
    """The answers that an earlier run kept in `folder`, to look at; `None` where there are none of this identity."""
    path = folder / LOG_NAME
    if not path.is_file():
        return None
    try:
        with RowLog(path, dict(identity), SERVER_ROW) as kept:
            return kept
    except InputError:
        return None


def useless(row: Any) -> str | None:
    """Why a kept answer is no output; `None` where it is one."""
    return row["useless"] or None


def _row(answer: Mapping[str, Any]) -> dict[str, Any]:
    choice = answer["choices"][0]
    reason = str(choice.get("finish_reason") or "")
    message = choice.get("message")
    content = message.get("content") if message is not None else choice.get("text")
    wrong = ""
    if reason == "content_filter":
        wrong = "an answer that the server's content filter cut"
    elif content is None and reason != "length":
        wrong = "an answer without text"
    tokens = (int(answer.get(name) or 0) for name in ("completion_tokens", "prompt_tokens"))
    num_tokens, prompt_tokens = tokens
    return {
        "output": content or "",
        "num_tokens": num_tokens,
        "finished": reason != "length",
        "prompt_tokens": prompt_tokens,
        "finish_reason": reason[:40],
        "model": answer.get("model") or "",
        "date": answer["date"],
        "endpoint": answer["endpoint"],
        "useless": wrong,
    }


def describe_failures(failed: Mapping[int, str], total: int) -> str:
    """What to say of instructions without an output."""
    reasons = list(failed.values())
    return (
        f"{len(failed)} of {total} instructions have no output, the first because of this: {reasons[0].rstrip('.')}."
    )


def raise_failures(failed: Mapping[int, str], total: int) -> None:
    """Raises `InputError` for instructions without an output."""
    raise InputError(
        f"{describe_failures(failed, total)} The other outputs are kept: run the same command again to ask for these, or leave them out "
        "with `skip_failed`."
    )
