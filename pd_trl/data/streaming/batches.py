"""The rows of an opened source, some at a time."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from ..columnar import stored_rows, take_table
from ..parts import NeedsWholeError

BATCH_ROWS = 16_384
_BATCH_BYTES = 64 << 20


def row_batches(dataset: Dataset, rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
    """
    The rows of a data set in order, in tables of at most `rows`.

    Args:
        dataset ([`~datasets.Dataset`]): Rows. Those that `datasets` keeps in files are read from there: in the memory that they are
            mapped to, all that was read would stay.
        rows (`int`, *optional*): Most rows of a table. Tables of long texts have fewer.
    """
    files = [Path(file["filename"]) for file in dataset.cache_files]
    if files and stored_rows(dataset) is None and _hold(files, dataset):
        yield from _from_files(files, dataset, rows)
        return
    table, places = dataset.data.table, stored_rows(dataset)
    for start in range(0, len(dataset), rows):
        yield table.slice(start, rows) if places is None else take_table(table, places[start : start + rows])


def _hold(files: list[Path], dataset: Dataset) -> bool:
    """Whether files are streams of Arrow with the columns of the data set."""
    schema = dataset.data.schema.remove_metadata()
    for path in files:
        try:
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
                if reader.schema.remove_metadata() != schema:
                    return False
        except (pa.ArrowInvalid, OSError):
            return False
    return True


def _from_files(files: list[Path], dataset: Dataset, rows: int) -> Iterator[pa.Table]:
    schema = dataset.data.schema.remove_metadata()
    waiting: list[pa.RecordBatch] = []
    count = size = seen = 0
    for path in files:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                waiting.append(batch)
                count, size, seen = count + batch.num_rows, size + batch.nbytes, seen + batch.num_rows
                if seen > len(dataset):  # only some of the rows are in the data set
                    raise NeedsWholeError("a part of a split")
                if count >= rows or size >= _BATCH_BYTES:
                    yield pa.Table.from_batches(waiting).cast(schema)
                    waiting, count, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting).cast(schema)
    if seen != len(dataset):
        raise NeedsWholeError("a part of a split")
