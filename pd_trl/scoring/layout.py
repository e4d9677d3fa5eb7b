"""Which pairs form a shard: those of one prompt stay together, so that a response of several pairs is scored once."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from ..data.ids import canonical_json


def prompt_groups(preferences: Dataset) -> NDArray[np.int64]:
    """
    Number of the prompt of each pair, in the order in which prompts first appear, shape `(num_pairs,)`: by `prompt_id`, else
    by the prompt itself, else by the messages before the last. Pairs of strings that hold their prompt have a number each.
    """
    columns = preferences.column_names
    keys: Any
    if "prompt_id" in columns and not preferences.data.column("prompt_id").null_count:
        keys = preferences.with_format("arrow")["prompt_id"][:]
    elif "prompt" in columns:
        keys = preferences.with_format("arrow")["prompt"][:]
        if not pa.types.is_string(keys.type) and not pa.types.is_large_string(keys.type):
            keys = pa.array([canonical_json(prompt) for prompt in preferences["prompt"]])
    elif (
        "chosen" in columns and preferences.features["chosen"] == preferences.features["rejected"] and len(preferences)
    ):
        chosen = preferences["chosen"][:]
        if isinstance(chosen[0], str):
            return np.arange(len(preferences))
        keys = pa.array([canonical_json(messages[:-1]) for messages in chosen])
    else:
        return np.arange(len(preferences))
    encoded = pc.dictionary_encode(keys)
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return np.asarray(encoded.indices.fill_null(-1)).astype(np.int64)


def shard_rows(groups: NDArray[np.integer], pairs_per_shard: int) -> list[NDArray[np.int64]]:
    """
    Rows of each shard: whole prompts until there are `pairs_per_shard`; a prompt with more pairs than that is cut.

    Args:
        groups (array of shape `(num_pairs,)`): Prompt of each pair, numbered as they first appear.
        pairs_per_shard (`int`): Pairs of a shard, but for what the last prompt adds.
    """
    order = np.argsort(groups, kind="stable")
    sorted_groups = groups[order]
    starts = np.flatnonzero(np.append(True, sorted_groups[1:] != sorted_groups[:-1]))
    cuts, begin = [], 0
    while begin < order.size:
        cuts.append(begin)
        place = int(np.searchsorted(starts, begin + pairs_per_shard))
        end = int(starts[place]) if place < starts.size else order.size
        begin = end if end - begin < 2 * pairs_per_shard else begin + pairs_per_shard
    return [np.sort(rows) for rows in np.split(order, cuts[1:])]
