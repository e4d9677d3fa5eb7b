"""Rows that come in parts, as the parquet shards that [`~runs.artifacts.write_rows`] writes of a data set in memory."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetInfo, Features

from .artifacts import ROWS_PER_SHARD, write_parquet

# A shard of longer texts has fewer rows.
_SHARD_BYTES = 256 << 20


class ShardWriter:
    """
    Writes shards while the next rows are made. Within the block they have other names; they get their own when it ends well.

    Args:
        folder (`Path`): Folder of the shards, made where missing.
        features ([`~datasets.Features`]): Columns.
    """

    def __init__(self, folder: Path, features: Features):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.info, self.schema = folder, DatasetInfo(features=features), features.arrow_schema
        self.paths: list[Path] = []
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def add(self, table: pa.Table) -> None:
        """Adds rows."""
        while len(table):
            part = table.slice(0, ROWS_PER_SHARD - self._rows)
            table = table.slice(len(part))
            self._waiting.append(part)
            self._rows += len(part)
            self._bytes += part.nbytes
            if self._rows == ROWS_PER_SHARD or self._bytes >= _SHARD_BYTES:
                self._flush()

    def _flush(self) -> None:
        rows = pa.concat_tables(self._waiting) if self._waiting else self.schema.empty_table()
        path = self.folder / f"part-{len(self.paths):05d}.parquet"
        self.paths.append(path)
        self._waiting, self._rows, self._bytes = [], 0, 0
        self._wait()
        self._writing = self._pool.submit(self.write, rows, path)

    def write(self, rows: pa.Table, path: Path) -> None:
        """Writes one shard."""
        write_parquet(Dataset(rows.cast(self.schema), self.info, fingerprint=path.stem), path)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def finish(self) -> None:
        """Writes what is left: the shards are complete, still under their other names."""
        if self._waiting or not self.paths:
            self._flush()
        self._wait()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
                for index, path in enumerate(self.paths):
                    self.paths[index] = path.rename(
                        self.folder / f"train-{index:05d}-of-{len(self.paths):05d}.parquet"
                    )
        finally:
            self._pool.shutdown()


def shard_tables(
    paths: Sequence[Path], columns: Sequence[str] | None = None, rows: int = 16_384
) -> Iterator[pa.Table]:
    """The rows of shards in parts."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(rows, columns=None if columns is None else list(columns)):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)
