"""The columns that a selection reads, batch by batch: gaps, own aspects, and what the rival selectors rank by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data.validation import RESERVED_ASPECTS, short_names
from ...errors import InputError
from ...method.divergence import VoteWeights
from ..aspect_columns import (
    GAP_PREFIX,
    VOTE_PREFIX,
    VoteColumn,
    is_number_type,
    rated_aspects,
    rating_columns,
    scored_aspects,
    warn_of_no_votes,
)
from ..gaps import Gaps, no_gaps_error, rating_gap
from .source import RowSource, Unit


class LabelReader:
    """Reads the aspect of each row's label, where there are no gaps to read."""

    names: list[str] = []

    def __init__(self, source: RowSource):
        self.source = source
        self.columns = ["aspect"] if "aspect" in source.column_names else []
        found = {label for part in source.each(self._labels_in) for label in part} if self.columns else set()
        self._set_labels(sorted(found, key=str))

    def read(self, batch: pa.RecordBatch, unit: Unit, row: int) -> Gaps:
        """The labels of a batch that starts at `row` of the unit's file."""
        if not self.columns:
            return Gaps([], np.zeros(batch.num_rows, dtype=np.int16))
        return Gaps([], self._own(batch.column("aspect"), unit, row))

    def _set_labels(self, labels: Sequence[Any]) -> None:
        self.labels = [str(label) for label in labels]
        self._code = {label: code for code, label in enumerate(labels)}
        self._dtype = np.int16 if len(labels) < np.iinfo(np.int16).max else np.int32

    def _labels_in(self, unit: Unit) -> set[Any]:
        found: set[Any] = set()
        for _, batch in self.source.batches(unit, ["aspect"]):
            found.update(batch.column("aspect").unique().to_pylist())
        short_names({str(label): "column 'aspect'" for label in found})
        return found

    def _own(self, column: Any, unit: Unit, row: int) -> NDArray[np.integer]:
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        labels = column.dictionary.to_pylist()
        codes = np.array([self._code.get(label, -1) for label in [*labels, None]], dtype=self._dtype)
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


class GapReader(LabelReader):
    """
    Reads gaps as [`gap_matrix`] does, from record batches.

    Args:
        source ([`RowSource`]): The rows.
        kind (`str`): `"rewards"` or `"ratings"`.

    Raises:
        InputError: When columns are missing.
    """

    def __init__(self, source: RowSource, kind: str):
        self.source, self.kind = source, kind
        present = source.column_names
        if "aspect" not in present:
            raise InputError(
                "The data has no column 'aspect', which names the aspect of each pair's label; its columns are "
                f"{', '.join(present)}."
            )
        self.names = scored_aspects(present) if kind == "rewards" else self._rated()
        if not self.names:
            raise no_gaps_error(kind, present)
        self._set_labels([*self.names, *RESERVED_ASPECTS])
        self._inputs = [self._columns_of(name) for name in self.names]
        self.columns = ["aspect", *(column for columns in self._inputs for column in columns)]
        for column in self.columns[1:]:
            check_numeric(source.schema, column)

    def _columns_of(self, aspect: str) -> list[str]:
        if self.kind == "rewards":
            return [f"{GAP_PREFIX}{aspect}"]
        return rating_columns(aspect, self.source.column_names)

    def _rated(self) -> list[str]:
        """The aspects with ratings of both sides or with votes. Only the values show whether a column holds votes."""
        found = rated_aspects(self.source.column_names)
        vote_only = [name for name in found if len(rating_columns(name, self.source.column_names)) == 1]
        if not vote_only:
            return found
        types = {name: self.source.schema.field(f"{VOTE_PREFIX}{name}").type for name in vote_only}
        numeric = [name for name in vote_only if is_number_type(types[name])]

        def read(unit: Unit) -> tuple[set[Any], dict[str, VoteColumn]]:
            labels: set[Any] = set()
            votes = {name: VoteColumn(False) for name in numeric}
            for _, batch in self.source.batches(unit, ["aspect", *(f"{VOTE_PREFIX}{name}" for name in numeric)]):
                labels.update(batch.column("aspect").unique().to_pylist())
                for name, column in votes.items():
                    column.add(to_float64(batch.column(f"{VOTE_PREFIX}{name}")))
            return labels, votes

        labels: set[Any] = set()
        votes = {name: VoteColumn(types[name] == pa.int8()) for name in numeric}
        for some, columns in self.source.each(read):
            labels |= some
            for name, column in columns.items():
                votes[name].merge(column)
        for name, column in votes.items():
            column.known |= name in labels
        others = [name for name in vote_only if name not in votes or not votes[name].holds_votes]
        warn_of_no_votes(others)
        return [name for name in found if name not in others]

    def read(self, batch: pa.RecordBatch, unit: Unit, row: int) -> Gaps:
        """
        The gaps of a batch that starts at `row` of the unit's file.

        Raises:
            InputError: On an unknown aspect, or a gap that counts and is not finite.
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
        Absolute gaps of aspect `k` and the largest of them. The gap is NaN for the aspect's own pairs and for missing
        ratings; raises `InputError` unless all others are finite.
        """
        own = gaps.own == k
        values = hidden(np.abs(gaps.gaps[k]), own)
        largest = float(np.fmax.reduce(values, initial=0.0))
        if np.isfinite(largest) and (
            gaps.missing.get(self.names[k]) or np.count_nonzero(values == values) == len(own) - np.count_nonzero(own)
        ):
            return values, largest
        bad = np.flatnonzero(~np.isfinite(gaps.gaps[k]) & (gaps.own != k))
        raise InputError(
            f"Reward gaps must be finite numbers, got {gaps.gaps[k][bad[0]]} in row {row + bad[0]} of {self.source.name(unit.file)} "
            f"for aspect '{self.names[k]}'. Score these rows again, or leave them out."
        )

    def _rating_gap(
        self, columns: Sequence[Any], name: str, missing: dict[str, int], unit: Unit, row: int
    ) -> NDArray[np.float32]:
        values = [to_float64(column) for column in columns]
        gap = rating_gap(values, name, row, f" of {self.source.name(unit.file)}")
        holes = int(np.isnan(gap).sum())
        if holes:
            missing[name] = missing.get(name, 0) + holes
        return gap.astype(np.float32)


def check_numeric(schema: pa.Schema, column: str) -> None:
    """Raises `InputError` unless the column holds numbers."""
    dtype = schema.field(column).type
    if not is_number_type(dtype):
        raise InputError(f"Column {column!r} must hold numbers, but its type is {dtype}.")


def to_float64(column: Any) -> NDArray[np.float64]:
    """A numeric column as float64, null as NaN."""
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _float32(column: Any) -> NDArray[np.float32]:
    if pa.types.is_float32(column.type) and not column.null_count:
        return column.to_numpy()
    return to_float64(column).astype(np.float32)


def hidden(values: NDArray, rows: NDArray[np.bool_]) -> NDArray:
    """A copy of the floats `values` with NaN in `rows`. Setting their bits is several times as fast as an index."""
    kind = np.dtype(f"i{values.dtype.itemsize}")
    bits = np.negative(rows.astype(kind))
    np.bitwise_or(bits, values.view(kind), out=bits)
    return bits.view(values.dtype)


def divergence_of_columns(
    gaps: Gaps, scale: NDArray[np.float32], weights: NDArray[np.float64], clipped: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """
    PD of a batch (Eq. 14 and 15), equal to the last bit to what [`preference_divergence`] computes. If `clipped` is
    given, adds the number of gaps of each aspect that count and exceed their scale.
    """
    total = np.zeros(len(gaps.own))
    votes = VoteWeights(weights, gaps.own)
    for k, gap in enumerate(gaps.gaps):
        block = gap.astype(np.float64)
        block /= np.float64(scale[k]) if scale[k] > 0 else 1.0
        others = (gaps.own != k).astype(np.float64)
        if clipped is not None:
            clipped[k] += np.count_nonzero(np.abs(block) * others > 1)
        np.clip(block, -1, 1, out=block)
        # A factor of 0 hides a pair's own gap faster than an index does, unless the gap is NaN.
        block *= others
        holes = bool(np.isnan(block.max(initial=0.0)))
        if holes:
            block[others == 0] = 0
        if weights[k] != 1:
            block *= weights[k]
        total -= votes.without_missing(k, block, holes)
    return (votes.scaled(total) + 0.0).astype(np.float32)
