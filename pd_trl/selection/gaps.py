"""The matrix of reward gaps that PD is computed from, read from the columns of a data set."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from ..data.validation import OVERALL, RESERVED_ASPECTS
from ..errors import InputError
from ..method.divergence import NO_ASPECT

logger = logging.getLogger(__name__)

GAP_PREFIX = "reward_gap_"
VOTE_PREFIX = "vote_"


@dataclass
class Gaps:
    """
    A batch of rows.

    Args:
        gaps (`list` of arrays of shape `(num_rows,)`, float32): Gap of each aspect, NaN where a rating is missing.
        own (integer array of shape `(num_rows,)`): Index of each row's label; those that are no aspects' come after the aspects.
        missing (`dict`): By aspect, the number of missing ratings: there it does not vote.
    """

    gaps: list[NDArray[np.float32]]
    own: NDArray[np.integer]
    missing: dict[str, int] = field(default_factory=dict)


@dataclass
class GapMatrix:
    """
    The gaps of all rows.

    Args:
        names (`list[str]`): Aspects, in the order of the columns.
        gaps (array of shape `(num_pairs, num_aspects)`, float32): Chosen minus rejected, NaN where a rating is missing.
        own (integer array of shape `(num_pairs,)`): Index of each pair's own aspect, -1 where its label is none's.
        missing (`dict`): By aspect, the number of missing ratings: there it does not vote.
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
    """Aspects that have ratings of both sides, or a column that is named as one of votes, sorted."""
    columns = set(column_names)
    rated = [c[len("rating_") : -len("_chosen")] for c in columns if c.startswith("rating_") and c.endswith("_chosen")]
    rated = [name for name in rated if f"rating_{name}_rejected" in columns]
    voted = [c[len(VOTE_PREFIX) :] for c in columns if c.startswith(VOTE_PREFIX)]
    return sorted({*rated, *voted} - set(RESERVED_ASPECTS))


def rating_columns(aspect: str, column_names: Sequence[str]) -> list[str]:
    """The columns of an aspect's ratings: those of both sides, or its votes where it has no ratings."""
    sides = [f"rating_{aspect}_{side}" for side in ("chosen", "rejected")]
    return sides if all(side in column_names for side in sides) else [f"{VOTE_PREFIX}{aspect}"]


@dataclass
class VoteColumn:
    """
    Tells votes from other numbers in a column `vote_<name>`, which may have come with the data and count something else.

    Args:
        known (`bool`): Whether the name is that of an aspect, or the type that of votes (int8).
        only_votes (`bool`): Whether all values so far are 1, 0, -1 or missing.
        against (`bool`): Whether there is a -1.
    """

    known: bool
    only_votes: bool = True
    against: bool = False

    def add(self, values: NDArray[np.float64]) -> "VoteColumn":
        """Takes in values, NaN where missing."""
        self.only_votes &= bool((np.isnan(values) | (values == 0) | (np.abs(values) == 1)).all())
        self.against |= bool((values == -1).any())
        return self

    def merge(self, other: "VoteColumn") -> None:
        """Takes in what another part of the column holds."""
        self.only_votes &= other.only_votes
        self.against |= other.against

    @property
    def holds_votes(self) -> bool:
        """Whether the column holds votes. Ones and zeros of an unknown name are counted as something else."""
        return self.only_votes and (self.known or self.against)


def warn_of_no_votes(names: Sequence[str]) -> None:
    """Says which columns `vote_<name>` are not taken for votes."""
    if names:
        logger.warning(
            "Columns %s do not hold the votes of aspects (1, 0 and -1): they are left alone.",
            ", ".join(repr(VOTE_PREFIX + name) for name in names),
        )


def is_number_type(dtype: pa.DataType) -> bool:
    """Whether a column of this type can be read as numbers: integers, floats, or nothing but null."""
    return pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_null(dtype)


def aspect_labels(dataset: Dataset) -> NDArray[np.str_]:
    """The column `aspect` as text, shape `(num_rows,)`."""
    labels, codes = _encoded_labels(dataset)
    return np.array([str(label) for label in labels], dtype=str)[codes]


def label_codes(dataset: Dataset, names: Sequence[str]) -> tuple[list[str], NDArray[np.integer]]:
    """The labels in the column `aspect`, those of the aspects `names` first, and the index of each row's label among them."""
    if "aspect" not in dataset.column_names:
        return list(names), np.zeros(len(dataset), dtype=np.int16)
    found, codes = _encoded_labels(dataset)
    present = [str(label) for label in found]
    labels = [*names, *sorted(set(present) - set(names))]
    place = {label: index for index, label in enumerate(labels)}
    return labels, np.array([place[label] for label in present], dtype=np.int32)[codes]


def labels_of(dataset: Dataset) -> set[Any]:
    """The different values of the column `aspect`."""
    return set(_encoded_labels(dataset)[0]) if "aspect" in dataset.column_names else set()


def _encoded_labels(dataset: Dataset) -> tuple[list[Any], NDArray[np.integer]]:
    """The different values of the column `aspect`, null among them where there is one, and the index of each row's."""
    column = dataset.with_format("arrow").select_columns(["aspect"])[:]["aspect"].combine_chunks()
    encoded = column.dictionary_encode(null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)


def voted_aspects(dataset: Dataset, candidates: Sequence[str], known: Sequence[str]) -> list[str]:
    """
    Which of the aspects `candidates` have votes in their column `vote_<name>`.

    Args:
        dataset ([`~datasets.Dataset`]): Preferences.
        candidates (sequence of `str`): Names.
        known (sequence of `str`): Names of aspects.
    """
    found = []
    for name in candidates:
        column = f"{VOTE_PREFIX}{name}"
        dtype = dataset.features.arrow_schema.field(column).type
        if is_number_type(dtype):
            votes = VoteColumn(name in known or dtype == pa.int8())
            found += [name] * votes.add(numeric_column(dataset, column)).holds_votes
    return found


def _rated(dataset: Dataset) -> list[str]:
    """The aspects with ratings of both sides or with votes, by the values of the columns."""
    found = rated_aspects(dataset.column_names)
    vote_only = [name for name in found if len(rating_columns(name, dataset.column_names)) == 1]
    if vote_only:
        voted = voted_aspects(dataset, vote_only, list(labels_of(dataset)))
        others = [name for name in vote_only if name not in voted]
        warn_of_no_votes(others)
        found = [name for name in found if name not in others]
    return found


def gap_matrix(dataset: Dataset, source: str, names: Sequence[str] | None = None) -> GapMatrix:
    """
    Reward gaps of `dataset`.

    Args:
        dataset ([`~datasets.Dataset`]):
            Preferences with an `aspect` column.
        source (`str`):
            `"rewards"` reads `reward_gap_<aspect>` (Eq. 17, by proxy reward models). `"ratings"` takes the difference of
            the ratings of both sides, or the vote (1, 0, -1) of an aspect that has no ratings; where one is missing, the
            aspect does not vote. A column `vote_<name>` with other values is no aspect's.
        names (sequence of `str`, *optional*):
            Aspects to read. `None` is all there are.

    Raises:
        InputError: When columns are missing, or an own aspect has none.
    """
    if "aspect" not in dataset.column_names:
        raise InputError(
            "The data has no column 'aspect' that says whose label each pair carries; its columns are "
            f"{', '.join(dataset.column_names)}. Make preferences with `to_preferences`; labels of no aspect are 'overall', as "
            "`score_pairs` writes for plain pairs."
        )
    if source == "rewards":
        found = scored_aspects(dataset.column_names)
    else:
        found = _rated(dataset) if names is None else rated_aspects(dataset.column_names)
    names = list(names) if names is not None else found
    absent = [name for name in names if name not in found]
    if absent or not names:
        raise no_gaps_error(source, dataset.column_names, absent)
    own = _own_aspects(dataset, names)
    gaps = np.empty((len(dataset), len(names)), dtype=np.float32)
    missing = {}
    for k, name in enumerate(names):
        gap = numeric_column(dataset, f"{GAP_PREFIX}{name}") if source == "rewards" else _rating_gap(dataset, name)
        if source == "ratings":
            holes = np.isnan(gap)
            if holes.any():
                missing[name] = int(holes.sum())
        gaps[:, k] = gap
    return GapMatrix(names, gaps, own, missing)


def no_gaps_error(source: str, column_names: Sequence[str], absent: Sequence[str] = ()) -> InputError:
    """
    The error about data without the gaps that a selection needs.

    Args:
        source (`str`): `"rewards"` or `"ratings"`.
        column_names (sequence of `str`): Columns of the data.
        absent (sequence of `str`, *optional*): Aspects that have no gaps, where others have.
    """
    scored, rated = scored_aspects(column_names), rated_aspects(column_names)
    if source == "rewards":
        kind = "`reward_gap_<aspect>` columns"
        advice = "Score the pairs with `score_pairs` and a reward model for each aspect"
        if not scored and f"{GAP_PREFIX}{OVERALL}" in column_names:
            advice += "; the gap of an overall model is no aspect's vote, but selector='margin' ranks by it"
        if rated:
            advice += ", or use source='ratings'"
    else:
        kind = "ratings or votes"
        advice = "Ratings of aspects become such columns with `load_pairs` and `to_preferences`"
        if scored:
            advice = "The pairs have reward gaps: use source='rewards'"
        elif not rated:
            advice += ". Pairs with an overall label alone need reward models that vote: `score_pairs`, then source='rewards'"
    wanted = f"of {', '.join(absent)}" if absent else "of any aspect"
    return InputError(f"The data has no {kind} {wanted}; its columns are {', '.join(column_names)}. {advice}.")


def vote_counts(matrix: GapMatrix, weights: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """[`count_votes`] of all rows, without the number of votes that there could be."""
    gaps = Gaps(list(matrix.gaps.T), matrix.own, matrix.missing)
    return count_votes(gaps, matrix.names, weights)[:2]


def count_votes(
    gaps: Gaps, names: Sequence[str], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """
    How many of the other aspects vote for each pair's label, how many vote at all, and how many would if no rating were missing,
    each of shape `(num_pairs,)`. An aspect with a weight of 0, or whose rating is missing, has no vote.
    """
    agree, voters, most = np.zeros((3, len(gaps.own)), dtype=np.int32)
    for k in np.flatnonzero(weights > 0).tolist():
        votes = gaps.own != k
        most += votes
        if gaps.missing.get(names[k]):
            votes &= ~np.isnan(gaps.gaps[k])
        voters += votes
        agree += votes & (gaps.gaps[k] > 0)
    return agree, voters, most


def votes_label(agree: int, voters: int) -> str:
    """What the report calls pairs of so many votes."""
    return f"{agree} of {voters} agree" if voters else "no votes"


def _own_aspects(dataset: Dataset, names: Sequence[str]) -> NDArray[np.integer]:
    index = {name: k for k, name in enumerate(names)} | {name: NO_ASPECT for name in RESERVED_ASPECTS}
    labels, codes = _encoded_labels(dataset)
    unknown = sorted({str(label) for label in labels if label not in index})
    if unknown:
        row = int(np.flatnonzero(np.array([label not in index for label in labels])[codes])[0])
        raise InputError(
            f"Pairs are labelled by the aspect {', '.join(map(repr, unknown))} (the first in row {row}), but there are only "
            f"gaps of {', '.join(names)}. Provide the gaps of every aspect, or leave these pairs out."
        )
    return np.array([index[label] for label in labels])[codes]


def numeric_column(dataset: Dataset, name: str) -> NDArray[np.float64]:
    """A column as float64, shape `(num_rows,)`, null as NaN; raises `InputError` where it does not hold numbers."""
    values = dataset.with_format("arrow").select_columns([name])[:][name]
    if not is_number_type(values.type):
        first = next((value for value in values.to_pylist() if value is not None), None)
        raise InputError(
            f"Column {name!r} must hold numbers, but its type is {values.type}; it starts with {first!r:.80}."
        )
    return values.cast("double").to_numpy().astype(np.float64, copy=True)


def rating_gap(
    values: Sequence[NDArray[np.float64]], aspect: str, first_row: int = 0, where: str = ""
) -> NDArray[np.float64]:
    """
    Gap of the ratings of both sides, or of one column of votes, NaN where one is missing; raises `InputError` on infinite
    ratings, and on votes that are none. `first_row` and `where` say in the message where the values stand.
    """
    if len(values) == 1:
        gap = values[0]
        if not VoteColumn(True).add(gap).only_votes:
            row = np.flatnonzero(~(np.isnan(gap) | (gap == 0) | (np.abs(gap) == 1)))[0]
            raise InputError(
                f"Votes must be 1, 0 or -1, but that of '{aspect}' in row {first_row + row}{where} is {gap[row]:g}."
            )
        return gap
    with np.errstate(invalid="ignore"):
        gap = values[0] - values[1]
    infinite = np.flatnonzero(np.isinf(values[0]) | np.isinf(values[1]))
    if infinite.size:
        raise InputError(
            f"Ratings must be finite, but those of '{aspect}' in row {first_row + infinite[0]}{where} are not."
        )
    return gap


def _rating_gap(dataset: Dataset, aspect: str) -> NDArray[np.float64]:
    columns = rating_columns(aspect, dataset.column_names)
    return rating_gap([numeric_column(dataset, column) for column in columns], aspect)
