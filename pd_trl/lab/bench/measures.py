"""Numbers of a row: gold score, win rates by the gold judge, and how well PD finds conflicts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def wins(record: Mapping[str, Any], baseline: Mapping[str, Any]) -> NDArray[np.float64]:
    """1 where a policy's answer has the higher gold score, 0 where the baseline's, 0.5 on a tie; shape `(num_prompts,)`."""
    gaps = np.asarray(record["gold"], dtype=float) - np.asarray(baseline["gold"], dtype=float)
    return np.where(np.abs(gaps) < 1e-9, 0.5, (gaps > 0).astype(float))


def length_controlled_win_rate(won: ArrayLike, extra_words: ArrayLike) -> float:
    """
    Win rate if both sides were equally long: `σ(θ)` of the logistic regression `σ(θ + φ·tanh(Δlength / std(Δlength)))`,
    AlpacaEval 2's model without the difficulty of instructions, which takes the answers of many models to fit.

    Args:
        won (array of shape `(num_prompts,)`): 1, 0, or 0.5 for a tie.
        extra_words (array of shape `(num_prompts,)`): Words of the answer minus words of the baseline's.
    """
    target, delta = np.asarray(won, dtype=float), np.asarray(extra_words, dtype=float)
    length = np.tanh(delta / delta.std()) if delta.std() > 0 else np.zeros_like(delta)
    features = np.stack([np.ones_like(length), length], axis=1)
    # A weak prior keeps the fit finite where one side wins everything.
    ridge = 1e-3
    weights = np.zeros(2)
    for _ in range(50):
        share = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (target - share) - ridge * weights
        curvature = (features * (share * (1 - share))[:, None]).T @ features + ridge * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return float(1 / (1 + np.exp(-weights[0])))


def measure(record: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """
    Numbers of one row in one cell.

    Args:
        record (`dict`): See [`~bench.policies.run_row`].
        baselines (`dict`): Records to compare with, by name; those of the same cell.
    """
    gold, words = np.asarray(record["gold"], dtype=float), np.asarray(record["words"], dtype=float)
    measured: dict[str, Any] = {
        "gold": float(gold.mean()),
        "gold_se": float(gold.std(ddof=1) / np.sqrt(len(gold))),
        "gold_of_aspects": dict(record["gold_of_aspects"]),
        "words": float(words.mean()),
    }
    for name, baseline in baselines.items():
        won = wins(record, baseline)
        measured[f"win_rate_{name}"] = float(won.mean())
        measured[f"win_score_{name}"] = float(1 + (won == 1).mean() - (won == 0).mean())
        extra = words - np.asarray(baseline["words"], dtype=float)
        measured[f"lc_win_rate_{name}"] = length_controlled_win_rate(won, extra)
    names = ("num_pairs", "chosen_longer", "conflict", "selection_seconds", "selection_flops", "training_seconds",
             "training_flops")  # fmt: skip
    return measured | {name: record[name] for name in names if name in record}


def detection_auc(divergences: ArrayLike, conflicts: ArrayLike) -> float:
    """Probability that a pair whose label conflicts has the higher PD than one whose label does not; ties count half."""
    values, positive = np.asarray(divergences, dtype=float), np.asarray(conflicts, dtype=bool)
    if not positive.any() or positive.all():
        return float("nan")
    _, ranks, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    total = mean_rank[ranks][positive].sum()
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    return float((total - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Mean and standard error over seeds; the error of one value is NaN."""
    array = np.asarray(values, dtype=float)
    error = array.std(ddof=1) / np.sqrt(array.size) if array.size > 1 else float("nan")
    return float(array.mean()), float(error)
