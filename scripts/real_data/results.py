"""Every number of the benchmark from its cells, ready for json."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pd_trl.method.accuracy import pair_metrics
from pd_trl.selection.gaps import gap_matrix

from .agreement import (
    Tally,
    conflict_auc,
    divergence,
    keep,
    outcomes,
    prompt_draws,
    ranking,
    stratum_weights,
    summary,
    tally,
)
from .cells import Cell, CellStore
from .handling import HANDLINGS, UNIFIED
from .sets import RealSet

RATINGS, RANDOM, LENGTH, RAF = "PD (rati.)", "random", "length", "RAF"
PD, RAF_SAME = "PD", "RAF, same handling"
REFERENCE_BUDGET = 0.3


@dataclass
class Row:
    """
    One rule of selection with its scores under every assignment.

    Args:
        name (`str`): Row of the table.
        scores (`list` of arrays of shape `(num_pairs,)`): The lowest are kept first.
    """

    name: str
    scores: list[NDArray]


def set_results(
    store: CellStore,
    name: str,
    proxy: str,
    handlings: list[str],
    seeds: list[int],
    budgets: list[float],
    resamples: int,
) -> dict[str, Any]:
    """
    Numbers of one set and kind of proxy.

    Returns:
        `dict`: `rows` (each rule at each budget), `proxies` (accuracy by handling and aspect, by length), `handlings` (each
        handling's selection at [`REFERENCE_BUDGET`] and its difference from no handling), `cells` (seconds, penalties).
    """
    reals = [store.real(name, seed) for seed in seeds]
    cells = {h: [store.cell(name, seed, proxy, h) for seed in seeds] for h in handlings}
    plain = cells["none"]
    measured = [outcomes(real, cell.delta_length) for real, cell in zip(reals, plain, strict=True)]
    draws = prompt_draws(int(reals[0].prompts.max()) + 1, resamples)
    book = Book(reals, measured, draws)

    rows = fixed_rows(reals, plain) + [_pd_row(reals, cells[h]) for h in handlings]
    same = [h for h in handlings if h in UNIFIED and h != "none" and all(c.margin is not None for c in cells[h])]
    rows += [_raf_row(reals, cells[h]) for h in same]
    return {
        "set": name,
        "proxy": proxy,
        "seeds": seeds,
        "pairs": len(reals[0]),
        "prompts": int(reals[0].prompts.max()) + 1,
        "aspects": reals[0].aspects,
        "pairs_by_aspect": {a: int((reals[0].own == k).sum()) for k, a in enumerate(reals[0].aspects)},
        "conflict": _conflict_shares(reals),
        "rows": [entry for row in rows for entry in book.entries(row, budgets)],
        "auc": {row.name: _aucs(reals, row) for row in rows},
        "proxies": [p for h in handlings for p in _proxy_entries(reals, cells[h], h)],
        "handlings": [book.handling_entry(h) for h in handlings],
        "cells": [
            {"handling": h, "seed": c.seed, "seconds": c.seconds, "folds": c.notes}
            for h in handlings
            for c in cells[h]
        ],
    }


def _pd_row(reals: list[RealSet], cells: list[Cell]) -> Row:
    scores = [divergence(real, cell.gaps) for real, cell in zip(reals, cells, strict=True)]
    return Row(f"{PD} [{cells[0].handling}]", scores)


def _raf_row(reals: list[RealSet], cells: list[Cell]) -> Row:
    scores = [ranking(real, "margin", margin=cell.margin) for real, cell in zip(reals, cells, strict=True)]
    name = RAF if cells[0].handling == "none" else f"{RAF_SAME} [{cells[0].handling}]"
    return Row(name, scores)


def fixed_rows(reals: list[RealSet], plain: list[Cell]) -> list[Row]:
    """The rules that PD is compared with: a draw, PD of the ratings, the length ruler, RAF."""
    deltas = [cell.delta_length for cell in plain]
    # Where no pair has labels of two aspects, ratings say nothing of a pair beyond its label.
    rated = [divergence(real, gap_matrix(real.rows, "ratings").gaps) for real in reals if real.hidden.any()]
    return [
        Row(RANDOM, [ranking(real, "random") for real in reals]),
        *([Row(RATINGS, rated)] if len(rated) == len(reals) else []),
        Row(LENGTH, [ranking(real, "length", delta_length=d) for real, d in zip(reals, deltas, strict=True)]),
        _raf_row(reals, plain),
    ]


class Book:
    """Counts of every row, so that differences between rows use the same resamples."""

    def __init__(self, reals: list[RealSet], measured: list[dict[str, NDArray]], draws: NDArray):
        self.reals, self.measured, self.draws = reals, measured, draws
        self.tallies: dict[tuple[str, float], dict[str, dict[str, Tally]]] = {}
        self.all = self.masked([np.ones(len(real), dtype=bool) for real in reals])

    def masked(self, masks: list[NDArray]) -> dict[str, Tally]:
        """Counts of the pairs in `masks`, one mask for each assignment, by measure."""
        found = {}
        for name in self.measured[0]:
            parts = list(zip(self.reals, [m[name] for m in self.measured], masks, strict=True))
            counts = [tally(real, outcome, mask) for real, outcome, mask in parts]
            found[name] = Tally(counts, [stratum_weights(outcome) for _, outcome, _ in parts])
        return found

    def entries(self, row: Row, budgets: list[float]) -> list[dict[str, Any]]:
        """Shares of one row at each budget, kept and dropped, and their differences from all pairs."""
        return [self._entry(row, budget) for budget in budgets]

    def _entry(self, row: Row, budget: float) -> dict[str, Any]:
        masks = [keep(real, scores, budget) for real, scores in zip(self.reals, row.scores, strict=True)]
        groups = {"all": self.all, "kept": self.masked(masks), "dropped": self.masked([~mask for mask in masks])}
        self.tallies[row.name, budget] = groups
        entry: dict[str, Any] = {"row": row.name, "budget": budget, "kept": [int(mask.sum()) for mask in masks]}
        for name in self.measured[0]:
            resampled = {group: groups[group][name].resampled(self.draws) for group in groups}
            measure: dict[str, Any] = {}
            for group, tallies in groups.items():
                by_seed = [value if np.isfinite(value) else None for value in tallies[name].by_seed()]
                measure[group] = {**summary(tallies[name].point(), resampled[group]), "by_seed": by_seed}
            for group in ("kept", "dropped"):
                gain = groups[group][name].point() - self.all[name].point()
                measure[f"{group} - all"] = summary(gain, resampled[group] - resampled["all"])
            if name in ("hidden", "overall"):
                measure["by_fold"] = self._by_fold(name, masks)
            entry[name] = measure
        entry["kept_by_aspect"] = {
            aspect: float(np.mean([m[r.own == k].mean() for r, m in zip(self.reals, masks, strict=True)]))
            for k, aspect in enumerate(self.reals[0].aspects)
        }
        return entry

    def _by_fold(self, name: str, masks: list[NDArray]) -> dict[str, list[int]]:
        """Hits and trials of kept and dropped pairs in each fold under each assignment, as columns."""
        keys = ("seed", "fold", "kept_hits", "kept_trials", "dropped_hits", "dropped_trials")
        columns: dict[str, list[int]] = {key: [] for key in keys}
        for real, measured, mask in zip(self.reals, self.measured, masks, strict=True):
            for fold in np.unique(real.folds):
                rows = real.folds == fold
                kept, dropped = (measured[name][rows & side, 0].sum(axis=0) for side in (mask, ~mask))
                for key, value in zip(keys, (real.seed, fold, *kept, *dropped), strict=True):
                    columns[key].append(int(value))
        return columns

    def difference(self, one: str, other: str, budget: float, name: str) -> dict[str, Any]:
        """Kept share of one row minus another's, with an interval from the same resamples."""
        a, b = (self.tallies[row, budget]["kept"][name] for row in (one, other))
        return summary(a.point() - b.point(), a.resampled(self.draws) - b.resampled(self.draws))

    def handling_entry(self, handling: str) -> dict[str, Any]:
        """A handling's PD at the reference budget against no handling, RAF and the length ruler."""
        row = f"{PD} [{handling}]"
        rivals = {"no handling": f"{PD} [none]", RAF: RAF, LENGTH: LENGTH, RATINGS: RATINGS}
        rivals[RAF_SAME] = f"{RAF_SAME} [{handling}]"
        return {
            "handling": handling,
            "budget": REFERENCE_BUDGET,
            **{
                f"minus {label}": {
                    name: self.difference(row, rival, REFERENCE_BUDGET, name) for name in self.measured[0]
                }
                for label, rival in rivals.items()
                if (rival, REFERENCE_BUDGET) in self.tallies
            },
        }


def _conflict_shares(reals: list[RealSet]) -> dict[str, float | None]:
    """Share of the labels that a decided overall label, and that most of the decided hidden votes, contradict."""
    shares: dict[str, list[float]] = {"overall": [], "hidden majority": []}
    for real in reals:
        for name, (conflict, decided) in _conflicts(real).items():
            if decided.any():
                shares[name].append(float(conflict[decided].mean()))
    return {name: float(np.mean(values)) if values else None for name, values in shares.items()}


def _conflicts(real: RealSet) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    balance = (real.votes * real.hidden).sum(1)
    found = {"hidden majority": (balance < 0, balance != 0)}
    if real.overall is not None:
        found["overall"] = (real.overall < 0, real.overall != 0)
    return found


def _aucs(reals: list[RealSet], row: Row) -> dict[str, list[float | None]]:
    """AUC of a row's scores as a detector of contradicted labels, by assignment."""
    found: dict[str, list[float | None]] = {}
    for real, scores in zip(reals, row.scores, strict=True):
        for name, (conflict, decided) in _conflicts(real).items():
            found.setdefault(name, []).append(conflict_auc(scores, conflict, decided))
    return found


def _proxy_entries(reals: list[RealSet], cells: list[Cell], handling: str) -> list[dict[str, Any]]:
    """
    Accuracy of each aspect's proxy on all held-out pairs its aspect decides, hidden or not, by [`pair_metrics`]: the pair is
    turned so that the aspect's vote is for the first side.
    """
    entries = []
    for k, aspect in enumerate(reals[0].aspects):
        found = []
        for real, cell in zip(reals, cells, strict=True):
            rows = real.votes[:, k] != 0
            vote = real.votes[rows, k].astype(float)
            metrics = pair_metrics(cell.gaps[rows, k] * vote, cell.delta_length[rows] * vote)
            raw = np.corrcoef(cell.gaps[rows, k], cell.delta_length[rows])[0, 1]
            halves = [
                metrics[key]
                for key in ("pair_accuracy_chosen_longer", "pair_accuracy_chosen_shorter")
                if key in metrics
            ]
            found.append({**metrics, "balanced_accuracy": float(np.mean(halves)), "length_correlation": float(raw)})
        rho = [note["rho"] for cell in cells for note in cell.notes if note["aspect"] == aspect]
        entries.append(
            {
                "handling": handling,
                "correction": HANDLINGS[handling].correction,
                "aspect": aspect,
                **{key: float(np.mean([f[key] for f in found])) for key in found[0]},
                "balanced_accuracy_by_seed": [f["balanced_accuracy"] for f in found],
                "rho_mean": float(np.mean(rho)),
                "rho_range": [float(min(rho)), float(max(rho))],
            }
        )
    return entries
