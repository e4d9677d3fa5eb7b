"""Rows that are read unit by unit, wherever they are stored."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Dataset

from ...runs.identity import data_key

Result = TypeVar("Result")

# Rows of a batch, and the bytes that a batch with texts may hold.
BATCH_ROWS = 65_536
BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class Unit:
    """
    Some row groups of one file.

    Args:
        index (`int`): Its place among the units.
        file (`int`): Index of the file.
        row_groups (`tuple` of `int`): Its row groups.
        first_row (`int`): Row of the file at which it starts.
        num_rows (`int`): Its rows.
    """

    index: int
    file: int
    row_groups: tuple[int, ...]
    first_row: int
    num_rows: int


class RowSource(ABC):
    """
    Rows of one schema in units of work.

    Attributes:
        files (`list` of `tuple`): File system (`None` is the local one) and path of each file.
        schema (`pa.Schema`): Columns.
        units (`list` of [`Unit`]), num_rows (`int`): All rows.
        num_threads (`int`): Threads of `each`.
        batch_rows (`int`): Rows of a batch.
    """

    files: list[tuple[Any, str]]
    schema: pa.Schema
    units: list[Unit]
    num_rows: int
    num_threads: int
    batch_rows: int = BATCH_ROWS

    @property
    def column_names(self) -> list[str]:
        return list(self.schema.names)

    @abstractmethod
    def name(self, file: int) -> str:
        """What to call a file in messages."""

    @abstractmethod
    def digest(self) -> str:
        """Hex digest of the rows."""

    @abstractmethod
    def batches(
        self, unit: Unit, columns: Sequence[str] | None = None, batch_rows: int | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The batches of a unit, each with the row of the file at which it starts. Only `columns` are read (`None`: all)."""

    def each(self, work: Callable[[Unit], Result], units: Sequence[Unit] | None = None) -> Iterator[Result]:
        """The results of `work` on each unit, by several threads, in the order of the units."""
        units = self.units if units is None else units
        with ThreadPoolExecutor(self.num_threads) as pool:
            waiting = []
            # Few at a time, so that finished results do not pile up.
            for unit in units:
                waiting.append(pool.submit(work, unit))
                if len(waiting) > 2 * self.num_threads:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()


class DatasetSource(RowSource):
    """
    A data set as rows that are read unit by unit: its columns stay where they are stored.

    Args:
        dataset ([`~datasets.Dataset`]): The rows.
        rows_per_unit (`int`, *optional*): Rows of a unit of work.
        num_threads (`int`, *optional*): Threads of `each`.
    """

    def __init__(self, dataset: Dataset, rows_per_unit: int = BATCH_ROWS, num_threads: int | None = None):
        self.dataset, self.files = dataset, []
        self.schema = dataset.features.arrow_schema
        self.num_rows, self.num_threads = len(dataset), num_threads or usual_threads()
        starts = range(0, len(dataset), rows_per_unit)
        self.units = [
            Unit(index, 0, (), start, min(rows_per_unit, len(dataset) - start)) for index, start in enumerate(starts)
        ]

    def name(self, file: int) -> str:
        return "the data"

    def digest(self) -> str:
        return data_key(self.dataset)

    def batches(
        self, unit: Unit, columns: Sequence[str] | None = None, batch_rows: int | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        dataset = self.dataset if columns is None else self.dataset.select_columns(list(columns))
        dataset = dataset.with_format("arrow")
        rows = batch_rows or self.batch_rows
        if columns is None and self.num_rows:
            rows = min(rows, max(64, BATCH_BYTES * len(dataset.data) // max(dataset.data.nbytes, 1)))
        end = unit.first_row + unit.num_rows
        for row in range(unit.first_row, end, rows):
            for batch in dataset[row : min(row + rows, end)].combine_chunks().to_batches():
                yield row, batch
                row += batch.num_rows


def usual_threads() -> int:
    """One thread a core, 8 at most."""
    return min(8, os.cpu_count() or 1)
