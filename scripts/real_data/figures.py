"""Figures of a run, one file a set and one for length handling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .results import LENGTH, PD, RAF, RATINGS, REFERENCE_BUDGET
from .tables import entry_of

MEASURES = {"hidden": "agreement with hidden aspects", "overall": "agreement with overall label"}
HANDLING_MEASURES = {"hidden": "hidden aspects", "hidden_by_length": "the same, equal lengths"}
STYLES = {
    RATINGS: {"color": "#888888", "marker": "^"},
    RAF: {"color": "#d95f02", "marker": "s"},
    LENGTH: {"color": "#7570b3", "marker": "v"},
}
PD_COLORS = ("#1b9e77", "#1f78b4", "#e7298a", "#66a61e")
_SHIFT = 0.006


def draw_figures(found: dict[str, Any], headline: Sequence[str], folder: Path) -> list[Path]:
    """Saves the figures into `folder` and returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    # Without hidden labels there is nothing to draw.
    compared = [result for result in found["results"] if result["conflict"]["hidden majority"] is not None]
    names = list(dict.fromkeys(result["set"] for result in compared))
    if not names:
        return []
    paths = []
    for name in names:
        results = [result for result in compared if result["set"] == name]
        paths += [_budget_figure(results, headline, folder / f"agreement-{name}.png")]
    return [*paths, _handling_figure(compared, names, folder / "length-handling.png")]


def _budget_figure(results: list[dict[str, Any]], headline: Sequence[str], path: Path) -> Path:
    from matplotlib.figure import Figure

    measures = [m for m in MEASURES if all(m in e for e in results[0]["rows"])]
    figure = Figure(figsize=(3.0 + 3.8 * len(results), 1.2 + 3.2 * len(measures)), layout="constrained")
    axes = figure.subplots(len(measures), len(results), squeeze=False, sharey="row")
    for i, measure in enumerate(measures):
        for j, result in enumerate(results):
            _budget_panel(axes[i, j], result, measure, headline)
            if i == 0:
                axes[i, j].set_title(f"proxies: {result['proxy']}")
        axes[i, 0].set_ylabel(f"{MEASURES[measure]}, %")
    for axis in axes[-1]:
        axis.set_xlabel("share of pairs kept, %")
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle(f"{results[0]['set']}: kept labels (95 % intervals over prompts)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _budget_panel(axis: Any, result: dict[str, Any], measure: str, headline: Sequence[str]) -> None:
    styles = {
        **STYLES,
        **{f"{PD} [{h}]": {"color": c, "marker": "o"} for h, c in zip(headline, PD_COLORS, strict=False)},
    }
    present = {e["row"] for e in result["rows"]}
    rows = [row for row in styles if row in present]
    budgets = sorted({e["budget"] for e in result["rows"]})
    for n, row in enumerate(rows):
        shown = [b for b in budgets if entry_of(result, row, b)[measure]["kept"]["mean"] is not None]
        kept = [entry_of(result, row, b)[measure]["kept"] for b in shown]
        mean = np.array([m["mean"] for m in kept])
        # A percentile interval of a skewed resample may end short of the mean.
        errors = np.maximum([mean - [m["interval"][0] for m in kept], [m["interval"][1] for m in kept] - mean], 0)
        at = 100 * (np.array(shown) + (n - len(rows) / 2) * _SHIFT)
        axis.errorbar(at, 100 * mean, 100 * errors, label=row, capsize=2, markersize=4, linewidth=1.2, **styles[row])
    everything = entry_of(result, rows[0], budgets[0])[measure]["all"]
    if everything["mean"] is not None:
        label = "all = random in expectation"
        axis.axhline(100 * everything["mean"], color="black", linewidth=1, linestyle="--", label=label)
    axis.grid(alpha=0.25)


def _handling_figure(results: list[dict[str, Any]], names: Sequence[str], path: Path) -> Path:
    from matplotlib.figure import Figure

    proxies = list(dict.fromkeys(result["proxy"] for result in results))
    labels = list(dict.fromkeys(e["handling"] for result in results for e in result["handlings"]))
    figure = Figure(figsize=(4.6 * len(names), 2 * (1.3 + 0.3 * len(labels))), layout="constrained")
    axes = figure.subplots(len(HANDLING_MEASURES), len(names), squeeze=False, sharex="col")
    for i, (measure, title) in enumerate(HANDLING_MEASURES.items()):
        for j, name in enumerate(names):
            axis = axes[i, j]
            for n, proxy in enumerate(proxies):
                for result in results:
                    if result["set"] == name and result["proxy"] == proxy:
                        shift = (n - (len(proxies) - 1) / 2) * 0.22
                        _handling_points(axis, result, measure, labels, shift, PD_COLORS[n], proxy)
            axis.axvline(0, color="black", linewidth=1, linestyle="--")
            axis.set_yticks(range(len(labels)), labels if j == 0 else [""] * len(labels))
            axis.invert_yaxis()
            axis.grid(alpha=0.25)
            axis.set_title(f"{name}: {title}", fontsize=10)
            if i == len(HANDLING_MEASURES) - 1:
                axis.set_xlabel(f"kept {100 * REFERENCE_BUDGET:.0f} % - all, points")
    handles, names_of = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, names_of, loc="outside lower center", ncols=len(proxies), frameon=False, title="proxies of PD"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _handling_points(
    axis: Any, result: dict[str, Any], measure: str, labels: list[str], shift: float, color: str, proxy: str
) -> None:
    labelled = False
    for entry in result["handlings"]:
        gain = entry_of(result, f"{PD} [{entry['handling']}]", REFERENCE_BUDGET)[measure]["kept - all"]
        if gain["mean"] is None:
            continue
        low, high = (100 * v for v in gain["interval"])
        at = labels.index(entry["handling"]) + shift
        axis.plot([low, high], [at, at], color=color, linewidth=1.2)
        axis.plot([100 * gain["mean"]], [at], "o", color=color, markersize=4, label=None if labelled else proxy)
        labelled = True
