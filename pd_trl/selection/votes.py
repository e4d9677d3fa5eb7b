"""The votes of a [`PDFilter`]: their weights, the PD they give, and pairs without votes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..errors import InputError
from ..method.divergence import NO_LABEL, PreferenceDivergence, no_votes_error, preference_divergence
from ..method.votes import decorrelated_weights, gap_correlations, gap_moments
from .fitted import FittedFilter
from .gaps import GapMatrix, gap_matrix
from .reasons import NO_VOTES

logger = logging.getLogger(__name__)


@dataclass
class Votes:
    """The votes of a fit."""

    matrix: GapMatrix
    weights: NDArray[np.float64]
    divergence: PreferenceDivergence


def fitted_votes(pd_filter: FittedFilter, dataset: Dataset) -> Votes | None:
    """Votes to fit by; `None` if there are no usable votes and the selector does not rank by PD."""
    if not pd_filter.has_divergence(dataset.column_names):
        return None
    try:
        matrix = gap_matrix(dataset, pd_filter.source)
        check_number(matrix.names, bool((matrix.own >= 0).any()))
        silent = _silent(matrix) if pd_filter.source == "ratings" else {}
        weights = learned_weights(pd_filter, matrix.names, silent, lambda: gap_moments(list(matrix.gaps.T)))
        return Votes(matrix, weights, _divergence(pd_filter, matrix, weights, None))
    except InputError as error:
        no_divergence(pd_filter, error)
        return None


def transformed_divergence(pd_filter: FittedFilter, dataset: Dataset) -> PreferenceDivergence | None:
    """PD by the statistics of a fit; `None` if [`fitted_votes`] found no votes, or these rows have no usable votes."""
    if pd_filter.aspects_ is None or not pd_filter.has_divergence(dataset.column_names):
        return None
    try:
        matrix = gap_matrix(dataset, pd_filter.source, pd_filter.aspects_)
        quantiles = [pd_filter.quantiles_[name] for name in matrix.names]
        return _divergence(pd_filter, matrix, pd_filter.weights_of(matrix.names), quantiles)
    except InputError as error:
        no_divergence(pd_filter, error)
        return None


def _divergence(
    pd_filter: FittedFilter, matrix: GapMatrix, weights: NDArray[np.float64], quantiles: Sequence[float] | None
) -> PreferenceDivergence:
    divergence = preference_divergence(
        matrix.gaps, matrix.own, pd_filter.gamma, weights, quantiles, aspect_names=matrix.names,
        allow_missing=pd_filter.source == "ratings", allow_no_votes=True,
    )  # fmt: skip
    without = matrix.own[np.isnan(divergence.values)]
    labels = [*matrix.names, NO_LABEL]
    check_no_votes(pd_filter, {labels[k]: int((without == k).sum()) for k in np.unique(without)}, len(matrix.own))
    return divergence


def no_divergence(pd_filter: FittedFilter, error: InputError) -> None:
    """Raises the error if the selector ranks by PD; otherwise warns that the report has no PD."""
    if pd_filter.needs_divergence:
        raise error
    logger.warning("The report has no PD: %s This selector does not need PD.", error)


def check_number(names: Sequence[str], labelled: bool) -> None:
    """Raises `InputError` if pairs are `labelled` by an aspect and there is no other aspect."""
    if len(names) < 2 and labelled:
        raise InputError(
            f"PD needs at least two aspects, but there is only '{names[0]}'. Provide gaps of another aspect, or use another "
            "`selector`."
        )


def _silent(matrix: GapMatrix) -> dict[str, int]:
    found = {}
    for k, name in enumerate(matrix.names):
        gaps = matrix.gaps[matrix.own != k, k]
        if gaps.size and not np.nan_to_num(gaps).any():
            found[name] = gaps.size
    return found


def learned_weights(
    pd_filter: FittedFilter,
    names: Sequence[str],
    silent: Mapping[str, int],
    moments: Callable[[], Mapping[str, NDArray[np.float64]]],
) -> NDArray[np.float64]:
    """
    Weights of the votes of a fit, shape `(num_aspects,)`. Warns of aspects without a vote.

    Args:
        pd_filter ([`FittedFilter`]): The filter, which is not changed.
        names (sequence of `str`): Aspects.
        silent (`dict`): Aspects whose ratings decide no pair of another aspect, with the number of these pairs. They
            have no vote and no scale.
        moments (callable): The sums of [`gap_moments`], needed if weights are learned from them.
    """
    weights = pd_filter.vote_weights(names, warn=True)
    for name, num_pairs in silent.items():
        logger.warning(
            "The ratings of '%s' are tied or missing in all %d pairs whose label is not its own. '%s' has no vote.",
            name, num_pairs, name,
        )  # fmt: skip
        weights[list(names).index(name)] = 0.0
    if not weights.any():
        raise InputError("No aspect is left to vote: no ratings decide a pair whose label is not theirs.")
    if pd_filter.learns_weights:
        voting = np.flatnonzero(weights)
        weights[voting] *= decorrelated_weights(gap_correlations(moments())[np.ix_(voting, voting)])
    return weights


def check_no_votes(pd_filter: FittedFilter, counts: Mapping[str, int], total: int) -> None:
    """
    Raises `InputError` if pairs have no votes, or warns that they are dropped.

    Args:
        pd_filter ([`FittedFilter`]): The rule.
        counts (`dict`): Number of pairs on which no other aspect votes, by the aspect of their label.
        total (`int`): Number of all pairs.
    """
    number = sum(counts.values())
    if not number or not pd_filter.needs_divergence:
        return
    if pd_filter.on_no_votes == "error":
        raise no_votes_error(counts, total)
    labels = ", ".join(f"'{name}' ({count})" for name, count in counts.items())
    logger.warning(
        "No other aspect votes on %d of %d pairs. They have no PD and are dropped (%s). By the aspect of their label: %s.",
        number, total, NO_VOTES, labels,
    )  # fmt: skip
