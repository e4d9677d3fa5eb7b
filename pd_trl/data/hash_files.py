"""Hashes of ids on the disk, eight bytes a row, and which of them occur more than once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Hashes compared at a time.
_AT_ONCE = 8_000_000


def write_hashes(hashes: Sequence[NDArray[np.uint64]], path: Path) -> None:
    """Writes the hashes of a shard, sorted."""
    np.save(path, np.sort(np.concatenate(hashes)) if hashes else np.empty(0, dtype=np.uint64))


def repeated_hashes(paths: Sequence[Path], total: int) -> NDArray[np.uint64]:
    """
    The hashes that occur more than once, sorted.

    Args:
        paths (sequence of `Path`): What [`write_hashes`] wrote.
        total (`int`): Number of all rows.
    """
    return np.concatenate([np.empty(0, dtype=np.uint64), *_repeated(paths, total)])


def _repeated(paths: Sequence[Path], total: int) -> Iterator[NDArray[np.uint64]]:
    """The hashes that occur more than once, one range of values after the other."""
    parts = max(1, -(-total // _AT_ONCE))
    edges = np.array([index * 2**64 // parts for index in range(1, parts)], dtype=np.uint64)
    cuts = []
    for path in paths:
        hashes = np.load(path, mmap_mode="r")
        cuts.append([0, *np.searchsorted(hashes, edges).tolist(), len(hashes)])
    for part in range(parts):
        # Copied out of the maps, which close at once, so that their pages do not add up in memory.
        found = [
            np.array(np.load(path, mmap_mode="r")[cut[part] : cut[part + 1]])
            for path, cut in zip(paths, cuts, strict=True)
        ]
        joined = np.sort(np.concatenate(found))
        yield np.unique(joined[1:][joined[1:] == joined[:-1]])
