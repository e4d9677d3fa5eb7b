"""
How well `advise` is calibrated: over worlds drawn at random, how often its intervals cover the effect in 30,000 prompts.

    python scripts/bench_advise.py                     # 100 worlds, 1 to 3 minutes on one core
    python scripts/bench_advise.py --worlds 400 --labelled 150

A world is drawn by numbers alone and knows nothing of PD: two to six aspects with correlated gaps, proxies that are noisy, biased
to length or reversed, annotators with noise and a taste for length, an overall judge with weights of its own, prompts with
several similar pairs, and a unified reward model (RAF) with other weights, its own noise and its own bias.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from pd_trl import advise
from pd_trl.method.advice import matched_weights
from pd_trl.method.divergence import preference_divergence
from pd_trl.method.ranking import resolve_budget, select_lowest
from pd_trl.selection.advice import BUDGETS, Advice, length_strata
from pd_trl.text.tables import table

TRUE_PROMPTS, PROMPTS = 30_000, 800


@dataclass
class Pairs:
    """Pairs of a world: `gaps` of shape `(num_pairs, num_aspects)`, the other arrays of shape `(num_pairs,)`."""

    prompts: NDArray[np.integer]
    own: NDArray[np.integer]
    gaps: NDArray[np.float32]
    margin: NDArray[np.float64]
    delta_length: NDArray[np.float64]
    agrees: NDArray[np.bool_]

    def rows(self) -> Dataset:
        """As scored pairs with an overall label."""
        columns = {
            "pair_id": [f"{i:06d}" for i in range(len(self.own))],
            "prompt_id": self.prompts.astype(str),
            "aspect": np.char.add("aspect", self.own.astype(str)),
            "delta_length": self.delta_length,
            "reward_gap_overall": self.margin,
            "vote_overall": np.where(self.agrees, 1, -1).astype(np.int8),
        }
        columns |= {f"reward_gap_aspect{k}": self.gaps[:, k] for k in range(self.gaps.shape[1])}
        return Dataset.from_dict(columns)


class World:
    """
    A world drawn by its number.

    Args:
        number (`int`): Number of the world.
    """

    def __init__(self, number: int):
        draw = np.random.default_rng([14, number])
        self.aspects = k = int(draw.integers(2, 7))
        mixed = draw.normal(size=(k, k))
        covariance = draw.uniform(0, 1.5) * mixed @ mixed.T + np.eye(k) + draw.uniform(0, 2)
        deviation = np.sqrt(np.diag(covariance))
        self.mixing = np.linalg.cholesky(covariance / np.outer(deviation, deviation))
        self.alike, self.pairs_of_prompt = draw.uniform(0, 0.6), 1 + draw.uniform(0, 6)
        self.length_in_aspects = draw.uniform(-0.2, 0.6, k)
        self.proxy_noise = np.exp(draw.uniform(np.log(0.5), np.log(8), k))
        self.proxy_sign = np.where(draw.random(k) < 0.07, -1, 1) * (draw.random() > 0.1)
        self.proxy_length = draw.uniform(0, 1.5, k) * (draw.random() < 0.5)
        self.label_noise = draw.uniform(0, 1, k)
        self.label_length = draw.uniform(0, 1) * (draw.random() < 0.5)
        self.overall, self.unified = draw.dirichlet(np.ones(k)) * np.sqrt(k), draw.dirichlet(np.ones(k)) * np.sqrt(k)
        self.overall_noise = draw.uniform(0.1, 3)
        self.overall_length = draw.uniform(0, 0.5) * (draw.random() < 0.3)
        self.unified_noise = np.exp(draw.uniform(np.log(0.5), np.log(6)))
        self.unified_length = draw.uniform(0, 1) * (draw.random() < 0.5)

    def pairs(self, num_prompts: int, draw: np.random.Generator) -> Pairs:
        """Pairs of so many prompts."""
        prompts = np.repeat(np.arange(num_prompts), 1 + draw.poisson(self.pairs_of_prompt - 1, num_prompts))
        count, k = len(prompts), self.aspects

        def alike(*columns: int) -> NDArray[np.float64]:
            common, own = draw.normal(size=(num_prompts, *columns)), draw.normal(size=(count, *columns))
            return np.sqrt(self.alike) * common[prompts] + np.sqrt(1 - self.alike) * own

        length = alike()
        true = alike(k) @ self.mixing.T + length[:, None] * self.length_in_aspects
        own = draw.integers(0, k, count)
        judged = true[np.arange(count), own] + self.label_length * length
        side = np.where(judged + self.label_noise[own] * draw.logistic(size=count) > 0, 1, -1)
        proxies = self.proxy_sign * true + self.proxy_noise * alike(k) + self.proxy_length * length[:, None]
        unified = true @ self.unified + self.unified_noise * draw.normal(size=count) + self.unified_length * length
        overall = true @ self.overall + self.overall_noise * draw.normal(size=count) + self.overall_length * length
        return Pairs(
            prompts, own, (proxies * side[:, None]).astype(np.float32), unified * side, np.rint(50 * length * side),
            np.sign(overall) == side,
        )  # fmt: skip


def true_effects(pairs: Pairs, budgets: Sequence[float] = BUDGETS) -> dict[tuple[float, str], float]:
    """The effects of [`advise`] in all pairs, by budget and what PD is compared with."""
    divergence = preference_divergence(pairs.gaps, pairs.own).values
    ids, strata, found = np.arange(len(pairs.own)), length_strata(pairs.delta_length), {}
    for budget in budgets:
        count = resolve_budget(budget, len(ids))
        kept, raf = (select_lowest(scores, ids, count)[0] for scores in (divergence, -pairs.margin))
        share = pairs.agrees[kept].mean()
        found[budget, "random"] = share - pairs.agrees.mean()
        found[budget, "raf"] = share - pairs.agrees[raf].mean()
        found[budget, "same length"] = share - np.average(pairs.agrees, weights=matched_weights(strata, kept))
    return found


def advised(number: int, labelled: int, prompts: int = PROMPTS) -> tuple[dict[tuple[float, str], float], Advice]:
    """The true effects of a world, and the advice from a sample of it."""
    world, draw = World(number), np.random.default_rng([15, number])
    truth = true_effects(world.pairs(TRUE_PROMPTS, draw))
    return truth, advise(world.pairs(prompts, draw).rows(), max_pairs=labelled, seed=number)


def calibration_lines(results: Sequence[tuple[dict[tuple[float, str], float], Advice]]) -> list[str]:
    """Tables: coverage, signs, and the answers beside the truth."""
    rows = [["PD against", "budget", "intervals", "covered", "width", "effect", "> 2 SE", "sign right"]]
    for name in ("random", "raf", "same length"):
        for budget in (*BUDGETS, None):
            cases = [
                (truth[entry.budget, name], entry.effects[name])
                for truth, advice in results
                for entry in advice.budgets
                if name in entry.effects and budget in (None, entry.budget)
            ]
            if not cases:
                continue
            covered = [effect.low <= true <= effect.high for true, effect in cases]
            large = [(true, effect) for true, effect in cases if abs(true) > 2 * effect.standard_error]
            right = [true * effect.estimate > 0 for true, effect in large]
            rows.append([
                name, "all" if budget is None else f"{budget:g}", str(len(cases)), f"{100 * np.mean(covered):.1f} %",
                f"{100 * np.mean([effect.high - effect.low for _, effect in cases]):.1f}",
                f"{100 * np.mean([true for true, _ in cases]):+.1f} ± {100 * np.std([true for true, _ in cases]):.1f}",
                str(len(large)), f"{100 * np.mean(right):.1f} %" if right else "-",
            ])  # fmt: skip
    answers = [["answer", "worlds", "true gain at its budget", "smallest", "largest"]]
    by_answer: dict[str, list[float]] = {}
    for truth, advice in results:
        best = advice.budget or max(BUDGETS, key=lambda budget: truth[budget, "random"])
        by_answer.setdefault("select" if advice.select else ", ".join(advice.codes), []).append(truth[best, "random"])
    for answer, gains in sorted(by_answer.items()):
        points = [f"{100 * value:+.1f}" for value in (np.mean(gains), min(gains), max(gains))]
        answers.append([answer, str(len(gains)), *points])
    return [*table(rows), "", *table(answers), "Without a budget, the gain is that of the best one."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="Number of the first world.")
    parser.add_argument("--labelled", type=int, default=300, help="Labelled pairs of each world.")
    arguments = parser.parse_args()
    start = time.perf_counter()
    worlds = range(arguments.first, arguments.first + arguments.worlds)
    results = [advised(number, arguments.labelled) for number in worlds]
    print(f"{arguments.worlds} worlds, {arguments.labelled} labelled pairs each, intervals of 90 %")
    print("\n".join(calibration_lines(results)))
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
