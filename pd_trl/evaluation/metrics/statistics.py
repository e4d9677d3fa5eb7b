"""Win scores and calibration as arithmetic on arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import InputError

EDGE = 1e-9


def verdicts(preferences: ArrayLike, tie: float = EDGE) -> NDArray[np.int8]:
    """
    1 where a preference is above 0.5 (a win), -1 where below (a loss), 0 within `tie` of it.

    Args:
        preferences (array): Preferences in [0, 1]; 1 is for the model in question.
        tie (`float`, *optional*, defaults to `1e-9`): Largest distance from 0.5 that is a tie.
    """
    distance = np.asarray(preferences, dtype=np.float64) - 0.5
    return (np.sign(distance) * (np.abs(distance) > tie)).astype(np.int8)


def win_counts(signs: ArrayLike) -> dict[str, float]:
    """
    The win score `1 + (wins - losses) / n` of arXiv 2508.07638 and what it is made of.

    Args:
        signs (array of shape `(num_instructions,)`): 1 for a win, -1 for a loss, 0 for a tie.

    Returns:
        `dict`: `win_score` in [0, 2], where 1 is a draw; its standard error `win_score_se` over instructions; `wins`, `losses`,
        `ties` and `num_samples`. The error of a single instruction is left out.
    """
    values = np.asarray(signs, dtype=np.float64)
    if values.size == 0:
        raise InputError("A win score needs at least one instruction.")
    result = {
        "win_score": float(1 + values.mean()),
        "wins": int((values > 0).sum()),
        "losses": int((values < 0).sum()),
        "ties": int((values == 0).sum()),
        "num_samples": int(values.size),
    }
    error = standard_error(values)
    return result if error is None else {**result, "win_score_se": error}


def standard_error(values: ArrayLike) -> float | None:
    """Standard error of a mean over independent values; `None` for a single one."""
    known = np.asarray(values, dtype=np.float64)
    return float(known.std(ddof=1) / np.sqrt(known.size)) if known.size > 1 else None


def bootstrap_interval(
    sets: Sequence[ArrayLike], *, level: float = 0.95, num_resamples: int = 10_000, seed: int = 42
) -> tuple[float, float]:
    """
    Percentile interval of the mean over sets of each set's mean. Values are drawn with replacement within each set: the sets are
    given, the instructions are a sample.

    Args:
        sets (sequence of arrays): Values of each set.
        level (`float`, *optional*, defaults to `0.95`): Share of resamples inside.
        num_resamples (`int`, *optional*, defaults to `10000`): Number of resamples.
        seed (`int`, *optional*, defaults to `42`): Seed of the draws.
    """
    # `scipy.stats.bootstrap` gives the same interval (test_bootstrap_interval_is_scipys), but scipy comes only with the extra
    # `alpaca`, and win scores need no extra.
    generator = np.random.default_rng(seed)
    means = np.zeros(num_resamples)
    for values in sets:
        levels, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
        total = int(counts.sum())
        # Drawing n values with replacement is drawing how often each distinct one occurs.
        means += generator.multinomial(total, counts / total, size=num_resamples) @ levels / total
    means /= len(sets)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def calibration(gaps: ArrayLike, num_bins: int = 10) -> dict[str, Any]:
    """
    How well `sigmoid(gap)` says how likely a reward model is right.

    Args:
        gaps (array of shape `(num_pairs,)`): Reward of the better minus reward of the worse response, in nats.
        num_bins (`int`, *optional*, defaults to `10`): Bins of confidence from 0.5 to 1.

    Returns:
        `dict`: `brier`, the mean square of `1 - sigmoid(gap)`; `log_loss`, in nats; `ece`, the mean distance of confidence and
        accuracy over bins, weighted by their pairs; `temperature`, by which gaps are best divided (`None` where no pair, or every
        pair, is right, so that none is best); and `bins`, a list of `confidence`, `accuracy` and `num_pairs`.
    """
    gap = np.asarray(gaps, dtype=np.float64)
    probability = 1 / (1 + np.exp(-np.clip(gap, -700, 700)))
    # A tie is right by half.
    right = (gap > 0) + 0.5 * (gap == 0)
    confidence = np.maximum(probability, 1 - probability)
    position = np.minimum(((confidence - 0.5) * 2 * num_bins).astype(int), num_bins - 1)
    bins = []
    for i in range(num_bins):
        inside = position == i
        if inside.any():
            entry = {"confidence": float(confidence[inside].mean()), "accuracy": float(right[inside].mean())}
            bins.append({**entry, "num_pairs": int(inside.sum())})
    return {
        "brier": float(((1 - probability) ** 2).mean()),
        "log_loss": float(np.logaddexp(0, -gap).mean()),
        "ece": float(sum(abs(b["confidence"] - b["accuracy"]) * b["num_pairs"] for b in bins) / gap.size),
        "temperature": _best_temperature(gap),
        "bins": bins,
    }


def _best_temperature(gap: NDArray[np.float64]) -> float | None:
    """The t that minimises the log loss of `gap / t`: the slope 1/t solves a monotone equation, found by bisection."""
    scale = float(np.abs(gap).max()) if gap.size else 0.0
    if scale == 0 or not (gap > 0).any() or not (gap < 0).any() or gap.mean() <= 0:
        return None
    unit = gap / scale
    low, high = 0.0, 1.0
    while float((unit / (1 + np.exp(np.clip(high * unit, -700, 700)))).sum()) > 0:
        high *= 2
        if high > 1e9:
            return None
    for _ in range(100):
        middle = (low + high) / 2
        slope = float((unit / (1 + np.exp(np.clip(middle * unit, -700, 700)))).sum())
        low, high = (middle, high) if slope > 0 else (low, middle)
    return scale / high


def conflict_counts(gaps: ArrayLike, others: ArrayLike) -> dict[str, float]:
    """
    How often other aspects contradict a label.

    Args:
        gaps (array of shape `(num_pairs,)`): Gap or vote of the labelled aspect; its sign is the label.
        others (array of shape `(num_pairs,)` or `(num_pairs, num_others)`): Gaps or votes of the other aspects; 0 and nan have no
            vote.

    Returns:
        `dict`: `preference_conflict`, the share of decided votes of the others that contradict the label, with its standard error
        over pairs; `any_conflict`, the share of pairs with at least one such vote; `majority_conflict`, the share of pairs in which
        more votes contradict than agree; `num_pairs`, those with a label and a vote of another; `undecided`, the other pairs.
    """
    label = np.sign(np.asarray(gaps, dtype=np.float64))
    table = np.sign(np.asarray(others, dtype=np.float64))
    table = table[:, None] if table.ndim == 1 else table
    if label.ndim != 1 or table.shape[0] != label.shape[0]:
        raise InputError(
            f"Labels and votes must be of the same pairs, got the shapes {label.shape} and {table.shape}."
        )
    product = np.nan_to_num(label[:, None] * table)
    against, votes = (product < 0).sum(1), (product != 0).sum(1)
    decided = votes > 0
    result: dict[str, float] = {"num_pairs": int(decided.sum()), "undecided": int((~decided).sum())}
    if not decided.any():
        return result
    against, votes = against[decided], votes[decided]
    share = against.sum() / votes.sum()
    result |= {
        "preference_conflict": float(share),
        "any_conflict": float((against > 0).mean()),
        "majority_conflict": float((2 * against > votes).mean()),
    }
    if against.size > 1:
        # A ratio of sums over pairs: the votes of one pair are not independent.
        spread = np.std(against - share * votes, ddof=1) / votes.mean()
        result["preference_conflict_se"] = float(spread / np.sqrt(against.size))
    return result
