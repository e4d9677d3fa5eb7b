"""Checks that `pair_id`s are unique, with eight bytes per row on the disk and few in memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data.id_columns import id_hashes, text_ids
from ...errors import InputError
from .source import RowSource, Unit

# Hashes compared at a time.
_AT_ONCE = 8_000_000
_SHOWN = 1000


def write_hashes(hashes: Sequence[NDArray[np.uint64]], path: Path) -> None:
    """Writes the hashes of a shard, sorted."""
    np.save(path, np.sort(np.concatenate(hashes)) if hashes else np.empty(0, dtype=np.uint64))


def check_unique(source: RowSource, paths: Sequence[Path], total: int) -> None:
    """
    Raises `InputError` if an id occurs more than once.

    Args:
        source ([`RowSource`]): The rows, whose ids are looked up where hashes are equal.
        paths (sequence of `Path`): What [`write_hashes`] wrote.
        total (`int`): Number of rows.
    """
    suspects = np.concatenate([np.empty(0, dtype=np.uint64), *_repeated(paths, total)])
    if not suspects.size:
        return
    counts: Counter[str] = Counter()

    def named(unit: Unit) -> list[str]:
        found: list[str] = []
        for _, batch in source.batches(unit, ["pair_id"]):
            ids = text_ids(batch.column("pair_id"))
            found += ids.filter(pa.array(np.isin(id_hashes(ids), suspects[:_SHOWN]))).to_pylist()
        return found

    for part in source.each(named):
        counts.update(part)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        number = f"{len(repeated)}" if suspects.size <= _SHOWN else f"about {suspects.size}"
        raise InputError(
            f"`pair_id` must be unique, but {number} ids occur more than once, such as {repeated[0]!r:.80}. Give each "
            "row its own id."
        )


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
