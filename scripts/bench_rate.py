"""
What adaptive rating saves, with recorded ratings in place of a judge: each pair keeps one aspect's label, the other aspects' ratings are
asked for in some order, and the pairs that are kept are compared with the overall label, which nobody asks about.

    python scripts/bench_rate.py            # hellobench, oasst1 and summeval, 12 assignments of labels; about a minute on one core

A call is one rating of one aspect of one response. 100 % are the distinct ratings that all votes of all pairs need; a response that is in
several pairs is rated once. The gain is the share of kept labels that agree with the overall label, less that of all pairs, in points;
where a set has no overall label, with the hidden aspects' labels. Writes OUTPUT/bench_rate.json and .md.
"""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import numpy as np
from numpy.typing import NDArray
from real_data.sets import RealSet, load_set
from real_data.tables import markdown

from pd_trl.errors import InputError
from pd_trl.method.divergence import gap_quantiles, preference_divergence
from pd_trl.method.ranking import resolve_budget, select_lowest
from pd_trl.rating.adaptive import AdaptiveOrder
from pd_trl.runs.artifacts import library_versions, write_json
from pd_trl.selection.gaps import numeric_column

SETS = ("hellobench_chat", "oasst1_en_validation", "summeval")
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Mask = NDArray[np.bool_]


@dataclass
class Recorded:
    """
    A set whose ratings are known.

    Args:
        pairs ([`RealSet`]): Pairs with one aspect's label.
        ratings (array of shape `(num_responses, num_aspects)`): The recorded ratings, NaN where there is none.
        needed (boolean array of that shape): Those that a vote needs.
        count (`int`): Pairs to keep.
    """

    pairs: RealSet
    ratings: NDArray[np.float64]
    needed: Mask
    count: int

    @property
    def sides(self) -> NDArray[np.int64]:
        """Chosen and rejected response of each pair."""
        return np.stack([self.pairs.chosen, self.pairs.rejected], axis=1).astype(np.int64)

    @property
    def votes(self) -> Mask:
        """Which aspects vote on each pair."""
        own: Mask = np.arange(len(self.pairs.aspects)) != self.pairs.own[:, None]
        return own

    def gaps(self, known: Mask) -> NDArray[np.float64]:
        """Gaps of the pairs by the known ratings."""
        ratings = np.where(known, self.ratings, np.nan)
        return ratings[self.sides[:, 0]] - ratings[self.sides[:, 1]]

    def cells(self, units: Mask) -> Mask:
        """The ratings that pairs and aspects need."""
        cells = np.zeros_like(self.needed)
        for side in (0, 1):
            np.logical_or.at(cells, self.sides[:, side], units)
        return cells

    def keep(self, divergence: NDArray[np.floating]) -> Mask:
        """The pairs with the lowest PD; one without any comes last."""
        filled = np.where(np.isnan(divergence), 1e9, divergence)
        return select_lowest(filled, self.pairs.pair_ids, self.count)[0]

    def gains(self, kept: Mask) -> dict[str, float]:
        """Agreement of the kept labels less that of all, in points."""
        hidden = np.where(self.votes, self.pairs.votes, 0)
        found = {"hidden": _gain(hidden, kept[:, None])}
        if self.pairs.overall is not None:
            found["overall"] = _gain(self.pairs.overall, kept)
        return found


def _gain(votes: NDArray[np.integer], kept: Mask) -> float:
    decided = votes != 0
    return 100 * float((votes[decided & kept] > 0).mean() - (votes[decided] > 0).mean())


def load_recorded(path: Path, seed: int, budget: float) -> Recorded:
    """A set with the labels of a seed."""
    pairs = load_set(path, seed, folds=2)
    ratings = np.full((len(pairs.texts), len(pairs.aspects)), np.nan)
    for k, name in enumerate(pairs.aspects):
        for side, rows in (("chosen", pairs.chosen), ("rejected", pairs.rejected)):
            ratings[rows, k] = numeric_column(pairs.rows, f"rating_{name}_{side}")
    found = Recorded(pairs, ratings, np.zeros(ratings.shape, dtype=bool), resolve_budget(budget, len(pairs)))
    found.needed = found.cells(found.votes)
    return found


def divergence_of(data: Recorded, known: Mask, scales: NDArray[np.floating] | None = None) -> NDArray[np.floating]:
    """PD by the known ratings (Eq. 15)."""
    return preference_divergence(
        data.gaps(known), data.pairs.own, quantiles=scales, allow_missing=True, allow_no_votes=True
    ).values


def all_ratings(data: Recorded, seed: int) -> tuple[Mask, Mask]:
    """Every rating that a vote needs."""
    return data.needed, data.keep(divergence_of(data, data.needed))


def random_aspects(number: int) -> Callable[[Recorded, int], tuple[Mask, Mask]]:
    """So many aspects of each pair, drawn at random; the sum of the votes ranks."""

    def asked(data: Recorded, seed: int) -> tuple[Mask, Mask]:
        draws = np.where(data.votes, np.random.default_rng(seed).random(data.votes.shape), 2.0)
        units = data.votes & (draws.argsort(axis=1).argsort(axis=1) < number)
        normalized = np.where(units, data.gaps(data.cells(units)), np.nan) / _scales(data)
        divergence = -np.nansum(np.clip(normalized, -1, 1), axis=1)
        return data.cells(units), data.keep(divergence)

    return asked


def elimination(data: Recorded, seed: int) -> tuple[Mask, Mask]:
    """
    One aspect after the other, in a random order. A pair is left when it could not be kept if all its other votes agreed and the
    other pairs' remaining votes were 0.
    """
    scales = _scales(data)
    draws = np.where(data.votes, np.random.default_rng(seed).random(data.votes.shape), 2.0)
    rank = draws.argsort(axis=1).argsort(axis=1)
    num_votes = data.votes.sum(axis=1)
    units = np.zeros_like(data.votes)
    alive = np.ones(len(data.pairs), dtype=bool)
    for step in range(data.votes.shape[1]):
        units |= data.votes & (rank == step) & alive[:, None]
        normalized = np.clip(np.where(units, data.gaps(data.cells(units)), np.nan) / scales, -1, 1)
        current = -np.nansum(normalized, axis=1)
        best = current - (num_votes - units.sum(axis=1))
        threshold = np.sort(np.where(alive, current, np.inf))[data.count - 1]
        alive &= best <= threshold
    return data.cells(units), data.keep(np.where(alive, current, 1e6 + current))


def _scales(data: Recorded) -> NDArray[np.floating]:
    """The scales of all ratings, which the baselines are given."""
    return gap_quantiles(data.gaps(data.needed).astype(np.float32), data.pairs.own, 0.9)


def adaptive(data: Recorded, seed: int, shares: list[float]) -> dict[float, tuple[Mask, Mask]]:
    """The order of `pd-trl rate --adaptive`: what is known, and kept, when each share of the calls is reached."""
    pairs, found = data.pairs, {}
    order = AdaptiveOrder(
        np.ones(len(pairs)), pairs.own.astype(np.int64), data.sides, pairs.prompts.astype(np.int64), len(pairs.aspects), data.count,
        pairs.pair_ids, seed, max(shares),
    )  # fmt: skip
    known = np.zeros_like(data.needed)
    values = np.full(data.ratings.shape, np.nan)
    cells: Mask | None = None
    for share in sorted(shares):
        order.most = max(1, int(share * order.total))
        while (cells := order.next_cells(values)) is not None:
            known = known | cells
            values = np.where(known, data.ratings, np.nan)
        found[share] = known, data.keep(order.divergence(values))
    return found


def frontier(path: Path, seeds: list[int], budget: float, shares: list[float]) -> dict[str, Any]:
    """Calls and gains of each way of asking, mean and standard error over assignments of labels."""
    ways: dict[str, Callable[[Recorded, int], tuple[Mask, Mask]]] = {
        "all ratings": all_ratings,
        "one random aspect a pair": random_aspects(1),
        "two random aspects a pair": random_aspects(2),
        "elimination": elimination,
    }
    found: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        data = load_recorded(path, seed, budget)
        asked = {name: way(data, seed) for name, way in ways.items()}
        asked |= {
            f"adaptive, at most {100 * share:g} %": found for share, found in adaptive(data, seed, shares).items()
        }
        full = data.gains(asked["all ratings"][1])
        for name, (cells, kept) in asked.items():
            gains = data.gains(kept)
            entry = {"calls": 100 * float(cells.sum() / data.needed.sum()), **gains}
            entry |= {f"{key} lost": full[key] - value for key, value in gains.items()}
            for key, value in entry.items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    rows = {
        name: {
            key: [float(np.mean(v)), float(np.std(v, ddof=1) / np.sqrt(len(v))) if len(v) > 1 else 0.0]
            for key, v in entry.items()
        }
        for name, entry in found.items()
    }
    return {"set": path.stem, "pairs": len(data.pairs), "ratings": int(data.needed.sum()), "rows": rows}


def table_of(result: dict[str, Any]) -> list[str]:
    """The frontier of one set in markdown."""
    kinds = [kind for kind in ("overall", "hidden") if kind in next(iter(result["rows"].values()))]
    header = ["asked", "calls", *(f"gain, {kind}" for kind in kinds), *(f"of the full gain, {kind}" for kind in kinds)]
    body = []
    full = result["rows"]["all ratings"]
    for name, entry in result["rows"].items():
        cells = [
            name,
            f"{entry['calls'][0]:.1f} %",
            *(f"{entry[kind][0]:+.1f} ± {entry[kind][1]:.1f}" for kind in kinds),
        ]
        for kind in kinds:
            error = 100 * entry[f"{kind} lost"][1] / full[kind][0]
            cells.append(f"{100 * entry[kind][0] / full[kind][0]:.0f} % ± {error:.0f}")
        body.append(cells)
    return [
        f"**{result['set']}**, {result['pairs']:,} pairs, {result['ratings']:,} ratings",
        "",
        *markdown([header, *body]),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the parquet files (default ../shared/data)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/bench_rate"), help="folder (default runs/bench_rate)"
    )
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS, help="sets (default all)")
    parser.add_argument("--budget", type=float, default=0.3, help="share to keep (default 0.3)")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=list(range(1, 13)), help="assignments of labels (default 1 to 12)"
    )
    parser.add_argument(
        "--shares", nargs="+", type=float, default=list(SHARES), help="shares of the calls (default a frontier)"
    )
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    try:
        missing = [name for name in options.sets if not (options.data / f"{name}.parquet").is_file()]
        if missing:
            raise InputError(
                f"{options.data} has no {', '.join(f'{m}.parquet' for m in missing)}: pass the folder as --data."
            )
        results, lines = [], []
        for name in options.sets:
            results.append(frontier(options.data / f"{name}.parquet", options.seeds, options.budget, options.shares))
            part = table_of(results[-1])
            lines += part
            print("\n".join(part), flush=True)
        command = shlex.join(["python", *sys.argv])
        content = {
            "command": command,
            "versions": library_versions(),
            "budget": options.budget,
            "seeds": options.seeds,
            "sets": results,
        }
        write_json(options.output / "bench_rate.json", content)
        (options.output / "bench_rate.md").write_text("\n".join(lines), encoding="utf-8")
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
