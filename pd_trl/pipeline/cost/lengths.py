"""Tokens of each pair: counted if there are few pairs, else estimated from a sample and the number of characters."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...method.ranking import random_keys
from ...scoring.encoding import conversations, encode_responses, response_key
from ...scoring.layout import prompt_groups

Lengths = NDArray[np.int64]


@dataclass
class PairLengths:
    """
    Tokens of each pair's two conversations.

    Args:
        prompt, chosen, rejected (array of shape `(num_pairs,)`):
            Tokens of the prompt, and of prompt and response together, of each side.
        keys (array of shape `(num_pairs, 2)`): Number of each distinct conversation.
        groups (array of shape `(num_pairs,)`): Number of each pair's prompt.
        counted (`int`): Pairs whose tokens were counted. For the others they are estimated from the characters.
        standard_error (`float`): Standard error of the mean tokens per pair; 0 if all were counted.
        seconds (`float`): CPU seconds to tokenise one conversation.
        source (`str`): Where the numbers come from.
    """

    prompt: Lengths
    chosen: Lengths
    rejected: Lengths
    keys: Lengths
    groups: Lengths
    counted: int
    standard_error: float
    seconds: float
    source: str

    def __len__(self) -> int:
        return int(self.chosen.size)

    @property
    def mean(self) -> float:
        """Mean tokens of a pair, both conversations together."""
        return float((self.chosen + self.rejected).mean()) if len(self) else 0.0

    def select(self, rows: NDArray) -> "PairLengths":
        """The lengths of some rows."""
        parts = (self.prompt[rows], self.chosen[rows], self.rejected[rows], self.keys[rows], self.groups[rows])
        return PairLengths(*parts, self.counted, self.standard_error, self.seconds, self.source)


def pair_lengths(preferences: Any, tokenizer: Any, *, sample_rows: int, seed: int, source: str) -> PairLengths:
    """
    Tokens of each pair of `preferences`, as counted by the reward trainer, the DPO trainer and the scorer.

    Args:
        preferences ([`~datasets.Dataset`]): Preferences in the data contract.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The model's tokenizer.
        sample_rows (`int`): Maximum number of pairs to tokenise. With more, a sample is drawn by `seed`.
        seed (`int`): Seed of the sample.
        source (`str`): Name of the tokenizer.
    """
    names = [
        n for n in ("prompt", "chosen", "rejected", "tools", "chat_template_kwargs") if n in preferences.column_names
    ]
    rows: list[dict[str, Any]] = preferences.select_columns(names).to_list()
    groups = prompt_groups(preferences)
    keys, characters = _keys_and_characters(tokenizer, rows)
    if len(rows) <= sample_rows:
        chosen_rows = np.arange(len(rows))
    else:
        order = np.argsort(random_keys(preferences["pair_id"][:], seed), kind="stable")
        chosen_rows = np.sort(order[:sample_rows])
    counted, seconds = _count(tokenizer, [rows[i] for i in chosen_rows])
    if len(chosen_rows) == len(rows):
        prompt, chosen, rejected = counted.T
        return PairLengths(prompt, chosen, rejected, keys, groups, len(rows), 0.0, seconds, source)
    estimated, residuals = _extrapolate(counted, characters, chosen_rows)
    error = float(residuals.std(ddof=1) / np.sqrt(len(chosen_rows)) * np.sqrt(1 - len(chosen_rows) / len(rows)))
    prompt, chosen, rejected = estimated.T
    return PairLengths(prompt, chosen, rejected, keys, groups, len(chosen_rows), error, seconds, source)


def _keys_and_characters(tokenizer: Any, rows: Sequence[Mapping[str, Any]]) -> tuple[Lengths, NDArray[np.float64]]:
    """The number of each distinct conversation, and the characters of prompt, chosen and rejected with their prompts."""
    numbers: dict[str, int] = {}
    texts = conversations(tokenizer, rows)
    keys = np.array([numbers.setdefault(response_key(t, rows[i // 2]), len(numbers)) for i, t in enumerate(texts)])
    sides = np.array([_characters(text) for text in texts], dtype=np.float64).reshape(-1, 2)
    prompts = np.array([_characters(row.get("prompt") or "") for row in rows], dtype=np.float64)
    return keys.reshape(-1, 2), np.column_stack([prompts, sides])


def _characters(text: Any) -> int:
    return len(text) if isinstance(text, str) else sum(len(str(message.get("content") or "")) for message in text)


def _count(tokenizer: Any, rows: list[dict[str, Any]]) -> tuple[Lengths, float]:
    """Tokens `(num_rows, 3)` of prompt, chosen and rejected, and CPU seconds per conversation."""
    start = time.process_time()
    encoded = encode_responses(tokenizer, conversations(tokenizer, rows), [row for row in rows for _ in range(2)])
    seconds = (time.process_time() - start) / max(1, len(encoded))
    counts = np.empty((len(rows), 3), dtype=np.int64)
    for i, prompt in enumerate(_prompts(tokenizer, rows)):
        chosen, rejected = encoded[2 * i], encoded[2 * i + 1]
        ends = (_common(chosen, rejected),) if prompt is None else (_common(prompt, chosen), _common(prompt, rejected))
        counts[i] = min(ends), len(chosen), len(rejected)
    return counts, seconds


def _prompts(tokenizer: Any, rows: list[dict[str, Any]]) -> list[list[int] | None]:
    """Tokens of each prompt, as the DPO trainer makes them; `None` if the prompt is part of both sides."""
    if not rows or rows[0].get("prompt") is None:
        return [None] * len(rows)
    if isinstance(rows[0]["prompt"], str):
        return list(tokenizer(text=[row["prompt"] for row in rows], verbose=False)["input_ids"])
    prompts = [row["prompt"] for row in rows]
    return list(
        tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=True, return_dict=True)[
            "input_ids"
        ]
    )


def _common(first: list[int], second: list[int]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _extrapolate(
    counted: Lengths, characters: NDArray[np.float64], rows: NDArray
) -> tuple[Lengths, NDArray[np.float64]]:
    """Tokens of all rows by a linear fit to the counted ones, and its errors on the sums of the sampled pairs."""
    estimated = np.empty(characters.shape)
    for column in range(3):
        design = np.column_stack([np.ones(len(rows)), characters[rows, column]])
        line, *_ = np.linalg.lstsq(design, counted[:, column].astype(float), rcond=None)
        estimated[:, column] = line[0] + line[1] * characters[:, column]
    residuals = (counted[:, 1:].sum(axis=1) - estimated[rows, 1:].sum(axis=1)).astype(float)
    whole = np.maximum(np.rint(estimated), [0, 1, 1]).astype(np.int64)
    whole[rows] = counted
    return whole, residuals


def assumed_lengths(num_pairs: int, tokens_per_pair: float, conversations_per_pair: float) -> PairLengths:
    """
    Identical pairs. Half of each conversation is its prompt. Conversations recur, so each pair has
    `conversations_per_pair` distinct ones.
    """
    if num_pairs < 1 or tokens_per_pair < 2 or not 0 < conversations_per_pair <= 2:
        raise InputError(
            "`num_pairs` must be at least 1, `tokens_per_pair` at least 2 (both conversations), and `conversations_per_pair` in "
            f"(0, 2], got {num_pairs}, {tokens_per_pair:g} and {conversations_per_pair:g}."
        )
    one = np.full(num_pairs, round(tokens_per_pair / 2), dtype=np.int64)
    # All pairs of k responses to a prompt have 2 / (k - 1) conversations per pair.
    responses = max(2, round(1 + 2 / conversations_per_pair))
    pairs_of_prompt = np.array(list(itertools.combinations(range(responses), 2)))
    groups = np.arange(num_pairs) // len(pairs_of_prompt)
    keys = groups[:, None] * responses + pairs_of_prompt[np.arange(num_pairs) % len(pairs_of_prompt)]
    said = f"{num_pairs:,} pairs of {tokens_per_pair:g} tokens, all alike"
    return PairLengths(one // 2, one, one.copy(), keys, groups, 0, 0.0, 0.0, said)
