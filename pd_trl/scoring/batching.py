"""Batches of sequences under a token budget, and rewards of all sequences in such batches."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..models.memory import in_halves
from .backends import Scorer
from .prefixes import Prefixes, no_prefixes, prefix_batches, shared_prefixes
from .tokens import TokenRows


@dataclass
class EngineCounts:
    """
    What the model was given.

    Args:
        sequences (`int`): Distinct sequences.
        tokens (`int`): Tokens of all sequences.
        computed (`int`): Tokens that went through the model: a shared prefix counts once.
        cells (`int`): The same with padding.
    """

    sequences: int = 0
    tokens: int = 0
    computed: int = 0
    cells: int = 0

    def add(self, other: "EngineCounts") -> None:
        """Adds another's numbers."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def token_batches(lengths: ArrayLike, tokens_per_batch: int) -> Iterator[NDArray[np.int64]]:
    """
    Positions of the sequences of each batch, longest first, so that a batch pads little and the largest comes first.

    Args:
        lengths (array of shape `(num_sequences,)`): Tokens of each sequence.
        tokens_per_batch (`int`): Most tokens of a batch, padding counted. A longer sequence has a batch of its own.
    """
    sizes = np.asarray(lengths)
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < order.size:
        count = max(1, int(tokens_per_batch // max(1, sizes[order[start]])))
        yield order[start : start + count]
        start += count


def score_sequences(
    scorer: Scorer,
    tokens: TokenRows,
    groups: NDArray[np.integer] | None = None,
    *,
    tokens_per_batch: int | None = None,
    share_prefix: bool = True,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[NDArray[np.float32], EngineCounts]:
    """
    Rewards of distinct sequences, in batches of similar length.

    Args:
        scorer ([`RewardModelScorer`] or [`VllmScorer`]): The reward model.
        tokens ([`TokenRows`]): The sequences.
        groups (array of shape `(num_sequences,)`, *optional*): Sequences of one group may begin alike, as those of a prompt do.
        tokens_per_batch (`int`, *optional*): Most tokens of a batch, padding counted. `None` is 16,384 on a GPU and 2,048 on
            a CPU.
        share_prefix (`bool`, *optional*, defaults to `True`): Whether to read what a group begins with once, where that pays
            and the model can.
        progress (callable, *optional*): Told the number of sequences of each batch.

    Returns:
        `tuple`: rewards of shape `(num_sequences, num_aspects)` in the order of `tokens`, and [`EngineCounts`].

    Raises:
        InputError: When a single sequence does not fit in memory.
    """
    budget = tokens_per_batch or scorer.default_budget
    sharing = share_prefix and groups is not None and len(tokens) > 1
    prefixes = shared_prefixes(tokens, groups) if sharing and groups is not None else no_prefixes(len(tokens))
    if len(prefixes) and not scorer.shares_prefixes:
        prefixes = no_prefixes(len(tokens))
    # Results stay on the device until the end: waiting for each batch would leave it idle.
    rewards = torch.empty(len(tokens), len(scorer.aspects), device=scorer.device)
    counts = EngineCounts(sequences=len(tokens), tokens=int(tokens.lengths.sum()))

    def score_alone(batch: NDArray[np.integer]) -> None:
        rows = prefixes.alone[batch]
        part = tokens.take(rows)
        rewards[torch.from_numpy(rows).to(scorer.device)] = scorer(part)
        counts.computed += int(part.lengths.sum())
        counts.cells += len(part) * int(part.lengths.max())
        progress(len(part))

    def score_groups(batch: NDArray[np.integer]) -> None:
        members, place = prefixes.members(batch)
        lengths, part = prefixes.lengths[batch], tokens.take(members)
        first = tokens.take(prefixes.order[prefixes.first[batch]]).up_to(lengths)
        rewards[torch.from_numpy(members).to(scorer.device)] = scorer.shared(first, part, place)  # type: ignore[union-attr]
        behind = np.bincount(place, weights=part.lengths - lengths[place], minlength=batch.size)
        counts.computed += int(lengths.sum() + behind.sum())
        counts.cells += batch.size * int(lengths.max() + behind.max())
        progress(len(part))

    widest = int(tokens.lengths.max(initial=0))
    run_batches(_group_batches(prefixes, tokens, budget), score_groups, widest)
    run_batches(token_batches(tokens.lengths[prefixes.alone], budget), score_alone, widest)
    return rewards.cpu().numpy(), counts


def _group_batches(prefixes: Prefixes, tokens: TokenRows, budget: int) -> Iterator[NDArray[np.int64]]:
    if not len(prefixes):
        return iter(())
    total = np.add.reduceat(tokens.lengths[prefixes.order], prefixes.first)
    return prefix_batches(prefixes.lengths, total - prefixes.sizes * prefixes.lengths, budget)


def run_batches(
    batches: Iterable[NDArray[np.integer]], forward: Callable[[NDArray[np.integer]], None], widest: int
) -> None:
    """
    Calls `forward` with each batch; one that does not fit in memory is halved.

    Args:
        batches (iterable of arrays): Positions of the members of each batch.
        forward (callable): Computes a batch.
        widest (`int`): Tokens of the longest sequence, for the message when a single member does not fit.
    """
    for batch in batches:
        in_halves(
            batch,
            forward,
            lambda row, reason: (
                f"A batch of a single row does not fit in memory ({reason}); the longest has {widest} tokens. Set a "
                "smaller `max_length`."
            ),
        )
