"""Checks of pairs and preferences, and their aspects."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, InputTypeError
from .chat import equal_text, normalize_text, text_kind
from .checks import problems, raise_problems
from .columnar import as_mask, closest, dataset_table, find_rows, is_text
from .sources import require_dataset

OVERALL = "overall"
# Labels that are made from others: they are not aspects.
RESERVED_ASPECTS = (OVERALL, "mean")
# Most characters of an aspect's name, which also names files.
MAX_ASPECT = 200

_ASPECT_COLUMNS = (
    re.compile(r"^rating_(.+)_(?:a|b|chosen|rejected)$"),
    re.compile(r"^(?:pref|vote|reward_gap)_(.+)$"),
)


def aspects_of(dataset: datasets.Dataset) -> list[str]:
    """
    Returns the aspects of pairs, preferences, or scored data, sorted; `overall` and `mean` are not aspects.

    Args:
        dataset (`Dataset`):
            Data with columns `rating_<aspect>_…`, `pref_<aspect>`, `vote_<aspect>`, `reward_gap_<aspect>`, or an
            `aspect` column with the name of each row's aspect.

    Returns:
        `list[str]`: Names of the aspects.
    """
    found = set(column_aspects(dataset.column_names))
    # In pairs, a column of this name is not ours and passes through.
    if {"aspect", "chosen"} <= set(dataset.column_names):
        # `Dataset.unique` would write the rows of a selection into the cache.
        found |= {*short_names({name: "column 'aspect'" for name in set(dataset["aspect"][:]) - {None}})}
    return sorted(found - set(RESERVED_ASPECTS))


def column_aspects(names: Iterable[str]) -> list[str]:
    """Returns the aspects, `overall` included, that are found in the names of the columns, sorted."""
    matches = (pattern.match(name) for name in names for pattern in _ASPECT_COLUMNS)
    return sorted(short_names({match[1]: f"column {match[0]!r}" for match in matches if match}))


def short_names(found: Mapping[str, str]) -> list[str]:
    """
    Returns the names of aspects if none is longer than a name: each stands in the reports once for every two aspects.

    Args:
        found (`Mapping[str, str]`):
            Names, each with where it was found.

    Raises:
        InputError: If one is too long.
    """
    for name, place in found.items():
        if len(name) > MAX_ASPECT:
            raise InputError(
                f"The name of an aspect must have {MAX_ASPECT} characters or fewer, but one has {len(name):,}: {name[:40]!r}… in "
                f"{place[:60]}. Rename it."
            )
    return list(found)


def is_chat(dataset: datasets.Dataset) -> bool:
    """Whether the responses (of pairs or preferences) are chat messages rather than strings."""
    name = next((name for name in ("chosen", "response_a") if name in dataset.column_names), None)
    if name is None:
        raise InputError(f"Expected a column 'chosen' or 'response_a', but the columns are {dataset.column_names}.")
    return text_kind(dataset.features.arrow_schema.field(name).type) != "text"


def check_ids(column: pa.ChunkedArray, name: str = "pair_id") -> list[str]:
    """Returns the ids as strings, or raises [`InputError`] naming the rows of null and of repeated ids."""
    ids = [None if value is None else str(value) for value in column.to_pylist()]
    null = np.array([value is None for value in ids], dtype=bool)
    if null.any():
        raise InputError(
            f"Column {name!r} must not be null, but {int(null.sum()):,} of {len(ids):,} rows are, the first rows "
            f"{find_rows(null)}. Fill them in, or remove the column to get ids from the content."
        )
    known = [value for value in ids if value is not None]
    if len(set(known)) < len(known):
        repeated = [value for value, count in Counter(known).items() if count > 1]
        rows = [row for row, value in enumerate(known) if value == repeated[0]][:5]
        raise InputError(
            f"Column {name!r} must be unique, but {len(repeated):,} ids are repeated: {repeated[0]!r} is in rows "
            f"{rows}. "
            "Make them unique, or remove the column to get ids from the content."
        )
    return known


def _require(dataset: datasets.Dataset, required: Sequence[str], what: str, advice: str) -> None:
    missing = [name for name in required if name not in dataset.column_names]
    if missing:
        hints = "".join(closest(name, dataset.column_names) for name in missing)
        raise InputError(
            f"{what} must have the columns {list(required)}, but {missing} are missing: the columns are "
            f"{dataset.column_names}.{hints} {advice}"
        )


def check_texts(table: pa.Table, prompt: str | None, first: str, second: str) -> dict[str, np.ndarray]:
    """
    Returns, by reason, the rows whose prompt or responses cannot be used.

    Args:
        table (`pa.Table`):
            Data with the columns.
        prompt (`str`, *optional*):
            Name of the prompt's column; `None` when conversations hold their prompt.
        first (`str`):
            Name of one response's column.
        second (`str`):
            Name of the other's.

    Raises:
        InputTypeError: If a column holds neither strings nor messages.
        InputError: If strings and messages are mixed.
    """
    names = [name for name in (prompt, first, second) if name is not None]
    columns = {name: normalize_text(table.column(name), name) for name in names}
    kinds = {name: text_kind(column.type) for name, column in columns.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(
            f"{name!r} holds {'strings' if kind == 'text' else 'messages'}" for name, kind in kinds.items()
        )
        raise InputError(
            f"Standard and chat data are mixed: {listed}. Make all of them strings, or all of them messages."
        )
    found: dict[str, np.ndarray] = {}
    part = "conversation" if prompt is None else "response"
    for name, column in columns.items():
        found |= problems(column, name, "prompt" if name == prompt else part)
    return found


def check_pairs(dataset: Any) -> list[str]:
    """
    Checks that data are pairs as [`load_pairs`] returns them.

    Args:
        dataset (`Dataset`):
            Pairs with `pair_id`, `prompt`, `response_a`, `response_b` and at least one `pref_<aspect>`.

    Returns:
        `list[str]`: The aspects, sorted.

    Raises:
        InputTypeError: If it is not a `Dataset`.
        InputError: If it has no rows, or columns are missing, wrongly typed, or hold unusable values.
    """
    advice = "Pass the data through load_pairs first."
    pairs = require_dataset(dataset, "pairs")
    _require(pairs, ("pair_id", "prompt", "response_a", "response_b"), "Pairs", advice)
    labels = [name for name in pairs.column_names if name.startswith("pref_")]
    if not labels:
        raise InputError(f"Pairs must have a label pref_<aspect>, but the columns are {pairs.column_names}. {advice}")
    table = dataset_table(pairs)
    check_ids(table.column("pair_id"))
    raise_problems(check_texts(table, "prompt", "response_a", "response_b"), len(table), advice)
    return aspects_of(pairs)


def _check_aspect_column(aspect: pa.ChunkedArray, aspects: Sequence[str] | None) -> list[str]:
    if not is_text(aspect.type):
        raise InputTypeError(f"Column 'aspect' must hold strings, but its type is {aspect.type}.")
    null = as_mask(aspect.is_null())
    raise_problems({"aspect is null": null} if null.any() else {}, len(null), "Name the aspect of each row's label.")
    counts = {item["values"]: item["counts"] for item in pc.value_counts(aspect).to_pylist()}
    short_names(dict.fromkeys(counts, "column 'aspect'"))
    if aspects is None:
        return sorted(counts)
    unknown = sorted(set(counts) - set(aspects) - set(RESERVED_ASPECTS))
    if unknown:
        rows = find_rows(as_mask(pc.is_in(aspect, value_set=pa.array(unknown, aspect.type))))
        hints = "".join(closest(name, list(aspects)) for name in unknown)
        raise InputError(
            f"Column 'aspect' has {unknown}, which are not among the aspects {list(aspects)}: the first rows "
            f"{rows}.{hints}"
        )
    absent = [name for name in aspects if name not in counts]
    if absent:
        raise InputError(f"Aspects {absent} have no rows: the rows' aspects are {counts}. Remove them, or add labels.")
    return sorted(counts)


def check_aspect_names(names: Iterable[str]) -> None:
    """Raises [`InputError`] unless each name can be part of the names of columns, folders and tables."""
    names = list(names)
    short_names({str(name): "the aspects" for name in names})
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w .+-]*", name):
            raise InputError(
                f"The aspect {name!r} cannot be the name of a folder. Rename it with letters, digits, '_', '-' or '.'."
            )


def check_training_rows(dataset: Any) -> None:
    """
    Checks the texts of preferences, as any trainer needs them: `chosen`, `rejected`, and `prompt` unless it is part of both.

    Raises:
        InputTypeError: If it is not a `Dataset`, or a column has the wrong type.
        InputError: If it has no rows, columns are missing, or hold null, empty, repeated or identical values.
    """
    preferences = require_dataset(dataset, "preferences")
    advice = "Make preferences from pairs with to_preferences, or add the columns."
    _require(preferences, ("chosen", "rejected"), "Preferences", advice)
    table = dataset_table(preferences)
    if "pair_id" in table.column_names:
        check_ids(table.column("pair_id"))
    prompt = "prompt" if "prompt" in table.column_names else None
    found = check_texts(table, prompt, "chosen", "rejected")
    same = equal_text(*(normalize_text(table.column(name), name) for name in ("chosen", "rejected")))
    if same.any() and not found:
        found["chosen and rejected are identical"] = same
    raise_problems(found, len(table), "Fix these rows, or remove them, e.g. with dataset.filter.")


def check_preferences(dataset: Any, aspects: Sequence[str] | None = None) -> list[str]:
    """
    Checks that data are preferences as [`to_preferences`] returns them.

    Args:
        dataset (`Dataset`):
            Preferences with `pair_id` (unique), `chosen`, `rejected` and `aspect`; `prompt` may be absent when both
            sides hold the whole conversation (or text).
        aspects (`Sequence[str]`, *optional*):
            The only aspects that rows may have, beside `overall` and `mean`. Each must have rows.

    Returns:
        `list[str]`: The values of the `aspect` column, sorted.

    Raises:
        InputTypeError: If it is not a `Dataset`, or a column has the wrong type.
        InputError: If it has no rows, columns are missing, or hold null, empty, repeated or identical values.
    """
    preferences = require_dataset(dataset, "preferences")
    advice = "Make preferences from pairs with to_preferences, or add the columns."
    _require(preferences, ("pair_id", "chosen", "rejected", "aspect"), "Preferences", advice)
    check_training_rows(preferences)
    return _check_aspect_column(dataset_table(preferences.select_columns(["aspect"])).column("aspect"), aspects)
