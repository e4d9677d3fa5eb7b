"""The matrix of reward gaps that PD is computed from, and the votes in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..data.validation import OVERALL, RESERVED_ASPECTS
from ..errors import InputError
from ..method.divergence import NO_ASPECT
from .aspect_columns import (
    GAP_PREFIX,
    VoteColumn,
    encoded_labels,
    numeric_column,
    rated_aspects,
    rated_by_values,
    rating_columns,
    scored_aspects,
)


@dataclass
class Gaps:
    """
    A batch of rows.

    Args:
        gaps (`list` of arrays of shape `(num_rows,)`, float32): Gap of each aspect, NaN where a rating is missing.
        own (integer array of shape `(num_rows,)`): Index of each row's label. Labels that are not aspects come last.
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
        own (integer array of shape `(num_pairs,)`): Index of each pair's own aspect, -1 where the label is not an aspect's.
        missing (`dict`): By aspect, the number of missing ratings: there it does not vote.
    """

    names: list[str]
    gaps: NDArray[np.float32]
    own: NDArray[np.integer]
    missing: dict[str, int] = field(default_factory=dict)


def gap_matrix(dataset: Dataset, source: str, names: Sequence[str] | None = None) -> GapMatrix:
    """
    Reward gaps of `dataset`.

    Args:
        dataset ([`~datasets.Dataset`]):
            Preferences with an `aspect` column.
        source (`str`):
            `"rewards"` reads `reward_gap_<aspect>` (Eq. 17, by proxy reward models). `"ratings"` takes the difference
            of the ratings of both sides, or the vote (1, 0, -1) of an aspect without ratings. An aspect with a missing
            rating does not vote. A column `vote_<name>` with other values is not used.
        names (sequence of `str`, *optional*):
            Aspects to read. `None` reads all.

    Raises:
        InputError: If columns are missing, or a pair's own aspect has no gaps.
    """
    if "aspect" not in dataset.column_names:
        raise InputError(
            "The data has no column 'aspect', which names the aspect of each pair's label; its columns are "
            f"{', '.join(dataset.column_names)}. Make preferences with `to_preferences`. The label of no aspect is 'overall', as "
            "`score_pairs` writes for plain pairs."
        )
    if source == "rewards":
        found = scored_aspects(dataset.column_names)
    else:
        found = rated_by_values(dataset) if names is None else rated_aspects(dataset.column_names)
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


def _own_aspects(dataset: Dataset, names: Sequence[str]) -> NDArray[np.integer]:
    index = {name: k for k, name in enumerate(names)} | {name: NO_ASPECT for name in RESERVED_ASPECTS}
    labels, codes = encoded_labels(dataset)
    unknown = sorted({str(label) for label in labels if label not in index})
    if unknown:
        row = int(np.flatnonzero(np.array([label not in index for label in labels])[codes])[0])
        raise InputError(
            f"Pairs are labelled by the aspect {', '.join(map(repr, unknown))} (the first in row {row}), but there are only "
            f"gaps of {', '.join(names)}. Provide the gaps of every aspect, or leave these pairs out."
        )
    return np.array([index[label] for label in labels])[codes]


def rating_gap(
    values: Sequence[NDArray[np.float64]], aspect: str, first_row: int = 0, where: str = ""
) -> NDArray[np.float64]:
    """
    Gap of the ratings of both sides, or one column of votes, NaN where a rating or vote is missing. Raises
    `InputError` on infinite ratings, and on votes other than 1, 0 and -1; `first_row` and `where` locate the values in
    the message.
    """
    if len(values) == 1:
        gap = values[0]
        if not VoteColumn(True).add(gap).only_votes:
            row = np.flatnonzero(~(np.isnan(gap) | (gap == 0) | (np.abs(gap) == 1)))[0]
            raise InputError(
                f"Votes must be 1, 0 or -1, but the vote of '{aspect}' in row {first_row + row}{where} is {gap[row]:g}."
            )
        return gap
    with np.errstate(invalid="ignore"):
        gap = values[0] - values[1]
    infinite = np.flatnonzero(np.isinf(values[0]) | np.isinf(values[1]))
    if infinite.size:
        raise InputError(
            f"Ratings must be finite, but a rating of '{aspect}' in row {first_row + infinite[0]}{where} is not."
        )
    return gap


def _rating_gap(dataset: Dataset, aspect: str) -> NDArray[np.float64]:
    columns = rating_columns(aspect, dataset.column_names)
    return rating_gap([numeric_column(dataset, column) for column in columns], aspect)


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


class VoteCounts(NamedTuple):
    """
    Counts of the other aspects of each pair, of shape `(num_pairs,)`. An aspect with a weight of 0 or a missing rating has no vote.

    Args:
        agree (integer array): Aspects that vote for the pair's label.
        decided (integer array): Aspects that vote for or against it. Those whose gap is 0 vote and decide nothing.
        voters (integer array): Aspects that vote.
        most (integer array): Aspects that would vote if no rating were missing.
    """

    agree: NDArray[np.int32]
    decided: NDArray[np.int32]
    voters: NDArray[np.int32]
    most: NDArray[np.int32]


def vote_counts(matrix: GapMatrix, weights: NDArray[np.float64]) -> VoteCounts:
    """[`count_votes`] of all rows."""
    return count_votes(Gaps(list(matrix.gaps.T), matrix.own, matrix.missing), matrix.names, weights)


def count_votes(gaps: Gaps, names: Sequence[str], weights: NDArray[np.float64]) -> VoteCounts:
    """The votes on each pair of a batch."""
    agree, decided, voters, most = np.zeros((4, len(gaps.own)), dtype=np.int32)
    for k in np.flatnonzero(weights > 0).tolist():
        votes = gaps.own != k
        most += votes
        if gaps.missing.get(names[k]):
            votes &= ~np.isnan(gaps.gaps[k])
        voters += votes
        decided += votes & (gaps.gaps[k] != 0)
        agree += votes & (gaps.gaps[k] > 0)
    return VoteCounts(agree, decided, voters, most)


def votes_label(agree: int, voters: int) -> str:
    """The report's name for pairs with these votes."""
    return f"{agree} of {voters} agree" if voters else "no votes"
