"""Overlap of a selection with rival ones, whose scores are held in memory one rival at a time."""

import numpy as np
import pyarrow as pa

from ...data.id_columns import IdColumn, text_ids
from ...method.ranking import SELECTORS
from ..aspect_columns import is_number_type
from ..report import rival_overlaps
from .columns import to_float64
from .source import Unit
from .writing import BatchDecider

# With more rows, the overlaps are not computed: ids and scores of this many take about 2 GB.
OVERLAP_ROWS = 20_000_000


def overlaps(decider: BatchDecider) -> dict[str, float]:
    """Share of the kept pairs that each rival selection of the same size would keep too, see [`rival_overlaps`]."""
    selection = decider.selection
    source, settings = selection.source, selection.filter
    ranked = {settings.column_of(name) for rival in SELECTORS.values() for name in rival.inputs if name != "pd"}
    names = [field.name for field in source.schema if field.name in ranked and is_number_type(field.type)]
    read = list(dict.fromkeys([*selection.columns, "pair_id", *names]))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*names, "", "pd")}
    ids: list[pa.Array] = []

    def work(unit: Unit) -> list[tuple[dict[str, np.ndarray], pa.Array]]:
        found = []
        for row, batch in source.batches(unit, read):
            decided = decider.kept(batch, unit, row)
            arrays: dict[str, np.ndarray] = {"": decided.kept} | {
                name: to_float64(batch.column(name)) for name in names
            }
            if decided.divergence is not None:
                arrays["pd"] = decided.divergence
            found.append((arrays, text_ids(batch.column("pair_id"))))
        return found

    for part in source.each(work):
        for arrays, some in part:
            ids.append(some)
            for name, values in arrays.items():
                parts[name].append(values)
    column = IdColumn(pa.chunked_array(ids, pa.large_string()).combine_chunks())
    kept, found = np.concatenate(parts.pop("")), parts.pop("pd")
    divergence = np.concatenate(found) if found else None
    return rival_overlaps(
        lambda name: np.concatenate(parts[name]) if name in names else None, column, kept, settings, divergence
    )
