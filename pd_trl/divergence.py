"""Preference Divergence (PD): Eq. 13-15 of arXiv 2508.07638, on a matrix of reward gaps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError

NO_ASPECT = -1
# Rows at a time: what is computed in double precision never grows with the data.
_BLOCK = 65_536


@dataclass(frozen=True)
class PreferenceDivergence:
    """
    Result of [`preference_divergence`].

    Attributes:
        values (`np.ndarray` of shape `(num_pairs,)`, float32):
            PD of each pair (Eq. 15): positive where the other aspects contradict the pair's label, negative where they
            agree with it.
        quantiles (`np.ndarray` of shape `(num_aspects,)`, float32):
            Scale `q_k` of each aspect (Eq. 13). NaN for an aspect that no pair outside its own needs.
        normalized_gaps (`np.ndarray` of shape `(num_pairs, num_aspects)`, float32):
            Gaps divided by their scale and clipped to [-1, 1] (Eq. 14). A pair's own aspect is shown, but does not
            enter its PD.
        clipped_share (`np.ndarray` of shape `(num_aspects,)`, float64):
            Share of the gaps used for the PD that were beyond their scale. Near `1 - gamma` when the scales were taken
            from the same pairs.
    """

    values: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    normalized_gaps: NDArray[np.float32]
    clipped_share: NDArray[np.float64]


def preference_divergence(
    reward_gaps: ArrayLike,
    aspects: ArrayLike,
    gamma: float = 0.9,
    weights: ArrayLike | None = None,
    quantiles: ArrayLike | None = None,
    aspect_names: Sequence[str] | None = None,
) -> PreferenceDivergence:
    r"""
    Estimated Preference Divergence of each pair, Eq. 13-15 of [arXiv 2508.07638](https://huggingface.co/papers/2508.07638):

    $$ \mathrm{PD}(z) = -\sum_{k' \neq k} w_{k'} \,\mathrm{clip}(\Delta\hat r_{k'}(z) / q_{k'}, -1, 1) $$

    with `q_k` the `gamma`-quantile of `|gap_k|` over the pairs whose label is not of aspect `k`.

    Args:
        reward_gaps (array of shape `(num_pairs, num_aspects)`):
            Reward of the chosen minus reward of the rejected response, by the reward model of each aspect, adjusted for
            length as in Eq. 17 (nats). A pair's gap for its own aspect is not used and may be NaN.
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

    Returns:
        [`PreferenceDivergence`]: values in `[-(num_aspects - 1), num_aspects - 1]` with unit weights.

    Raises:
        InputError: On wrong shapes, NaN or infinite gaps, an aspect index out of range, `gamma` outside (0, 1], negative
            or all-zero weights, fewer than two aspects, or an aspect whose scale is 0.
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
    _check_gaps(gaps, own, names)

    scale = _check_quantiles(quantiles, names) if quantiles is not None else gap_quantiles(gaps, own, gamma)
    for k, name in enumerate(names):
        if weight[k] > 0 and not scale[k] > 0 and (own != k).any():
            raise InputError(
                f"The {gamma:g}-quantile of the absolute reward gaps of aspect '{name}' is {scale[k]:g}, so its gaps "
                "cannot be normalised (Eq. 13): nearly all its gaps are 0. Check that its reward model or ratings "
                f"distinguish responses, raise `gamma`, or leave the aspect out with a weight of 0 ('{name}': 0)."
            )
    divisor = np.where(scale > 0, scale, 1.0).astype(np.float64)
    normalized = np.empty_like(gaps)
    values = np.empty(num_pairs, dtype=np.float32)
    clipped = np.zeros(num_aspects)
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
        for k in range(num_aspects):
            total -= np.where(others[:, k], weight[k] * block[:, k], 0.0)
        values[rows] = total + 0.0
    counts = np.array([np.count_nonzero(own != k) for k in range(num_aspects)])
    normalized[:, counts == 0] = np.nan
    return PreferenceDivergence(values, scale, normalized, clipped / np.maximum(counts, 1))


def gap_quantiles(gaps: NDArray[np.float32], own: NDArray[np.integer], gamma: float) -> NDArray[np.float32]:
    """Scale `q_k` of each aspect: `gamma`-quantile of `|gap_k|` over the pairs labelled by another aspect (Eq. 13)."""
    scale = np.full(gaps.shape[1], np.nan, dtype=np.float32)
    for k in range(gaps.shape[1]):
        absolute = np.abs(gaps[own != k, k])
        if absolute.size:
            scale[k] = np.quantile(absolute, gamma, overwrite_input=True)
    return scale


def check_gamma(gamma: float) -> None:
    """Raises `InputError` unless `gamma` is in (0, 1]."""
    if not (isinstance(gamma, (int, float)) and not isinstance(gamma, bool) and 0 < gamma <= 1):
        raise InputError(f"`gamma` is a quantile and must be in (0, 1], got {gamma!r}.")


def check_weights(weights: ArrayLike | None, names: Sequence[str]) -> NDArray[np.float64]:
    """`weights` as an array of shape `(num_aspects,)`; raises `InputError` on negative, NaN or all-zero weights."""
    if weights is None:
        return np.ones(len(names))
    weight = np.asarray(weights, dtype=np.float64)
    if weight.shape != (len(names),):
        raise InputError(
            f"`weights` must have one weight for each of the {len(names)} aspects, got shape {weight.shape}."
        )
    bad = [f"'{name}': {value:g}" for name, value in zip(names, weight, strict=True) if not 0 <= value < np.inf]
    if bad:
        raise InputError(
            f"Weights must be finite and not negative, got {', '.join(bad)}. A weight of 0 ignores an aspect."
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


def _check_gaps(gaps: NDArray[np.float32], own: NDArray[np.integer], names: Sequence[str]) -> None:
    for k, name in enumerate(names):
        bad = np.flatnonzero(~np.isfinite(gaps[:, k]) & (own != k))
        if bad.size:
            raise InputError(
                f"Reward gaps must be finite numbers, got {gaps[bad[0], k]} in row {bad[0]} of aspect '{name}' "
                f"({bad.size} such rows in this aspect). Score these rows again, or leave them out."
            )


def _check_quantiles(quantiles: ArrayLike, names: Sequence[str]) -> NDArray[np.float32]:
    scale = np.asarray(quantiles, dtype=np.float32)
    if scale.shape != (len(names),):
        raise InputError(
            f"`quantiles` must have one scale for each of the {len(names)} aspects, got shape {scale.shape}."
        )
    return scale
