"""What a setting of the selection, or of its proxies, changes on real pairs: gains over all pairs, each with an interval."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .agreement import GAMMA, divergence, keep, outcomes, prompt_draws, summary
from .cells import Cell, CellStore
from .results import LENGTH, RAF, REFERENCE_BUDGET, Book, Row, fixed_rows
from .sets import RealSet

BUDGETS = (0.05, 0.1, 0.2, REFERENCE_BUDGET, 0.5, 0.7)
GAMMAS = (0.5, 0.7, GAMMA, 0.99, 1.0)
TRAIN_SHARES = (0.1, 0.25, 0.5)
HANDLINGS = ("balance τ=1", "balance τ=inf", "penalty ρ=0.001", "residual 0.1", "decorrelate")
# Of the subsets of one size, at most so many, evenly spread.
MAX_SUBSETS = 10
REFERENCE = "PD"


def set_sensitivity(
    store: CellStore,
    name: str,
    proxy: str,
    seeds: Sequence[int],
    handlings: Sequence[str],
    train_shares: Sequence[float],
    resamples: int,
) -> dict[str, Any]:
    """
    Every setting on one set.

    Returns:
        `dict`: `set`, `proxy`, `aspects`, and `rows`, each with `part`, `setting`, and for each measure (`hidden`, `hidden_by_length`,
        `overall` …) the gain over all pairs (`gain`) and, where pairs and budget are the same, over the reference (`from reference`).
    """
    reals = [store.real(name, seed) for seed in seeds]
    cells = [store.cell(name, seed, proxy, "none") for seed in seeds]
    measured = [outcomes(real, cell.delta_length) for real, cell in zip(reals, cells, strict=True)]
    book = Book(reals, measured, prompt_draws(int(reals[0].prompts.max()) + 1, resamples))
    reference = Row(REFERENCE, _divergences(reals, cells))
    raf, length = (next(row for row in fixed_rows(reals, cells) if row.name == wanted) for wanted in (RAF, LENGTH))

    rows = [
        _entry(book, part, f"{budget:g}", row, budget)
        for budget in BUDGETS
        for part, row in (("budget", reference), ("budget, RAF", raf), ("budget, length", length))
    ]
    for gamma in GAMMAS:
        row = Row(f"gamma {gamma:g}", _divergences(reals, cells, gamma))
        rows.append(_entry(book, "gamma", f"{gamma:g}", row, REFERENCE_BUDGET))
    for share in train_shares:
        found = [store.cell(name, seed, proxy, "none", share) for seed in seeds]
        row = Row(f"share {share:g}", _divergences(reals, found))
        rows.append(_entry(book, "share of each aspect's labels", f"{share:g}", row, REFERENCE_BUDGET))
    for handling in handlings:
        row = Row(handling, _divergences(reals, [store.cell(name, seed, proxy, handling) for seed in seeds]))
        rows.append(_entry(book, "length handling", handling, row, REFERENCE_BUDGET))
    rows += list(_fewer_aspects(book, reals, cells))
    return {"set": name, "proxy": proxy, "seeds": list(seeds), "aspects": reals[0].aspects, "rows": rows}


def _divergences(reals: list[RealSet], cells: list[Cell], gamma: float = GAMMA) -> list[NDArray]:
    return [divergence(real, cell.gaps, gamma) for real, cell in zip(reals, cells, strict=True)]


def _entry(book: Book, part: str, setting: str, row: Row, budget: float) -> dict[str, Any]:
    entry = book.entries(row, [budget])[0]
    found: dict[str, Any] = {"part": part, "setting": setting, "chosen_longer": entry["longer"]["kept"]}
    for measure in book.measured[0]:
        found[measure] = {"gain": entry[measure]["kept - all"]}
        if budget == REFERENCE_BUDGET and row.name != REFERENCE:
            found[measure]["from reference"] = book.difference(row.name, REFERENCE, budget, measure)
    return found


def _fewer_aspects(book: Book, reals: list[RealSet], cells: list[Cell]) -> Iterator[dict[str, Any]]:
    """
    κ aspects instead of all: pairs with the label of one of them, and only their votes; the mean over subsets of that size. The gain
    is over the same pairs, and counts agreement with every other aspect of the set.
    """
    total = len(reals[0].aspects)
    for size in range(2, total + 1):
        subsets = list(itertools.combinations(range(total), size))
        subsets = [subsets[i] for i in np.unique(np.linspace(0, len(subsets) - 1, MAX_SUBSETS).round().astype(int))]
        points: dict[str, list[float]] = {}
        resampled: dict[str, list[NDArray]] = {}
        for subset in subsets:
            pools = [np.isin(real.own, subset) for real in reals]
            masks = [
                keep(real, divergence(real, cell.gaps, voters=subset), REFERENCE_BUDGET, pool)
                for real, cell, pool in zip(reals, cells, pools, strict=True)
            ]
            kept, everyone = book.masked(masks), book.masked(pools)
            for measure in kept:
                points.setdefault(measure, []).append(kept[measure].point() - everyone[measure].point())
                gain = kept[measure].resampled(book.draws) - everyone[measure].resampled(book.draws)
                resampled.setdefault(measure, []).append(gain)
        found: dict[str, Any] = {"part": "aspects", "setting": f"{size} of {total}", "subsets": len(subsets)}
        for measure, values in points.items():
            found[measure] = {"gain": summary(float(np.mean(values)), np.mean(resampled[measure], axis=0))}
        yield found
