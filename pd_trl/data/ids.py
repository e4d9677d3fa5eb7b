"""Ids of pairs and prompts made from their content."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from .columnar import CHUNK_ROWS, single_array
from .id_columns import row_ids

# `json.dumps` makes an encoder for each value that it writes.
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))

# What JSON writes in another way.
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b"}
_SPACE = 0x20


def canonical_json(value: object) -> str:
    """Returns the JSON that ids are hashes of: sorted keys, no spaces, and no escapes that JSON does not require."""
    return json.encoder.encode_basestring(value) if type(value) is str else _ENCODER.encode(value)


def content_hashes(
    prompts: pa.ChunkedArray, first: pa.ChunkedArray, second: pa.ChunkedArray
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Returns for each row the hash of (prompt, response, response) and of the prompt, each of shape `(num_rows,)`."""
    pairs, alone = [], []
    for start in range(0, len(prompts), CHUNK_ROWS):
        prompt, *responses = (_json_texts(column.slice(start, CHUNK_ROWS)) for column in (prompts, first, second))
        encoded = prompt.dictionary_encode()
        alone.append(_hashes(encoded.dictionary)[encoded.indices.to_numpy()])
        pairs.append(_hashes(_joined("[", prompt, ",", responses[0], ",", responses[1], "]")))
    empty = np.empty(0, dtype=np.uint64)
    return np.concatenate([empty, *pairs]), np.concatenate([empty, *alone])


def _hashes(texts: pa.LargeStringArray) -> NDArray[np.uint64]:
    digests = [hashlib.blake2b(text, digest_size=8).digest() for text in texts.cast(pa.large_binary()).to_pylist()]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


def _json_texts(column: pa.ChunkedArray) -> pa.LargeStringArray:
    """[`canonical_json`] of each value. Texts without rare characters do not become Python objects."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = single_array(column.cast(pa.large_string()))
        special = _special(texts)
        if not texts.null_count and special <= set(_ESCAPED):
            for character in (name for name in _ESCAPED if name in special):  # the backslash first
                texts = pc.replace_substring(texts, character, _ESCAPED[character])
            return _joined('"', texts, '"')
    return pa.array(map(canonical_json, column.to_pylist()), pa.large_string())


def _special(texts: pa.LargeStringArray) -> set[str]:
    """The characters of all texts that JSON writes in another way."""
    start, end = (np.frombuffer(texts.buffers()[1], np.int64)[texts.offset + row] for row in (0, len(texts)))
    letters = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[start:end]
    low = np.unique(letters[letters < _SPACE]).tolist()
    return {*map(chr, low), *(name for name in ('"', "\\") if (letters == ord(name)).any())}


def _joined(*parts: Any) -> pa.LargeStringArray:
    """Texts and columns of texts, one after the other."""
    kind = pa.large_string()
    columns = [pa.scalar(part, kind) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*columns, pa.scalar("", kind))


def hex_ids(hashes: NDArray[np.uint64]) -> pa.StringArray:
    """Returns hashes as ids of 16 hex characters."""
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    parts = hashes.astype(">u8").view(np.uint8)
    letters = np.stack([digits[parts >> 4], digits[parts & 15]], axis=1)
    offsets = np.arange(0, 16 * len(hashes) + 1, 16, dtype=np.int32)
    return pa.StringArray.from_buffers(len(hashes), pa.py_buffer(offsets), pa.py_buffer(letters))


def content_ids(
    prompts: pa.ChunkedArray, first: pa.ChunkedArray, second: pa.ChunkedArray
) -> tuple[list[str], list[str]]:
    """Returns [`content_hashes`] as texts, 16 hex characters each."""
    pairs, alone = content_hashes(prompts, first, second)
    return hex_ids(pairs).to_pylist(), hex_ids(alone).to_pylist()


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
