"""Ids of pairs and prompts made from their content."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from .columnar import CHUNK_ROWS
from .id_columns import row_ids


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


# `json.dumps` makes an encoder for each value that it writes.
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def canonical_json(value: object) -> str:
    """Returns the JSON that ids are hashes of: sorted keys, no spaces, and no escapes that JSON does not require."""
    return json.encoder.encode_basestring(value) if type(value) is str else _ENCODER.encode(value)


def content_ids(
    prompts: pa.ChunkedArray, first: pa.ChunkedArray, second: pa.ChunkedArray
) -> tuple[list[str], list[str]]:
    """Returns for each row the hash of (prompt, response, response) and of the prompt, 16 hex characters each."""
    pair_ids, prompt_ids = [], []
    for start in range(0, len(prompts), CHUNK_ROWS):
        blocks = (column.slice(start, CHUNK_ROWS).to_pylist() for column in (prompts, first, second))
        for prompt, response_a, response_b in zip(*blocks, strict=True):
            text = canonical_json(prompt)
            prompt_ids.append(_digest(text))
            pair_ids.append(_digest(f"[{text},{canonical_json(response_a)},{canonical_json(response_b)}]"))
    return pair_ids, prompt_ids


def number_repeats(ids: Sequence[str], content: Callable[[list[int]], list[str]]) -> list[str]:
    """
    Returns the ids with `-1`, `-2`, … appended to the second, third, … row of the same id.

    Args:
        ids (`Sequence[str]`):
            Ids, some of them repeated.
        content (`Callable`):
            Returns, for a list of rows, texts by which rows of one id are ordered. Rows with different labels are
            numbered by their labels, so the ids do not depend on the order of the rows. Equal rows keep their order.
    """
    counts = Counter(ids)
    repeated = [row for row, name in enumerate(ids) if counts[name] > 1]
    if not repeated:
        return list(ids)
    keys = dict(zip(repeated, content(repeated), strict=True))
    numbered = list(ids)
    seen: Counter[str] = Counter()
    for row in sorted(repeated, key=lambda row: (keys[row], row)):
        name = ids[row]
        if seen[name]:
            numbered[row] = f"{name}-{seen[name]}"
        seen[name] += 1
    return numbered


def prompt_names(dataset: Dataset) -> list[str] | None:
    """What names the prompt of each row: its `prompt_id`, else its `prompt`; `None` if the data has neither."""
    if "prompt_id" in dataset.column_names:
        return [str(prompt) for prompt in dataset["prompt_id"][:]]
    return [canonical_json(prompt) for prompt in dataset["prompt"]] if "prompt" in dataset.column_names else None


def row_keys(dataset: "Dataset") -> NDArray[np.str_]:
    """The `pair_id` of each row, or its position if the data set has no ids, shape `(num_rows,)`."""
    return np.asarray(row_ids(dataset))
