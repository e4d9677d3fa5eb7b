"""The numbers of a selection's report, from the sums over its rows."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from ..data.validation import OVERALL
from ..method.accuracy import comparisons
from ..method.votes import moment_correlation
from .aspect_columns import VoteColumn
from .gaps import votes_label
from .report_inputs import SIDES
from .report_sums import ReportSums
from .settings import SelectionSettings

GROUPS = ("all", "kept", "dropped")
# Quantiles of the PD that the report shows.
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def report_numbers(
    report: ReportSums,
    settings: SelectionSettings,
    proxy_metrics: Mapping[str, Mapping[str, float]],
    overlap: Mapping[str, float] | None = None,
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """
    The numbers of the report.

    Args:
        report ([`ReportSums`]): Sums over all rows.
        settings ([`SelectionSettings`]): The settings of the selection.
        proxy_metrics (`dict`): Held-out metrics of each aspect's reward model.
        overlap (`dict`, *optional*):
            Shares of the kept pairs that rival selectors keep too. `None` where the rows were not ranked by the rivals;
            `not_computed` then says so.
        outputs (`dict`, *optional*): What is read of each aspect's reward model, see [`read_outputs`].
    """
    basis, sums = report.basis, report.sums
    total, kept, dropped = (int(count) for count in sums["rows"])
    rows = {"all": total, "kept": kept, "dropped": dropped}
    places = {} if not basis.labels else dict(sorted((name, i) for i, name in enumerate(basis.labels)))
    numbers: dict[str, Any] = {
        "selector": settings.selector,
        "total": total,
        "kept": kept,
        "dropped": dropped,
        "lengths": _lengths(report, rows),
        "kept_by_aspect": _kept_by(sums["own"], places) if places else {},
        "overlap": dict(overlap or {}),
        "unseen_labels": _unseen_labels(report, settings.source),
        "missing_numbers": {name: int(sums[f"lacking_{name}"]) for name in basis.reported if sums[f"lacking_{name}"]},
    }
    if len(basis.weights):
        fewer, none = (int(count) for count in sums["missing_votes"])
        numbers |= {
            "pd": _divergence(report),
            "aspects": _aspects(report, settings, proxy_metrics),
            "gap_correlation": _correlations(report),
            "kept_by_votes": _kept_by_votes(report),
            "missing_gaps": {
                name: int(count) for name, count in zip(report.names, sums["missing"], strict=True) if count
            },
            "missing_votes": {"fewer": fewer, "none": none},
        }
        read = {name: dict(entry) for name, entry in (outputs or {}).items() if name in numbers["aspects"]}
        numbers |= {"outputs": read} if read else {}
    return numbers if overlap is not None else {**numbers, "not_computed": ["overlap"]}


def _divergence(report: ReportSums) -> dict[str, Any]:
    sums = report.sums
    known = float(sums["pd_rows"][0])
    if not known:
        names = ("min", "max", "mean", "share_negative", "mean_kept", "mean_dropped")
        return {**dict.fromkeys(names), "quantiles": {}}
    means = [_ratio(value, count) for value, count in zip(sums["pd_sum"], sums["pd_rows"], strict=True)]
    return {
        "min": float(-sums["pd_ends"][0]),
        "max": float(sums["pd_ends"][1]),
        "mean": means[0],
        "quantiles": report.basis.divergence_quantiles,
        "share_negative": int(sums["pd_negative"]) / known,
        "mean_kept": means[1],
        "mean_dropped": means[2],
    }


def _lengths(report: ReportSums, rows: Mapping[str, int]) -> dict[str, Any]:
    sums = report.sums
    result: dict[str, Any] = {}
    for place, group in enumerate(GROUPS):
        entry = {
            f"mean_characters_{side}": _ratio(sums[f"characters_{side}"][place], rows[group])
            for side in SIDES
            if f"characters_{side}" in sums
        }
        if "chosen_longer" in sums:
            entry["chosen_longer"] = _ratio(sums["chosen_longer"][place], sums["with_length"][place])
        result[group] = entry
    return result


def _unseen_labels(report: ReportSums, source: str) -> dict[str, dict[str, float | None]]:
    sums = report.sums
    counted = {}
    # It is not unseen where pairs carry it.
    if OVERALL in sums and sums[OVERALL][1][0] and _given_labels(report) != [OVERALL]:
        counted[OVERALL] = sums[OVERALL]
    voted = _voted(report) if source != "ratings" else []
    if len(voted) > 1:
        counted["other aspects"] = sum(sums[f"vote_counts_{name}"] for name in voted)
    return {
        name: {group: _ratio(agree[i], decided[i]) for i, group in enumerate(GROUPS)}
        for name, (agree, decided) in counted.items()
    }


def _given_labels(report: ReportSums) -> list[str]:
    """The labels that pairs carry."""
    labels = report.basis.labels
    return [name for name, count in zip(labels, report.sums["own"][0], strict=True) if count] if labels else []


def _voted(report: ReportSums) -> list[str]:
    """Aspects whose votes are in the data. Empty if pairs have no labels."""
    basis, sums = report.basis, report.sums
    if not basis.labels:
        return []
    labels = _given_labels(report)
    found = []
    for name in (key[len("vote_kind_") :] for key in sums if key.startswith("vote_kind_")):
        other, against = (bool(value) for value in sums[f"vote_kind_{name}"])
        known = name in labels or name in basis.known
        if VoteColumn(known, not other, against).holds_votes:
            found.append(name)
    return found


def _aspects(
    report: ReportSums, settings: SelectionSettings, proxy_metrics: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    basis, sums = report.basis, report.sums
    result = {}
    for k, (name, weight) in enumerate(zip(report.names, basis.weights, strict=True)):
        positive, decided, others = (int(count) for count in sums[f"agrees_{k}"])
        entry: dict[str, Any] = {
            "weight": float(weight),
            "own_pairs": int(sums["own"][0][k]),
            "quantile": float(basis.scale[k]),
            "clipped": float(sums["clipped"][k]) / max(others, 1),
            "clipped_expected": 1 - settings.gamma,
            "agrees": _ratio(positive, decided),
            "decided": decided,
            "length_correlation": moment_correlation(*sums[f"length_{k}"]) if f"length_{k}" in sums else None,
        }
        metrics = proxy_metrics.get(name)
        if metrics and "pair_accuracy" in metrics:
            entry["proxy"] = {**metrics, **comparisons(metrics)}
        result[name] = entry
    return result


def _correlations(report: ReportSums) -> dict[str, dict[str, float | None]]:
    counts, products = report.sums["gap_counts"], report.sums["gap_products"]
    sums, squares = report.sums["gap_sums"], report.sums["gap_squares"]
    return {
        a: {
            b: moment_correlation(counts[i][j], sums[i][j], sums[j][i], squares[i][j], squares[j][i], products[i][j])
            for j, b in enumerate(report.names)
        }
        for i, a in enumerate(report.names)
    }


def _kept_by_votes(report: ReportSums) -> dict[str, dict[str, Any]]:
    size = len(report.names) + 1
    names = {votes_label(n % size, n // size): n for n in range(size * size) if n % size <= n // size}
    return _kept_by(report.sums["votes"], dict(sorted(names.items())))


def _kept_by(counts: NDArray, places: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    result = {}
    for name, place in places.items():
        total, kept = int(counts[0][place]), int(counts[1][place])
        if total:
            result[name] = {"total": total, "kept": kept, "share": kept / total}
    return result


def _ratio(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None
