"""Helpers to try a model on a few tokens: ordinary tokens, and whether two results agree."""

from collections.abc import Collection

import torch

# More tokens than any trial needs.
_ENOUGH = 64


def ordinary_tokens(size: int | None, special: Collection[int | None]) -> list[int]:
    """The first tokens of a vocabulary of this size that are not among the special ones."""
    return [token for token in range(min(size or 0, _ENOUGH + len(special))) if token not in special]


def rounding(dtype: torch.dtype) -> float:
    """How far apart, relative to the largest, the same numbers are that a model computed in two ways."""
    return 1e-4 if dtype == torch.float32 else 5e-2


def agree(expected: torch.Tensor, found: torch.Tensor, tolerance: float, scale: float = 0.0) -> bool:
    """
    Whether two results are equal within `tolerance`, relative to the largest number expected.

    Args:
        expected, found (`torch.Tensor`): The results.
        tolerance (`float`): See [`rounding`].
        scale (`float`, *optional*, defaults to `0.0`): What the tolerance is relative to where all numbers are smaller.
    """
    return bool((expected - found).abs().max() <= tolerance * max(scale, float(expected.abs().max())))
