"""What the selectors rank by, batch by batch."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import InputError
from ..fitted import FittedFilter
from ..scores import missing_column_error, selector_scores
from .columns import check_numeric, to_float64
from .parquet import ParquetSource, Unit


class ScoreReader:
    """The score of each row, lowest kept first, as the filter's selector defines it."""

    def __init__(self, pd_filter: FittedFilter, source: ParquetSource):
        self.selector, self.seed = pd_filter.rule, pd_filter.seed
        self.source = source
        self.inputs = {name: pd_filter.column_of(name) for name in self.selector.inputs if name != "pd"}
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
            inputs[name] = values
        if self.selector.reads_ids:
            inputs["pair_id"] = np.array(text_ids(batch.column("pair_id")).to_pylist(), dtype=str)
        scores = selector_scores(self.selector, inputs, self.seed, row, place)
        if scores.dtype != np.float32:
            self.dtype = np.float64
        return scores.astype(self.dtype, copy=False)


def text_ids(column: Any) -> Any:
    """A column of `pair_id`s as strings; raises `InputError` on null and on types that cannot be ids."""
    if column.null_count:
        raise InputError(f"`pair_id` must not be null, but it is in {column.null_count} rows of a batch.")
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        if not pa.types.is_integer(column.type):
            raise InputError(f"`pair_id` must hold strings or whole numbers, but its type is {column.type}.")
    return column.cast(pa.large_string())
