"""Which sequences of a shard share a prompt that is worth reading once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tokens import TokenRows

# Reading a prefix once costs a second call of every layer and an attention mask. It pays from about this share of saved
# tokens on: scripts/bench_speed.py has the ratios for long and short prompts.
LEAST_SAVING = 0.3
# Branches of one row see each other's columns in vain, so that a prompt with many responses has several rows.
_MOST_BRANCHES = 8


@dataclass(frozen=True)
class Prefixes:
    """
    Groups of sequences that begin alike.

    Args:
        order (array of shape `(num_shared,)`): Positions of the sequences, group by group.
        first (array of shape `(num_groups,)`): Where each group begins in `order`.
        sizes (array of shape `(num_groups,)`): Its sequences.
        lengths (array of shape `(num_groups,)`): Tokens that all its sequences begin with, at least 1.
        alone (array): Positions of the sequences of no group.
    """

    order: NDArray[np.int64]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    lengths: NDArray[np.int64]
    alone: NDArray[np.int64]

    def __len__(self) -> int:
        return self.sizes.size

    def members(self, groups: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of the sequences of these groups, and the place among `groups` of each one's."""
        place = np.repeat(np.arange(groups.size), self.sizes[groups])
        within = np.arange(place.size) - np.repeat(
            np.cumsum(self.sizes[groups]) - self.sizes[groups], self.sizes[groups]
        )
        return self.order[self.first[groups][place] + within], place


def no_prefixes(count: int) -> Prefixes:
    """No groups among `count` sequences."""
    empty = np.zeros(0, dtype=np.int64)
    return Prefixes(empty, empty, empty, empty, np.arange(count))


def shared_prefixes(tokens: TokenRows, groups: NDArray[np.integer], least_saving: float = LEAST_SAVING) -> Prefixes:
    """
    The groups whose common beginning saves at least a share of `least_saving` of their tokens when it is read once.

    Args:
        tokens ([`TokenRows`]): Distinct sequences.
        groups (array of shape `(num_sequences,)`): Group of each sequence, such as its prompt.
        least_saving (`float`, *optional*, defaults to `0.3`): Share of the tokens to save. 0 takes every common beginning.
    """
    if len(tokens) < 2:
        return no_prefixes(len(tokens))
    order = np.argsort(groups, kind="stable")
    group = groups[order]
    rank = np.arange(group.size) - np.searchsorted(group, group)
    new = np.ones(group.size, dtype=bool)
    new[1:] = (group[1:] != group[:-1]) | (rank[1:] % _MOST_BRANCHES == 0)
    first = np.flatnonzero(new)
    sizes = np.diff(np.append(first, group.size))
    # The common beginning of a group is the shortest of those of its neighbours; a new group has none with the last.
    shared = np.append(tokens.take(order).shared_with_next(), 0)
    ends_group = np.append(new[1:], True)
    shared[ends_group] = np.iinfo(np.int64).max
    lengths = np.minimum.reduceat(shared, first)
    total = np.add.reduceat(tokens.lengths[order], first)
    several = sizes > 1
    saved = np.where(several, (sizes - 1) * np.where(several, lengths, 0), 0)
    pays = several & (lengths > 0) & (saved >= least_saving * total)
    alone = order[np.repeat(~pays, sizes)]
    return Prefixes(order, first[pays], sizes[pays], lengths[pays], np.sort(alone))


def prefix_batches(
    prefixes: NDArray[np.integer], branches: NDArray[np.integer], tokens_per_batch: int
) -> Iterator[NDArray[np.int64]]:
    """
    Groups of each batch, so that prefixes of similar length, and branches, come together.

    Args:
        prefixes, branches (arrays of shape `(num_groups,)`): Tokens of each group's prefix, and of all its branches.
        tokens_per_batch (`int`): Most tokens of a batch, padding counted. A larger group has a batch of its own.
    """
    # Prefixes within ten percent of each other count as alike, and are sorted by their branches.
    alike = np.floor(np.log(np.maximum(prefixes, 1)) / np.log(1.1))
    order = np.lexsort((-branches, -alike))
    start = 0
    while start < order.size:
        ahead = order[start : start + max(1, tokens_per_batch)]
        width = np.maximum.accumulate(prefixes[ahead]) + np.maximum.accumulate(branches[ahead])
        fits = width * np.arange(1, ahead.size + 1) <= tokens_per_batch
        count = max(1, int(np.argmin(fits)) if not fits.all() else fits.size)
        yield order[start : start + count]
        start += count
