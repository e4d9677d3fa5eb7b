"""Columns of JSON text: `datasets` makes them from JSON lines whose rows have different types."""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import InputError, InputTypeError
from .columnar import MESSAGES_TYPE, is_list

Problems = dict[str, np.ndarray]
# Fields of a message that change what it says: its content alone is not all of it.
MEANINGFUL_FIELDS = (
    "tool_calls", "function_call", "image", "images", "video", "videos", "audio", "audios", "files", "attachments", "documents",
    "thinking", "reasoning", "reasoning_content",
)  # fmt: skip


def is_json(dtype: pa.DataType) -> bool:
    """Whether the type is JSON text."""
    return getattr(dtype, "extension_name", None) == "arrow.json"


def is_json_list(dtype: pa.DataType) -> bool:
    """Whether the type is a list of JSON texts."""
    return is_list(dtype) and is_json(dtype.value_type)


def has_json_fields(dtype: pa.DataType) -> bool:
    """Whether the type is a list of structs of which some fields are JSON text."""
    return is_list(dtype) and pa.types.is_struct(dtype.value_type) and any(is_json(f.type) for f in dtype.value_type)


def decode_json(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Returns the values of a column of JSON, of lists of JSON, or of lists of structs with fields of JSON."""
    if has_json_fields(column.type):
        decoded = {field.name for field in column.type.value_type if is_json(field.type)}
        return [
            messages and [m and {k: _decoded(v) if k in decoded else v for k, v in m.items()} for m in messages]
            for messages in column.to_pylist()
        ]
    if is_json_list(column.type):
        lists = column.cast(pa.list_(pa.string())).to_pylist()
        return [None if texts is None else [_decoded(text) for text in texts] for texts in lists]
    return [_decoded(text) for text in column.cast(pa.string()).to_pylist()]


def _decoded(text: str | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text  # `datasets` does not encode some texts


def _mark(problems: Problems, reason: str, row: int, num_rows: int) -> None:
    problems.setdefault(reason, np.zeros(num_rows, dtype=bool))[row] = True


def _message_problem(message: Any) -> str | None:
    if isinstance(message, dict) and all(isinstance(message.get(p), (str, type(None))) for p in ("role", "content")):
        return None
    return f'each message must be {{"role": str, "content": str}}, but found {str(message)[:80]!r}'


def _value_problem(value: Any, row: int) -> str | None:
    if value is None or isinstance(value, str):
        return None
    if not isinstance(value, list):
        return f"must hold strings or lists of messages, but row {row} is a {type(value).__name__}"
    return next(filter(None, map(_message_problem, value)), None)


def _mixed(values: list[Any], name: str) -> str | None:
    """The problem of a column with both strings and lists of messages; `None` if it has one kind."""
    first = {kind: next((i for i, v in enumerate(values) if isinstance(v, kind)), None) for kind in (str, list)}
    if None in first.values():
        return None
    return (
        f"{name} mixes standard and chat data: row {first[str]} is a string, row {first[list]} is a list of messages"
    )


def texts_from_json(
    column: pa.ChunkedArray, name: str, problems: Problems | None
) -> tuple[pa.ChunkedArray, list[str]]:
    """
    Returns a JSON column as strings or as lists of messages, and the other fields of the messages.

    Args:
        column (`pa.ChunkedArray`):
            JSON texts, lists of them, or messages with fields of them.
        name (`str`):
            Its name.
        problems (`dict`, *optional*):
            Gets the rows that are neither, or of another kind than most rows; they become null. Without it they are an error.
    """
    values = decode_json(column)
    mixed = _mixed(values, name)
    if mixed and problems is None:
        raise InputError(
            f'Column {mixed}. Make all rows strings, or all rows lists of {{"role", "content"}} messages.'
        )
    lists, strings = (sum(isinstance(value, kind) for value in values) for kind in (list, str))
    chat = lists > 0 and lists >= strings
    found: Problems = {}
    extra: set[str] = set()
    for row, value in enumerate(values):
        wrong = _value_problem(value, row)
        if wrong is not None:
            if problems is None:
                raise InputTypeError(f"Column {name!r}, row {row}: {wrong}.")
            kind = "messages" if isinstance(value, list) else "texts"
            _mark(found, f"{name} holds {kind} that cannot be read", row, len(values))
            values[row] = None
        elif mixed and value is not None and isinstance(value, list) != chat:
            _mark(found, mixed, row, len(values))
            values[row] = None
        elif chat:
            extra |= {key for message in value or [] for key in message}
            for field in MEANINGFUL_FIELDS:
                if problems is not None and any(message.get(field) for message in value or []):
                    _mark(found, half_read(name, field), row, len(values))
    if problems is not None:
        problems |= found
    if not chat:
        return pa.chunked_array([pa.array(values, pa.string())]), []
    kept = [v if v is None else [{k: m.get(k) for k in ("role", "content")} for m in v] for v in values]
    return pa.chunked_array([pa.array(kept, MESSAGES_TYPE)]), sorted(extra - {"role", "content"})


def half_read(name: str, field: str) -> str:
    """The reason for a row whose messages say more than their content."""
    return f"{name} has messages with {field}, which are not read"
