"""Rows whose two responses are whole conversations. Their shared messages are the prompt, together with a prompt column."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .chat import equal_text, flatten, split_conversations, text_kind, wrap_text
from .columnar import MESSAGES_TYPE, as_mask, single_array, struct_field, take
from .json_columns import Problems
from .prompts import SYSTEM_ROLES, replace_rows

Messages = Sequence[dict[str, Any]]


def _leads(messages: Messages) -> tuple[Messages, Messages]:
    count = next((i for i, m in enumerate(messages) if m["role"] not in SYSTEM_ROLES), len(messages))
    return messages[:count], messages[count:]


def merge_prompts(given: Messages, shared: Messages) -> Messages | None:
    """
    Returns the prompt of two conversations that share their first messages and also have a prompt column.

    Args:
        given (`Messages`):
            Messages of the prompt column.
        shared (`Messages`):
            Messages that both conversations begin with.

    Returns:
        `Messages`: The one that says more; `None` if each says something that the other does not.
    """
    (given_system, given_turns), (shared_system, shared_turns) = _leads(given), _leads(shared)
    if given_system and shared_system and _keys(given_system) != _keys(shared_system):
        return None
    ours, theirs = _keys(given_turns), _keys(shared_turns)
    if ours == theirs[: len(ours)]:
        turns = shared_turns
    elif len(theirs) < len(ours) and theirs == ours[len(ours) - len(theirs) :]:
        turns = given_turns
    else:
        return None
    return [*(shared_system or given_system), *turns]


def _keys(messages: Messages) -> list[tuple[str, str]]:
    return [(message["role"], _plain(message["content"])) for message in messages]


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())


def says_all(shared: Messages, text: str | None) -> bool:
    """Whether the shared messages hold the text of a prompt column, in one message or several in a row."""
    wanted = _plain(text)
    said = _plain(" ".join(message["content"] or "" for message in shared))
    return not wanted or f" {wanted} " in f" {said} "


def _last_user_is(shared: pa.ChunkedArray, texts: pa.ChunkedArray) -> np.ndarray:
    """Mask of the rows whose last shared message is the text of the prompt column, as in most data sets that have both."""
    offsets, messages = flatten(shared)
    rows = np.flatnonzero(np.diff(offsets) > 0)
    found = np.zeros(len(shared), dtype=bool)
    last = struct_field(messages, "content").take(pa.array(offsets[rows + 1] - 1))
    found[rows] = as_mask(pc.equal(last, single_array(take(texts, rows))))
    return found


def split_prompts(
    prompt: pa.ChunkedArray | None,
    first: pa.ChunkedArray,
    second: pa.ChunkedArray,
    whole: np.ndarray,
    found: Problems,
) -> tuple[pa.ChunkedArray, pa.ChunkedArray, pa.ChunkedArray]:
    """
    Returns prompts and responses of chat data in which some or all rows are whole conversations.

    Args:
        prompt (`pa.ChunkedArray`, *optional*):
            The prompt column, strings or messages.
        first (`pa.ChunkedArray`):
            Messages of one side.
        second (`pa.ChunkedArray`):
            Messages of the other.
        whole (`np.ndarray`):
            Rows whose sides are conversations that include the prompt, shape `(num_rows,)`.
        found (`Problems`):
            Gets the rows whose prompt column and conversations say different things.
    """
    rows = np.flatnonzero(whole)
    sides = (first, second) if len(rows) == len(whole) else (take(first, rows), take(second, rows))
    shared, answers_a, answers_b = split_conversations(*sides)
    is_text = prompt is not None and text_kind(prompt.type) == "text"
    if prompt is None:
        given = pa.chunked_array([pa.nulls(len(whole), MESSAGES_TYPE)])
    else:
        given = wrap_text(prompt, "user") if is_text else prompt
        texts = prompt if len(rows) == len(whole) else take(prompt, rows)
        same = _last_user_is(shared, texts) if is_text else equal_text(texts, shared)
        open_rows = np.flatnonzero(~same & as_mask(texts.is_valid()))
        shared, odd = _merged(shared, texts, open_rows, is_text)
        if odd:
            found["prompt and the conversations of the responses disagree"] = mask = np.zeros(len(whole), dtype=bool)
            mask[rows[odd]] = True
    pointers = np.arange(len(whole))
    pointers[rows] = len(whole) + np.arange(len(rows))

    def placed(column: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.ChunkedArray:
        if len(rows) == len(whole):
            return others
        return take(pa.chunked_array([*column.chunks, *others.chunks], type=MESSAGES_TYPE), pointers)

    return placed(given, shared), placed(first, answers_a), placed(second, answers_b)


def _merged(
    shared: pa.ChunkedArray, given: pa.ChunkedArray, rows: np.ndarray, is_text: bool
) -> tuple[pa.ChunkedArray, list[int]]:
    """The prompts of the rows in which the prompt column differs from the shared messages, and the rows without a prompt."""
    changed, merged, odd = [], [], []
    pairs = zip(take(given, rows).to_pylist(), take(shared, rows).to_pylist(), strict=True)
    for row, (prompt, messages) in zip(rows.tolist(), pairs, strict=True):
        if is_text:
            if not says_all(messages, prompt):
                odd.append(row)
            continue
        result = merge_prompts(prompt, messages)
        if result is None:
            odd.append(row)
        elif list(result) != list(messages):
            changed.append(row)
            merged.append(result)
    return (replace_rows(shared, changed, merged) if changed else shared), odd
