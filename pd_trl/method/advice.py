"""How much a selection raises the agreement of the labels, estimated from a few labelled pairs: an interval by prompt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.9
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Effect:
    """
    Difference of two shares.

    Args:
        estimate (`float`): The difference.
        low, high (`float`): Ends of its interval.
        standard_error (`float`): Its standard error.
    """

    estimate: float
    low: float
    high: float
    standard_error: float

    @property
    def sign(self) -> int:
        """1 where the whole interval is above zero, -1 where below, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def share_difference(
    hits: ArrayLike,
    selected: ArrayLike,
    control: ArrayLike,
    prompts: ArrayLike,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 42,
) -> Effect | None:
    r"""
    Share of hits among the selected pairs minus that of a control group, which may overlap, with a bootstrap interval by prompt:
    prompts are drawn with replacement, all pairs of a prompt together.

    The interval is studentised and symmetric: a resample counts by its distance from the estimate in its own standard errors.
    Each group gets one more hit and one more miss, as of prompts of their own (Agresti and Caffo), so that a group of hits
    alone is not certain. `scripts/bench_advise.py` prints how often it covers the truth.

    Args:
        hits (array of shape `(num_pairs,)`): 1 for a hit, 0 for none.
        selected (array of shape `(num_pairs,)`): Weight of each pair in the selection; 0 where it is not in it.
        control (array of shape `(num_pairs,)`): Weight of each pair in the control group.
        prompts (array of shape `(num_pairs,)`): What names the prompt of each pair.
        level (`float`, *optional*, defaults to `0.9`): Level of the interval.
        num_resamples (`int`, *optional*, defaults to `2000`): Number of resamples.
        seed (`int`, *optional*, defaults to `42`): Seed of the resamples.

    Returns:
        [`Effect`], or `None` where a group is empty or there are fewer than two prompts.
    """
    hit, chosen, others = (np.asarray(values, dtype=np.float64) for values in (hits, selected, control))
    groups = np.unique(np.asarray(prompts), return_inverse=True)[1]
    if not chosen.any() or not others.any() or groups.max() < 1:
        return None
    # A hit and a miss of each group, of the mean weight.
    heavy = [weights[weights > 0].mean() for weights in (chosen, others)]
    hit = np.concatenate([hit, [1, 0, 1, 0]])
    chosen = np.concatenate([chosen, [heavy[0]] * 2, [0, 0]])
    others = np.concatenate([others, [0, 0], [heavy[1]] * 2])
    groups = np.concatenate([groups, groups.max() + 1 + np.arange(4)])
    sums = np.stack([chosen * hit, chosen, others * hit, others], axis=1)
    by_prompt = np.zeros((int(groups.max()) + 1, 4))
    np.add.at(by_prompt, groups, sums)
    estimate, error = (float(values[0]) for values in _difference(np.ones((1, len(by_prompt))), by_prompt))
    real = len(by_prompt) - 4
    draws = np.random.default_rng(seed).multinomial(real, np.full(real, 1 / real), size=num_resamples)
    counts = np.concatenate([draws, np.ones((num_resamples, 4), dtype=draws.dtype)], axis=1).astype(np.float64)
    resampled, errors = _difference(counts, by_prompt)
    # Where both groups hold nearly the same labelled pairs, resamples hardly differ: one standard error is the least.
    reach = max(float(np.quantile(np.abs(resampled - estimate) / errors, level)), 1.0) * error
    return Effect(estimate, max(estimate - reach, -1.0), min(estimate + reach, 1.0), error)


def matched_weights(strata: ArrayLike, selected: ArrayLike) -> NDArray[np.float64]:
    """
    Weights under which all pairs have the strata of the selected ones: the control group of a selection "of the same length".

    Args:
        strata (integer array of shape `(num_pairs,)`): Stratum of each pair.
        selected (boolean array of shape `(num_pairs,)`): The selected pairs.

    Returns:
        array of shape `(num_pairs,)`: Share of the pair's stratum among the selected pairs over that among all.
    """
    stratum = np.asarray(strata)
    kept = np.bincount(stratum[np.asarray(selected, dtype=bool)], minlength=int(stratum.max()) + 1)
    every = np.bincount(stratum)
    ratio = np.divide(kept / max(kept.sum(), 1), every / every.sum(), out=np.zeros(len(every)), where=every > 0)
    return ratio[stratum]


def label_information(budget: float, agreement: float) -> float:
    """
    What a share `budget` of the pairs is worth in pairs whose labels are all right, as a share of all pairs: `budget * (2 *
    agreement - 1)^2`, by which wrong labels dilute a binary signal. 0 where half of the labels or more are wrong. A guide, ours.
    """
    return budget * max(2 * agreement - 1, 0.0) ** 2


def _difference(
    counts: NDArray[np.float64], by_prompt: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    The difference of both shares and its standard error by prompt, for each row of `counts` of shape `(num_resamples,
    num_prompts)`: how often each prompt is in a resample.
    """
    hits, size, control_hits, control_size = (counts @ by_prompt).T
    share, control_share = hits / size, control_hits / control_size
    # Linearised: what each prompt adds to the difference.
    parts = np.stack([1 / size, -share / size, -1 / control_size, control_share / control_size], axis=1)
    added = parts @ by_prompt.T
    prompts = counts.sum(axis=1)
    variance = (counts * added**2).sum(axis=1) * prompts / (prompts - 1)
    return share - control_share, np.sqrt(variance)
