"""Parquet files, local or remote, as one table that is read unit by unit."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import InputError
from ...runs.artifacts import check_read, system_error
from ...runs.identity import digest_of, file_key
from ...runs.remote_files import remote_parquet_files
from .source import BATCH_BYTES, BATCH_ROWS, RowSource, Unit, usual_threads

# Rows of a unit: the smallest part that is read again for a look-up.
ROWS_PER_UNIT = 250_000
_BUFFER = 1 << 20


class ParquetSource(RowSource):
    """
    Parquet files of one schema.

    Args:
        source (`str`, path, or list of them):
            Files, patterns (`"scored/*.parquet"`), folders (of `pd-trl score`, too), or urls of these that fsspec opens, such as
            `"hf://datasets/me/data@main/scored/*.parquet"`.
        batch_rows (`int`, *optional*):
            Rows of a batch.
        rows_per_unit (`int`, *optional*):
            Rows of a unit of work.

    Raises:
        InputError: If there are no such files, one cannot be read, or their schemas differ.
    """

    def __init__(
        self,
        source: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        batch_rows: int = BATCH_ROWS,
        rows_per_unit: int = ROWS_PER_UNIT,
        num_threads: int | None = None,
    ):
        names = [source] if isinstance(source, (str, os.PathLike)) else list(source)
        self.files = [file for name in names for file in _files_of(os.fspath(name))]
        if not self.files:
            raise InputError("No data: name parquet files, a pattern, or a folder of them.")
        repeated = sorted({path for i, (_, path) in enumerate(self.files) if (_, path) in self.files[:i]})
        if repeated:
            raise InputError(f"File {repeated[0]} is named more than once: its rows would count twice.")
        self.batch_rows = batch_rows
        self.num_threads = num_threads or usual_threads()
        with ThreadPoolExecutor(self.num_threads) as pool:
            self.metadata = list(pool.map(self._read_metadata, range(len(self.files))))
        self.schema: pa.Schema = self.metadata[0].schema.to_arrow_schema()
        for index in range(1, len(self.files)):
            self._check_schema(index)
        self.units = self._units(rows_per_unit)
        self.num_rows = sum(unit.num_rows for unit in self.units)

    def name(self, file: int) -> str:
        """What to call a file in messages."""
        return str(self.files[file][1])

    def digest(self) -> str:
        """
        Hex digest of the files' bytes. Remote files are not read whole: their digest covers the footers (schema, row
        counts, and place, size, minimum and maximum of each column of each row group) and the store's own digest.

        Raises:
            InputError: If a file is not the one that its stage wrote.
        """
        check_read([Path(path) for system, path in self.files if system is None])
        with ThreadPoolExecutor(self.num_threads) as pool:
            return digest_of(list(pool.map(self._content, range(len(self.files)))))

    def _content(self, file: int) -> Any:
        system, path = self.files[file]
        if system is None:
            return file_key(path)
        known = system.info(path)
        return [_footer(self.metadata[file]), *(str(known[name]) for name in _CONTENT if known.get(name))]

    def batches(
        self, unit: Unit, columns: Sequence[str] | None = None, batch_rows: int | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """
        The batches of a unit, each with the row of the file at which it starts. Only `columns` are read (`None`: all).
        A batch of long texts holds a few tens of megabytes at most.
        """
        file_system, path = self.files[unit.file]
        metadata = self.metadata[unit.file]
        dictionaries = [name for name in ("aspect",) if columns is not None and name in columns]
        rows = batch_rows or self._batch_rows(unit, columns)
        row = unit.first_row
        try:
            with file_system.open(path, "rb") if file_system is not None else pa.OSFile(path) as handle:
                # From a remote store, the columns of a row group are fetched at once, except texts, which may be large.
                reader = pq.ParquetFile(
                    handle,
                    metadata=metadata,
                    read_dictionary=dictionaries,
                    buffer_size=_BUFFER,
                    pre_buffer=file_system is not None and columns is not None,
                )
                names = list(columns) if columns is not None else self.column_names
                for batch in reader.iter_batches(rows, list(unit.row_groups), names, use_threads=False):
                    yield row, batch
                    row += batch.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            if (full := system_error(error)) is not None:
                raise full from None
            raise InputError(
                f"{path} could not be read: {error}. The file is damaged, or has changed since it was opened."
            ) from None

    def _batch_rows(self, unit: Unit, columns: Sequence[str] | None) -> int:
        if columns is not None:
            return self.batch_rows
        metadata = self.metadata[unit.file]
        size = sum(metadata.row_group(group).total_byte_size for group in unit.row_groups)
        return min(self.batch_rows, max(64, BATCH_BYTES * unit.num_rows // max(size, 1)))

    def _read_metadata(self, file: int) -> Any:
        file_system, path = self.files[file]
        try:
            with file_system.open(path, "rb") if file_system is not None else pa.OSFile(path) as handle:
                return pq.read_metadata(handle)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path} cannot be read as parquet: {str(error).rstrip('.')}.") from None

    def _check_schema(self, file: int) -> None:
        schema = self.metadata[file].schema.to_arrow_schema()
        ours, theirs = ({f.name: f.type for f in one} for one in (self.schema, schema))
        if ours == theirs:
            return
        differing = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
        name = differing[0]
        found = [str(columns[name]) if name in columns else "missing" for columns in (ours, theirs)]
        raise InputError(
            f"All files must have the same columns, but {name!r} is {found[0]} in {self.name(0)} and {found[1]} in "
            f"{self.name(file)}. Name the files of one data set only, or write them with the same columns."
        )

    def _units(self, rows_per_unit: int) -> list[Unit]:
        units: list[Unit] = []
        for file, metadata in enumerate(self.metadata):
            groups: list[int] = []
            start = row = 0
            for group in range(metadata.num_row_groups):
                groups.append(group)
                row += metadata.row_group(group).num_rows
                if row - start >= rows_per_unit or group == metadata.num_row_groups - 1:
                    if row > start:
                        units.append(Unit(len(units), file, tuple(groups), start, row - start))
                    groups, start = [], row
        return units


def _files_of(name: str) -> list[tuple[Any, str]]:
    if "://" in name:
        file_system, found = remote_parquet_files(name)
        return [(file_system, file) for file in found]
    path = Path(name).expanduser()
    if path.is_dir():
        return [(None, str(file)) for file in _folder_files(path)]
    if path.is_file():
        return [(None, str(path))]
    if any(c in name for c in "*?["):
        local = sorted(path.parent.glob(path.name)) if not any(c in str(path.parent) for c in "*?[") else []
        if local:
            return [(None, str(file)) for file in local]
    raise InputError(
        f"There is no file, folder or pattern of parquet files {name}. For data on the Hub, give its url, such as "
        "hf://datasets/me/data/scored/*.parquet."
    )


def _folder_files(folder: Path) -> list[Path]:
    for place in (folder / "scored", folder / "preferences", folder):
        files = sorted(place.glob("*.parquet"))
        if files:
            break
    else:
        raise InputError(
            f"{folder} holds no parquet files (*.parquet): name the folder that holds them, or a pattern."
        )
    shards = [file for file in files if "-of-" in file.stem]
    expected = int(shards[0].stem.rsplit("-", 1)[1]) if shards and shards[0].stem.rsplit("-", 1)[1].isdigit() else 0
    if expected and len(shards) != expected:
        raise InputError(
            f"{place} holds {len(shards)} of {expected} parquet shards: write them again, or name the files."
        )
    return files


# Names that stores use for the digest of a file.
_CONTENT = ("ETag", "etag", "md5Hash", "content_md5", "lfs", "blob_id")


def _footer(metadata: Any) -> str:
    groups = [metadata.row_group(i).to_dict() for i in range(metadata.num_row_groups)]
    schema = metadata.schema.to_arrow_schema().to_string()
    return json.dumps([schema, metadata.num_rows, groups], sort_keys=True, default=str)
