"""The normal form of pairs: one kind of text, checked rows, ids, and the order of columns."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from .chat import normalize_text, starts_with_role, text_kind, wrap_text
from .checks import problems
from .columnar import as_mask
from .conversations import split_prompts
from .ids import canonical_json, content_ids, number_repeats
from .json_columns import Problems
from .validation import check_ids, column_aspects

# HH-RLHF's strings: each response holds the whole dialogue.
_TRANSCRIPT = r"(?s)^\s*Human: .*\n\s*Assistant: "


def unify_texts(columns: dict[str, pa.ChunkedArray], found: Problems) -> dict[str, pa.ChunkedArray]:
    """Returns prompts and responses, all as strings or all as messages. `found` gets rows that cannot be read completely."""
    names = ("prompt", "response_a", "response_b")
    texts = {name: normalize_text(columns[name], name, found) for name in names if name in columns}
    first, second, prompt = texts["response_a"], texts["response_b"], texts.get("prompt")
    kinds = (text_kind(first.type), text_kind(second.type))
    if kinds[0] != kinds[1]:
        raise InputError(
            "Standard and chat data are mixed: one response column holds strings, the other messages. Make both "
            "strings, or "
            "both messages."
        )
    if kinds[0] == "text":
        if prompt is None:
            raise InputError(
                f"The data have no prompt: the columns are {list(columns)}. Name it with column_mapping={{'prompt': "
                "'<column>'}. Only conversations (lists of messages) need no prompt column. Split transcripts first."
            )
        if text_kind(prompt.type) == "chat":
            first, second = wrap_text(first, "assistant"), wrap_text(second, "assistant")
    else:
        whole = ~(starts_with_role(first, "assistant") & starts_with_role(second, "assistant"))
        if not whole.any() and prompt is None:
            raise InputError(
                "The chat data have no prompt: there is no prompt column, and all responses start with the assistant. Give "
                "chosen and rejected as whole conversations, or name the prompt with "
                "column_mapping={'prompt': '<column>'}."
            )
        if whole.any():
            prompt, first, second = split_prompts(prompt, first, second, whole, found)
        elif prompt is not None and text_kind(prompt.type) == "text":
            prompt = wrap_text(prompt, "user")
    return columns | {"prompt": prompt, "response_a": first, "response_b": second}


def row_problems(columns: Mapping[str, pa.ChunkedArray]) -> dict[str, np.ndarray]:
    """Returns, by reason, the rows whose prompt or responses cannot be used."""
    parts = {"prompt": "prompt", "response_a": "response", "response_b": "response"}
    found: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        found |= problems(columns[name], name, part)
        if part == "response" and text_kind(columns[name].type) == "text":
            transcript = as_mask(pc.match_substring_regex(columns[name], _TRANSCRIPT))
            found |= (
                {f"{name} is a whole transcript (Human: ... Assistant: ...)": transcript} if transcript.any() else {}
            )
    return found


def id_problems(columns: Mapping[str, pa.ChunkedArray]) -> Problems:
    """Returns, by reason, the rows whose `pair_id` is null or repeats that of an earlier row."""
    if "pair_id" not in columns:
        return {}
    ids = columns["pair_id"].to_pylist()
    first = {str(value): row for row, value in reversed(list(enumerate(ids)))}
    found = {
        "pair_id is null": np.array([value is None for value in ids]),
        "pair_id is that of an earlier row": np.array(
            [v is not None and first[str(v)] < row for row, v in enumerate(ids)]
        ),
    }
    return {reason: mask for reason, mask in found.items() if mask.any()}


def add_ids(columns: dict[str, pa.ChunkedArray]) -> dict[str, pa.ChunkedArray]:
    """Returns the columns with `pair_id` and `prompt_id`, which are made from the content if the source has none."""
    hashes, prompt_hashes = content_ids(columns["prompt"], columns["response_a"], columns["response_b"])
    if "pair_id" in columns:
        pair_ids = check_ids(columns["pair_id"])
    else:
        labels = pa.table({name: column for name, column in columns.items() if name.startswith(("rating_", "pref_"))})
        pair_ids = number_repeats(
            hashes, lambda rows: [canonical_json(row) for row in labels.take(pa.array(rows)).to_pylist()]
        )
    prompt_ids = pa.chunked_array([pa.array(prompt_hashes, pa.string())])
    if "prompt_id" in columns:
        given = columns["prompt_id"].cast(pa.string())
        prompt_ids = pc.if_else(given.is_valid(), given, prompt_ids)
    ids = {"pair_id": pa.chunked_array([pa.array(pair_ids, pa.string())]), "prompt_id": prompt_ids}
    return columns | ids


def column_order(columns: Mapping[str, pa.ChunkedArray]) -> list[str]:
    """Returns the names of the columns: ids, texts, labels by aspect with `overall` last, then other columns."""
    fixed = ["pair_id", "prompt_id", "prompt", "response_a", "response_b"]
    labels = [name for name in columns if name.startswith(("rating_", "pref_")) and column_aspects([name])]
    last = [name for name in labels if column_aspects([name]) == ["overall"]]
    labels = [name for name in labels if name not in last] + last
    return [*fixed, *labels, *(name for name in columns if name not in {*fixed, *labels})]
