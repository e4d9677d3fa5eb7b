"""The matrix of reward gaps that PD is computed from, read from the columns of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from .data.validation import RESERVED_ASPECTS
from .divergence import NO_ASPECT
from .errors import InputError

GAP_PREFIX = "reward_gap_"


@dataclass
class GapMatrix:
    """
    Args:
        names (`list[str]`): Aspects, in the order of the columns.
        gaps (array of shape `(num_pairs, num_aspects)`, float32): Chosen minus rejected.
        own (integer array of shape `(num_pairs,)`): Index of each pair's own aspect, -1 where its label is none's.
        missing (`dict`): By aspect, the number of gaps that were missing and count as 0 (no opinion).
    """

    names: list[str]
    gaps: NDArray[np.float32]
    own: NDArray[np.integer]
    missing: dict[str, int] = field(default_factory=dict)


def scored_aspects(column_names: Sequence[str]) -> list[str]:
    """Aspects that have a `reward_gap_` column, sorted; a gap of the overall label is no aspect's."""
    names = [name[len(GAP_PREFIX) :] for name in column_names if name.startswith(GAP_PREFIX)]
    return sorted(name for name in names if name not in RESERVED_ASPECTS)


def rated_aspects(column_names: Sequence[str]) -> list[str]:
    """Aspects that have ratings of both sides, or votes, sorted."""
    columns = set(column_names)
    rated = [c[len("rating_") : -len("_chosen")] for c in columns if c.startswith("rating_") and c.endswith("_chosen")]
    rated = [name for name in rated if f"rating_{name}_rejected" in columns]
    voted = [c[len("vote_") :] for c in columns if c.startswith("vote_")]
    return sorted({*rated, *voted} - set(RESERVED_ASPECTS))


def gap_matrix(dataset: Dataset, source: str, names: Sequence[str] | None = None) -> GapMatrix:
    """
    Reward gaps of `dataset`.

    Args:
        dataset ([`~datasets.Dataset`]):
            Preferences with an `aspect` column.
        source (`str`):
            `"rewards"` reads `reward_gap_<aspect>` (Eq. 17, by proxy reward models). `"ratings"` takes the difference of
            the ratings of both sides, or the vote (1, 0, -1) of an aspect that has no ratings; a missing one counts as 0.
        names (sequence of `str`, *optional*):
            Aspects to read. `None` is all there are.

    Raises:
        InputError: When columns are missing, or an own aspect has none.
    """
    if "aspect" not in dataset.column_names:
        raise InputError(
            "The data has no column 'aspect' that says whose label each pair carries; its columns are "
            f"{', '.join(dataset.column_names)}. Make preferences with `to_preferences`."
        )
    found = scored_aspects(dataset.column_names) if source == "rewards" else rated_aspects(dataset.column_names)
    names = list(names) if names is not None else found
    absent = [name for name in names if name not in found]
    if absent or not names:
        wanted = f"of {', '.join(absent)}" if absent else "of any aspect"
        kind = "`reward_gap_<aspect>` columns" if source == "rewards" else "ratings or votes"
        advice = "Score the pairs with `score_pairs`" if source == "rewards" else "Make them with `to_preferences`"
        if source == "rewards" and rated_aspects(dataset.column_names):
            advice += ", or use source='ratings'"
        raise InputError(
            f"The data has no {kind} {wanted}; its columns are {', '.join(dataset.column_names)}. {advice}."
        )
    own = _own_aspects(dataset, names)
    gaps = np.empty((len(dataset), len(names)), dtype=np.float32)
    missing = {}
    for k, name in enumerate(names):
        gap = numeric_column(dataset, f"{GAP_PREFIX}{name}") if source == "rewards" else _rating_gap(dataset, name)
        if source == "ratings":
            holes = np.isnan(gap)
            if holes.any():
                missing[name] = int(holes.sum())
                gap[holes] = 0
        gaps[:, k] = gap
    return GapMatrix(names, gaps, own, missing)


def vote_counts(matrix: GapMatrix, weights: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """
    How many of the other aspects vote for each pair's label, and how many vote at all, each of shape `(num_pairs,)`. An aspect
    with a weight of 0 has no vote.
    """
    votes = (matrix.own[:, None] != np.arange(len(matrix.names))) & (weights > 0)
    return (votes & (matrix.gaps > 0)).sum(axis=1, dtype=np.uint8), votes.sum(axis=1, dtype=np.uint8)


def _own_aspects(dataset: Dataset, names: Sequence[str]) -> NDArray[np.integer]:
    index = {name: k for k, name in enumerate(names)} | {name: NO_ASPECT for name in RESERVED_ASPECTS}
    labels = dataset["aspect"][:]
    unknown = sorted({str(label) for label in labels if label not in index})
    if unknown:
        row = next(i for i, label in enumerate(labels) if label not in index)
        raise InputError(
            f"Pairs are labelled by the aspect {', '.join(map(repr, unknown))} (the first in row {row}), but there are only "
            f"gaps of {', '.join(names)}. Provide the gaps of every aspect, or leave these pairs out."
        )
    return np.array([index[label] for label in labels])


def numeric_column(dataset: Dataset, name: str) -> NDArray[np.float64]:
    """A column as float64, shape `(num_rows,)`, null as NaN; raises `InputError` where it does not hold numbers."""
    values = dataset.with_format("arrow").select_columns([name])[:][name]
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_null(values.type)):
        first = next((value for value in values.to_pylist() if value is not None), None)
        raise InputError(
            f"Column {name!r} must hold numbers, but its type is {values.type}; it starts with {first!r:.80}."
        )
    return values.cast("double").to_numpy().astype(np.float64, copy=True)


def _rating_gap(dataset: Dataset, aspect: str) -> NDArray[np.float64]:
    sides = [f"rating_{aspect}_{side}" for side in ("chosen", "rejected")]
    if all(side in dataset.column_names for side in sides):
        gap = numeric_column(dataset, sides[0]) - numeric_column(dataset, sides[1])
        infinite = np.flatnonzero(np.isinf(gap))
        if infinite.size:
            raise InputError(f"Ratings must be finite, but those of '{aspect}' in row {infinite[0]} are not.")
        return gap
    return numeric_column(dataset, f"vote_{aspect}")
