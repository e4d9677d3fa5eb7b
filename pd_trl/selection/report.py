"""What a selection kept and dropped, and whether its ingredients look healthy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..data.chat import normalize_text, text_length
from ..data.columnar import dataset_table
from ..data.ids import row_keys
from ..method.accuracy import verdict
from ..method.divergence import PreferenceDivergence
from ..method.ranking import SELECTORS, select_lowest
from .gaps import (
    VOTE_PREFIX,
    GapMatrix,
    aspect_labels,
    is_number_type,
    most_votes,
    numeric_column,
    rated_aspects,
    rating_columns,
    scored_aspects,
    vote_counts,
    voted_aspects,
    votes_label,
)
from .report_text import render


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
    per aspect and per number of agreeing aspects, pairs with fewer votes than others, overlap with rival selections of the same
    size, and agreement with the labels that the selection did not see. A column that only the report reads is left out of it
    where it holds no numbers, and so are its missing values.
    """
    labels = aspect_labels(dataset) if "aspect" in dataset.column_names else None
    numbers: dict[str, Any] = {
        "selector": selector,
        "total": len(dataset),
        "kept": int(kept.sum()),
        "dropped": int((~kept).sum()),
        "lengths": _lengths(dataset, kept),
        "kept_by_aspect": _kept_by(labels, kept) if labels is not None else {},
        "overlap": _overlaps(dataset, kept, selector, seed, divergence, margin_column),
        "unseen_labels": _unseen_labels(dataset, kept, source, labels),
        "missing_numbers": _missing_numbers(dataset, margin_column),
    }
    if divergence is not None and matrix is not None and weights is not None:
        numbers["pd"] = divergence_range(divergence.values, kept)
        numbers["aspects"] = _aspects(dataset, matrix, divergence, weights, gamma, proxy_metrics)
        numbers["gap_correlation"] = _correlations(matrix)
        numbers["kept_by_votes"] = _kept_by_votes(matrix, weights, kept)
        numbers["missing_gaps"] = matrix.missing
        numbers["missing_votes"] = _missing_votes(matrix, weights)
    return SelectionReport(numbers)


def _share(mask: NDArray) -> float | None:
    return float(mask.mean()) if mask.size else None


def _correlation(a: NDArray, b: NDArray) -> float | None:
    given = np.isfinite(a) & np.isfinite(b)
    a, b = a[given], b[given]
    if a.size < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def divergence_range(divergence: NDArray[np.floating], kept: NDArray[np.bool_]) -> dict[str, Any]:
    """Range, quantiles and means of the PD of the pairs that have one."""
    given = ~np.isnan(divergence)
    values, kept = divergence[given].astype(np.float64), kept[given]
    if not values.size:
        return {name: None for name in ("min", "max", "mean", "share_negative", "mean_kept", "mean_dropped")} | {
            "quantiles": {}
        }
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
    delta = numbers_of(dataset, "delta_length")
    result = {}
    for k, name in enumerate(matrix.names):
        others = matrix.own != k
        entry: dict[str, Any] = {
            "weight": float(weights[k]),
            "own_pairs": int((~others).sum()),
            "quantile": float(divergence.quantiles[k]),
            "clipped": float(divergence.clipped_share[k]),
            "clipped_expected": 1 - gamma,
            "agrees": _share(matrix.gaps[others & ~np.isnan(matrix.gaps[:, k]), k] > 0),
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
    gaps = matrix.gaps.astype(np.float64)
    return {
        a: {b: _correlation(gaps[:, i], gaps[:, j]) for j, b in enumerate(matrix.names)}
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
    codes, pattern = np.unique(agree.astype(np.int64) * base + voters, return_inverse=True)
    names = np.array([votes_label(code // base, code % base) for code in codes.tolist()])
    return _kept_by(names[pattern], kept)


def _missing_votes(matrix: GapMatrix, weights: NDArray[np.float64]) -> dict[str, int]:
    """Pairs with fewer votes than they could have, and those without any."""
    _, voters = vote_counts(matrix, weights)
    fewer = (voters > 0) & (voters < most_votes(matrix.own, weights))
    return {"fewer": int(fewer.sum()), "none": int((voters == 0).sum())}


def _missing_numbers(dataset: Dataset, margin_column: str) -> dict[str, int]:
    """Of the columns that only the report reads, how many rows hold no number, where any does not."""
    found: dict[str, int] = {}
    for column in reported_columns(dataset.column_names, margin_column):
        values = numbers_of(dataset, column)
        missing = len(dataset) if values is None else int((~np.isfinite(values)).sum())
        found |= {column: missing} if missing else {}
    return found


def reported_columns(column_names: Sequence[str], margin_column: str) -> list[str]:
    """Columns of numbers that the report reads, whatever the selection ranks by."""
    return [name for name in dict.fromkeys(("delta_length", margin_column)) if name in column_names]


def _lengths(dataset: Dataset, kept: NDArray[np.bool_]) -> dict[str, Any]:
    delta: NDArray | None = numbers_of(dataset, "delta_length")
    lengths = {side: _characters(dataset, side) for side in ("chosen", "rejected") if side in dataset.column_names}
    if delta is None and len(lengths) == 2:
        delta = lengths["chosen"] - lengths["rejected"]
    result: dict[str, Any] = {}
    for name, rows in (("all", np.ones_like(kept)), ("kept", kept), ("dropped", ~kept)):
        entry = {f"mean_characters_{side}": _mean(values[rows]) for side, values in lengths.items()}
        if delta is not None:
            entry["chosen_longer"] = _share(delta[rows & np.isfinite(delta)] > 0)
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
    """Share of the kept pairs that a rival selection of the same size would keep too, where its column is complete."""
    inputs = {
        "pair_id": row_keys(dataset),
        "pd": None if divergence is None else divergence.values,
        "margin": numbers_of(dataset, margin_column),
        "delta_length": numbers_of(dataset, "delta_length"),
    }
    result = {}
    for name, rival in SELECTORS.items():
        columns = [inputs[column] for column in rival.inputs]
        if name == selector or any(column is None or not np.isfinite(column).all() for column in columns):
            continue
        chosen, _ = select_lowest(rival.score(inputs, seed), inputs["pair_id"], int(kept.sum()))  # type: ignore[arg-type]
        result[name] = float((chosen & kept).sum() / kept.sum())
    return result


def _unseen_labels(
    dataset: Dataset, kept: NDArray[np.bool_], source: str, labels: NDArray[np.str_] | None
) -> dict[str, dict[str, float | None]]:
    """
    Share of the decided votes that agree with the pair's label: of the overall label, and of the other aspects, unless it was
    their ratings that chose the pairs.
    """
    result: dict[str, dict[str, float | None]] = {}
    groups = {"all": np.ones_like(kept), "kept": kept, "dropped": ~kept}
    overall = numbers_of(dataset, "vote_overall")
    decided = np.nan_to_num(overall) != 0 if overall is not None else np.zeros(0, dtype=bool)
    if overall is not None and decided.any():
        result["overall"] = {name: _share(overall[decided & rows] > 0) for name, rows in groups.items()}
    voted = unseen_aspects(dataset, labels) if labels is not None and source != "ratings" else []
    if voted and labels is not None:
        agree, total = unseen_votes(dataset, voted, labels)
        result["other aspects"] = {
            name: float(agree[rows].sum() / total[rows].sum()) if total[rows].sum() else None
            for name, rows in groups.items()
        }
    return result


def unseen_aspects(dataset: Dataset, labels: NDArray[np.str_]) -> list[str]:
    """Aspects whose votes are in the data, where there are two or more."""
    names = [name[len(VOTE_PREFIX) :] for name in dataset.column_names if name.startswith(VOTE_PREFIX)]
    known = [*np.unique(labels).tolist(), *named_aspects(dataset.column_names)]
    voted = voted_aspects(dataset, [name for name in names if name != "overall"], known)
    return voted if len(voted) > 1 else []


def named_aspects(column_names: Sequence[str]) -> list[str]:
    """Aspects that have gaps, or ratings of both sides."""
    rated = [name for name in rated_aspects(column_names) if len(rating_columns(name, column_names)) == 2]
    return [*scored_aspects(column_names), *rated]


def unseen_votes(
    dataset: Dataset, aspects: Sequence[str], labels: NDArray[np.str_]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """How many of the aspects' labels agree with each pair's, which is none of them, and how many are decided."""
    agree, decided = np.zeros((2, len(dataset)), dtype=np.int32)
    for name in aspects:
        votes = np.nan_to_num(numeric_column(dataset, f"{VOTE_PREFIX}{name}"))
        counted = (labels != name) & (votes != 0)
        agree += counted & (votes > 0)
        decided += counted
    return agree, decided


def numbers_of(dataset: Dataset, column: str) -> NDArray[np.float64] | None:
    """A column as numbers, NaN where one is missing; `None` where there is no such column, or it holds something else."""
    if column not in dataset.column_names or not is_number_type(dataset.features.arrow_schema.field(column).type):
        return None
    return numeric_column(dataset, column)
