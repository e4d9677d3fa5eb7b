"""Data sets of the simulated world: pairs for training, prompts for evaluation, and a corpus for pretraining."""

import itertools
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.ids import canonical_json
from ...errors import InputError
from .annotators import OVERALL, annotate_pair, rate_response
from .world import SimulatedWorld

if TYPE_CHECKING:
    from datasets import Dataset


# Streams of one seed, so that the corpus, the pairs and the evaluation prompts are drawn independently.
_PAIRS, _EVALUATION, _CORPUS = 1, 2, 3
MAX_PROMPTS = {"train": 10_000, "evaluation": 2_500}


def _content_id(content: str | list[str]) -> str:
    return blake2b(canonical_json(content).encode(), digest_size=8).hexdigest()


def _require_count(name: str, value: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        span = "at least 1" if most is None else f"from 1 to {most}"
        raise InputError(f"`{name}` must be an int, {span}, but got {value!r}.")


def simulate_pairs(
    num_pairs: int = 6000,
    seed: int | None = None,
    *,
    world: SimulatedWorld | None = None,
    responses_per_prompt: int = 4,
) -> "Dataset":
    """
    Pairs of responses in the *pairs* contract, labelled and rated by every aspect's annotator, with the gold rewards.

    Every prompt has several responses, and all pairs of them are rows, so responses recur as they do in real data.

    Args:
        num_pairs (`int`, *optional*, defaults to `6000`):
            Number of rows.
        seed (`int`, *optional*):
            Seed of the texts. Defaults to the world's seed.
        world (`SimulatedWorld`, *optional*):
            Aspects, conflict and annotators. Defaults to `SimulatedWorld(seed=seed)`.
        responses_per_prompt (`int`, *optional*, defaults to `4`):
            Number of different responses to a prompt.

    Returns:
        `Dataset` with the columns `pair_id`, `prompt_id`, `prompt`, `response_a`, `response_b`, and for every aspect
        and for `overall`: `rating_<aspect>_a`, `rating_<aspect>_b`, `pref_<aspect>` (1.0 = a is better),
        `gold_<aspect>_a`, `gold_<aspect>_b`. The sign of the gap of `gold_overall`, the sum over aspects, is the
        overall label without noise.

    Raises:
        `InputError`: if a count is out of range.
    """
    from datasets import Dataset

    world, seed = _resolve(world, seed)
    _require_count("num_pairs", num_pairs, MAX_PROMPTS["train"])
    _require_count("responses_per_prompt", responses_per_prompt, 16)
    if responses_per_prompt < 2:
        raise InputError("`responses_per_prompt` must be at least 2 to make pairs, but got 1.")
    rng = np.random.default_rng([seed, _PAIRS])
    rows: list[dict[str, Any]] = []
    for prompt in world.prompts(rng):
        responses = _different_responses(world, prompt, responses_per_prompt, rng)
        rated = [_rate(world, prompt, response) for response in responses]
        for first, second in itertools.combinations(range(len(responses)), 2):
            a, b = (first, second) if rng.random() < 0.5 else (second, first)
            rows.append(pair_row(world, prompt, responses[a], responses[b], rated[a], rated[b]))
        if len(rows) >= num_pairs:
            break
    return Dataset.from_list(rows[:num_pairs])


def _resolve(world: SimulatedWorld | None, seed: int | None) -> tuple[SimulatedWorld, int]:
    if world is None:
        world = SimulatedWorld() if seed is None else SimulatedWorld(seed=seed)
    return world, world.seed if seed is None else seed


def _different_responses(world: SimulatedWorld, prompt: str, count: int, rng: np.random.Generator) -> list[str]:
    responses: dict[str, None] = {}
    while len(responses) < count:
        responses[world.write_response(prompt, rng)] = None
    return list(responses)


def _rate(world: SimulatedWorld, prompt: str, response: str) -> tuple[np.ndarray, dict[str, float]]:
    gold = world.gold_rewards(prompt, response)
    return gold, rate_response(world, prompt, response, gold)


def pair_row(
    world: SimulatedWorld,
    prompt: str,
    response_a: str,
    response_b: str,
    rated_a: tuple[np.ndarray, dict[str, float]],
    rated_b: tuple[np.ndarray, dict[str, float]],
) -> dict[str, Any]:
    """A row of [`simulate_pairs`] from two responses, each with its gold rewards and its ratings."""
    (gold_a, ratings_a), (gold_b, ratings_b) = rated_a, rated_b
    row: dict[str, Any] = {
        "pair_id": _content_id([prompt, response_a, response_b]),
        "prompt_id": _content_id(prompt),
        "prompt": prompt,
        "response_a": response_a,
        "response_b": response_b,
    }
    extra_words = len(response_a.split()) - len(response_b.split())
    row.update(annotate_pair(world, row["pair_id"], gold_a, gold_b, extra_words))
    golds = {name: pair for name, *pair in zip(world.aspects, gold_a.tolist(), gold_b.tolist(), strict=True)}
    golds[OVERALL] = [float(gold_a.sum()), float(gold_b.sum())]
    for name, gold in golds.items():
        row[f"rating_{name}_a"], row[f"rating_{name}_b"] = ratings_a[name], ratings_b[name]
        row[f"gold_{name}_a"], row[f"gold_{name}_b"] = gold
    return row


def simulate_prompts(num_prompts: int = 400, seed: int = 42) -> list[str]:
    """
    Prompts for evaluation, none of which `simulate_pairs` or `simulate_corpus` ever uses, whatever their seeds.

    Args:
        num_prompts (`int`, *optional*, defaults to `400`):
            Number of prompts, all different.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the choice.

    Returns:
        `list[str]`: the prompts.

    Raises:
        `InputError`: if `num_prompts` is out of range.
    """
    _require_count("num_prompts", num_prompts, MAX_PROMPTS["evaluation"])
    rng = np.random.default_rng([seed, _EVALUATION])
    return list(itertools.islice(SimulatedWorld(seed=seed).prompts(rng, "evaluation"), num_prompts))


def simulate_corpus(
    num_texts: int = 40_000, seed: int | None = None, *, world: SimulatedWorld | None = None
) -> list[dict[str, str]]:
    """
    Text to pretrain a model on: training prompts answered by writers of every quality.

    Args:
        num_texts (`int`, *optional*, defaults to `40000`):
            Number of prompts with a response; prompts recur.
        seed (`int`, *optional*):
            Seed of the texts. Defaults to the world's seed.
        world (`SimulatedWorld`, *optional*):
            The writers. Defaults to `SimulatedWorld(seed=seed)`.

    Returns:
        `list[dict[str, str]]` with the keys `"prompt"` and `"completion"`.

    Raises:
        `InputError`: if `num_texts` is out of range.
    """
    _require_count("num_texts", num_texts)
    world, seed = _resolve(world, seed)
    rng = np.random.default_rng([seed, _CORPUS])
    prompts = list(itertools.islice(world.prompts(rng), min(num_texts, MAX_PROMPTS["train"])))
    return [
        {"prompt": prompt, "completion": world.write_response(prompt, rng)}
        for prompt in itertools.islice(itertools.cycle(prompts), num_texts)
    ]
