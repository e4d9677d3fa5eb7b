"""From several responses per prompt to pairs of responses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..errors import InputError
from .columnar import pair_hashes, take
from .json_columns import Problems

PAIRINGS = ("all", "adjacent", "best_worst", "random")


@dataclass
class Responses:
    """
    Responses to prompts, before they are paired.

    Args:
        groups (`np.ndarray`):
            Index of each response's prompt, shape `(num_responses,)`, non-decreasing.
        columns (`dict[str, pa.ChunkedArray]`):
            Columns with one row per response. Each becomes `<name>_a` and `<name>_b`.
        prompt_columns (`dict[str, pa.ChunkedArray]`):
            Columns with one row per prompt.
        scores (`np.ndarray`):
            Scores for `"best_worst"`, shape `(num_responses,)`, NaN where unknown.
        prompt_keys (`list[str]`):
            Text that identifies each prompt, for the seeded choice of `"random"`.
        problems (`dict[str, np.ndarray]`, *optional*):
            Responses with values that cannot be read, by reason.
    """

    groups: np.ndarray
    columns: dict[str, pa.ChunkedArray]
    prompt_columns: dict[str, pa.ChunkedArray]
    scores: np.ndarray
    prompt_keys: Sequence[str] = field(default_factory=list)
    problems: Problems | None = None


def check_pairing(pairing: str) -> None:
    """Raises [`InputError`] for an unknown pairing rule."""
    if pairing not in PAIRINGS:
        raise InputError(f"pairing must be one of {', '.join(map(repr, PAIRINGS))}, but got {pairing!r}.")


def _group_starts(groups: np.ndarray, num_groups: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.bincount(groups, minlength=num_groups)
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes


def _all_pairs(starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = [], []
    for size in np.unique(sizes[sizes > 1]):
        left, right = np.triu_indices(size, k=1)
        base = starts[sizes == size][:, None]
        first.append((base + left).ravel())
        second.append((base + right).ravel())
    if not first:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    a, b = np.concatenate(first), np.concatenate(second)
    order = np.lexsort((b, a))
    return a[order], b[order]


def _best_worst(responses: Responses, starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Sorted within each prompt by score. Ties keep their order, and unknown scores (NaN) come last.
    order = np.lexsort((-responses.scores, responses.groups))
    known = np.bincount(responses.groups[~np.isnan(responses.scores)], minlength=len(sizes))
    usable = known > 1
    best = order[starts[usable]]
    worst = order[(starts + known - 1)[usable]]
    # Sides follow the order of the source, so side a is not always the better one.
    return np.minimum(best, worst), np.maximum(best, worst)


def pair_indices(responses: Responses, pairing: str, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """
    Returns the responses that form pairs, and counts of those left out.

    Args:
        responses ([`Responses`]):
            Responses grouped by prompt.
        pairing (`str`):
            `"all"`: every unordered pair of a prompt; `"adjacent"`: its responses 0 and 1, 2 and 3, …;
            `"best_worst"`: the highest scored against the lowest; `"random"`: one pair per prompt, chosen by the seed
            and the prompt alone.
        seed (`int`):
            Seed of `"random"`.

    Returns:
        Indices of the first and of the second response of each pair, and a count per reason of what formed no pair.
    """
    check_pairing(pairing)
    starts, sizes = _group_starts(responses.groups, len(responses.prompt_keys))
    skipped = {"prompts with fewer than two responses": int((sizes < 2).sum())}
    if pairing == "best_worst":
        a, b = _best_worst(responses, starts, sizes)
        skipped["prompts with fewer than two scored responses"] = int((sizes > 1).sum()) - len(a)
    elif pairing == "adjacent":
        position = np.arange(len(responses.groups)) - starts[responses.groups]
        a = np.flatnonzero((position % 2 == 0) & (position + 1 < sizes[responses.groups]))
        b = a + 1
        skipped["responses without a partner"] = int(((sizes % 2 == 1) & (sizes > 1)).sum())
    else:
        a, b = _all_pairs(starts, sizes)
        if pairing == "random" and len(a):
            counts = np.bincount(responses.groups[a], minlength=len(sizes))
            first = np.concatenate([[0], np.cumsum(counts)[:-1]])[counts > 0]
            keys = [key for key, count in zip(responses.prompt_keys, counts, strict=True) if count]
            chosen = first + (pair_hashes(seed, "pairing", keys) % counts[counts > 0].astype(np.uint64)).astype(int)
            a, b = a[chosen], b[chosen]
    return a, b, {reason: count for reason, count in skipped.items() if count}


def build_pairs(responses: Responses, pairing: str, seed: int) -> tuple[pa.Table, dict[str, int], Problems]:
    """
    Returns the table of pairs (`<name>_a`, `<name>_b` and the prompts' columns), counts of what formed no pair, and
    the pairs with values that cannot be read.
    """
    a, b, skipped = pair_indices(responses, pairing, seed)
    prompts = responses.groups[a]
    columns = {name: take(column, prompts) for name, column in responses.prompt_columns.items()}
    for name, column in responses.columns.items():
        columns[f"{name}_a"] = take(column, a)
        columns[f"{name}_b"] = take(column, b)
    problems = {reason: mask[a] | mask[b] for reason, mask in (responses.problems or {}).items()}
    return pa.table(columns), skipped, {reason: mask for reason, mask in problems.items() if mask.any()}
