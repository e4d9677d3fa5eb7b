"""What is sent to a server: arguments of requests, the keys of their answers, and texts put into templates."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..runs.identity import digest_of
from ..safety.secrets import masked

# 1,606 prompts of AlpacaEval's judge have 4.9 characters per token that it counted, answers included.
_CHARACTERS_PER_TOKEN = 4.9


def check_arguments(arguments: Mapping[str, Any] | None) -> None:
    """Raises `InputError` on arguments of requests that decide what is asked, of whom, or in which form the answer comes."""
    taken = sorted({"messages", "prompt", "model", "stream", "n"} & set(arguments or {}))
    if taken:
        raise InputError(f"The request arguments must not set {', '.join(taken)}, which decide what is asked.")


def request_arguments(
    model: str, arguments: Mapping[str, Any] | None, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Arguments of each request to `model`: ours (`defaults` among them), and the user's in place of them; `None` takes one away."""
    check_arguments(arguments)
    given = {"model": model, "temperature": 0.0, "max_tokens": 8, **(defaults or {}), **(arguments or {})}
    return {name: value for name, value in given.items() if value is not None}


def request_key(request: Mapping[str, Any]) -> str:
    """Digest of what decides an answer: the texts as they are, and the other arguments without keys and passwords."""
    texts = {name: request[name] for name in ("messages", "prompt") if name in request}
    others = {name: value for name, value in request.items() if name not in texts}
    try:
        shown = _masked_json(json.dumps(others))
    except TypeError:  # no json
        shown = masked(others)
    return digest_of({**shown, **texts})


@functools.lru_cache(maxsize=64)
def _masked_json(text: str) -> dict[str, Any]:
    """Arguments without secrets: the same for most requests of a run, and to look for secrets takes longer than to send them."""
    found: dict[str, Any] = masked(json.loads(text))
    return found


def estimated_tokens(request: Mapping[str, Any]) -> int:
    """Tokens of a request's texts, by their characters."""
    messages: Sequence[Mapping[str, Any]] = request.get("messages") or []
    characters = sum(len(str(message["content"])) for message in messages) + len(request.get("prompt", ""))
    return tokens_of(characters)


def tokens_of(characters: int) -> int:
    """Tokens of a request with so many characters, its short answer included."""
    return round(characters / _CHARACTERS_PER_TOKEN) + 1


def fill(template: str, **texts: str) -> str:
    """`template` with each `{name}` replaced once, whatever braces the texts hold."""
    parts = [template]
    for name, text in texts.items():
        # Only the template's own parts are searched, never a text that was put in.
        for i in range(0, len(parts), 2):
            before, found, after = parts[i].partition(f"{{{name}}}")
            if found:
                parts[i : i + 1] = [before, text, after]
                break
    return "".join(parts)
