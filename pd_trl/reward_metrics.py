"""Accuracy of a reward model on pairs, with its standard error and its dependence on length."""

import math

import numpy as np
from numpy.typing import ArrayLike


def pair_metrics(gaps: ArrayLike, delta_lengths: ArrayLike) -> dict[str, float]:
    """
    Exact metrics of reward gaps on pairs.

    Args:
        gaps (array of shape `(num_pairs,)`): Reward of the chosen minus reward of the rejected response.
        delta_lengths (array of shape `(num_pairs,)`): Completion tokens of the chosen minus those of the rejected.

    Returns:
        `dict`: `num_pairs`; `pair_accuracy`, the share of positive gaps, with the binomial standard error
        `pair_accuracy_se`; `length_accuracy`, the accuracy of "longer wins" (equal lengths count half);
        `pair_accuracy_chosen_longer` and `pair_accuracy_chosen_shorter`; `gap_length_correlation` (Pearson). What is not
        defined, such as the accuracy of no pairs, is left out.
    """
    gap, delta = np.asarray(gaps, dtype=np.float64), np.asarray(delta_lengths, dtype=np.float64)
    if gap.size == 0:
        return {"num_pairs": 0}
    correct = gap > 0
    accuracy = float(correct.mean())
    metrics = {
        "num_pairs": int(gap.size),
        "pair_accuracy": accuracy,
        "pair_accuracy_se": binomial_error(accuracy, gap.size),
        "length_accuracy": float((delta > 0).mean() + 0.5 * (delta == 0).mean()),
    }
    for name, rows in (("longer", delta > 0), ("shorter", delta < 0)):
        if rows.any():
            metrics[f"pair_accuracy_chosen_{name}"] = float(correct[rows].mean())
    if gap.std() > 0 and delta.std() > 0:
        metrics["gap_length_correlation"] = float(np.corrcoef(gap, delta)[0, 1])
    return metrics


def binomial_error(share: float, count: int) -> float:
    """Standard error of a share, with the add-two-successes-and-failures (Agresti-Coull) centre, so that 1.0 is not ± 0."""
    centre = (share * count + 2) / (count + 4)
    return math.sqrt(centre * (1 - centre) / (count + 4))
