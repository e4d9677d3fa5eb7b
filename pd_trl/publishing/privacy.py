"""Removes secrets and local paths from what is published."""

import json
from typing import Any

from huggingface_hub import get_token

from ..safety.secrets import known_secrets, masked, masked_text


def published_value(value: Any) -> Any:
    """`value` without secrets and local settings, and with paths cut to their last part."""
    return _without(masked(value, public=True), [*known_secrets(), get_token()])


def _without(value: Any, secrets: list[str | None]) -> Any:
    """`value` without the secrets of this machine, whatever they look like."""
    if isinstance(value, dict):
        return {key: _without(entry, secrets) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without(entry, secrets) for entry in value]
    return masked_text(value, secrets) if isinstance(value, str) else value


def published_json(content: Any) -> bytes:
    """Json of [`published_value`]."""
    return (json.dumps(published_value(content), indent=2, ensure_ascii=False, default=str) + "\n").encode()
