"""Row checks shared by pairs and preferences: which prompts and responses cannot be used."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from .chat import flatten
from .columnar import CHUNK_ROWS, as_mask, find_rows, is_list, struct_field

ROLES = ("system", "developer", "user", "assistant", "tool")
_ROLES = pa.array(ROLES)


def _blank(text: pa.Array | pa.ChunkedArray) -> np.ndarray:
    trimmed = pc.utf8_trim_whitespace(text)
    return as_mask(pc.or_(text.is_null(), pc.equal(trimmed, "").fill_null(True)))


def _text_problems(column: pa.ChunkedArray, name: str) -> dict[str, np.ndarray]:
    null = as_mask(column.is_null())
    return {f"{name} is null": null, f"{name} is empty": _blank(column) & ~null}


def _chat_block(column: pa.ChunkedArray, name: str, part: str) -> dict[str, np.ndarray]:
    offsets, messages = flatten(column)
    lengths = np.diff(offsets)
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    roles = struct_field(messages, "role")
    contents = struct_field(messages, "content")

    def rows_with(mask: np.ndarray) -> np.ndarray:
        return np.bincount(row_of[mask], minlength=len(lengths)) > 0

    def role_at(positions: np.ndarray, *allowed: str) -> np.ndarray:
        found = np.zeros(len(lengths), dtype=bool)
        inside = (positions >= offsets[:-1]) & (positions < offsets[1:])
        picked = roles.take(pa.array(positions[inside]))
        found[inside] = as_mask(pc.is_in(picked, value_set=pa.array(allowed)))
        return found

    null = as_mask(column.is_null())
    some = lengths > 0
    last_blank = np.zeros(len(lengths), dtype=bool)
    last_blank[some] = _blank(contents.take(pa.array(offsets[1:][some] - 1)))
    unknown = rows_with(~as_mask(pc.is_in(roles, value_set=_ROLES)))
    problems = {
        f"{name} is null": null,
        f"{name} has no messages": ~some & ~null,
        f"{name} has a message without content": rows_with(as_mask(contents.is_null())),
        f"{name} has a role other than {', '.join(ROLES)}": unknown,
        f"{name} is empty": last_blank,
    }
    if part in ("prompt", "conversation"):
        leads = role_at(offsets[:-1], "system", "developer").astype(np.int64)
        start = offsets[:-1] + leads
        problems[f"{name} starts with the assistant"] = role_at(start, "assistant")
    if part == "prompt":
        problems[f"{name} does not end with a user (or tool) message"] = (
            some & ~unknown & ~role_at(offsets[1:] - 1, "user", "tool")
        )
    if part == "conversation":
        problems[f"{name} does not end with an assistant message"] = (
            some & ~unknown & ~role_at(offsets[1:] - 1, "assistant")
        )
        problems[f"{name} has no prompt before the response"] = lengths == 1
    if part == "response":
        single = (lengths == 1) & role_at(offsets[:-1], "assistant")
        problems[f"{name} is not a single assistant message"] = some & ~unknown & ~single
    return problems


def problems(column: pa.ChunkedArray, name: str, part: str) -> dict[str, np.ndarray]:
    """
    Returns, by reason, the rows that cannot be used, each mask of shape `(num_rows,)`.

    Args:
        column (`pa.ChunkedArray`):
            Strings or lists of messages, in normal form.
        name (`str`):
            Name of the column, part of the reasons.
        part (`str`):
            `"prompt"`, `"response"`, or `"conversation"` for a prompt and response in one list of messages.
    """
    if not is_list(column.type):
        return {reason: mask for reason, mask in _text_problems(column, name).items() if mask.any()}
    blocks = [
        _chat_block(column.slice(start, CHUNK_ROWS), name, part) for start in range(0, max(len(column), 1), CHUNK_ROWS)
    ]
    merged = {reason: np.concatenate([block[reason] for block in blocks]) for reason in blocks[0]}
    return {reason: mask for reason, mask in merged.items() if mask.any()}


def first_reasons(found: dict[str, np.ndarray], num_rows: int) -> tuple[np.ndarray, dict[str, int]]:
    """Returns which rows have any problem, shape `(num_rows,)`, and the counts by reason. Each row has one reason."""
    invalid = np.zeros(num_rows, dtype=bool)
    counts = {}
    for reason, mask in found.items():
        fresh = mask & ~invalid
        if fresh.any():
            counts[reason] = int(fresh.sum())
        invalid |= mask
    return invalid, counts


def raise_problems(found: dict[str, np.ndarray], num_rows: int, advice: str, unit: str = "row") -> None:
    """Raises [`InputError`] with each reason, its count and its first rows, if there are any."""
    if not found:
        return
    lines = [
        f"{reason}: {int(mask.sum()):,} of {num_rows:,} {unit}s, the first {unit}s {find_rows(mask)}"
        for reason, mask in found.items()
    ]
    raise InputError(f"Some {unit}s cannot be used. {'; '.join(lines)}. {advice}")
