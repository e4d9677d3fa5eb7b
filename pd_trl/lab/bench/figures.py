"""Pictures of a benchmark, saved beside its tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...report.drawing import picture
from ...report.plots import divergence_histogram, length_shares, vote_patterns
from ...selection.gaps import gap_matrix, vote_counts
from .ablations import BUDGETS
from .cell import Cell
from .measures import mean_and_error
from .rows import PD, decide
from .run import DETECTORS
from .settings import BenchSettings, CellSettings

# Okabe and Ito's palette, which people with any colour vision can tell apart, and a marker each.
_STYLES = {
    "PD (ours)": ("#0072B2", "o"), "ALL": ("#E08A00", "s"), "RAND": ("#6B6B6B", "^"), "RAF": ("#009E73", "D"),
    "PD (rati.)": ("#CC79A7", "v"), "OVA": ("#56B4E9", "P"), "PD (high)": ("#D55E00", "X"), "PD (nl)": ("#000000", "d"),
    "PD (quoted)": ("#F0E442", "<"),
}  # fmt: skip


def draw(results: Mapping[str, Any], bench: BenchSettings, root: Path, folder: Path) -> list[Path]:
    """Every picture that the results allow, as PNG files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = [cell for cell in results["table"] if "error" not in cell]
    drawn = []
    if cells:
        example = Cell(CellSettings(**cells[-1]["settings"]), bench, root)
        drawn += _of_a_cell(example, folder)
        drawn.append(_robustness(cells, folder / "robustness.png"))
        drawn.append(_lengths(cells, folder / "length_share.png"))
    if entries := results["ablations"].get("budget (lambda)"):
        drawn.append(_budgets(entries, folder / "win_rate_by_budget.png"))
    return drawn


def _of_a_cell(cell: Cell, folder: Path) -> list[Path]:
    decided, _ = decide(cell, PD)
    values, kept = np.asarray(decided["pd"]), np.asarray(decided["pd_kept"])
    where = f"seed {cell.settings.seed}, {100 * (cell.settings.conflict or 0):.0f} % conflict"
    return [
        divergence_histogram(
            values, kept, folder / "pd_by_conflict.png", cell.conflicts,
            title=f"Preference Divergence by true conflict ({where})",
        ),
        _roc(cell, folder / "roc.png", where),
        _votes(cell, decided, kept, folder / "kept_by_votes.png", where),
    ]  # fmt: skip


def _roc(cell: Cell, path: Path, where: str) -> Path:
    with picture(path, (4.8, 4.4)) as (_, axes):
        for name, selection in DETECTORS.items():
            decided, _ = decide(cell, selection)
            order = np.argsort(-np.asarray(decided["pd"], dtype=float), kind="stable")
            found = cell.conflicts[order]
            rates = [np.concatenate([[0.0], np.cumsum(part) / part.sum()]) for part in (~found, found)]
            axes.plot(*rates, color=_STYLES[name][0], label=name)
        axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="a coin")
        axes.set(
            xlabel="agreeing pairs called conflicts", ylabel="conflicts found", title=f"PD as a detector ({where})"
        )
        axes.legend()
    return path


def _votes(cell: Cell, decided: Any, kept: np.ndarray, path: Path, where: str) -> Path:
    matrix = gap_matrix(decided, "rewards", list(cell.world.aspects))
    agreeing = vote_counts(matrix, np.ones(len(matrix.names))).agree
    voters = len(matrix.names) - 1
    groups = {}
    for count in range(voters + 1):
        rows = agreeing == count
        total, chosen = int(rows.sum()), int((rows & kept).sum())
        share = chosen / total if total else None
        groups[f"{count} of {voters} agree"] = {"total": total, "kept": chosen, "share": share}
    return vote_patterns(groups, path, title=f"Kept by the votes of the other aspects ({where})")


def _lengths(cells: Sequence[Mapping[str, Any]], path: Path) -> Path:
    def mean(key: str, name: str) -> float:
        return float(np.mean([cell["detection"][name][key] for cell in cells]))

    shares: dict[str, float | None] = {"all pairs": mean("chosen_longer_before", "PD (ours)")}
    shares |= {f"kept by {name}": mean("chosen_longer", name) for name in cells[0]["detection"]}
    return length_shares(shares, path)


def _series(values: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [mean_and_error(column) for column in values]
    return np.array([mean for mean, _ in pairs]), np.nan_to_num(np.array([error for _, error in pairs]))


def _robustness(cells: Sequence[Mapping[str, Any]], path: Path) -> Path:
    levels = sorted({cell["settings"]["conflict"] for cell in cells})
    names = [name for name in _STYLES if name in cells[0]["rows"] and name != "PD (high)"]
    with picture(path, (6.4, 4.2)) as (_, axes):
        for name in names:
            golds = [
                [c["rows"][name]["gold"] for c in cells if c["settings"]["conflict"] == level] for level in levels
            ]
            mean, error = _series(golds)
            color, marker = _STYLES[name]
            axes.errorbar(100 * np.array(levels), mean, error, color=color, marker=marker, capsize=3, label=name)
        axes.set(xlabel="labels that contradict the overall label, %", ylabel="gold score",
                 title="Robustness against conflict", xticks=[100 * level for level in levels])  # fmt: skip
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return path


def _budgets(entries: Sequence[Mapping[str, Any]], path: Path) -> Path:
    with picture(path, (6.0, 4.2)) as (_, axes):
        for name in ("PD (ours)", "RAND"):
            rates = [
                [100 * e["rows"][name]["win_rate_SFT"] for e in entries if e["label"] == f"{budget:g}" and "rows" in e]
                for budget in BUDGETS
            ]
            mean, error = _series(rates)
            color, marker = _STYLES[name]
            axes.errorbar(100 * np.array(BUDGETS), mean, error, color=color, marker=marker, capsize=3, label=name)
        axes.set(xlabel="pairs kept (λ), %", ylabel="win rate against SFT, %", title="Win rate against the budget")
        axes.legend()
    return path
