"""Which proxies vote in PD, and with what weight."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

logger = logging.getLogger(__name__)

# The weights that are learned from the correlation of the gaps.
DECORRELATED = "decorrelated"
# Digits of a correlation that do not depend on the order of its sums.
_DIGITS = 6
_TOLERANCE = 1e-9


def vote_weights(
    names: Sequence[str],
    weights: Mapping[str, float],
    proxy_metrics: Mapping[str, Mapping[str, float]],
    min_accuracy: float | None = None,
    warn: bool = False,
) -> NDArray[np.float64]:
    """
    Weight of each aspect's vote, shape `(num_aspects,)`: as given, 1 where not, and 0 where the aspect's reward model is less
    accurate than `min_accuracy` on held-out pairs.

    Args:
        names (sequence of `str`): Aspects.
        weights (`dict`): Weights as given.
        proxy_metrics (`dict`): Held-out metrics of each aspect's reward model.
        min_accuracy (`float`, *optional*): Accuracy from which on a reward model has a vote.
        warn (`bool`, *optional*, defaults to `False`): Whether to say which lost theirs.

    Raises:
        InputError: On a weight of an unknown aspect, an accuracy that is not known, or when no aspect is left to vote.
    """
    unknown = sorted(set(weights) - set(names))
    if unknown:
        raise InputError(
            f"`weights` names {', '.join(map(repr, unknown))}, but the aspects with gaps are {', '.join(names)}."
        )
    result = {name: float(weights.get(name, 1.0)) for name in names}
    for name in (name for name in names if min_accuracy is not None and result[name]):
        accuracy = proxy_metrics.get(name, {}).get("pair_accuracy")
        if accuracy is None and name in proxy_metrics:
            raise InputError(
                "`min_proxy_accuracy` needs the held-out accuracy of every reward model, and no pair was left to measure that of "
                f"'{name}' on. Train it again with a larger `heldout`, or leave it out with a weight of 0."
            )
        if accuracy is None:
            raise InputError(
                f"`min_proxy_accuracy` needs the held-out accuracy of every reward model, and that of '{name}' is not "
                "known. Pass `reward_models` with the folders of `train_aspect_rewards`, or `proxy_metrics`. Pairs with an overall "
                "label alone cannot measure it: leave `min_proxy_accuracy` out there, and see in the report how often each model "
                "agrees with that label."
            )
        if min_accuracy is not None and accuracy < min_accuracy:
            level = logging.WARNING if warn else logging.DEBUG
            message = (
                "The reward model of '%s' is right on %.1f %% of held-out pairs, below min_proxy_accuracy=%g: no vote."
            )
            logger.log(level, message, name, 100 * accuracy, min_accuracy)
            result[name] = 0.0
    if not any(result.values()):
        raise InputError(
            "No aspect is left to vote: all weights are 0 or all reward models below `min_proxy_accuracy`."
        )
    return np.array([result[name] for name in names])


def decorrelated_weights(correlations: ArrayLike) -> NDArray[np.float64]:
    r"""
    Weights by which aspects that say the same do not outvote the others. The paper weighs all votes alike; this is ours.

    $$ w = \arg\min_{w \ge 0} \; \sum_{jk} w_j \, r_{jk}^2 \, w_k - 2 \sum_k w_k $$

    with `r` the correlations of the gaps. Uncorrelated aspects weigh 1 each. `m` copies of one aspect weigh together what the
    aspect would weigh alone, also where it is correlated with others, so that copies change no PD. An aspect whose vote
    others say together weighs little. `sum(w)` is the number of votes that are not said twice, at most the number of aspects. The
    squares of the correlations are a positive semidefinite matrix, so that the minimum is the only one but for the split among
    copies, which is even.

    Args:
        correlations (array of shape `(num_aspects, num_aspects)`):
            Correlations; NaN, as of gaps that do not vary, counts as none.

    Returns:
        array of shape `(num_aspects,)`, in [0, 1].
    """
    shared = np.square(np.nan_to_num(np.round(np.asarray(correlations, dtype=np.float64), _DIGITS)))
    np.fill_diagonal(shared, 1.0)
    voting = np.ones(len(shared), dtype=bool)
    weights = np.zeros(len(shared))
    # Block pivoting: those of negative weight leave, those that would lower the objective come back. It ends within a few rounds.
    for _ in range(3 * len(shared)):
        weights[:] = 0
        # The least-squares solution of least norm treats copies alike.
        weights[voting] = np.linalg.lstsq(shared[np.ix_(voting, voting)], np.ones(voting.sum()), rcond=_TOLERANCE)[0]
        unsaid = 1 - shared @ weights
        wrong = np.where(voting, weights < -_TOLERANCE, unsaid > _TOLERANCE)
        if not wrong.any():
            break
        voting ^= wrong
    weights = np.clip(weights, 0, None).round(_DIGITS)
    return weights


def gap_moments(gaps: Sequence[NDArray[np.floating]]) -> dict[str, NDArray[np.float64]]:
    """
    Sums over pairs from which [`gap_correlations`] are computed; those of parts of the data add up. Two aspects are compared on the
    pairs on which both have a gap.

    Args:
        gaps (sequence of arrays of shape `(num_pairs,)`): The gaps of each aspect, NaN where one is missing.
    """
    given = np.array([np.isfinite(gap) for gap in gaps], dtype=np.float64)
    filled = np.array([np.where(np.isfinite(gap), gap, 0.0).astype(np.float64) for gap in gaps])
    return {
        "gap_counts": given @ given.T,
        "gap_sums": filled @ given.T,
        "gap_squares": np.square(filled) @ given.T,
        "gap_products": filled @ filled.T,
    }


def gap_correlations(moments: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Correlations of the gaps from the sums of [`gap_moments`], NaN where gaps do not vary."""
    counts, sums, squares, products = (moments[f"gap_{name}"] for name in ("counts", "sums", "squares", "products"))
    found = np.full(counts.shape, np.nan)
    for i, j in np.ndindex(*counts.shape):
        value = moment_correlation(counts[i, j], sums[i, j], sums[j, i], squares[i, j], squares[j, i], products[i, j])
        found[i, j] = np.nan if value is None else value
    return found


def moment_correlation(n: float, x: float, y: float, xx: float, yy: float, xy: float) -> float | None:
    """Correlation from sums; `None` for variances below what double precision resolves."""
    if n < 2:
        return None
    spreads = [square - mean * mean / n for mean, square in ((x, xx), (y, yy))]
    if any(spread <= 1e-12 * abs(square) for spread, square in zip(spreads, (xx, yy), strict=True)):
        return None
    return float(np.clip((xy - x * y / n) / np.sqrt(spreads[0] * spreads[1]), -1, 1))
