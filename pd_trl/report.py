"""What a selection kept and dropped, and whether its ingredients look healthy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from .data.chat import normalize_text, text_length
from .data.columnar import dataset_table
from .divergence import PreferenceDivergence
from .gaps import GapMatrix, numeric_column, vote_counts
from .report_text import render
from .reward_metrics import verdict
from .selection import SELECTORS, select_lowest
from .trainer_utils import row_keys


class SelectionReport:
    """
    Report of a selection, made by [`PDFilter`]. Printed, it is a table; `to_dict()` gives its numbers.

    Args:
        numbers (`dict`): What [`selection_report`] computed.
    """

    def __init__(self, numbers: dict[str, Any]):
        self.numbers = numbers

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for json."""
        return self.numbers

    def __getitem__(self, name: str) -> Any:
        return self.numbers[name]

    def __str__(self) -> str:
        return render(self.numbers)

    def __repr__(self) -> str:
        return f"SelectionReport(kept={self.numbers['kept']}, total={self.numbers['total']})"


def selection_report(
    dataset: Dataset,
    kept: NDArray[np.bool_],
    *,
    selector: str,
    gamma: float,
    seed: int,
    matrix: GapMatrix | None,
    divergence: PreferenceDivergence | None,
    weights: NDArray[np.float64] | None,
    proxy_metrics: Mapping[str, Mapping[str, float]],
    margin_column: str = "reward_gap_overall",
    source: str = "rewards",
) -> SelectionReport:
    """
    Numbers about a selection: range of the PD, clipped shares and scales per aspect, accuracy of the proxies against a coin
    and against "longer wins", lengths before and after, correlations of the gaps with length and with each other, shares kept
    per aspect and per number of agreeing aspects, overlap with rival selections of the same size, and agreement with the
    labels that the selection did not see.
    """
    numbers: dict[str, Any] = {
        "selector": selector,
        "total": len(dataset),
        "kept": int(kept.sum()),
        "dropped": int((~kept).sum()),
        "lengths": _lengths(dataset, kept),
        "kept_by_aspect": _kept_by(np.asarray(dataset["aspect"][:]), kept) if "aspect" in dataset.column_names else {},
        "overlap": _overlaps(dataset, kept, selector, seed, divergence, margin_column),
        "unseen_labels": _unseen_labels(dataset, kept, source),
    }
    if divergence is not None and matrix is not None and weights is not None:
        numbers["pd"] = _divergence_range(divergence, kept)
        numbers["aspects"] = _aspects(dataset, matrix, divergence, weights, gamma, proxy_metrics)
        numbers["gap_correlation"] = _correlations(matrix)
        numbers["kept_by_votes"] = _kept_by_votes(matrix, weights, kept)
        numbers["missing_gaps"] = matrix.missing
    return SelectionReport(numbers)


def _share(mask: NDArray) -> float | None:
    return float(mask.mean()) if mask.size else None


def _correlation(a: NDArray, b: NDArray) -> float | None:
    if a.size < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _divergence_range(divergence: PreferenceDivergence, kept: NDArray[np.bool_]) -> dict[str, Any]:
    values = divergence.values.astype(np.float64)
    return {
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "quantiles": {f"{q:g}": float(np.quantile(values, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        "share_negative": _share(values < 0),
        "mean_kept": float(values[kept].mean()) if kept.any() else None,
        "mean_dropped": float(values[~kept].mean()) if not kept.all() else None,
    }


def _aspects(
    dataset: Dataset,
    matrix: GapMatrix,
    divergence: PreferenceDivergence,
    weights: NDArray[np.float64],
    gamma: float,
    proxy_metrics: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    delta = _numbers(dataset, "delta_length")
    result = {}
    for k, name in enumerate(matrix.names):
        others = matrix.own != k
        entry: dict[str, Any] = {
            "weight": float(weights[k]),
            "own_pairs": int((~others).sum()),
            "quantile": float(divergence.quantiles[k]),
            "clipped": float(divergence.clipped_share[k]),
            "clipped_expected": 1 - gamma,
            "agrees": _share(matrix.gaps[others, k] > 0),
            "length_correlation": None if delta is None else _correlation(matrix.gaps[others, k], delta[others]),
        }
        metrics = proxy_metrics.get(name)
        if metrics and "pair_accuracy" in metrics:
            entry["proxy"] = {**metrics, **proxy_verdict(metrics)}
        result[name] = entry
    return result


def proxy_verdict(metrics: Mapping[str, float]) -> dict[str, bool]:
    """Whether a proxy is worse than a coin, better than it, and than "longer wins", by two standard errors of its accuracy."""
    accuracy, error = metrics.get("pair_accuracy", 0.0), metrics.get("pair_accuracy_se", 0.0)
    return {
        "worse_than_coin": verdict(metrics) == "worse than a coin",
        "beats_coin": accuracy - 2 * error > 0.5,
        "beats_length": accuracy - 2 * error > metrics.get("length_accuracy", 0.5),
    }


def _correlations(matrix: GapMatrix) -> dict[str, dict[str, float | None]]:
    finite = np.nan_to_num(matrix.gaps.astype(np.float64))
    return {
        a: {b: _correlation(finite[:, i], finite[:, j]) for j, b in enumerate(matrix.names)}
        for i, a in enumerate(matrix.names)
    }


def _kept_by(groups: NDArray, kept: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    return {
        str(name): {
            "total": int((groups == name).sum()),
            "kept": int((kept & (groups == name)).sum()),
            "share": _share(kept[groups == name]),
        }
        for name in np.unique(groups)
    }


def _kept_by_votes(
    matrix: GapMatrix, weights: NDArray[np.float64], kept: NDArray[np.bool_]
) -> dict[str, dict[str, Any]]:
    agree, voters = vote_counts(matrix, weights)
    base = int(voters.max(initial=0)) + 1
    codes, pattern = np.unique(agree * base + voters, return_inverse=True)
    names = np.array([f"{code // base} of {code % base} agree" for code in codes.astype(np.int64).tolist()])
    return _kept_by(names[pattern], kept)


def _lengths(dataset: Dataset, kept: NDArray[np.bool_]) -> dict[str, Any]:
    delta: NDArray | None = _numbers(dataset, "delta_length")
    lengths = {side: _characters(dataset, side) for side in ("chosen", "rejected") if side in dataset.column_names}
    if delta is None and len(lengths) == 2:
        delta = lengths["chosen"] - lengths["rejected"]
    result: dict[str, Any] = {}
    for name, rows in (("all", np.ones_like(kept)), ("kept", kept), ("dropped", ~kept)):
        entry = {f"mean_characters_{side}": _mean(values[rows]) for side, values in lengths.items()}
        if delta is not None:
            entry["chosen_longer"] = _share(delta[rows] > 0)
        result[name] = entry
    return result


def _characters(dataset: Dataset, side: str) -> NDArray[np.int64]:
    return text_length(normalize_text(dataset_table(dataset.select_columns([side])).column(side), side))


def _mean(values: NDArray) -> float | None:
    return float(values.mean()) if values.size else None


def _overlaps(
    dataset: Dataset,
    kept: NDArray[np.bool_],
    selector: str,
    seed: int,
    divergence: PreferenceDivergence | None,
    margin_column: str,
) -> dict[str, float]:
    """Share of the kept pairs that a rival selection of the same size would keep too."""
    inputs = {
        "pair_id": row_keys(dataset),
        "pd": None if divergence is None else divergence.values,
        "margin": _numbers(dataset, margin_column),
        "delta_length": _numbers(dataset, "delta_length"),
    }
    result = {}
    for name, rival in SELECTORS.items():
        if name == selector or any(inputs[column] is None for column in rival.inputs):
            continue
        chosen, _ = select_lowest(rival.score(inputs, seed), inputs["pair_id"], int(kept.sum()))  # type: ignore[arg-type]
        result[name] = float((chosen & kept).sum() / kept.sum())
    return result


def _unseen_labels(dataset: Dataset, kept: NDArray[np.bool_], source: str) -> dict[str, dict[str, float | None]]:
    """
    Share of the decided votes that agree with the pair's label: of the overall label, and of the other aspects, unless it was
    their ratings that chose the pairs.
    """
    result: dict[str, dict[str, float | None]] = {}
    groups = {"all": np.ones_like(kept), "kept": kept, "dropped": ~kept}
    overall = _numbers(dataset, "vote_overall")
    if overall is not None:
        decided = np.nan_to_num(overall) != 0
        result["overall"] = {name: _share(overall[decided & rows] > 0) for name, rows in groups.items()}
    own = np.asarray(dataset["aspect"][:]) if "aspect" in dataset.column_names else np.array([])
    voted = [c for c in dataset.column_names if c.startswith("vote_") and c != "vote_overall"]
    if len(voted) > 1 and own.size and source != "ratings":
        agree, total = np.zeros(len(kept)), np.zeros(len(kept))
        for column in voted:
            votes = np.nan_to_num(_numbers(dataset, column))  # type: ignore[arg-type]
            counted = (own != column[len("vote_") :]) & (votes != 0)
            agree += counted & (votes > 0)
            total += counted
        result["other aspects"] = {
            name: float(agree[rows].sum() / total[rows].sum()) if total[rows].sum() else None
            for name, rows in groups.items()
        }
    return result


def _numbers(dataset: Dataset, column: str) -> NDArray[np.float64] | None:
    if column not in dataset.column_names:
        return None
    return numeric_column(dataset, column)
