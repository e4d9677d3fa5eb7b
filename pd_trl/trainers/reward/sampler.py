"""Length-balanced sampling of training pairs (arXiv 2508.07638)."""

import logging
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import InputError
from ...method.length import balanced_shares, check_temperature

logger = logging.getLogger(__name__)


class EpochSampler:
    """A sampler whose order is a function of the epoch, which may be a callable that is asked at the start of each iteration."""

    epoch: int | Callable[[], int]

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch() if callable(self.epoch) else self.epoch
        return iter(self.indices(epoch).tolist())

    def indices(self, epoch: int) -> NDArray[np.integer]:
        """Row indices of one epoch, shape `(num_pairs,)`."""
        raise NotImplementedError


class LengthBalancedSampler(EpochSampler):
    """
    Draws an epoch of row indices in which the pairs with `len(chosen) >= len(rejected)` and the others have the shares of
    [`balanced_shares`] (length-balanced sampling, arXiv 2508.07638).

    Each epoch has as many draws as there are rows. Its two shares are met within one row; a side is drawn without
    replacement until it is exhausted, then again from the start; if one side is empty, all draws are from the other. The
    order is a pure function of `(seed, epoch)`, so that every rank sees the same one and a resumed run goes on with it.

    Args:
        delta_lengths (integer array of shape `(num_pairs,)`):
            Completion tokens of the chosen minus those of the rejected response.
        temperature (`float`, *optional*, defaults to `1.0`):
            The paper's tau. The paper's value is not known; 1.0 is ours.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the order.
        epoch (`int` or callable returning `int`, *optional*, defaults to `0`):
            Epoch to draw. A callable is asked at the start of each iteration.
        lengths (integer array of shape `(num_pairs,)`, *optional*):
            Lengths to group by: rows of similar length come next to each other, as in transformers' `group_by_length`.
        batch_size (`int`, *optional*, defaults to `1`):
            Batch size, used with `lengths` only.
    """

    def __init__(
        self,
        delta_lengths: ArrayLike,
        temperature: float = 1.0,
        seed: int = 42,
        epoch: int | Callable[[], int] = 0,
        lengths: ArrayLike | None = None,
        batch_size: int = 1,
    ):
        delta = np.asarray(delta_lengths)
        if delta.ndim != 1 or delta.size == 0:
            raise InputError(f"`delta_lengths` must be a non-empty vector, got shape {delta.shape}.")
        check_temperature(temperature)
        self.longer, self.shorter = np.flatnonzero(delta >= 0), np.flatnonzero(delta < 0)
        self.temperature, self.seed, self.epoch = temperature, seed, epoch
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.batch_size = batch_size
        share = self.longer.size / delta.size
        target = balanced_shares(share, temperature)[0]
        self.num_longer = round(target * delta.size)
        if self.longer.size == 0 or self.shorter.size == 0:
            side = "chosen" if self.shorter.size == 0 else "rejected"
            logger.warning("Length balancing has nothing to balance: the %s response is never the shorter one.", side)
            self.num_longer = self.longer.size
        self.num_shorter = delta.size - self.num_longer

    def __len__(self) -> int:
        return self.num_longer + self.num_shorter

    def indices(self, epoch: int) -> NDArray[np.integer]:
        generator = np.random.default_rng([int(self.seed), int(epoch)])
        drawn = np.concatenate(
            [_draw(self.longer, self.num_longer, generator), _draw(self.shorter, self.num_shorter, generator)]
        )
        generator.shuffle(drawn)
        return drawn if self.lengths is None else group_by_length(drawn, self.lengths, self.batch_size)


def group_by_length(order: NDArray[np.integer], lengths: NDArray, batch_size: int) -> NDArray[np.integer]:
    """
    `order` sorted by length, longest first, within blocks of 50 batches (as transformers does): a batch then holds rows
    of similar length while the order of blocks stays random. The longest row comes first, so that running out of memory
    shows at once.
    """
    block = max(1, min(50 * batch_size, math.ceil(order.size / 4)))
    blocks = [order[start : start + block] for start in range(0, order.size, block)]
    blocks = [rows[np.argsort(-lengths[rows], kind="stable")] for rows in blocks]
    longest = max(range(len(blocks)), key=lambda b: (lengths[blocks[b][0]], -b))
    blocks[0][0], blocks[longest][0] = blocks[longest][0], blocks[0][0]
    return np.concatenate(blocks)


def _draw(rows: NDArray[np.integer], count: int, generator: np.random.Generator) -> NDArray[np.integer]:
    rounds = [generator.permutation(rows) for _ in range(math.ceil(count / rows.size))] if count else []
    return np.concatenate([*rounds, rows[:0]])[:count]
