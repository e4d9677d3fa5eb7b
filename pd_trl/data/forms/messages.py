"""Conversations in other forms: ShareGPT's `from` and `value`, a single message, contents of several parts, other names of roles."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..checks import ROLES
from ..columnar import is_list, is_messages, is_text
from ..json_columns import Problems, is_json
from .values import UnreadError, json_column, mark, set_column, values_of

# Columns of texts in any of the forms; the values of a column mapping are others.
_NAMES = re.compile(
    r"prompt|instruction|messages|conversations?|question|query|context|history"
    r"|(?:chosen|rejected)(?:_(?:response|completion|answer|message|messages|conversation))?"
    r"|(?:response|completion|answer|output)_?[ab01234]"
)
# Rows in which the first text of a column is looked for.
_LOOKED_AT = 1000
_ROLES = {
    "user": ("human", "user", "prompter", "usr", "customer"),
    "assistant": ("gpt", "assistant", "bot", "chatgpt", "model", "ai", "chatbot", "claude", "bard", "bing", "agent"),
    "tool": ("tool", "function", "observation", "tool_response", "ipython"),
    "system": ("system", "sys"),
    "developer": ("developer",),
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names}
_KEYS = (
    ("role", "content"),
    ("from", "value"),
    ("role", "value"),
    ("from", "content"),
    ("role", "text"),
    ("from", "text"),
)


def read(table: pa.Table, mapping: Mapping[str, str], problems: Problems) -> pa.Table:
    """Returns the table with conversations as lists of `{"role", "content"}`."""
    for name in table.column_names:
        column = table.column(name)
        if (_NAMES.fullmatch(name) or name in mapping.values()) and _needs_reading(column):
            table = set_column(table, name, json_column(_read_all(values_of(column), name, problems)))
    return table


def _needs_reading(column: pa.ChunkedArray) -> bool:
    dtype = column.type
    if is_text(dtype):
        start = next((text for text in column.slice(0, _LOOKED_AT).to_pylist() if text is not None), None)
        return _as_json(start) is not None and all(t is None or _as_json(t) is not None for t in column.to_pylist())
    if is_messages(dtype) and all(is_text(dtype.value_type.field(part).type) for part in ("role", "content")):
        roles = pc.unique(pc.struct_field(pc.list_flatten(column), "role")).to_pylist()
        return any(role not in ROLES and _role(role) in ROLES for role in roles)
    fields = dtype.value_type if is_list(dtype) else dtype
    if pa.types.is_struct(fields):
        names = {field.name for field in fields}
        return any(set(pair) <= names for pair in _KEYS)
    return is_json(dtype) or (is_list(dtype) and is_json(dtype.value_type))


def _as_json(text: str | None) -> Any:
    """The messages that a text is the JSON of; `None` for any other text."""
    if text is None or not re.match(r"\s*\[?\s*\{\s*\"(?:role|from|content|value)\"\s*:", text):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    first = value[0] if isinstance(value, list) and value else value
    return value if isinstance(first, dict) and any(set(pair) <= set(first) for pair in _KEYS) else None


def _read_all(values: list[Any], name: str, problems: Problems) -> list[Any]:
    read_values = []
    for row, value in enumerate(values):
        decoded = _as_json(value) if isinstance(value, str) else None
        try:
            read_values.append(to_messages(value if decoded is None else decoded))
        except UnreadError as error:
            mark(problems, f"{name} has {error}", row, len(values))
            read_values.append(None)
    return read_values


def to_messages(value: Any) -> Any:
    """
    Returns a conversation of any known form as a list of `{"role", "content"}` messages, with whatever else they have; a text, and a
    value of no known form, as it is.

    Raises:
        UnreadError: If a message says what would be lost.
    """
    if isinstance(value, Mapping) and _keys(value):
        return [_message(value)]
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and _keys(item) for item in value):
        return [_message(item) for item in value]
    return value


def _keys(message: Mapping[str, Any]) -> tuple[str, str] | None:
    # In a column of several forms each message has the fields of all of them, most of them null.
    found = [pair for pair in _KEYS if set(pair) <= set(message)]
    return next((pair for pair in found if message[pair[0]] is not None), found[0] if found else None)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = _keys(message) or _KEYS[0]
    others = {k: v for k, v in message.items() if v is not None and k not in (role, content, "role", "content")}
    if _plain(message[role]) in ("function_call", "tool_call"):
        raise UnreadError("messages with a call of a function, which are not read")
    return {"role": _role(message[role]), "content": _content(message[content]), **others}


def _plain(role: Any) -> Any:
    return re.sub(r"[\W_]+", "_", role.strip().lower()).strip("_") if isinstance(role, str) else role


def _role(role: Any) -> Any:
    plain = _plain(role)
    return _ROLE_OF.get(plain, role) if isinstance(plain, str) else role


def _content(content: Any) -> Any:
    """The text of a content of parts, one after the other as in chat templates."""
    parts = [content] if isinstance(content, Mapping) else content
    if not isinstance(parts, list) or not parts or not all(isinstance(part, Mapping) for part in parts):
        return content
    return "".join(_texts(parts))


def _texts(parts: list[Mapping[str, Any]]) -> Iterator[str]:
    for part in parts:
        text = part.get("text")
        others = {name for name, value in part.items() if value is not None} - {"text", "type"}
        if part.get("type", "text") not in ("text", None) or not isinstance(text, str) or others:
            raise UnreadError("messages with parts other than text, which are not read")
        yield text
