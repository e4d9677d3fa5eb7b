"""What the selectors rank by, batch by batch."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data.id_columns import text_ids
from ...errors import InputError
from ..fitted import FittedFilter
from ..scores import missing_column_error, selector_scores
from .columns import check_numeric, to_float64
from .source import RowSource, Unit


class ScoreReader:
    """The score of each row, lowest kept first, as the filter's selector defines it."""

    def __init__(self, pd_filter: FittedFilter, source: RowSource):
        self.selector, self.seed = pd_filter.rule, pd_filter.seed
        self.source = source
        given = pd_filter.source == "column"
        self.inputs = {name: pd_filter.column_of(name) for name in self.selector.inputs if given or name != "pd"}
        self.columns = [*self.inputs.values(), *(["pair_id"] if self.selector.reads_ids else [])]
        for name, column in self.inputs.items():
            if column not in source.column_names:
                raise missing_column_error(self.selector, name, column, source.column_names)
            check_numeric(source.schema, column)
        # Known once some scores are read.
        self.dtype: Any = np.float32

    def read(self, batch: pa.RecordBatch, divergence: NDArray[np.float32] | None, unit: Unit, row: int) -> NDArray:
        """Scores of a batch that starts at `row` of the unit's file, of shape `(num_rows,)`."""
        inputs: dict[str, NDArray] = {} if divergence is None else {"pd": divergence}
        place = f" of {self.source.name(unit.file)}"
        for name, column in self.inputs.items():
            values = to_float64(batch.column(column))
            bad = np.flatnonzero(~np.isfinite(values))
            if bad.size:
                raise InputError(
                    f"Column {column!r} must hold finite numbers, got {values[bad[0]]} in row {row + bad[0]}{place}."
                )
            # In the precision in which the column is written, as in memory.
            inputs[name] = values.astype(np.float32) if name == column == "pd" else values
        if self.selector.reads_ids:
            inputs["pair_id"] = np.array(text_ids(batch.column("pair_id")).to_pylist(), dtype=str)
        scores = selector_scores(self.selector, inputs, self.seed, row, place)
        if scores.dtype != np.float32:
            self.dtype = np.float64
        return scores.astype(self.dtype, copy=False)
