"""Arguments that take a mapping: as YAML or json in a text, or as it stands in a recipe."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..safety.schema import parse_yaml

# `name: value`, but neither a path nor an id.
_BLOCK = re.compile(r"\s*[^\s:/\\{\[#][^:/\\\n]*:(\s|$)")


def is_mapping_text(text: str) -> bool:
    """Whether a text is meant as a mapping in YAML or json, and not as a path or a Hub id."""
    return (text.lstrip().startswith("{") or bool(_BLOCK.match(text))) and not os.path.exists(os.path.expanduser(text))


def mapping_of(value: str | Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """
    The mapping that an argument takes.

    Args:
        value (`str` or mapping, *optional*): The mapping, or a text that holds it in YAML or json. `None` is an empty one.
        name (`str`): Name of the argument, for errors.

    Raises:
        InputError: When `value` is anything else.
    """
    if value is None:
        return {}
    content = value if isinstance(value, Mapping) else _parsed(value, name)
    for key in content:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise InputError(
                f"`{name}` has the key {key!r}, which YAML does not read as text. Put quotes around it in {value!r}."
            )
    return {str(key): entry for key, entry in content.items()}


def path_or_mapping(value: str | Mapping[str, Any] | None, name: str) -> str | dict[str, Any]:
    """A path or a Hub id as it is, or the mapping that an argument takes in its place."""
    return value if isinstance(value, str) and not is_mapping_text(value) else mapping_of(value, name)


def _parsed(value: str, name: str) -> Mapping[Any, Any]:
    expected = f"`{name}` must be a mapping in YAML, such as '{{key: value}}', or a json object"
    try:
        # Before YAML, which takes 1e-5 for text.
        content = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        try:
            content = parse_yaml(value, f"`{name}`") if isinstance(value, str) else value
        except InputError as error:
            raise InputError(f"{expected}, got {value!r}. {error}") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{expected}, got {value!r}.")
    return content
