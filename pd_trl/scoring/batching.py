"""Batches of sequences under a token budget, and running a model over them however little memory there is."""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError

logger = logging.getLogger(__name__)


def token_batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[NDArray[np.integer]]:
    """
    Positions of the sequences of each batch, longest first, so that a batch pads little and the largest comes first.

    Args:
        lengths (sequence of `int`): Tokens of each sequence.
        tokens_per_batch (`int`): Most tokens of a batch, padding counted. A longer sequence has a batch of its own.
    """
    sizes = np.asarray(lengths)
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < order.size:
        count = max(1, int(tokens_per_batch // max(1, sizes[order[start]])))
        yield order[start : start + count]
        start += count


def run_batches(
    sequences: Sequence[list[int]],
    forward: Callable[[list[list[int]]], NDArray[np.float32]],
    tokens_per_batch: int,
    progress: Callable[[int], None] = lambda count: None,
) -> NDArray[np.float32]:
    """
    `forward` over all sequences in length-sorted batches; a batch that does not fit in memory is halved.

    Returns:
        Array of shape `(num_sequences, num_outputs)`, in the order of `sequences`.
    """
    results: list[NDArray[np.float32]] = []
    positions: list[NDArray[np.integer]] = []
    for batch in token_batches([len(ids) for ids in sequences], tokens_per_batch):
        results.append(_halving([sequences[i] for i in batch], forward))
        positions.append(batch)
        progress(batch.size)
    stacked = np.concatenate(results)
    ordered = np.empty_like(stacked)
    ordered[np.concatenate(positions)] = stacked
    return ordered


def _halving(
    sequences: list[list[int]], forward: Callable[[list[list[int]]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    try:
        return forward(sequences)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
    if len(sequences) == 1:
        raise InputError(
            f"A single sequence of {len(sequences[0])} tokens does not fit in memory ({reason}). Set a smaller `max_length`."
        )
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(sequences) // 2
    logger.warning("Out of memory with %d sequences in a batch; halving it.", len(sequences))
    return np.concatenate([_halving(sequences[:middle], forward), _halving(sequences[middle:], forward)])


def _is_out_of_memory(error: Exception) -> bool:
    # On CPU torch raises a plain RuntimeError for a failed allocation.
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
