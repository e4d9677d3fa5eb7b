"""Checks that `pair_id`s are unique, with eight bytes per row on the disk and few in memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import InputError
from .parquet import ParquetSource, Unit
from .scores import text_ids

# Hashes compared at a time.
_AT_ONCE = 8_000_000
_SHOWN = 1000


def id_hashes(column: Any) -> NDArray[np.uint64]:
    """A 64-bit hash of each id of a column without nulls."""
    ids = text_ids(column).cast(pa.large_binary())
    lengths = pc.binary_length(ids).to_numpy(zero_copy_only=False)
    result = np.empty(len(ids), dtype=np.uint64)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        part = ids if rows.size == len(ids) else ids.take(pa.array(rows))
        result[rows] = _hashes_of_one_length(part, int(length))
    return result


def _hashes_of_one_length(ids: pa.Array, length: int) -> NDArray[np.uint64]:
    words = -(-max(length, 1) // 8)
    offsets = np.frombuffer(ids.buffers()[1], dtype=np.int64)
    text = np.frombuffer(ids.buffers()[2] or b"", dtype=np.uint8)
    start = int(offsets[ids.offset])
    padded = np.zeros((len(ids), 8 * words), dtype=np.uint8)
    padded[:, :length] = text[start : start + len(ids) * length].reshape(len(ids), length)
    hashes = np.full(len(ids), length + 1, dtype=np.uint64)
    for word in padded.view("<u8").T:
        hashes = _mixed(hashes ^ word)
    return hashes


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64, a bijection whose every output bit depends on every input bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (values ^ (values >> np.uint64(31))) + np.uint64(0x9E3779B97F4A7C15)


def write_hashes(hashes: Sequence[NDArray[np.uint64]], path: Path) -> None:
    """Writes the hashes of a shard, sorted."""
    np.save(path, np.sort(np.concatenate(hashes)) if hashes else np.empty(0, dtype=np.uint64))


def check_unique(source: ParquetSource, paths: Sequence[Path], total: int) -> None:
    """
    Raises `InputError` if an id occurs more than once.

    Args:
        source ([`ParquetSource`]): The rows, whose ids are looked up where hashes are equal.
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
