"""Accuracy of a reward model on pairs, with its standard error and its dependence on length."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .ranking import random_keys, select_lowest


def pair_metrics(gaps: ArrayLike, delta_lengths: ArrayLike, prompts: ArrayLike | None = None) -> dict[str, float]:
    """
    Exact metrics of reward gaps on pairs.

    Args:
        gaps (array of shape `(num_pairs,)`): Reward of the chosen minus reward of the rejected response.
        delta_lengths (array of shape `(num_pairs,)`): Completion tokens of the chosen minus those of the rejected.
        prompts (array of shape `(num_pairs,)`, *optional*): What names the prompt of each pair. `None` is a prompt for each.

    Returns:
        `dict`: `num_pairs`; `num_prompts` where `prompts` are given; `pair_accuracy`, the share of positive gaps, with its
        standard error by prompt `pair_accuracy_se` ([`share_error`]); `length_accuracy`, the accuracy of "longer wins" (equal
        lengths count half); `pair_accuracy_chosen_longer` and `pair_accuracy_chosen_shorter`; `gap_length_correlation`
        (Pearson). What is not defined, such as the accuracy of no pairs, is left out.
    """
    gap, delta = np.asarray(gaps, dtype=np.float64), np.asarray(delta_lengths, dtype=np.float64)
    if gap.size == 0:
        return {"num_pairs": 0}
    correct = gap > 0
    metrics: dict[str, float] = {"num_pairs": int(gap.size)}
    if prompts is not None:
        metrics["num_prompts"] = int(np.unique(np.asarray(prompts)).size)
    metrics["pair_accuracy"] = float(correct.mean())
    metrics["pair_accuracy_se"] = share_error(correct, prompts)
    metrics["length_accuracy"] = float((delta > 0).mean() + 0.5 * (delta == 0).mean())
    for name, rows in (("longer", delta > 0), ("shorter", delta < 0)):
        if rows.any():
            metrics[f"pair_accuracy_chosen_{name}"] = float(correct[rows].mean())
    if gap.std() > 0 and delta.std() > 0:
        metrics["gap_length_correlation"] = float(np.corrcoef(gap, delta)[0, 1])
    return metrics


# Metrics of the reward as it is, beside those of the gap that enters the PD.
_RAW = ("pair_accuracy", "pair_accuracy_se", "gap_length_correlation")


def vote_metrics(
    gaps: ArrayLike, adjusted: ArrayLike, delta_lengths: ArrayLike, prompts: ArrayLike | None = None
) -> dict[str, float]:
    """
    [`pair_metrics`] of the gap that enters the PD, and of the reward as it is, on the same pairs: `raw_pair_accuracy`,
    `raw_pair_accuracy_se` and `raw_gap_length_correlation`.

    Args:
        gaps, delta_lengths, prompts (arrays of shape `(num_pairs,)`): See [`pair_metrics`].
        adjusted (array of shape `(num_pairs,)`): The gaps with the length term of Eq. 17, see [`~method.length.adjusted_gap`].
    """
    raw = pair_metrics(gaps, delta_lengths, prompts)
    return pair_metrics(adjusted, delta_lengths, prompts) | {f"raw_{name}": raw[name] for name in _RAW if name in raw}


def half_of_prompts(prompts: ArrayLike, pairs: ArrayLike, seed: int) -> NDArray[np.bool_]:
    """
    Mask of shape `(num_pairs,)` of the pairs of half of the prompts, rounded up, drawn by `seed` and the prompts alone. Where
    all pairs have one prompt, half of the pairs.

    Args:
        prompts (array of shape `(num_pairs,)`): What names the prompt of each pair.
        pairs (array of shape `(num_pairs,)`): What names each pair. Equal pairs go together.
        seed (`int`): Seed.
    """
    unique, inverse = np.unique(np.asarray(prompts).astype(str), return_inverse=True)
    if unique.size < 2:
        unique, inverse = np.unique(np.asarray(pairs).astype(str), return_inverse=True)
    kept, _ = select_lowest(random_keys(unique, seed), unique, -(-unique.size // 2))
    return kept[inverse]


def share_error(hits: ArrayLike, groups: ArrayLike | None = None) -> float:
    """
    Standard error of a share, by group: the binomial one of [`binomial_error`], of as many samples as the hits are worth
    where those of a group go together (a prompt with several pairs).

    Args:
        hits (boolean array of shape `(num_samples,)`): What the share is of.
        groups (array of shape `(num_samples,)`, *optional*): Group of each sample. `None` is a group for each.
    """
    hit = np.asarray(hits, dtype=np.float64)
    share, size = float(hit.mean()), hit.size
    if groups is None:
        return binomial_error(share, size)
    inverse = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(inverse.max()) + 1
    if count in (1, size):
        # Pairs of a single prompt are all there is to count.
        return binomial_error(share, size)
    if not 0 < share < 1:
        # All alike: that says as much as one sample of each group.
        return binomial_error(share, count)
    residual = hit - share
    by_group = np.bincount(inverse, weights=residual)
    # The design effect: variance by group over the variance of independent samples, both unbiased.
    effect = (by_group @ by_group * count / (count - 1)) / (residual @ residual * size / (size - 1))
    return binomial_error(share, size / max(1.0, float(effect)))


def binomial_error(share: float, count: float) -> float:
    """Standard error of a share, with the add-two-successes-and-failures (Agresti-Coull) centre, so that 1.0 is not ± 0."""
    centre = (share * count + 2) / (count + 4)
    return math.sqrt(centre * (1 - centre) / (count + 4))


def comparisons(metrics: Mapping[str, float]) -> dict[str, bool]:
    """
    What a measured accuracy says by two standard errors: whether the model is worse than a coin, better than a coin, and
    better than "longer wins".
    """
    accuracy, margin = metrics["pair_accuracy"], 2 * metrics.get("pair_accuracy_se", 0.0)
    size = metrics.get("num_prompts") or metrics.get("num_pairs") or math.inf
    return {
        # The interval's centre, as in `binomial_error`: 0 of 2 is no finding.
        "worse_than_coin": accuracy + 2 * (1 - 2 * accuracy) / (size + 4) + margin < 0.5,
        "beats_coin": accuracy - margin > 0.5,
        "beats_length": accuracy - margin > metrics.get("length_accuracy", 0.5),
    }


def verdict(metrics: Mapping[str, float]) -> str:
    """
    The [`comparisons`] in words: `"worse than a coin"`, `"no better than a coin"`, `"no better than length"` (of "longer
    wins"), `"better"`, or `"not measured"`.
    """
    if "pair_accuracy" not in metrics:
        return "not measured"
    found = comparisons(metrics)
    if found["worse_than_coin"]:
        return "worse than a coin"
    if not found["beats_coin"]:
        return "no better than a coin"
    return "better" if found["beats_length"] else "no better than length"
