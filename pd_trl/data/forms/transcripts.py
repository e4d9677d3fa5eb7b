"""Conversations as one text, as in hh-rlhf: `\\n\\nHuman: ...\\n\\nAssistant: ...`."""

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..columnar import is_text
from ..json_columns import Problems
from .values import json_column, mark, set_column

_TURN = re.compile(r"(?:^\s*|\n\s*\n)(?:### ?)?(Human|User|Assistant|System): ?", re.IGNORECASE)
_BEGINS = re.compile(r"\s*(?:### ?)?(?:Human|User|System): ?", re.IGNORECASE)
# What every text that `_BEGINS` matches matches too: Arrow's expressions know fewer kinds of space.
_MAY_BEGIN = r"(?i)^\W*(human|user|system):"
_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}
_SIDES = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_a", "response_b"))


def read(table: pa.Table, mapping: Mapping[str, str], problems: Problems) -> pa.Table:
    """Returns the table with transcripts as messages: both sides of all rows, or the prompts that end where an answer begins."""
    prompt = mapping.get("prompt", "prompt")
    given = (
        next((mapping[a], mapping[b]) for a, b in _SIDES if a in mapping and b in mapping) if _named(mapping) else None
    )
    for pair in [given] if given else _SIDES:
        if all(name in table.column_names and is_text(table.column(name).type) for name in pair):
            return _read_sides(table, pair, prompt, problems)
    return table


def _named(mapping: Mapping[str, str]) -> bool:
    return any(a in mapping and b in mapping for a, b in _SIDES)


def _read_sides(table: pa.Table, pair: tuple[str, str], prompt: str, problems: Problems) -> pa.Table:
    if not _may_hold(table, pair, prompt):
        return table
    sides = {name: table.column(name).to_pylist() for name in pair}
    whole = [[_is_whole(text) for text in texts] for texts in sides.values()]
    known = [[text is not None and bool(text.strip()) for text in texts] for texts in sides.values()]
    several = sum(map(sum, whole)) * 2 > sum(map(sum, known))
    if several:
        for (name, texts), is_whole in zip(sides.items(), whole, strict=True):
            read_texts: list[Any] = []
            for row, (text, fits) in enumerate(zip(texts, is_whole, strict=True)):
                read_texts.append(split_transcript(text) if fits else None)
                if not fits and text is not None:
                    mark(problems, f"{name} is no transcript, as most are", row, len(texts))
            table = set_column(table, name, json_column(read_texts))
        return table
    if prompt in table.column_names and is_text(table.column(prompt).type):
        prompts = table.column(prompt).to_pylist()
        if any(prompts) and all(text is None or _is_prompt(text) for text in prompts):
            turns = [None if text is None else _without_open_turn(split_transcript(text)) for text in prompts]
            table = set_column(table, prompt, json_column(turns))
            for name, texts in sides.items():
                stripped = [None if text is None else text.strip() for text in texts]
                table = set_column(table, name, pa.chunked_array([pa.array(stripped, pa.string())]))
    return table


def _may_hold(table: pa.Table, pair: tuple[str, str], prompt: str) -> bool:
    """Whether a side, or the prompt, may begin like a transcript."""
    columns = [table.column(name) for name in (*pair, prompt) if name in table.column_names]
    texts = [column for column in columns if is_text(column.type)]
    return any(pc.any(pc.match_substring_regex(column, _MAY_BEGIN)).as_py() for column in texts)


def _is_whole(text: str | None) -> bool:
    return bool(text and _BEGINS.match(text)) and any(
        turn["role"] == "assistant" for turn in split_transcript(text or "")
    )


def _is_prompt(text: str) -> bool:
    turns = split_transcript(text) if _BEGINS.match(text) else []
    return len(turns) > 1 and turns[-1]["role"] == "assistant" and not turns[-1]["content"]


def _without_open_turn(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    return turns[:-1] if turns and not turns[-1]["content"] else turns


def split_transcript(text: str) -> list[dict[str, str]]:
    """Returns the turns of a transcript as messages."""
    pieces = _TURN.split(text)
    return [
        {"role": _ROLES[name.lower()], "content": content.strip()}
        for name, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
