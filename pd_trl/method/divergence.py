"""Preference Divergence (PD): Eq. 13-15 of arXiv 2508.07638, on a matrix of reward gaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

NO_ASPECT = -1
# Default quantile of the absolute gaps (Eq. 13). The paper's value is not known; this is ours.
GAMMA = 0.9
# What messages call a label that is none of the aspects'.
NO_LABEL = "none of the aspects"
# A PD is in single precision, and so are sums of it.
MAX_WEIGHT = 1e9
# Rows at a time: what is computed in double precision never grows with the data.
_BLOCK = 65_536


@dataclass(frozen=True)
class PreferenceDivergence:
    """
    Result of [`preference_divergence`].

    Attributes:
        values (`np.ndarray` of shape `(num_pairs,)`, float32):
            PD of each pair (Eq. 15): positive where the other aspects contradict the pair's label, negative where they
            agree with it. NaN for a pair on which no other aspect votes, where `allow_no_votes` admits one.
        quantiles (`np.ndarray` of shape `(num_aspects,)`, float32):
            Scale `q_k` of each aspect (Eq. 13). NaN for an aspect that no pair outside its own needs.
        normalized_gaps (`np.ndarray` of shape `(num_pairs, num_aspects)`, float32):
            Gaps divided by their scale and clipped to [-1, 1] (Eq. 14). A pair's own aspect is shown, but does not
            enter its PD.
        clipped_share (`np.ndarray` of shape `(num_aspects,)`, float64):
            Share of the gaps used for the PD that were beyond their scale. Near `1 - gamma` when the scales were taken
            from the same pairs.
        clipped (`np.ndarray` of shape `(num_aspects,)`, int64):
            Number of these gaps.
    """

    values: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    normalized_gaps: NDArray[np.float32]
    clipped_share: NDArray[np.float64]
    clipped: NDArray[np.int64]


def preference_divergence(
    reward_gaps: ArrayLike,
    aspects: ArrayLike,
    gamma: float = GAMMA,
    weights: ArrayLike | None = None,
    quantiles: ArrayLike | None = None,
    aspect_names: Sequence[str] | None = None,
    allow_missing: bool = False,
    allow_no_votes: bool = False,
) -> PreferenceDivergence:
    r"""
    Estimated Preference Divergence of each pair, Eq. 13-15 of [arXiv 2508.07638](https://huggingface.co/papers/2508.07638):

    $$ \mathrm{PD}(z) = -\sum_{k' \neq k} w_{k'} \,\mathrm{clip}(\Delta\hat r_{k'}(z) / q_{k'}, -1, 1) $$

    with `q_k` the `gamma`-quantile of `|gap_k|` over the pairs whose label is not of aspect `k`.

    Missing votes are ours, since the paper has none: the PD of a pair of which some votes are missing is the weighted mean of
    the votes it has, times the total weight of the votes that it could have (`num_aspects - 1` with unit weights),

    $$ \mathrm{PD}(z) = -\frac{\sum_{k' \neq k} w_{k'}}{\sum_{k' \in V(z)} w_{k'}} \sum_{k' \in V(z)} w_{k'}
    \,\mathrm{clip}(\Delta\hat r_{k'}(z) / q_{k'}, -1, 1) $$

    with `V(z)` the other aspects that vote on `z`. Where none is missing, this is Eq. 15. A vote of 0 is no missing one.

    Args:
        reward_gaps (array of shape `(num_pairs, num_aspects)`):
            Reward of the chosen minus reward of the rejected response, by the reward model of each aspect, adjusted for
            length as in Eq. 17 (nats). A pair's gap for its own aspect is not used and may be NaN. Another NaN is an error
            or, with `allow_missing`, a missing vote.
        aspects (integer array of shape `(num_pairs,)`):
            Index of the aspect that gave each pair its label, or -1 for a label that is none of the aspects' (a holistic
            one): its PD then sums over all aspects.
        gamma (`float`, *optional*, defaults to `0.9`):
            Quantile of the absolute gaps that becomes 1 after normalisation, in (0, 1]. The paper's value is not known;
            0.9 is ours.
        weights (array of shape `(num_aspects,)`, *optional*):
            Weight of each aspect's vote, at least one positive. `None` is 1 for all, as in the paper.
        quantiles (array of shape `(num_aspects,)`, *optional*):
            Scales of an earlier call, to score new pairs alike. `None` computes them from `reward_gaps`.
        aspect_names (sequence of `str`, *optional*):
            Names for error messages.
        allow_missing (`bool`, *optional*, defaults to `False`):
            Whether a NaN gap of another aspect is a missing vote instead of an error.
        allow_no_votes (`bool`, *optional*, defaults to `False`):
            Whether a pair on which no other aspect votes gets a PD of NaN instead of an error.

    Returns:
        [`PreferenceDivergence`]: values in `[-(num_aspects - 1), num_aspects - 1]` with unit weights; of pairs without an
        aspect, in `[-num_aspects, num_aspects]`.

    Raises:
        InputError: On wrong shapes, NaN or infinite gaps, an aspect index out of range, `gamma` outside (0, 1], negative
            or all-zero weights, fewer than two aspects, an aspect whose scale is 0, or a pair on which no other aspect votes.
    """
    gaps = np.asarray(reward_gaps, dtype=np.float32)
    if gaps.ndim != 2 or gaps.shape[0] == 0:
        raise InputError(
            f"`reward_gaps` must be a non-empty matrix of shape (num_pairs, num_aspects), got shape {gaps.shape}."
        )
    num_pairs, num_aspects = gaps.shape
    names = list(aspect_names) if aspect_names is not None else [str(k) for k in range(num_aspects)]
    own = _check_aspects(aspects, num_pairs, names)
    weight = check_weights(weights, names)
    check_gamma(gamma)
    missing = _missing_gaps(gaps, own, names, allow_missing)
    counts = np.array([np.count_nonzero(own != k) for k in range(num_aspects)]) - missing

    scale = _check_quantiles(quantiles, names) if quantiles is not None else gap_quantiles(gaps, own, gamma)
    for k, name in enumerate(names):
        if weight[k] > 0 and not scale[k] > 0 and counts[k]:
            raise InputError(
                f"The {gamma:g}-quantile of the absolute reward gaps of aspect '{name}' is {scale[k]:g}, so its gaps "
                "cannot be normalised (Eq. 13): nearly all its gaps are 0. Check that its reward model or ratings "
                f"distinguish responses, raise `gamma`, or leave the aspect out with a weight of 0 ('{name}': 0)."
            )
    divisor = np.where(scale > 0, scale, 1.0).astype(np.float64)
    normalized = np.empty_like(gaps)
    values = np.empty(num_pairs, dtype=np.float32)
    clipped = np.zeros(num_aspects, dtype=np.int64)
    for start in range(0, num_pairs, _BLOCK):
        rows = slice(start, start + _BLOCK)
        others = own[rows, None] != np.arange(num_aspects)
        with np.errstate(over="ignore"):  # infinity is clipped to 1 like any large value
            block = gaps[rows] / divisor
        clipped += (others & (np.abs(block) > 1)).sum(axis=0)
        np.clip(block, -1, 1, out=block)
        normalized[rows] = block
        # Summed in double precision and in one order: pairs of equal PD stay equal, so that ties fall to `pair_id` and not
        # to rounding.
        total = np.zeros(len(block))
        votes = VoteWeights(weight, own[rows])
        for k in range(num_aspects):
            total -= votes.without_missing(k, np.where(others[:, k], weight[k] * block[:, k], 0.0), missing[k])
        values[rows] = votes.scaled(total) + 0.0
    normalized[:, counts == 0] = np.nan
    if not allow_no_votes:
        _check_votes(values, own, names)
    return PreferenceDivergence(values, scale, normalized, clipped / np.maximum(counts, 1), clipped)


class VoteWeights:
    """
    Weights of the votes on the pairs of a block, of which some may be missing.

    Args:
        weights (array of shape `(num_aspects,)`): Weight of each aspect's vote.
        own (integer array of shape `(num_pairs,)`): Index of each pair's own aspect; those that are no aspects' do not matter.
    """

    def __init__(self, weights: NDArray[np.float64], own: NDArray[np.integer]):
        self.weights, self.own = weights, own
        self._holes: dict[int, NDArray[np.bool_]] = {}

    def without_missing(self, k: int, vote: NDArray[np.float64], missing: int) -> NDArray[np.float64]:
        """`vote`, of aspect `k`, with 0 where it is NaN, which is noted as missing; as it is where none is `missing`."""
        if not missing:
            return vote
        holes = np.isnan(vote)
        self._holes[k] = holes
        return np.where(holes, 0.0, vote)

    def scaled(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """
        Sums of votes, scaled up for those that are missing, and NaN where no other aspect votes. A sum of which no vote is
        missing stays as it is to the last bit.
        """
        positive = np.flatnonzero(self.weights > 0).tolist()
        if self._holes:
            whole, present = np.zeros(len(total)), np.zeros(len(total))
            for k in positive:
                there = self.own != k
                whole += np.where(there, self.weights[k], 0.0)
                if k in self._holes:
                    there &= ~self._holes[k]
                present += np.where(there, self.weights[k], 0.0)
            rows = np.flatnonzero(present != whole)
            with np.errstate(invalid="ignore", divide="ignore"):  # without a vote, 0 times infinity is NaN
                total[rows] *= whole[rows] / present[rows]
        if len(positive) == 1:
            total[self.own == positive[0]] = np.nan
        return total


def gap_quantiles(gaps: NDArray[np.float32], own: NDArray[np.integer], gamma: float) -> NDArray[np.float32]:
    """
    Scale `q_k` of each aspect: `gamma`-quantile of `|gap_k|` over the pairs labelled by another aspect (Eq. 13). NaN gaps do not
    count.
    """
    scale = np.full(gaps.shape[1], np.nan, dtype=np.float32)
    for k in range(gaps.shape[1]):
        absolute = np.abs(gaps[own != k, k])
        if np.isnan(absolute).any():
            absolute = absolute[~np.isnan(absolute)]
        if absolute.size:
            scale[k] = np.quantile(absolute, gamma, overwrite_input=True)
    return scale


def check_gamma(gamma: float) -> None:
    """Raises `InputError` unless `gamma` is in (0, 1]."""
    if not (isinstance(gamma, (int, float)) and not isinstance(gamma, bool) and 0 < gamma <= 1):
        raise InputError(f"`gamma` is a quantile and must be in (0, 1], got {gamma!r}.")


def check_weights(weights: ArrayLike | None, names: Sequence[str]) -> NDArray[np.float64]:
    """`weights` as an array of shape `(num_aspects,)`; raises `InputError` on negative, NaN, huge or all-zero weights."""
    if weights is None:
        return np.ones(len(names))
    weight = np.asarray(weights, dtype=np.float64)
    if weight.shape != (len(names),):
        raise InputError(
            f"`weights` must have one weight for each of the {len(names)} aspects, got shape {weight.shape}."
        )
    bad = [f"'{name}': {value:g}" for name, value in zip(names, weight, strict=True) if not 0 <= value <= MAX_WEIGHT]
    if bad:
        raise InputError(
            f"Weights must be finite, not negative and at most {MAX_WEIGHT:g}, got {', '.join(bad)}. A weight of 0 ignores an aspect."
        )
    if not weight.any():
        raise InputError("All weights are 0: at least one aspect needs a positive weight.")
    return weight


def _check_aspects(aspects: ArrayLike, num_pairs: int, names: Sequence[str]) -> NDArray[np.integer]:
    own = np.asarray(aspects)
    if own.shape != (num_pairs,) or not np.issubdtype(own.dtype, np.integer):
        raise InputError(
            f"`aspects` must be integers of shape ({num_pairs},), one aspect index a pair, got {own.dtype} of shape {own.shape}."
        )
    wrong = np.flatnonzero((own < NO_ASPECT) | (own >= len(names)))
    if wrong.size:
        raise InputError(
            f"`aspects` must lie in [-1, {len(names) - 1}] (-1 = none of the aspects), got {own[wrong[0]]} in row {wrong[0]}."
        )
    if len(names) < 2 and (own != NO_ASPECT).any():
        raise InputError(
            f"PD compares a pair's label with the OTHER aspects, and there is only one aspect ('{names[0]}'). "
            "Provide reward gaps of at least two aspects."
        )
    return own


def _missing_gaps(
    gaps: NDArray[np.float32], own: NDArray[np.integer], names: Sequence[str], allowed: bool
) -> NDArray[np.int64]:
    """Number of missing gaps of each aspect, outside its own pairs; raises `InputError` on gaps that are not allowed."""
    missing = np.zeros(len(names), dtype=np.int64)
    for k, name in enumerate(names):
        bad = np.flatnonzero(~np.isfinite(gaps[:, k]) & (own != k))
        if bad.size and allowed:
            missing[k] = np.count_nonzero(np.isnan(gaps[bad, k]))
            bad = bad[np.isinf(gaps[bad, k])]
        if bad.size:
            raise InputError(
                f"Reward gaps must be finite numbers, got {gaps[bad[0], k]} in row {bad[0]} of aspect '{name}' "
                f"({bad.size} such rows in this aspect). Score these rows again, or leave them out."
            )
    return missing


def _check_votes(values: NDArray[np.float32], own: NDArray[np.integer], names: Sequence[str]) -> None:
    silent = np.isnan(values)
    if silent.any():
        labels = [*names, NO_LABEL]
        counts = {labels[k]: int(np.count_nonzero(own[silent] == k)) for k in np.unique(own[silent])}
        raise no_votes_error(counts, len(values))


def no_votes_error(counts: Mapping[str, int], total: int) -> InputError:
    """
    The error about pairs on which no other aspect votes.

    Args:
        counts (`dict`): Number of such pairs by the aspect of their label.
        total (`int`): Number of all pairs.
    """
    labels = ", ".join(f"'{name}' ({count})" for name, count in counts.items())
    return InputError(
        f"On {sum(counts.values())} of {total} pairs no other aspect votes, so that they have no PD. By the aspect of their "
        f"label: {labels}. Votes are lost by a weight of 0, by `min_proxy_accuracy` and by missing ratings: give more aspects a "
        "vote, leave these pairs out, or drop them with on_no_votes='drop'."
    )


def _check_quantiles(quantiles: ArrayLike, names: Sequence[str]) -> NDArray[np.float32]:
    scale = np.asarray(quantiles, dtype=np.float32)
    if scale.shape != (len(names),):
        raise InputError(
            f"`quantiles` must have one scale for each of the {len(names)} aspects, got shape {scale.shape}."
        )
    return scale
