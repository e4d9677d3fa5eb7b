"""Parts of a prompt that a source keeps in separate columns: Alpaca's `input`, a system message."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import InputError
from .chat import text_kind, wrap_text
from .columnar import MESSAGES_TYPE, is_numeric, is_text, take
from .json_columns import Problems, decode_json, is_json

logger = logging.getLogger(__name__)

INSTRUCTION = "instruction"
# Inputs of an instruction (Alpaca, Dolly): the first one found in a row follows the instruction.
INPUT_COLUMNS = ("input", "context")
SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
# Columns that may be part of a prompt in an unknown form.
POSSIBLE_PARTS = frozenset(
    (*INPUT_COLUMNS, *SYSTEM_COLUMNS)
    + tuple(
        "inputs contexts system_instruction system_instructions developer developer_message persona history chat_history "
        "conversation conversation_history conversations dialog dialogue messages turns article background document documents "
        "evidence knowledge passage passages question query reference_text".split()
    )
)
# A shorter text may occur in a prompt by chance.
_LONG = 40
SYSTEM_ROLES = ("system", "developer")


def _text(value: Any) -> Any:
    """A number as text, and any other value as it is."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    return str(value) if is_number else value


def text_of(row: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """Returns the first text (or number) in the columns that is not blank."""
    values = (_text(row.get(name)) for name in names)
    return next((value for value in values if isinstance(value, str) and value.strip()), None)


def says(text: str, part: str) -> bool:
    """Whether a text contains another: as whole lines, or anywhere if it is too long to occur by chance."""
    part = part.strip()
    lines = ("\n".join(["", *(line.strip() for line in each.strip().splitlines()), ""]) for each in (part, text))
    return next(lines) in next(lines) or (len(part) >= _LONG and part in text)


def join_input(instruction: str, part: str | None) -> str:
    """Returns an instruction followed by its input, unless it contains the input already."""
    if not part or not part.strip() or says(instruction, part):
        return instruction
    return f"{instruction.rstrip()}\n\n{part}"


def with_input(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Returns the column `name` of a source as prompts. An `instruction` is followed by its `input` (or `context`)."""
    column = table.column(name)
    parts = [
        part
        for part in INPUT_COLUMNS
        if part in table.column_names and any(kind(table.field(part).type) for kind in (is_text, is_numeric, is_json))
    ]
    if name != INSTRUCTION or not parts or not is_text(column.type):
        return column
    rows = zip(column.to_pylist(), *(_values(table.column(part)) for part in parts), strict=True)
    joined = [
        None if text is None else join_input(text, text_of(dict(zip(parts, values, strict=True)), parts))
        for text, *values in rows
    ]
    changed = sum(new != old for new, old in zip(joined, column.to_pylist(), strict=True))
    if changed:
        logger.info("%d prompts are an instruction followed by the text of %s.", changed, parts)
    return pa.chunked_array([pa.array(joined, pa.string())])


def _values(column: pa.ChunkedArray) -> list[Any]:
    return decode_json(column) if is_json(column.type) else column.to_pylist()


def with_system(columns: dict[str, pa.ChunkedArray], found: Problems) -> dict[str, pa.ChunkedArray]:
    """
    Returns pairs whose prompts begin with the text of a `system` column.

    Args:
        columns (`dict[str, pa.ChunkedArray]`):
            Pairs with `prompt`, `response_a` and `response_b`, all strings or all messages. Strings become messages where a
            row has a system message.
        found (`Problems`):
            Gets the rows whose prompt already begins with another system message.
    """
    for name in SYSTEM_COLUMNS:
        if name not in columns or not is_text(columns[name].type):
            continue
        texts = columns[name].to_pylist()
        rows = [row for row, text in enumerate(texts) if text and text.strip()]
        if rows:
            return columns | _prepend_system(columns, name, texts, rows, found)
    return columns


def _prepend_system(
    columns: dict[str, pa.ChunkedArray], name: str, texts: list[Any], rows: list[int], found: Problems
) -> dict[str, pa.ChunkedArray]:
    prompt, sides = columns["prompt"], {side: columns[side] for side in ("response_a", "response_b")}
    if text_kind(prompt.type) == "text":
        prompt = wrap_text(prompt, "user")
        sides = {side: wrap_text(column, "assistant") for side, column in sides.items()}
    other = np.zeros(len(prompt), dtype=bool)
    changed, merged = [], []
    for row, messages in zip(rows, take(prompt, np.array(rows)).to_pylist(), strict=True):
        if not messages:
            continue
        if messages[0]["role"] not in SYSTEM_ROLES:
            changed.append(row)
            merged.append([{"role": "system", "content": texts[row]}, *messages])
        elif (messages[0]["content"] or "").strip() != texts[row].strip():
            other[row] = True
    if other.any():
        found[f"prompt begins with another system message than column {name!r}"] = other
    if changed:
        logger.warning(
            "%d prompts begin with the text of column %r as their system message. If the column is something else, rename it.",
            len(changed),
            name,
        )
        prompt = replace_rows(prompt, changed, merged)
    return {"prompt": prompt, **sides}


def replace_rows(column: pa.ChunkedArray, rows: list[int], messages: list[Any]) -> pa.ChunkedArray:
    """Returns a chat column with other messages in some rows."""
    pointers = np.arange(len(column))
    pointers[rows] = len(column) + np.arange(len(rows))
    return take(pa.chunked_array([*column.chunks, pa.array(messages, MESSAGES_TYPE)], type=MESSAGES_TYPE), pointers)


def warn_of_parts(columns: Mapping[str, pa.ChunkedArray]) -> None:
    """Warns of columns that may be a part of the prompt but are not in it."""
    for name in columns:
        if name.lower() in POSSIBLE_PARTS and (count := _not_in_prompt(columns[name], columns["prompt"])):
            logger.warning(
                "The prompts of %d pairs do not contain column %r. If the responses answer it too, add it to the "
                "prompt first.",
                count,
                name,
            )


def missing_parts(row: Mapping[str, Any], prompt: Any) -> list[str]:
    """Returns the columns of a row that may be a part of its prompt but are not in it."""
    text = flat_text(prompt)
    return [
        name
        for name, value in row.items()
        if str(name).lower() in POSSIBLE_PARTS and name != "messages" and not _is_said(_text(value), text)
    ]


def _not_in_prompt(part: pa.ChunkedArray, prompt: pa.ChunkedArray) -> int:
    rows = [(row, _text(value)) for row, value in enumerate(_values(part)) if value or value == 0]
    prompts = take(prompt, np.array([row for row, _ in rows], dtype=np.int64)).to_pylist()
    return sum(not _is_said(value, flat_text(text)) for (_, value), text in zip(rows, prompts, strict=True))


def _is_said(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return not value.strip() or says(text, value)
    return not (isinstance(value, (list, dict)) and value)


def flat_text(prompt: Any) -> str:
    """Returns a prompt, a text or messages, as one text."""
    if isinstance(prompt, list):
        return "\n".join(message["content"] or "" for message in prompt)
    return prompt or ""


def prompt_of_row(row: Mapping[str, Any], column: str) -> Any:
    """
    Returns the prompt of a row: the text or messages of the column, or an instruction with its input, after the text
    of a system column.

    Raises:
        InputError: If the messages begin with another system message.
    """
    prompt = row.get(column)
    if column == INSTRUCTION and isinstance(prompt, str):
        prompt = join_input(prompt, text_of(row, INPUT_COLUMNS))
    system = text_of(row, SYSTEM_COLUMNS)
    if system is None or column in SYSTEM_COLUMNS or not prompt:
        return prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(messages, list) or not isinstance(messages[0], Mapping):
        return prompt
    if messages[0].get("role") in SYSTEM_ROLES:
        if str(messages[0].get("content")).strip() != system.strip():
            raise InputError(
                "has a system column and messages that begin with another system message. Remove one of them"
            )
        return messages
    return [{"role": "system", "content": system}, *messages]
