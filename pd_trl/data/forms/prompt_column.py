"""A prompt under another name: the turns before the responses (LLaMA-Factory's `conversations`), or a `question`."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..chat import starts_with_role
from ..columnar import is_messages, is_text
from ..json_columns import Problems, is_json
from .values import values_of

_SIDES = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_a", "response_b"))
_TURNS = ("conversations", "messages", "conversation")
_TEXTS = ("question", "query", "input", "user")


def read(table: pa.Table, mapping: Mapping[str, str], problems: Problems) -> pa.Table:
    """Returns the table with the column that holds the prompts called `prompt`, where there is no such column and one is needed."""
    names = set(table.column_names)
    pair = next((pair for pair in _SIDES if set(pair) <= names), None)
    if pair is None or "prompt" in mapping or names & {"prompt", "instruction"}:
        return table
    if all(_holds_prompts(table.column(name)) for name in pair):
        return table
    used = set(mapping.values())
    found = [name for name in _TURNS if name in names and _is_chat(table.column(name).type)]
    found += [name for name in _TEXTS if name in names and is_text(table.column(name).type)]
    found = [name for name in found if name not in used]
    if not found:
        return table
    return table.rename_columns(["prompt" if name == found[0] else name for name in table.column_names])


def _is_chat(dtype: pa.DataType) -> bool:
    return is_messages(dtype) or is_json(dtype)


def _holds_prompts(column: pa.ChunkedArray) -> bool:
    """Whether each response is a conversation that begins with its prompt."""
    if is_messages(column.type):
        some = np.asarray(pc.list_value_length(column).fill_null(0)) > 0
        return not (starts_with_role(column, "assistant") & some).any()
    if not is_json(column.type):
        return False
    return all(
        not value or (isinstance(value, list) and isinstance(value[0], dict) and value[0].get("role") != "assistant")
        for value in values_of(column)
    )
