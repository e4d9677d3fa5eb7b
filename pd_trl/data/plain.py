"""Preferences of sources that say no more than which response was chosen: ids by content, and the overall label."""

import json
from typing import Any

import datasets
import pyarrow as pa

from ..errors import InputError
from ..safety.media import without_media
from .checks import raise_problems
from .columnar import dataset_table, is_text, table_dataset
from .ids import content_ids, number_repeats
from .json_columns import Problems
from .label_report import own_labels
from .normal_form import unify_texts
from .preferences import to_preferences
from .prompts import INSTRUCTION, POSSIBLE_PARTS, warn_of_parts, with_input, with_system
from .validation import OVERALL, aspects_of

_SIDES = {"response_a": "chosen", "response_b": "rejected"}
_ADDED = ("pair_id", "aspect")


def as_preferences(dataset: Any) -> Any:
    """
    Preferences as they are; pairs and plain data with the overall label, which no aspect gave. Anything else is returned as it
    is, for the checks of preferences.

    Plain data have `chosen` and `rejected`, and no `pair_id` or no `aspect`. Prompt and responses then take the form that
    [`load_pairs`] gives them, `pair_id` is a hash of these texts, `aspect` is `overall`, and all rows and other columns stay.

    Raises:
        InputError: On texts that cannot be used, and on pairs with labels of aspects, of which one must be chosen.
    """
    if not isinstance(dataset, datasets.Dataset) or len(dataset) == 0:
        return dataset
    columns = set(dataset.column_names)
    if {"pair_id", "response_a", "response_b"} <= columns and not {"chosen", "rejected"} & columns:
        return _labelled(dataset)
    if not set(_SIDES.values()) <= columns or set(_ADDED) <= columns:
        return dataset
    return _identified(dataset)


def _labelled(pairs: datasets.Dataset) -> datasets.Dataset:
    if aspects_of(pairs) and own_labels(pairs) is None:
        raise InputError(
            "These are pairs with labels of several aspects, and preferences are needed, each with one label. "
            "Choose with `to_preferences`."
        )
    return to_preferences(pairs)


def _identified(dataset: datasets.Dataset) -> datasets.Dataset:
    table = dataset_table(dataset)
    texts = _texts(table)
    columns = {name: texts.get(name, table.column(name)) for name in table.column_names}
    columns = {**({"prompt": texts["prompt"]} if "prompt" in texts else {}), **columns}
    if "pair_id" not in columns:
        prompt = texts.get("prompt", pa.chunked_array([pa.nulls(len(table))]))
        hashes, _ = content_ids(prompt, texts["chosen"], texts["rejected"])
        columns = {"pair_id": _column(number_repeats(hashes, lambda rows: _contents(dataset, rows))), **columns}
    columns.setdefault("aspect", _column([OVERALL] * len(table)))
    return table_dataset(pa.table(columns), dataset.features)


def _texts(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """`chosen`, `rejected`, and `prompt` unless it is part of both, as [`load_pairs`] reads them."""
    columns = {name: table.column(name) for name in table.column_names}
    columns |= {ours: table.column(side) for ours, side in _SIDES.items()}
    if "prompt" not in columns and all(is_text(table.field(side).type) for side in _SIDES.values()):
        if INSTRUCTION not in columns:
            _refuse_lost_prompt(table.column_names)
            return {side: table.column(side) for side in _SIDES.values()}
        columns["prompt"] = with_input(table, INSTRUCTION)
    found: Problems = {}
    columns = with_system(unify_texts(columns, found), found)
    raise_problems(found, len(table), "Mend them, or drop them with load_pairs(..., on_invalid='drop').")
    warn_of_parts(columns)
    return {"prompt": columns["prompt"], **{side: columns[ours] for ours, side in _SIDES.items()}}


def _refuse_lost_prompt(names: list[str]) -> None:
    """Raises `InputError` where a column may be the prompt of responses that have none."""
    likely = [name for name in names if name.lower() in POSSIBLE_PARTS]
    if likely:
        raise InputError(
            f"The data has no column 'prompt', and {likely[0]!r} may be it; its columns are {', '.join(names)}. Rename it, or "
            f"load the data with load_pairs(..., column_mapping={{'prompt': {likely[0]!r}, 'chosen': 'chosen', 'rejected': "
            "'rejected'})."
        )


def _column(values: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


def _contents(dataset: datasets.Dataset, rows: list[int]) -> list[str]:
    return [json.dumps(row, sort_keys=True, default=str) for row in without_media(dataset).select(rows)]
