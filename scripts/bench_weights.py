"""
Equal weights beside `weights="decorrelated"` on real pairs: PD of the ratings, 30 % kept, and how much more the kept labels agree with
labels that the selection did not see than all labels do. Then the same with copies of one aspect among the voters.

    python scripts/bench_weights.py                 # all sets; about a minute on one core
    python scripts/bench_weights.py --copies 9
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import numpy as np
from numpy.typing import NDArray
from real_data.sets import RealSet, load_set
from real_data.tables import markdown

from pd_trl import preference_divergence
from pd_trl.method.divergence import gap_quantiles
from pd_trl.method.ranking import resolve_budget, select_lowest
from pd_trl.method.votes import decorrelated_weights, gap_correlations, gap_moments
from pd_trl.selection.gaps import gap_matrix

SETS = ("hellobench_chat", "oasst1_en_validation", "summeval")
GAMMA = 0.9
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

Rule = Callable[[NDArray], NDArray]
RULES: dict[str, Rule] = {
    "equal": lambda gaps: np.ones(gaps.shape[1]),
    "decorrelated": lambda gaps: decorrelated_weights(gap_correlations(gap_moments(list(gaps.T)))),
}


def select(gaps: NDArray, own: NDArray, ids: NDArray, rule: Rule, budget: float) -> NDArray[np.bool_]:
    """Mask of the pairs of lowest PD; those on which no other aspect votes come last."""
    weights = rule(gaps) * (np.nan_to_num(gap_quantiles(gaps, own, GAMMA)) > 0)
    values = preference_divergence(gaps, own, GAMMA, weights, allow_missing=True, allow_no_votes=True).values
    values = np.where(np.isnan(values), np.float32(np.inf), values)
    return select_lowest(values, ids, resolve_budget(budget, len(values)))[0]


class Gain:
    """
    By how much more the kept labels agree with a label than all do, for each rule, with an interval over prompts.

    Args:
        prompts (`int`): Number of prompts.
    """

    def __init__(self, prompts: int):
        self.prompts = prompts
        self.sums: dict[str, list[NDArray]] = {rule: [] for rule in RULES}

    def add(self, rule: str, kept: NDArray, votes: NDArray, prompts: NDArray) -> None:
        """Adds votes (1, -1, 0 none) on pairs, one column for each label."""
        votes = votes.reshape(len(kept), -1)
        parts = [(votes > 0).sum(1) * kept, (votes != 0).sum(1) * kept, (votes > 0).sum(1), (votes != 0).sum(1)]
        self.sums[rule].append(np.stack([np.bincount(prompts, part, self.prompts) for part in parts], axis=1))

    def value(self, rule: str, drawn: NDArray | None = None) -> float:
        """Points, of all prompts or of those `drawn`; the mean over assignments and labels."""
        found = []
        for sums in self.sums[rule]:
            hits, trials, all_hits, all_trials = (sums if drawn is None else sums[drawn]).sum(0)
            found.append(hits / max(trials, 1) - all_hits / max(all_trials, 1))
        return 100 * float(np.mean(found))

    def row(self, resamples: int) -> list[str]:
        """Both gains, and their difference with its interval."""
        if not self.sums["equal"]:
            return ["–", "–", "–"]
        generator = np.random.default_rng(0)
        draws = [generator.integers(0, self.prompts, self.prompts) for _ in range(resamples)]
        differences = [self.value("decorrelated", drawn) - self.value("equal", drawn) for drawn in draws]
        low, high = np.percentile(differences, [2.5, 97.5])
        values = [self.value(rule) for rule in RULES]
        return [*(f"{v:+.1f}" for v in values), f"{values[1] - values[0]:+.1f} [{low:+.1f}, {high:+.1f}]"]


def measure(path: Path, options: argparse.Namespace) -> tuple[list[list[str]], list[list[str]], list[str]]:
    """The rows of both tables, and the weights, of one set."""
    gains: dict[str, Gain] = {}
    shared: dict[str, list[float]] = {rule: [] for rule in RULES}
    weights: list[NDArray] = []
    real: RealSet | None = None
    for seed in options.seeds:
        real = load_set(path, seed, 5)
        matrix = gap_matrix(real.rows, "ratings")
        gaps, own, ids = matrix.gaps, matrix.own, real.pair_ids
        aspects = range(gaps.shape[1])
        hidden = np.where(own[:, None] == np.arange(gaps.shape[1]), 0, real.votes)
        weights.append(RULES["decorrelated"](gaps))
        kinds = ("overall", "other aspects", "unseen aspect", "copies: overall")
        gains = gains or {kind: Gain(int(real.prompts.max()) + 1) for kind in kinds}
        for name, rule in RULES.items():
            kept = select(gaps, own, ids, rule, options.budget)
            gains["other aspects"].add(name, kept, hidden, real.prompts)
            if real.overall is not None:
                gains["overall"].add(name, kept, real.overall, real.prompts)
            for left_out in aspects:
                rest = [k for k in aspects if k != left_out]
                rows = own != left_out
                without = select(
                    gaps[rows][:, rest], own[rows] - (own[rows] > left_out), ids[rows], rule, options.budget
                )
                gains["unseen aspect"].add(name, without, real.votes[rows, left_out], real.prompts[rows])
                copied = select(gaps[:, [*aspects, *[left_out] * options.copies]], own, ids, rule, options.budget)
                shared[name].append(float((copied & kept).sum() / kept.sum()))
                if real.overall is not None:
                    gains["copies: overall"].add(name, copied, real.overall, real.prompts)
    if real is None:
        return [], [], []
    first = [
        [path.stem, kind, *gains[kind].row(options.resamples)]
        for kind in ("overall", "unseen aspect", "other aspects")
    ]
    same = [f"{100 * np.mean(shared[rule]):.0f} %" for rule in RULES]
    second = [[path.stem, *same, *gains["copies: overall"].row(options.resamples)]]
    mean = np.mean(weights, axis=0)
    return (
        first,
        second,
        [f"{path.stem}: " + ", ".join(f"{a} {w:.2f}" for a, w in zip(real.aspects, mean, strict=True))],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the parquet files (default ../shared/data)")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="assignments of aspects to pairs")
    parser.add_argument("--budget", type=float, default=0.3)
    parser.add_argument("--copies", type=int, default=5, help="copies of one aspect, of each in turn")
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    tables: tuple[list[list[str]], list[list[str]]] = ([], [])
    shown: list[str] = []
    for name in options.sets:
        first, second, weights = measure(options.data / f"{name}.parquet", options)
        tables[0].extend(first)
        tables[1].extend(second)
        shown += weights
    print("Weights:", *shown, sep="\n")
    head = ["equal", "decorrelated", "difference"]
    print(f"\nKept - all, in points, at a budget of {options.budget:g}:\n")
    print("\n".join(markdown([["set", "agreement with", *head], *tables[0]])))
    print(f"\nWith {options.copies} copies of one aspect (mean over the aspects):\n")
    same = ["same pairs, equal", "same pairs, decorrelated"]
    print("\n".join(markdown([["set", *same, *(f"overall, {name}" for name in head)], *tables[1]])))


if __name__ == "__main__":
    main()
