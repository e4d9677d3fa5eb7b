"""Which columns of a data set hold gaps, ratings, votes and labels of aspects."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from ..data.columnar import arrow_column
from ..data.validation import RESERVED_ASPECTS, short_names
from ..errors import InputError

logger = logging.getLogger(__name__)

GAP_PREFIX = "reward_gap_"
VOTE_PREFIX = "vote_"


def scored_aspects(column_names: Sequence[str]) -> list[str]:
    """Aspects that have a `reward_gap_` column, sorted. The overall label is not an aspect."""
    found = {name[len(GAP_PREFIX) :]: f"column {name!r}" for name in column_names if name.startswith(GAP_PREFIX)}
    return sorted(name for name in short_names(found) if name not in RESERVED_ASPECTS)


def rated_aspects(column_names: Sequence[str]) -> list[str]:
    """Aspects with ratings of both sides, or with a column named like votes, sorted."""
    columns = set(column_names)
    rated = [c[len("rating_") : -len("_chosen")] for c in columns if c.startswith("rating_") and c.endswith("_chosen")]
    rated = [name for name in rated if f"rating_{name}_rejected" in columns]
    voted = [c[len(VOTE_PREFIX) :] for c in columns if c.startswith(VOTE_PREFIX)]
    short_names({name: f"column 'rating_{name}_chosen'" for name in rated} | {n: f"column 'vote_{n}'" for n in voted})
    return sorted({*rated, *voted} - set(RESERVED_ASPECTS))


def rating_columns(aspect: str, column_names: Sequence[str]) -> list[str]:
    """The columns of an aspect's ratings: of both sides, or its votes where it has no ratings."""
    sides = [f"rating_{aspect}_{side}" for side in ("chosen", "rejected")]
    return sides if all(side in column_names for side in sides) else [f"{VOTE_PREFIX}{aspect}"]


@dataclass
class VoteColumn:
    """
    Decides whether a column `vote_<name>` holds votes. The data may have such a column that counts something else.

    Args:
        known (`bool`): Whether the name is an aspect's, or the type is that of votes (int8).
        only_votes (`bool`): Whether all values so far are 1, 0, -1 or missing.
        against (`bool`): Whether there is a -1.
    """

    known: bool
    only_votes: bool = True
    against: bool = False

    def add(self, values: NDArray[np.float64]) -> "VoteColumn":
        """Adds values, NaN where missing."""
        self.only_votes &= bool((np.isnan(values) | (values == 0) | (np.abs(values) == 1)).all())
        self.against |= bool((values == -1).any())
        return self

    def merge(self, other: "VoteColumn") -> None:
        """Adds what was found in another part of the column."""
        self.only_votes &= other.only_votes
        self.against |= other.against

    @property
    def holds_votes(self) -> bool:
        """Whether the column holds votes. Ones and zeros under an unknown name are not votes."""
        return self.only_votes and (self.known or self.against)


def warn_of_no_votes(names: Sequence[str]) -> None:
    """Warns of columns `vote_<name>` that are not used as votes."""
    if names:
        logger.warning(
            "Columns %s do not hold votes (1, 0 or -1) of aspects and are not used.",
            ", ".join(repr(VOTE_PREFIX + name) for name in names),
        )


def is_number_type(dtype: pa.DataType) -> bool:
    """Whether a column of this type can be read as numbers: integers, floats, or nothing but null."""
    return pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_null(dtype)


def numeric_column(dataset: Dataset, name: str) -> NDArray[np.float64]:
    """A column as float64, shape `(num_rows,)`, null as NaN; raises `InputError` where it does not hold numbers."""
    values = arrow_column(dataset, name)
    if not is_number_type(values.type):
        first = next((value for value in values.to_pylist() if value is not None), None)
        raise InputError(
            f"Column {name!r} must hold numbers, but its type is {values.type}; it starts with {first!r:.80}."
        )
    return np.require(values.cast("double").to_numpy(), np.float64, "W")


def label_codes(dataset: Dataset, names: Sequence[str]) -> tuple[list[str], NDArray[np.integer]]:
    """The labels in the column `aspect`, with the aspects `names` first, and the index of each row's label."""
    if "aspect" not in dataset.column_names:
        return list(names), np.zeros(len(dataset), dtype=np.int16)
    found, codes = encoded_labels(dataset)
    present = [str(label) for label in found]
    labels = [*names, *sorted(set(present) - set(names))]
    place = {label: index for index, label in enumerate(labels)}
    return labels, np.array([place[label] for label in present], dtype=np.int32)[codes]


def labels_of(dataset: Dataset) -> set[Any]:
    """The different values of the column `aspect`."""
    return set(encoded_labels(dataset)[0]) if "aspect" in dataset.column_names else set()


def encoded_labels(dataset: Dataset) -> tuple[list[Any], NDArray[np.integer]]:
    """The different values of the column `aspect`, null included, and the index of each row's value."""
    column = arrow_column(dataset, "aspect").dictionary_encode(null_encoding="encode").combine_chunks()
    labels = column.dictionary.to_pylist()
    short_names({str(label): "column 'aspect'" for label in labels})
    return labels, column.indices.to_numpy(zero_copy_only=False)


def voted_aspects(dataset: Dataset, candidates: Sequence[str], known: Sequence[str]) -> list[str]:
    """The `candidates` that have votes in their column `vote_<name>`; `known` are names of aspects."""
    found = []
    schema = dataset.features.arrow_schema
    for name in candidates:
        column = f"{VOTE_PREFIX}{name}"
        dtype = schema.field(column).type
        if is_number_type(dtype):
            votes = VoteColumn(name in known or dtype == pa.int8())
            found += [name] * votes.add(numeric_column(dataset, column)).holds_votes
    return found


def rated_by_values(dataset: Dataset) -> list[str]:
    """The aspects with ratings of both sides or with votes. The values of the columns decide what is a vote."""
    found = rated_aspects(dataset.column_names)
    vote_only = [name for name in found if len(rating_columns(name, dataset.column_names)) == 1]
    if vote_only:
        voted = voted_aspects(dataset, vote_only, list(labels_of(dataset)))
        others = [name for name in vote_only if name not in voted]
        warn_of_no_votes(others)
        found = [name for name in found if name not in others]
    return found
