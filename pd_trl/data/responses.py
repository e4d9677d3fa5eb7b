"""Single responses to prompts, of any file: which column is what, and their texts in normal form."""

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from ..errors import InputError
from .chat import normalize_text, text_kind
from .checks import raise_problems
from .columnar import closest, dataset_table, table_dataset
from .json_columns import Problems
from .normal_form import row_problems, unify_texts
from .prompts import INSTRUCTION, warn_of_parts, with_input, with_system

# Our column: what it may be called, the first that is there.
_PROMPTS = ("prompt", INSTRUCTION, "question", "query")
_RESPONSES = ("response", "completion", "output", "answer")
_CONVERSATIONS = ("messages", "conversations", "conversation")
_NAMES = ("prompt", "response", "messages")
# What a chat template may need beside the messages.
_OPTIONS = ("tools", "chat_template_kwargs")


def holds_responses(column_names: list[str], mapping: Mapping[str, str] | None = None) -> bool:
    """Whether rows with these columns are single responses, by the names in `mapping` or by their own."""
    if mapping:
        return bool({"response", "messages"} & set(mapping))
    return any(name in column_names for name in (*_RESPONSES, *_CONVERSATIONS))


def response_texts(dataset: datasets.Dataset, column_mapping: Mapping[str, str] | None = None) -> datasets.Dataset:
    """
    Prompt and response of each row.

    Args:
        dataset (`Dataset`):
            Rows with a prompt (`prompt`, `instruction` with its `input`, `question` or `query`) and a response (`response`,
            `completion`, `output` or `answer`), strings or chat messages; or with whole conversations (`messages`) that end with the
            assistant. The text of a `system` column is the system message.
        column_mapping (`Mapping[str, str]`, *optional*):
            Our names `prompt`, `response` and `messages` to those of the source.

    Returns:
        `Dataset`: `pair_id` (the number of the row), `prompt` and `response`, all strings or all messages, and `tools` and
        `chat_template_kwargs` where the data has them.

    Raises:
        InputError: If a column is not found, or rows cannot be used.
    """
    table = dataset_table(dataset)
    names = response_columns(table.column_names, column_mapping)
    found: Problems = {}
    columns = {name: table.column(name) for name in table.column_names if name not in names.values()}
    name = names.get("messages") or names["response"]
    response = normalize_text(table.column(name), name, found)
    columns |= {"response_a": response, "response_b": response}
    if "prompt" in names:
        columns["prompt"] = normalize_text(with_input(table, names["prompt"]), names["prompt"], found)
    elif text_kind(response.type) == "text":
        raise InputError(
            f"The responses in {name!r} have no prompt: the columns are {', '.join(table.column_names)}. Name it with "
            "column_mapping={'prompt': '<column>'}."
        )
    columns = with_system(unify_texts(columns, found), found)
    warn_of_parts(columns)
    raise_problems(_named(found | row_problems(columns), name), len(table), "Mend these rows, or remove them.")
    ids = pa.chunked_array([pa.array([str(row) for row in range(len(table))], pa.string())])
    options = {name: table.column(name) for name in _OPTIONS if name in table.column_names}
    texts = {"pair_id": ids, "prompt": columns["prompt"], "response": columns["response_a"], **options}
    return table_dataset(pa.table(texts), dataset.features)


def response_columns(found: list[str], column_mapping: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Our names to those of the source: as given, or as they are recognised. See [`response_texts`]."""
    mapping = dict(column_mapping or {})
    for ours, theirs in mapping.items():
        if ours not in _NAMES:
            raise InputError(
                f"column_mapping has the unknown name {ours!r}.{closest(str(ours), _NAMES)} Names for single responses are "
                f"{', '.join(_NAMES)}."
            )
        if theirs not in found:
            raise InputError(
                f"column_mapping maps {ours!r} to {theirs!r}, which is not a column.{closest(str(theirs), found)} The columns are "
                f"{', '.join(found)}."
            )
    if {"response", "messages"} <= set(mapping):
        raise InputError("column_mapping names `response` and `messages`: give one of them.")
    names = dict(mapping)
    if "response" not in names and "messages" not in names:
        names |= _recognised(found, "response", _RESPONSES) or _recognised(found, "messages", _CONVERSATIONS)
    if "response" not in names and "messages" not in names:
        raise InputError(
            f"The rows have no response: the columns are {', '.join(found)}. Name it with column_mapping={{'prompt': '<column>', "
            "'response': '<column>'}, or {'messages': '<column>'} for whole conversations."
        )
    if "prompt" not in names and "messages" not in names:
        free = [name for name in found if name not in names.values()]
        prompt = next((name for name in _PROMPTS if name in free), None)
        if prompt is not None:
            names["prompt"] = prompt
    return names


def _recognised(found: list[str], ours: str, names: tuple[str, ...]) -> dict[str, str]:
    there = [name for name in names if name in found]
    if len(there) > 1:
        raise InputError(
            f"Which column is the response, {' or '.join(map(repr, there))}? Say so with column_mapping={{{ours!r}: {there[0]!r}}}."
        )
    return {ours: there[0]} if there else {}


def _named(found: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Reasons that speak of the column of the source. Both sides of a pair are the same response here."""
    return {reason.replace("response_a", name): mask for reason, mask in found.items() if "response_b" not in reason}
