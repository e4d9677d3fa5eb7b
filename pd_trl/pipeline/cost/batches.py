"""The batches that trainers, the scorer and the decoder make from sequences of known length."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...scoring.batching import token_batches
from ...scoring.layout import shard_rows
from ...scoring.prefixes import LEAST_SAVING, prefix_batches
from ...trainers.reward.heads.batches import AspectBalancedSampler
from ...trainers.reward.sampler import group_by_length
from .formulas import Work
from .lengths import PairLengths

# Default tokens of a scorer's batch.
TOKENS_PER_BATCH = {"cpu": 2048, "gpu": 16384}

# Share of the positions that a batch must save for its pairs to share prefixes.
LEAST_SPARED = 0.1


def training_work(
    chosen: NDArray,
    rejected: NDArray,
    order: NDArray,
    *,
    batch_size: int,
    accumulation: int = 1,
    head_tokens: NDArray | None = None,
    multiple: int | None = None,
    prompts: NDArray | None = None,
) -> Work:
    """
    One epoch of pairs, both sides of a batch padded to its longest sequence.

    Args:
        chosen, rejected (array of shape `(num_pairs,)`): Tokens of each side.
        order (array): Rows in the order of the epoch.
        batch_size (`int`): Pairs per call of the model.
        accumulation (`int`, *optional*, defaults to `1`): Calls of the model per optimizer step.
        head_tokens (array of shape `(num_pairs,)`, *optional*): Positions of a pair that go through the head. `None` is all.
        multiple (`int`, *optional*): The padded length is a multiple of this.
        prompts (array of shape `(num_pairs,)`, *optional*): Tokens that both sides share at the start, with
        `share_prefix`. A batch shares them if that saves a tenth of its positions.
    """
    if order.size == 0:
        return Work()
    starts = np.arange(0, order.size, batch_size)
    widths = np.maximum.reduceat(np.maximum(chosen, rejected)[order], starts)
    if multiple:
        widths = -(-widths // multiple) * multiple
    rows = 2 * np.diff(np.append(starts, order.size))
    if prompts is not None:
        trees = np.maximum.reduceat((chosen + rejected - prompts)[order], starts)
        packed = trees <= (1 - LEAST_SPARED) * 2 * widths
        rows, widths = np.where(packed, rows // 2, rows), np.where(packed, trees, widths)
    largest = int(np.argmax(rows * widths))
    padded = int((rows * widths).sum())
    return Work(
        sequences=2 * order.size,
        tokens=int((chosen + rejected)[order].sum()),
        padded=padded,
        squares=float((rows * widths.astype(float) ** 2).sum()),
        head_tokens=padded if head_tokens is None else int(head_tokens[order].sum()),
        batches=int(starts.size),
        steps=int(-(-starts.size // accumulation)),
        largest=(int(rows[largest]), int(widths[largest])),
    )


def epochs_of(work_of_epoch: list[Work], epochs: float, max_steps: int) -> Work:
    """Work of all epochs, or of `max_steps` steps if positive. `work_of_epoch` holds the epochs with different orders."""
    total, done = Work(), 0.0
    whole = int(np.ceil(epochs)) if max_steps <= 0 else len(work_of_epoch)
    for i in range(min(whole, len(work_of_epoch))):
        total += work_of_epoch[i].times(min(1.0, epochs - i) if max_steps <= 0 else 1.0)
        done += min(1.0, epochs - i) if max_steps <= 0 else 1.0
    if max_steps > 0:
        return total.times(max_steps / total.steps) if total.steps else total
    return total.times(epochs / done) if done else total


def epoch_orders(
    chosen: NDArray,
    rejected: NDArray,
    *,
    seed: int,
    temperature: float | None,
    grouped: bool,
    batch_size: int,
    epochs: float,
    heads: NDArray | None = None,
) -> Iterator[NDArray]:
    """
    Row orders of up to four epochs: by [`AspectBalancedSampler`] with a `temperature`, else random; in blocks of
    similar length if `grouped`. `heads` is the head of each pair, for a model with several heads.
    """
    longest = np.maximum(chosen, rejected)
    sampler = None
    # If all sides have equal lengths, there is nothing to balance.
    if temperature is not None and (chosen < rejected).any() and (chosen >= rejected).any():
        lengths = longest if grouped else None
        sampler = AspectBalancedSampler(
            chosen - rejected, np.zeros(chosen.size) if heads is None else heads, temperature=temperature, seed=seed, lengths=lengths,
            batch_size=batch_size,
        )  # fmt: skip
    for epoch in range(int(min(4, np.ceil(epochs)))):
        if sampler is not None:
            yield sampler.indices(epoch)
            continue
        order = np.random.default_rng([seed, epoch]).permutation(chosen.size)
        yield group_by_length(order, longest, batch_size) if grouped and order.size else order


def evaluation_work(chosen: NDArray, rejected: NDArray, batch_size: int) -> Work:
    """Pairs in their order, without training."""
    work = training_work(chosen, rejected, np.arange(chosen.size), batch_size=batch_size)
    work.steps = 0
    return work


def reading_work(lengths: PairLengths, batch_size: int) -> Work:
    """
    Each distinct conversation once, as a backbone that is not trained reads them in the first epoch: with the padding of the batch
    in which it comes first.

    Args:
        lengths ([`PairLengths`]): The pairs.
        batch_size (`int`): Pairs of a batch.
    """
    if not len(lengths):
        return Work()
    sizes = np.column_stack([lengths.chosen, lengths.rejected]).ravel()
    first = np.unique(lengths.keys.ravel(), return_index=True)[1]
    starts = np.arange(0, sizes.size, 2 * batch_size)
    widths = np.maximum.reduceat(sizes, starts)
    rows = np.bincount(first // (2 * batch_size), minlength=starts.size)
    largest = int(np.argmax(rows * widths))
    return Work(
        sequences=int(first.size), tokens=int(sizes[first].sum()), padded=int((rows * widths).sum()),
        squares=float((rows * widths.astype(float) ** 2).sum()), batches=int((rows > 0).sum()),
        largest=(int(rows[largest]), int(widths[largest])),
    )  # fmt: skip


def scoring_work(
    lengths: PairLengths, *, longest: int | None, tokens_per_batch: int, pairs_per_shard: int, share_prefix: bool
) -> Work:
    """
    The batches of [`score_pairs`]: each distinct conversation of a shard once, sorted by length, under a token budget.
    Conversations with the same prompt share it if that saves enough.

    Args:
        lengths ([`PairLengths`]): The pairs.
        longest (`int`, *optional*): Maximum number of tokens; longer conversations are cut at the start.
        tokens_per_batch (`int`): Maximum number of tokens in a batch.
        pairs_per_shard (`int`): Pairs of a shard.
        share_prefix (`bool`): Whether prompts are read once.
    """
    both = np.column_stack([lengths.chosen, lengths.rejected])
    # A conversation that is cut at the start shares nothing with the others.
    prompts = (
        np.where(both > longest, 0, lengths.prompt[:, None])
        if longest is not None
        else lengths.prompt[:, None] + 0 * both
    )
    both = np.minimum(both, longest) if longest is not None else both
    total = Work()
    for rows in shard_rows(lengths.groups, pairs_per_shard):
        _, first = np.unique(lengths.keys[rows].ravel(), return_index=True)
        sizes, starts = both[rows].ravel()[first], prompts[rows].ravel()[first]
        groups = np.repeat(lengths.groups[rows], 2)[first]
        total += _forward_work(sizes, starts, groups if share_prefix else np.arange(sizes.size), tokens_per_batch)
    return total


def _forward_work(sizes: NDArray, prompts: NDArray, groups: NDArray, tokens_per_batch: int) -> Work:
    order = np.argsort(groups, kind="stable")
    sizes, prompts, groups = sizes[order], prompts[order], groups[order]
    _, first, counts = np.unique(groups, return_index=True, return_counts=True)
    if not first.size:
        return Work()
    shared, together = np.minimum.reduceat(prompts, first), np.add.reduceat(sizes, first)
    pays = (counts > 1) & ((counts - 1) * shared >= LEAST_SAVING * together) & (shared > 0)
    prefixes, branches = shared[pays], (together - counts * shared)[pays]
    total = Work()
    for batch in prefix_batches(prefixes, branches, tokens_per_batch) if prefixes.size else ():
        rows, before, behind = batch.size, int(prefixes[batch].max()), int(branches[batch].max())
        squares = rows * (before**2 / 2 + behind * float(before + behind))
        cells = rows * (before + behind)
        total += Work(0, 0, cells, squares, 0, 1, 0, (rows, before + behind))
    alone = sizes[np.repeat(~pays, counts)]
    for batch in token_batches(alone, tokens_per_batch):
        rows, width = int(batch.size), int(alone[batch].max())
        # Without a mask, attention skips the half that no token sees.
        total += Work(0, 0, rows * width, rows * float(width) ** 2 / 2, 0, 1, 0, (rows, width))
    total.sequences, total.tokens, total.head_tokens = int(sizes.size), int(sizes.sum()), int(sizes.size)
    return total


def decoding_work(prompts: NDArray, new_tokens: int, batch_size: int) -> tuple[Work, Work]:
    """
    The pass over the prompts and the passes of the new tokens, longest prompts first. A row is computed until the last
    row of its batch has ended.
    """
    order = np.sort(prompts)[::-1]
    prefill, decode = Work(), Work()
    for start in range(0, order.size, batch_size):
        part = order[start : start + batch_size]
        rows, width = int(part.size), int(part.max())
        prefill += Work(rows, int(part.sum()), rows * width, float(rows) * width**2, rows, 1, 0, (rows, width))
        steps = new_tokens - 1
        # Each new token attends to all before it.
        context = steps * width + steps * (steps + 1) / 2
        tokens = rows * steps
        decode += Work(rows, rows * new_tokens, tokens, rows * context, tokens, steps, 0, (rows, width + new_tokens))
    return prefill, decode
