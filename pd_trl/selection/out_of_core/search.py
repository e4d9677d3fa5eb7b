"""Passes over the units of a source that find the values of given ranks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .order import Bracket, Digits, Found, sampled_bracket
from .source import RowSource, Unit

# The values that a batch adds to each stream, given the row of the file at which it starts; NaN does not count.
Values = Callable[[pa.RecordBatch, Unit, int], list[NDArray]]
Sample = Sequence[tuple[Unit, int, pa.RecordBatch]]


@dataclass
class Budgets:
    """
    Bounds of the passes. They never change what is selected.

    Args:
        sample_rows (`int`): Maximum number of rows of the sample, which shows roughly where the quantiles lie.
        sample_share (`float`): Maximum share of the rows in the sample, if that is 100,000 rows or more.
        held_values (`int`): Maximum number of values in an interval. With more, values are counted by digits instead.
        held_ids (`int`): Maximum number of tied `pair_id`s in memory.
    """

    sample_rows: int = 1_000_000
    sample_share: float = 0.02
    held_values: int = 16_000_000
    held_ids: int = 4_000_000


class Search:
    """
    Finds the values of ranks in streams of values: in one pass if the sample was right, in further ones if it misled.
    """

    def __init__(self, source: RowSource, budgets: Budgets):
        self.source, self.budgets = source, budgets
        self.passes = 0

    def brackets(self, sample: Sample, values: Values, shares: Sequence[Sequence[float]]) -> list[list[Bracket]]:
        drawn = [values(batch, unit, row) for unit, row, batch in sample]
        brackets = []
        for stream, wanted in enumerate(shares):
            joined = np.concatenate([arrays[stream] for arrays in drawn])
            brackets.append([sampled_bracket(joined, share, self.budgets.held_values) for share in wanted])
        return brackets

    def read(self, columns: Sequence[str], values: Values, brackets: Sequence[Sequence[Bracket]]) -> None:
        def work(unit: Unit) -> list[list[Bracket]]:
            mine = [[bracket.fresh() for bracket in stream] for stream in brackets]
            for row, batch in self.source.batches(unit, columns):
                for stream, array in zip(mine, values(batch, unit, row), strict=True):
                    for bracket in stream:
                        bracket.add(array, unit.index)
            return mine

        self.passes += 1
        for part in self.source.each(work):
            for stream, others in zip(brackets, part, strict=True):
                for bracket, other in zip(stream, others, strict=True):
                    bracket.merge(other)

    def resolve(
        self,
        columns: Sequence[str],
        values: Values,
        brackets: Sequence[Sequence[Bracket]],
        wanted: Sequence[tuple[int, int, int]],
        dtypes: Sequence[type],
    ) -> list[Found]:
        """The values of `(stream, bracket, rank)`, by counting digits in further passes where a bracket missed."""
        found = [brackets[stream][place].find(rank) for stream, place, rank in wanted]
        missed = sorted({stream for (stream, _, _), value in zip(wanted, found, strict=True) if value is None})
        searches: Mapping[int, Digits] = {
            stream: Digits(
                [rank for (s, _, rank), value in zip(wanted, found, strict=True) if s == stream and value is None],
                dtypes[stream],
            )
            for stream in missed
        }
        while any(not search.done for search in searches.values()):
            self._count_digits(columns, values, {s: search for s, search in searches.items() if not search.done})
        results = {stream: iter(search.found()) for stream, search in searches.items()}
        return [
            next(results[stream]) if value is None else value
            for (stream, _, _), value in zip(wanted, found, strict=True)
        ]

    def _count_digits(self, columns: Sequence[str], values: Values, searches: Mapping[int, Digits]) -> None:
        def work(unit: Unit) -> dict[int, dict[int, NDArray[np.int64]]]:
            counts = {stream: search.empty() for stream, search in searches.items()}
            for row, batch in self.source.batches(unit, columns):
                arrays = values(batch, unit, row)
                for stream, search in searches.items():
                    search.count(arrays[stream], counts[stream])
            return counts

        self.passes += 1
        totals = {stream: search.empty() for stream, search in searches.items()}
        for part in self.source.each(work):
            for stream, counts in part.items():
                for prefix, histogram in counts.items():
                    totals[stream][prefix] += histogram
        for stream, search in searches.items():
            search.advance(totals[stream])
