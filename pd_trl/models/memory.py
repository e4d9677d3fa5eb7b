"""[`in_halves`]: halves a batch that does not fit in memory."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ..errors import InputError

logger = logging.getLogger(__name__)

BatchT = TypeVar("BatchT", bound=Any)
ResultT = TypeVar("ResultT")


def in_halves(
    batch: BatchT, compute: Callable[[BatchT], ResultT], too_large: Callable[[BatchT, str], str]
) -> list[ResultT]:
    """
    What `compute` gives for a batch: one result, or where memory runs out those of its halves, quarters, …, in order.

    Args:
        batch (sequence): The rows.
        compute (callable): Runs the model on rows.
        too_large (callable): `(row, reason)` -> the message where a batch of a single row does not fit.

    Raises:
        InputError: When a single row does not fit in memory.
    """
    try:
        return [compute(batch)]
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
    # Outside of the handler, which would hold the tensors of the failed call.
    if len(batch) == 1:
        raise InputError(too_large(batch, reason))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    logger.warning("Out of memory with %d rows in a batch; halving it.", len(batch))
    middle = len(batch) // 2
    return [
        *in_halves(batch[:middle], compute, too_large),
        *in_halves(batch[middle:], compute, too_large),
    ]


def _is_out_of_memory(error: RuntimeError) -> bool:
    # On a CPU torch raises a plain RuntimeError for a failed allocation.
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
