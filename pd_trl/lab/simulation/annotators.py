"""Annotators of the simulated world: one per aspect and one for the whole, noisy and fond of long answers."""

from hashlib import blake2b

import numpy as np

from .world import SimulatedWorld

OVERALL = "overall"
RATING_SCALE = (1, 5)


def _draws(*keys: object) -> np.random.Generator:
    """A generator that depends on the keys alone, so that neither the order nor the number of rows changes a label."""
    digest = blake2b(repr(keys).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def preference_logit(gold_gap: float, extra_words: int, world: SimulatedWorld) -> float:
    """
    Bradley–Terry logit with which an annotator prefers response a.

    Args:
        gold_gap (`float`): gold reward of a minus that of b, in points.
        extra_words (`int`): words of a minus words of b.
        world (`SimulatedWorld`): gives `noise` and `length_bias`; without noise the bias plays no part.

    Returns:
        `float`: the logit; infinite or 0 (a tie) without noise.
    """
    if world.noise == 0.0:
        return float(np.sign(gold_gap)) * float("inf") if gold_gap else 0.0
    return gold_gap / world.noise + world.length_bias * extra_words


def annotate_pair(
    world: SimulatedWorld, pair_id: str, gold_a: np.ndarray, gold_b: np.ndarray, extra_words: int
) -> dict[str, float]:
    """
    Labels of one pair, one by each aspect's annotator and one by an annotator of the whole.

    The overall annotator looks at the sum of the gold rewards divided by `sqrt(num_aspects)`, which puts the gaps on
    the scale of one aspect, and errs as much as the others do.

    Args:
        world (`SimulatedWorld`): noise, length bias and seed of the annotators.
        pair_id (`str`): id of the pair; with the seed and the aspect it fixes the annotator's luck.
        gold_a, gold_b (`np.ndarray` of shape `(num_aspects,)`): gold rewards.
        extra_words (`int`): words of response a minus words of b.

    Returns:
        `dict[str, float]`: `pref_<aspect>` and `pref_overall`: 1.0 = a is better, 0.0 = b is better, 0.5 = a tie (only
        annotators without noise see one).
    """
    gaps = dict(zip(world.aspects, (gold_a - gold_b).tolist(), strict=True))
    gaps[OVERALL] = float((gold_a - gold_b).sum()) / np.sqrt(world.num_aspects)
    labels = {}
    for name, gap in gaps.items():
        # Sums of floats leave dust where the truth is a tie.
        logit = preference_logit(0.0 if abs(gap) < 1e-9 else gap, extra_words, world)
        if world.noise == 0.0 and logit == 0.0:
            labels[f"pref_{name}"] = 0.5
            continue
        uniform = _draws(world.seed, pair_id, name, "preference").random()
        labels[f"pref_{name}"] = float(np.log(uniform) - np.log1p(-uniform) < logit)
    return labels


def rate_response(world: SimulatedWorld, prompt: str, response: str, gold: np.ndarray) -> dict[str, float]:
    """
    Ratings of one response, the same in every pair it is part of.

    Args:
        world (`SimulatedWorld`): noise, length bias and seed of the annotators.
        prompt (`str`), response (`str`): the texts.
        gold (`np.ndarray` of shape `(num_aspects,)`): gold rewards.

    Returns:
        `dict[str, float]`: for each aspect and `"overall"` the gold reward (overall: the mean) with normal noise of
        standard deviation `noise` and the length bias, rounded to a whole point from 1 to 5.
    """
    values = dict(zip(world.aspects, gold.tolist(), strict=True))
    values[OVERALL] = float(gold.mean())
    # A bias in logits is worth `noise` times as many points.
    bias = world.noise * world.length_bias * (len(response.split()) - 20)
    ratings = {}
    for name, value in values.items():
        error = world.noise * _draws(world.seed, prompt, response, name, "rating").standard_normal()
        ratings[name] = float(np.clip(np.rint(value + bias + error), *RATING_SCALE))
    return ratings
