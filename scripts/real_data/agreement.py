"""How far the kept and the dropped labels agree with labels the selection did not see, with intervals over prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pd_trl import preference_divergence
from pd_trl.method.divergence import gap_quantiles
from pd_trl.method.ranking import SELECTORS, resolve_budget, select_lowest

from .sets import RealSet

GAMMA = 0.9
# A share of fewer votes is not worth telling: a rule that keeps the longer response leaves a handful in the other half.
MIN_TRIALS = 30
MAX_UNDEFINED = 0.05


def divergence(
    real: RealSet, gaps: NDArray, gamma: float = GAMMA, voters: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """
    PD of each pair, each held-out fold with scales of its own (Eq. 13-15): its proxies are others than the next fold's. `voters`
    are the aspects that vote (all by default).
    """
    values = np.empty(len(real), dtype=np.float32)
    voting = np.ones(len(real.aspects), dtype=bool)
    if voters is not None:
        voting = np.isin(np.arange(len(real.aspects)), voters)
    for fold in np.unique(real.folds):
        rows = real.folds == fold
        # An aspect that is tied nearly everywhere has no scale, hence no vote.
        scales = np.nan_to_num(gap_quantiles(gaps[rows], real.own[rows], gamma))
        values[rows] = preference_divergence(
            gaps[rows],
            real.own[rows],
            gamma,
            ((scales > 0) & voting).astype(float),
            aspect_names=real.aspects,
            allow_missing=True,
            allow_no_votes=True,
        ).values
    # Pairs on which no other aspect votes come last.
    return np.where(np.isnan(values), np.float32(np.inf), values)


def ranking(real: RealSet, row: str, **inputs: NDArray) -> NDArray[np.floating]:
    """Scores of a selector of [`~pd_trl.method.ranking.SELECTORS`], the lowest kept first."""
    return SELECTORS[row].score({"pair_id": real.pair_ids, **inputs}, real.seed)


def keep(real: RealSet, scores: NDArray, budget: float, among: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Mask of the pairs kept: the same share of each fold, of its pairs in `among` where given."""
    kept = np.zeros(len(real), dtype=bool)
    ids = real.pair_ids
    for fold in np.unique(real.folds):
        rows = np.flatnonzero((real.folds == fold) & (True if among is None else among))
        kept[rows] = select_lowest(scores[rows], ids[rows], resolve_budget(budget, len(rows)))[0]
    return kept


def outcomes(real: RealSet, delta_length: NDArray) -> dict[str, NDArray[np.int64]]:
    """
    For each pair, hits and trials of each measure by stratum, shape `(num_pairs, num_strata, 2)`.

    `hidden`: the decided votes of the other aspects that agree with the label. `overall`: whether the overall label agrees.
    `longer`: whether the chosen response is longer. `hidden_by_length` and `overall_by_length` have two strata, the pairs whose
    chosen response is the longer and those whose it is the shorter one: with the strata's weights held as they are in all
    pairs, a selection gains nothing by keeping the longer response.
    """
    others = real.hidden
    found = {"hidden": np.stack([(others & (real.votes > 0)).sum(1), others.sum(1)], axis=1)}
    if real.overall is not None:
        found["overall"] = np.stack([real.overall > 0, real.overall != 0], axis=1).astype(np.int64)
    halves = np.stack([delta_length > 0, delta_length < 0], axis=1)
    result = {name: values[:, None] for name, values in found.items()}
    result |= {f"{name}_by_length": values[:, None] * halves[:, :, None] for name, values in found.items()}
    longer = np.stack([delta_length > 0, delta_length != 0], axis=1).astype(np.int64)
    return {**result, "longer": longer[:, None]}


@dataclass
class Tally:
    """
    Hits and trials by prompt, one entry for each assignment.

    Args:
        counts (`list` of arrays of shape `(num_prompts, num_strata, 2)`): Hits and trials.
        weights (`list` of arrays of shape `(num_strata,)`): Weight of each stratum's share of hits.
    """

    counts: list[NDArray[np.int64]]
    weights: list[NDArray[np.float64]]

    def by_seed(self) -> list[float]:
        """Share of hits under each assignment, NaN where a stratum has fewer than [`MIN_TRIALS`] trials."""
        return self._shares([counts.sum(axis=0)[None] for counts in self.counts])[:, 0].tolist()

    def point(self) -> float:
        """Mean over the assignments."""
        return float(np.mean(self.by_seed()))

    def resampled(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same for each resample of prompts, `draws` of shape `(num_resamples, num_prompts)`."""
        return self._shares([np.tensordot(draws, counts.astype(np.float64), 1) for counts in self.counts]).mean(axis=0)

    def _shares(self, sums: list[NDArray]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.array(
                [
                    np.where(s[..., 1] >= MIN_TRIALS, s[..., 0] / s[..., 1], np.nan) @ w
                    for s, w in zip(sums, self.weights, strict=True)
                ]
            )


def tally(real: RealSet, outcome: NDArray[np.int64], rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Hits and trials of the pairs `rows` by prompt and stratum, shape `(num_prompts, num_strata, 2)`."""
    counts = np.zeros((int(real.prompts.max()) + 1, *outcome.shape[1:]), dtype=np.int64)
    np.add.at(counts, real.prompts[rows], outcome[rows])
    return counts


def stratum_weights(outcome: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the trials in each stratum of all pairs; equal ones where there is no trial at all."""
    trials = outcome[..., 1].sum(axis=0)
    return trials / trials.sum() if trials.any() else np.full(len(trials), 1 / len(trials))


def prompt_draws(num_prompts: int, num_resamples: int, seed: int = 0) -> NDArray[np.float64]:
    """How often each prompt is in each bootstrap resample, shape `(num_resamples, num_prompts)`."""
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(num_prompts, np.full(num_prompts, 1 / num_prompts), size=num_resamples)
    # Matrix products of integers are ten times slower.
    return draws.astype(np.float64)


def summary(mean: float, resampled: NDArray[np.float64]) -> dict[str, Any]:
    """Mean and 95 % percentile interval, `None` where they are not defined, as in a stratum of which hardly anything was kept."""
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(mean) or known.size < (1 - MAX_UNDEFINED) * resampled.size:
        return {"mean": None, "interval": None}
    return {"mean": float(mean), "interval": [float(v) for v in np.quantile(known, (0.025, 0.975))]}


def conflict_auc(scores: NDArray, conflict: NDArray[np.bool_], decided: NDArray[np.bool_]) -> float | None:
    """Chance that a pair whose label is contradicted has the higher score, among the decided; `None` where one kind is missing."""
    from scipy.stats import rankdata

    bad = conflict[decided]
    if not bad.any() or bad.all():
        return None
    ranks = rankdata(scores[decided])
    return float((ranks[bad].mean() - (bad.sum() + 1) / 2) / (~bad).sum())
