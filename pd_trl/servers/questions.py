"""Requests before they are sent: by what they are known again, and how many tokens they have."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..runs.identity import digest_of
from ..safety.secrets import masked

# 1,606 prompts of the leaderboard's judge have 4.9 characters per token that it counted, answers included.
CHARACTERS_PER_TOKEN = 4.9


def request_key(request: Mapping[str, Any]) -> str:
    """Digest of what decides an answer: the texts as they are, and the other arguments without keys and passwords."""
    texts = {name: request[name] for name in ("messages", "prompt") if name in request}
    return digest_of({**masked({name: value for name, value in request.items() if name not in texts}), **texts})


def estimated_tokens(request: Mapping[str, Any]) -> int:
    """Tokens of a request's texts, by their characters."""
    messages: Sequence[Mapping[str, Any]] = request.get("messages") or []
    characters = sum(len(str(message["content"])) for message in messages) + len(request.get("prompt", ""))
    return round(characters / CHARACTERS_PER_TOKEN) + 1
