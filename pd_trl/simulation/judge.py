"""Evaluation with the truth: answers of a policy to the evaluation prompts, and the gold judge."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
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
    Answers of a model to prompts, one each.

    A token is drawn by adding Gumbel noise to the logits; the noise of a prompt depends on `seed` and on the prompt's
    text, so neither order nor batch size changes an answer, and two policies answer a prompt with the same luck.

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
    if not prompts:
        raise InputError("`generate_responses` needs at least one prompt, but got none.")
    if temperature < 0:
        raise InputError(f"`temperature` must be 0 (greedy) or positive, but got {temperature}.")
    was_training = model.training
    model.eval()
    ids = tokenizer(list(prompts))["input_ids"]
    # Prompts of similar length together: less padding.
    order = sorted(range(len(prompts)), key=lambda i: (len(ids[i]), i))
    texts = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        noise = None
        if temperature > 0:
            shape = (max_new_tokens, model.config.vocab_size)
            noise = np.stack([temperature * _gumbel(seed, prompts[i], shape) for i in rows])
        for i, tokens in zip(
            rows, _decode(model, tokenizer, [ids[i] for i in rows], noise, max_new_tokens), strict=True
        ):
            texts[i] = str(tokenizer.decode(tokens, skip_special_tokens=True))
    model.train(was_training)
    return [{"instruction": prompt, "output": text} for prompt, text in zip(prompts, texts, strict=True)]


def _gumbel(seed: int, prompt: str, shape: tuple[int, int]) -> np.ndarray:
    digest = blake2b(repr((seed, prompt)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big")).gumbel(size=shape).astype(np.float32)


def _decode(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[list[int]],
    noise: np.ndarray | None,
    max_new_tokens: int,
) -> list[list[int]]:
    """Token ids of the answers, up to and without the eos token."""
    import torch

    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    longest = max(map(len, prompts))
    device = model.device
    input_ids = torch.tensor([[pad] * (longest - len(row)) + row for row in prompts], device=device)
    attention_mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=device)
    gumbel = None if noise is None else torch.from_numpy(noise).to(device)
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    answers: list[list[int]] = [[] for _ in prompts]
    cache = None
    with torch.no_grad():
        for step in range(max_new_tokens):
            positions = attention_mask.cumsum(1).sub(1).clamp(min=0)[:, -input_ids.shape[1] :]
            result = model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = result.past_key_values
            logits = result.logits[:, -1].float()
            tokens = (logits if gumbel is None else logits + gumbel[:, step]).argmax(-1)
            finished |= tokens == eos
            if bool(finished.all()):
                break
            for i in torch.nonzero(~finished).flatten().tolist():
                answers[i].append(int(tokens[i]))
            input_ids = torch.where(finished, torch.full_like(tokens, pad), tokens)[:, None]
            attention_mask = torch.cat([attention_mask, torch.ones_like(input_ids)], dim=1)
    return answers


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
