"""Ties by `pair_id`: finds the last id to keep among any number of tied rows, with a bounded number of ids in memory."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...data.id_columns import text_ids
from ...errors import InputError
from .source import RowSource, Unit

TiedIds = Callable[[Unit], Iterator[pa.Array]]

_SAMPLE = 100_000


def greatest_kept_id(
    source: RowSource, units: Sequence[Unit], tied_ids: TiedIds, tied: int, needed: int, held: int
) -> str:
    """
    The `needed`-th of the `tied` ids in ascending order.

    Args:
        source ([`RowSource`]): The rows.
        units (sequence of [`Unit`]): Units that hold tied rows.
        tied_ids (callable): The ids of a unit's tied rows.
        tied, needed (`int`): Number of tied rows, and of those to keep.
        held (`int`): Maximum number of ids in memory. With more, further passes over the units narrow the range.
    """
    after: str | None = None
    upto: str | None = None
    while tied > held:
        pivots = _pivots(source, units, tied_ids, after, upto, tied, needed, held)
        counts = [_count(source, units, tied_ids, after, pivot) for pivot in pivots]
        before = tied
        if needed <= counts[0]:
            upto, tied = pivots[0], counts[0]
        elif needed <= counts[1]:
            after, upto, tied, needed = pivots[0], pivots[1], counts[1] - counts[0], needed - counts[0]
        else:
            after, tied, needed = pivots[1], tied - counts[1], needed - counts[1]
        if tied == before:
            raise InputError(f"`pair_id` must be unique, but more than {held} rows have the id {pivots[0]!r:.80}.")
    found = [ids for part in source.each(lambda unit: _within_all(tied_ids(unit), after, upto), units) for ids in part]
    ids = pa.chunked_array(found, pa.large_string()).combine_chunks()
    return ids[pc.array_sort_indices(ids)[needed - 1].as_py()].as_py()


def _pivots(
    source: RowSource,
    units: Sequence[Unit],
    tied_ids: TiedIds,
    after: str | None,
    upto: str | None,
    tied: int,
    needed: int,
    held: int,
) -> tuple[str, str]:
    """Two ids that most likely enclose the wanted one, from every n-th id in range."""
    size = max(2, min(_SAMPLE, held))
    step = max(1, tied // size)

    def drawn(unit: Unit) -> pa.ChunkedArray:
        ids = pa.chunked_array(_within_all(tied_ids(unit), after, upto), pa.large_string())
        return ids.take(pa.array(np.arange(0, len(ids), step)))

    sample = pa.chunked_array(
        [chunk for part in source.each(drawn, units) for chunk in part.chunks], pa.large_string()
    )
    ids = sample.combine_chunks()
    ids = ids.take(pc.array_sort_indices(ids))
    share = needed / tied
    margin = 6 * np.sqrt(len(ids) * share * (1 - share)) + 1
    # The lower one is never the greatest of all, so every round leaves fewer ids.
    lower = int(np.clip(share * len(ids) - margin, 0, len(ids) - 2))
    upper = int(np.clip(share * len(ids) + margin, lower + 1, len(ids) - 1))
    return ids[lower].as_py(), ids[upper].as_py()


def _within_all(parts: Iterator[pa.Array], after: str | None, upto: str | None) -> list[pa.Array]:
    return [_within(text_ids(ids), after, upto) for ids in parts]


def _within(ids: pa.Array, after: str | None, upto: str | None) -> pa.Array:
    if after is not None:
        ids = ids.filter(pc.greater(ids, pa.scalar(after, pa.large_string())))
    if upto is not None:
        ids = ids.filter(pc.less_equal(ids, pa.scalar(upto, pa.large_string())))
    return ids


def _count(source: RowSource, units: Sequence[Unit], tied_ids: TiedIds, after: str | None, upto: str) -> int:
    def counted(unit: Unit) -> int:
        return sum(len(_within(text_ids(ids), after, upto)) for ids in tied_ids(unit))

    return sum(source.each(counted, units))
