"""Evaluation with the truth: answers of a policy to the evaluation prompts, and the gold judge."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from .world import SimulatedWorld

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


Outputs = Sequence[dict[str, str]]


def generate_responses(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    seed: int = 42,
    *,
    temperature: float = 0.7,
    max_new_tokens: int = 80,
    batch_size: int = 256,
) -> list[dict[str, str]]:
    """
    Answers of a model to prompts, one each, by [`~generation.decode`]: neither order nor batch size changes an answer, and
    two policies answer a prompt with the same luck.

    Args:
        model (`PreTrainedModel`): a causal language model.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer, with a pad and an eos token.
        prompts (`Sequence[str]`): the prompts.
        seed (`int`, *optional*, defaults to `42`): seed of the draws.
        temperature (`float`, *optional*, defaults to `0.7`): 0 takes the likeliest token.
        max_new_tokens (`int`, *optional*, defaults to `80`): the longest answer, in tokens.
        batch_size (`int`, *optional*, defaults to `256`): prompts per batch.

    Returns:
        `list[dict[str, str]]`: records with the keys `"instruction"` and `"output"`, in the order of `prompts`.

    Raises:
        `InputError`: if there are no prompts, or `temperature` is negative.
    """
    from ...generation import DecodingConfig, decode

    if not prompts:
        raise InputError("`generate_responses` needs at least one prompt, but got none.")
    config = DecodingConfig(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    texts = [""] * len(prompts)
    ids = tokenizer(list(prompts))["input_ids"]
    for answer in decode(model, tokenizer, ids, prompts, config, batch_size=batch_size):
        texts[answer.position] = str(tokenizer.decode(answer.token_ids, skip_special_tokens=True))
    return [{"instruction": prompt, "output": text} for prompt, text in zip(prompts, texts, strict=True)]


def gold_scores(outputs: Outputs, world: SimulatedWorld) -> np.ndarray:
    """
    Gold rewards of answers.

    Args:
        outputs (`Sequence[dict[str, str]]`): records with `"instruction"` and `"output"`.
        world (`SimulatedWorld`): gives the aspects.

    Returns:
        `np.ndarray` of shape `(num_outputs, num_aspects)`; its sum over aspects is the overall gold score.
    """
    _check(outputs, "outputs")
    return np.stack([world.gold_rewards(row["instruction"], row["output"]) for row in outputs])


def gold_summary(outputs: Outputs, world: SimulatedWorld) -> dict[str, float]:
    """
    Mean gold score of a policy's answers.

    Returns:
        `dict[str, float]`: `gold` (mean over prompts of the sum over aspects), `gold_se` (its standard error),
        `gold_<aspect>`, `num_words` (mean length) and `num_outputs`.
    """
    scores = gold_scores(outputs, world)
    gold, error = _mean_and_error(scores.sum(1))
    return {
        "gold": gold,
        "gold_se": error,
        **{f"gold_{aspect}": float(mean) for aspect, mean in zip(world.aspects, scores.mean(0), strict=True)},
        "num_words": float(np.mean([len(row["output"].split()) for row in outputs])),
        "num_outputs": float(len(outputs)),
    }


def gold_win_rate(outputs_a: Outputs, outputs_b: Outputs, world: SimulatedWorld) -> dict[str, float]:
    """
    How often policy a answers better than policy b, by the gold overall score; a tie counts half.

    Answers are compared by instruction, so the order of the records does not matter.

    Args:
        outputs_a, outputs_b (`Sequence[dict[str, str]]`): answers to the same instructions.
        world (`SimulatedWorld`): gives the aspects.

    Returns:
        `dict[str, float]`: `win_rate` in [0, 1], `win_rate_se`, `wins`, `losses`, `ties`, `win_score`
        (`1 + (wins - losses) / n`), and `gold_gap` (mean of a minus b) with `gold_gap_se`. Errors are over prompts.

    Raises:
        `InputError`: if an instruction repeats, or the two sides answer different instructions.
    """
    by_instruction = []
    for outputs, name in ((outputs_a, "outputs_a"), (outputs_b, "outputs_b")):
        scores = gold_scores(outputs, world).sum(1)
        side = dict(zip((row["instruction"] for row in outputs), scores.tolist(), strict=True))
        if len(side) < len(outputs):
            raise InputError(
                f"{name} has {len(outputs)} records but only {len(side)} different instructions; keep one each."
            )
        by_instruction.append(side)
    side_a, side_b = by_instruction
    if missing := sorted(side_a.keys() ^ side_b.keys()):
        raise InputError(
            f"Both sides must answer the same instructions, but {len(missing)} are answered by one side only, the "
            f"first being {missing[0]!r}. Generate both with the same prompts."
        )
    gaps = np.array([side_a[instruction] - side_b[instruction] for instruction in side_a])
    gaps[np.abs(gaps) < 1e-9] = 0.0
    wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
    win_rate, error = _mean_and_error((np.sign(gaps) + 1) / 2)
    gap, gap_error = _mean_and_error(gaps)
    return {
        "win_rate": win_rate,
        "win_rate_se": error,
        "wins": wins,
        "losses": losses,
        "ties": len(gaps) - wins - losses,
        "win_score": 1 + (wins - losses) / len(gaps),
        "gold_gap": gap,
        "gold_gap_se": gap_error,
    }


def _check(outputs: Outputs, name: str) -> None:
    if not outputs:
        raise InputError(f"`{name}` is empty; expected records with 'instruction' and 'output'.")
    for i, row in enumerate(outputs):
        if not isinstance(row.get("instruction"), str) or not isinstance(row.get("output"), str):
            raise InputError(
                f"`{name}[{i}]` must have the texts 'instruction' and 'output', but has the keys {sorted(row)}."
            )


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return float(values.mean()), float(error)
