"""Chooses the aspect that labels each pair: balanced over aspects, on request with a given share of conflict."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .columnar import pair_hashes


def _patterns(candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    patterns, inverse = np.unique(candidates, axis=0, return_inverse=True)
    return patterns, np.asarray(inverse).reshape(-1)


def _path(start: int, loads: np.ndarray, edges: np.ndarray) -> list[int]:
    """Returns the shortest path from an aspect to the least used aspect that its labels can reach."""
    previous = {start: start}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for there in np.flatnonzero(edges[here]):
            if int(there) not in previous:
                previous[int(there)] = here
                queue.append(int(there))
    path = [min(previous, key=lambda aspect: (loads[aspect], aspect))]
    while path[-1] != start:
        path.append(previous[path[-1]])
    return path[::-1]


def balanced_counts(patterns: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """
    Returns the number of rows of each pattern that get each aspect. The aspects' totals differ as little as possible.

    Args:
        patterns (`np.ndarray`):
            Whether the rows of a pattern can take an aspect, shape `(num_patterns, num_aspects)`.
        sizes (`np.ndarray`):
            Number of rows of each pattern, shape `(num_patterns,)`.

    Returns:
        `np.ndarray`: Counts, shape `(num_patterns, num_aspects)`. No exchange of labels between aspects, in any number
        of steps, brings two totals closer together.
    """
    width = np.maximum(patterns.sum(axis=1), 1)
    rank = np.cumsum(patterns, axis=1)
    counts = np.where(patterns, (sizes // width)[:, None] + (rank <= (sizes % width)[:, None]), 0).astype(np.int64)
    while True:
        loads = counts.sum(axis=0)
        # edges[u, v]: number of rows labelled u that could be labelled v.
        edges = counts.T @ patterns.astype(np.int64)
        np.fill_diagonal(edges, 0)
        for start in np.argsort(-loads, kind="stable"):
            path = _path(int(start), loads, edges)
            if loads[start] - loads[path[-1]] >= 2:
                break
        else:
            return counts
        steps = list(zip(path[:-1], path[1:], strict=True))
        amount = min(int(loads[path[0]] - loads[path[-1]]) // 2, *(int(edges[u, v]) for u, v in steps))
        for u, v in steps:
            movable = np.where(patterns[:, v], counts[:, u], 0)
            before = np.cumsum(movable) - movable
            moved = np.clip(amount - before, 0, movable)
            counts[:, u] -= moved
            counts[:, v] += moved


def assign_balanced(candidates: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """
    Returns one aspect for each row. The aspects are used as evenly as the candidates allow.

    Args:
        candidates (`np.ndarray`):
            Whether a row can take an aspect, shape `(num_rows, num_aspects)`.
        keys (`np.ndarray`):
            Pseudo-random keys that decide among rows with the same candidates, shape `(num_rows,)`.

    Returns:
        `np.ndarray`: Index of the aspect, -1 for a row without candidates, shape `(num_rows,)`. It does not depend on
        the order of the rows.
    """
    assigned = np.full(len(candidates), -1, dtype=np.int64)
    rows = np.flatnonzero(candidates.any(axis=1))
    if len(rows) == 0:
        return assigned
    patterns, inverse = _patterns(candidates[rows])
    assigned[rows] = assign_patterns(patterns, inverse, keys[rows])
    return assigned


def assign_patterns(patterns: np.ndarray, inverse: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """
    [`assign_balanced`] of rows that can all take an aspect.

    Args:
        patterns (`np.ndarray`):
            The different rows of candidates, in their order, shape `(num_patterns, num_aspects)`.
        inverse (`np.ndarray`):
            Index of each row's pattern, shape `(num_rows,)`.
        keys (`np.ndarray`):
            Pseudo-random keys, shape `(num_rows,)`.
    """
    counts = balanced_counts(patterns, np.bincount(inverse, minlength=len(patterns)))
    assigned = np.empty(len(inverse), dtype=np.int16)
    aspects = np.arange(patterns.shape[1], dtype=np.int16)
    for pattern, of_each in enumerate(counts):
        rows = np.flatnonzero(inverse == pattern)
        assigned[rows[np.argsort(keys[rows], kind="stable")]] = np.repeat(aspects, of_each)
    return assigned


def _first_by_key(rows: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    return rows[np.argsort(keys[rows], kind="stable")[:count]]


def conflict_candidates(
    decided: np.ndarray, contradicts: np.ndarray, conflict: float, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Returns candidates among which any choice gives the wanted share of conflict with the overall label.

    Args:
        decided (`np.ndarray`):
            Whether an aspect prefers one side, shape `(num_rows, num_aspects)`; every row has an overall label.
        contradicts (`np.ndarray`):
            Whether the aspect contradicts the overall label, shape `(num_rows, num_aspects)`.
        conflict (`float`):
            Wanted share, in [0, 1].
        keys (`np.ndarray`):
            Pseudo-random keys that decide among rows, shape `(num_rows,)`.

    Returns:
        The candidates, shape `(num_rows, num_aspects)`, and which rows are left out, shape `(num_rows,)`. A row left
        out has no candidates. As many rows as possible are kept; exactly `round(conflict * kept)` of them contradict.

    Raises:
        InputError: If no row can contradict, or none can agree.
    """
    can_conflict = (decided & contradicts).any(axis=1)
    can_agree = (decided & ~contradicts).any(axis=1)
    only_conflict = np.flatnonzero(can_conflict & ~can_agree)
    only_agree = np.flatnonzero(can_agree & ~can_conflict)
    either = np.flatnonzero(can_agree & can_conflict)
    num_conflict, num_agree = len(only_conflict) + len(either), len(only_agree) + len(either)
    total = len(only_conflict) + len(only_agree) + len(either)
    sizes = np.arange(total + 1)
    wanted = np.rint(conflict * sizes).astype(np.int64)
    feasible = np.flatnonzero((wanted <= num_conflict) & (sizes - wanted <= num_agree))
    size = int(feasible[-1])
    if size == 0 or (conflict > 0 and num_conflict == 0) or (conflict < 1 and num_agree == 0):
        low, high = (len(only_conflict) / total, num_conflict / total) if total else (0.0, 0.0)
        raise InputError(
            f"conflict={conflict:g} cannot be reached: of {total:,} pairs with an overall label, {num_conflict:,} "
            "have an "
            f"aspect that contradicts it and {num_agree:,} one that agrees. Keeping all pairs, the share can be from "
            f"{low:.3f} to {high:.3f}; choose one in this range, or use more aspects."
        )
    count = int(wanted[size])
    from_only = _first_by_key(only_conflict, keys, count)
    # Rows that could go either way first fill the contradicting side; the others can agree.
    flexible = _first_by_key(either, keys, len(either))
    conflicting = np.concatenate([from_only, flexible[: count - len(from_only)]])
    flexible = flexible[count - len(from_only) :]
    from_only = _first_by_key(only_agree, keys, size - count)
    agreeing = np.concatenate([from_only, flexible[: size - count - len(from_only)]])

    candidates = np.zeros_like(decided)
    candidates[conflicting] = (decided & contradicts)[conflicting]
    candidates[agreeing] = (decided & ~contradicts)[agreeing]
    left_out = np.asarray(decided.any(axis=1) & ~candidates.any(axis=1))
    return candidates, left_out


def assign_aspects(
    preferences: np.ndarray, overall: np.ndarray | None, ids: Sequence[str], conflict: float | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Returns one decided aspect per pair.

    Args:
        preferences (`np.ndarray`):
            Label of each aspect, 1.0 (a better), 0.0 (b better), 0.5 (tie) or NaN, shape `(num_pairs, num_aspects)`.
        overall (`np.ndarray`, *optional*):
            The overall label, shape `(num_pairs,)`.
        ids (`Sequence[str]`):
            Ids of the pairs.
        conflict (`float`, *optional*):
            Wanted share, among the pairs with a decided overall label, of labels that contradict it.
        seed (`int`):
            Seed.

    Returns:
        Index of each pair's aspect (-1: none), and which pairs were left out to reach the share, both of shape
        `(num_pairs,)`.
    """
    decided = (preferences == 0) | (preferences == 1)
    left_out = np.zeros(len(decided), dtype=bool)
    if conflict is not None:
        if overall is None or not ((overall == 0) | (overall == 1)).any():
            raise InputError(
                "conflict needs an overall label, but no pair has one (pref_overall). Leave conflict out."
            )
        rows = np.flatnonzero(((overall == 0) | (overall == 1)) & decided.any(axis=1))
        contradicts = preferences[rows] != overall[rows, None]
        keys = pair_hashes(seed, "conflict", (ids[int(row)] for row in rows))
        decided = decided.copy()
        decided[rows], left_out[rows] = conflict_candidates(decided[rows], contradicts, conflict, keys)
    return assign_balanced(decided, pair_hashes(seed, "aspect", ids)), left_out
