"""How far two kinds of proxies agree: their accuracy on held-out pairs, their PD, and what is kept by it."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .cell import Cell
from .rows import Selection, decide
from .settings import DEFAULT_PROXY


def agreement(cell: Cell, selection: Selection) -> dict[str, Any]:
    """
    A selection beside the same one by the default proxies.

    Args:
        cell ([`Cell`]): The preferences.
        selection ([`Selection`]): A selection by other proxies.

    Returns:
        `dict`: `pd_spearman`, the rank correlation of the two PDs; `kept_overlap`, the share of the kept pairs that both keep;
        and of both kinds, held-out `accuracy` by aspect, `mean_accuracy` and `proxy_seconds` (CPU, training and scoring).
    """
    default = replace(selection, proxy=DEFAULT_PROXY)
    (ours, cost), (theirs, usual) = decide(cell, selection), decide(cell, default)
    kept = [np.asarray(decided["pd_kept"], dtype=bool) for decided in (ours, theirs)]
    accuracies = [_accuracies(cell, chosen) for chosen in (selection, default)]
    return {
        "pd_spearman": spearman(ours["pd"], theirs["pd"]),
        "kept_overlap": float((kept[0] & kept[1]).sum() / kept[1].sum()),
        "accuracy": accuracies[0], "accuracy_default": accuracies[1],
        "mean_accuracy": float(np.mean(list(accuracies[0].values()))),
        "mean_accuracy_default": float(np.mean(list(accuracies[1].values()))),
        "proxy_seconds": cost.seconds, "proxy_seconds_default": usual.seconds,
    }  # fmt: skip


def _accuracies(cell: Cell, selection: Selection) -> dict[str, float]:
    metrics = cell.proxy_metrics(selection.proxy)
    return {aspect: found["pair_accuracy"] for aspect, found in sorted(metrics.items())}


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Rank correlation, equal values sharing their mean rank."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: ArrayLike) -> np.ndarray:
    _, positions, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[positions]
