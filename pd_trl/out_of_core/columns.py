"""The columns that a selection reads, batch by batch: gaps, own aspects, and what the rival selectors rank by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.validation import RESERVED_ASPECTS
from ..errors import InputError
from ..gaps import GAP_PREFIX, rated_aspects, scored_aspects
from .parquet import ParquetSource, Unit


@dataclass
class Gaps:
    """
    A batch of rows.

    Args:
        gaps (`list` of arrays of shape `(num_rows,)`, float32): Gap of each aspect.
        own (int16 array of shape `(num_rows,)`): Index of each row's aspect; reserved ones come after the aspects.
        missing (`dict`): By aspect, the number of missing ratings, which count as 0.
    """

    gaps: list[NDArray[np.float32]]
    own: NDArray[np.int16]
    missing: dict[str, int] = field(default_factory=dict)


class GapReader:
    """
    Reads gaps as [`gap_matrix`] does, from record batches.

    Args:
        source ([`ParquetSource`]): The rows.
        kind (`str`): `"rewards"` or `"ratings"`.

    Raises:
        InputError: When columns are missing.
    """

    def __init__(self, source: ParquetSource, kind: str):
        self.source, self.kind = source, kind
        present = source.column_names
        for name, advice in (
            ("pair_id", "by which ties are broken and results are checked"),
            ("aspect", "that says whose label each pair carries"),
        ):
            if name not in present:
                raise InputError(f"The data has no column {name!r} {advice}; its columns are {', '.join(present)}.")
        self.names = scored_aspects(present) if kind == "rewards" else rated_aspects(present)
        if not self.names:
            wanted = "`reward_gap_<aspect>` columns" if kind == "rewards" else "ratings or votes"
            raise InputError(f"The data has no {wanted} of any aspect; its columns are {', '.join(present)}.")
        self.labels = [*self.names, *RESERVED_ASPECTS]
        self._code = {label: code for code, label in enumerate(self.labels)}
        self._inputs = [self._columns_of(name) for name in self.names]
        self.columns = ["aspect", *(column for columns in self._inputs for column in columns)]
        for column in self.columns[1:]:
            check_numeric(source.schema, column)

    def _columns_of(self, aspect: str) -> list[str]:
        if self.kind == "rewards":
            return [f"{GAP_PREFIX}{aspect}"]
        sides = [f"rating_{aspect}_{side}" for side in ("chosen", "rejected")]
        return sides if all(side in self.source.column_names for side in sides) else [f"vote_{aspect}"]

    def read(self, batch: pa.RecordBatch, unit: Unit, row: int) -> Gaps:
        """
        The gaps of a batch that starts at `row` of the unit's file.

        Raises:
            InputError: On an unknown aspect, or a gap that is not finite where it counts.
        """
        own = self._own(batch.column("aspect"), unit, row)
        result = Gaps([], own)
        for k, name in enumerate(self.names):
            columns = [batch.column(column) for column in self._inputs[k]]
            if self.kind == "rewards":
                gap = _float32(columns[0])
            else:
                gap = self._rating_gap(columns, name, result.missing, unit, row)
            result.gaps.append(gap)
        return result

    def absolute(self, gaps: Gaps, k: int, unit: Unit, row: int) -> tuple[NDArray[np.float32], float]:
        """
        Absolute gaps of aspect `k`, NaN for the pairs of its own, and the largest of them; raises `InputError` unless all that
        count are finite.
        """
        own = gaps.own == k
        values = hidden(np.abs(gaps.gaps[k]), own)
        largest = float(np.fmax.reduce(values, initial=0.0))
        if np.isfinite(largest) and np.count_nonzero(values == values) == len(own) - np.count_nonzero(own):
            return values, largest
        bad = np.flatnonzero(~np.isfinite(gaps.gaps[k]) & (gaps.own != k))
        raise InputError(
            f"Reward gaps must be finite numbers, got {gaps.gaps[k][bad[0]]} in row {row + bad[0]} of {self.source.name(unit.file)} "
            f"for aspect '{self.names[k]}'. Score these rows again, or leave them out."
        )

    def _own(self, column: Any, unit: Unit, row: int) -> NDArray[np.int16]:
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        labels = column.dictionary.to_pylist()
        codes = np.array([self._code.get(label, -1) for label in labels] + [-1], dtype=np.int16)
        indices = column.indices.fill_null(len(labels)) if column.null_count else column.indices
        own = np.take(codes, indices.to_numpy(zero_copy_only=False), mode="clip")
        if own.size and own.min() < 0:
            unknown = np.flatnonzero(own < 0)
            raise InputError(
                f"Pairs are labelled by the aspect {column[int(unknown[0])].as_py()!r} (the first in row {row + unknown[0]} of "
                f"{self.source.name(unit.file)}), but there are only gaps of {', '.join(self.names)}. Provide the gaps of every "
                "aspect, or leave these pairs out."
            )
        return own

    def _rating_gap(
        self, columns: Sequence[Any], name: str, missing: dict[str, int], unit: Unit, row: int
    ) -> NDArray[np.float32]:
        values = [to_float64(column) for column in columns]
        gap = values[0] - values[1] if len(values) == 2 else values[0].copy()
        infinite = np.flatnonzero(np.isinf(gap))
        if infinite.size:
            raise InputError(
                f"Ratings must be finite, but those of '{name}' in row {row + infinite[0]} of {self.source.name(unit.file)} are not."
            )
        holes = np.isnan(gap)
        if holes.any():
            missing[name] = missing.get(name, 0) + int(holes.sum())
            gap[holes] = 0
        return gap.astype(np.float32)


def check_numeric(schema: pa.Schema, column: str) -> None:
    """Raises `InputError` unless the column holds numbers."""
    dtype = schema.field(column).type
    if not (pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_null(dtype)):
        raise InputError(f"Column {column!r} must hold numbers, but its type is {dtype}.")


def to_float64(column: Any) -> NDArray[np.float64]:
    """A numeric column as float64, null as NaN."""
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _float32(column: Any) -> NDArray[np.float32]:
    if pa.types.is_float32(column.type) and not column.null_count:
        return column.to_numpy()
    return to_float64(column).astype(np.float32)


def hidden(values: NDArray, rows: NDArray[np.bool_]) -> NDArray:
    """A copy of the floats `values` with NaN in `rows`: by their bits, several times as fast as by an index."""
    kind = np.dtype(f"i{values.dtype.itemsize}")
    bits = np.negative(rows.astype(kind))
    np.bitwise_or(bits, values.view(kind), out=bits)
    return bits.view(values.dtype)


def divergence_of_columns(
    gaps: Gaps, scale: NDArray[np.float32], weights: NDArray[np.float64], clipped: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """
    PD of a batch (Eq. 14 and 15), to the last bit what [`preference_divergence`] computes from a matrix. Adds to `clipped`,
    where given, the number of gaps of each aspect that count and are beyond their scale.
    """
    total = np.zeros(len(gaps.own))
    for k, gap in enumerate(gaps.gaps):
        block = gap.astype(np.float64)
        block /= np.float64(scale[k]) if scale[k] > 0 else 1.0
        others = (gaps.own != k).astype(np.float64)
        if clipped is not None:
            clipped[k] += np.count_nonzero(np.abs(block) * others > 1)
        np.clip(block, -1, 1, out=block)
        # A factor of 0 hides a pair's own gap faster than an index does, unless the gap is NaN.
        block *= others
        if np.isnan(block.max(initial=0.0)):
            block[others == 0] = 0
        if weights[k] != 1:
            block *= weights[k]
        total -= block
    return (total + 0.0).astype(np.float32)
