"""Overlap of a selection with rival ones, whose scores are held in memory one rival at a time."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data.id_columns import IdColumn, text_ids
from ...method.ranking import SELECTORS
from ..aspect_columns import is_number_type
from ..report import rival_overlaps
from .columns import to_float64
from .source import Unit
from .writing import BatchDecider, Decided

# With more rows, the overlaps are not computed: ids and scores of this many take about 2 GB.
OVERLAP_ROWS = 20_000_000


def overlaps(decider: BatchDecider) -> dict[str, float]:
    """Share of the kept pairs that each rival selection of the same size would keep too, see [`rival_overlaps`]."""
    selection = decider.selection
    source, settings = selection.source, selection.filter
    ranked = {settings.column_of(name) for rival in SELECTORS.values() for name in rival.inputs if name != "pd"}
    names = [field.name for field in source.schema if field.name in ranked and is_number_type(field.type)]
    read = list(dict.fromkeys([*selection.columns, "pair_id", *names]))
    parts: dict[str, list[NDArray]] = {name: [] for name in names}
    kept: list[NDArray[np.bool_]] = []
    divergence: list[NDArray[np.float32]] = []
    ids: list[pa.Array] = []

    def work(unit: Unit) -> list[tuple[Decided, pa.Array, dict[str, NDArray]]]:
        found = []
        for row, batch in source.batches(unit, read):
            numbers = {name: to_float64(batch.column(name)) for name in names}
            found.append((decider.kept(batch, unit, row), text_ids(batch.column("pair_id")), numbers))
        return found

    for part in source.each(work):
        for decided, some, numbers in part:
            kept.append(decided.kept)
            ids.append(some)
            if decided.divergence is not None:
                divergence.append(decided.divergence)
            for name, values in numbers.items():
                parts[name].append(values)
    return rival_overlaps(
        lambda name: np.concatenate(parts[name]) if name in parts else None,
        IdColumn(pa.chunked_array(ids, pa.large_string()).combine_chunks()),
        np.concatenate(kept),
        settings,
        np.concatenate(divergence) if divergence else None,
    )
