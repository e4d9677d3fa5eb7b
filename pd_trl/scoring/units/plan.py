"""Units of work in parquet files, by the files' footers alone: a file, its row groups, and how many rows they have."""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import InputError
from ...runs.artifacts import check_read, system_error
from ...runs.identity import digest_of, file_key
from ...runs.remote_files import remote_parquet_files

# Local files up to this size together are known by all their bytes, larger ones by their footers.
_READ_WHOLE = 256 << 20
_THREADS = 16
_TAIL = 8
_SAMPLED = 16


@dataclass(frozen=True)
class Unit:
    """
    Rows that are scored together, and written together.

    Args:
        index (`int`): Its place among the units.
        path (`str`): The file: a path, or an address that fsspec opens.
        row_groups (`tuple` of `int`): Its row groups, which follow each other.
        num_rows (`int`): Their rows.
    """

    index: int
    path: str
    row_groups: tuple[int, ...]
    num_rows: int

    def __str__(self) -> str:
        first, last = self.row_groups[0], self.row_groups[-1]
        return (
            f"{self.path}, row group{'' if first == last else 's'} {first if first == last else f'{first} to {last}'}"
        )

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows, of all columns or some."""
        with _reading(self.path) as handle:
            reader = pq.ParquetFile(handle, metadata=_footer(self.path), pre_buffer="://" in self.path)
            return reader.read_row_groups(list(self.row_groups), columns=columns, use_threads=False)


@dataclass(frozen=True)
class Plan:
    """
    What is to be scored.

    Args:
        units (`list` of [`Unit`]): In the order of the rows.
        schema (`pa.Schema`): Of all files.
        digest (`str`): What tells these data from others.
    """

    units: list[Unit]
    schema: pa.Schema
    digest: str

    @property
    def num_rows(self) -> int:
        """Rows of all units."""
        return sum(unit.num_rows for unit in self.units)

    def sample(self, columns: Sequence[str]) -> tuple[pa.Table, bool]:
        """Some columns of a few units, evenly apart, and whether these are all units."""
        step = -(-len(self.units) // _SAMPLED)
        return pa.concat_tables([unit.read(columns) for unit in self.units[::step]]), step == 1


def parquet_files(name: str | None) -> list[str] | None:
    """
    The parquet files that a name stands for, in order; `None` where it stands for something else.

    Args:
        name (`str`, *optional*): A stage's folder, a folder with `train-*-of-*.parquet`, a file, a pattern, or an address of these
            that fsspec opens, such as `"hf://datasets/me/data/*.parquet"` or `"s3://bucket/pairs/*.parquet"`.
    """
    if not name:
        return None
    if "://" in name:
        return _remote_files(name)
    path = Path(name).expanduser().absolute()
    for folder in (path / "preferences", path):
        if files := sorted(folder.glob("train-*-of-*.parquet")):
            expected = files[0].stem.rsplit("-", 1)[1]
            if expected.isdecimal() and int(expected) != len(files):
                raise InputError(
                    f"{folder} holds {len(files)} of {int(expected)} parquet shards: run the stage that writes them again."
                )
            return [str(file) for file in files]
    if path.suffix == ".parquet" and any(c in path.name for c in "*?["):
        return [str(file) for file in sorted(path.parent.glob(path.name))] or None
    return [str(path)] if path.suffix == ".parquet" and path.is_file() else None


def _remote_files(name: str) -> list[str]:
    scheme = name.partition("://")[0]
    _, found = remote_parquet_files(name)
    return [f"{scheme}://{file.removeprefix(f'{scheme}://')}" for file in found]


def plan_units(files: Sequence[str], rows_per_unit: int) -> Plan:
    """
    Units of whole row groups, one after the other until there are `rows_per_unit`. Only footers are read, and local files that
    are small.

    Args:
        files (sequence of `str`): See [`parquet_files`].
        rows_per_unit (`int`): Rows of a unit, but for what the last row group adds.

    Raises:
        InputError: When a file is no parquet, their columns differ, or there are no rows.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        footers = list(pool.map(_read_footer, files))
    schema = footers[0].schema
    units: list[Unit] = []
    for path, footer in zip(files, footers, strict=True):
        _check_schema(schema, footer.schema, files[0], path)
        groups: list[int] = []
        rows = 0
        for group, count in enumerate(footer.rows):
            groups.append(group)
            rows += count
            if rows and (rows >= rows_per_unit or group == len(footer.rows) - 1):
                units.append(Unit(len(units), path, tuple(groups), rows))
                groups, rows = [], 0
    if not units:
        raise InputError(f"There are no rows in {files[0]}{' and the other files' if len(files) > 1 else ''}.")
    return Plan(units, schema, _digest(files, footers))


class _Footer(NamedTuple):
    """What is kept of a file's footer: columns, rows of each row group, size of the file, and the digest of the footer's bytes."""

    schema: pa.Schema
    rows: list[int]
    size: int
    key: str


def _digest(files: Sequence[str], footers: Sequence[_Footer]) -> str:
    if sum(footer.size for footer in footers) > _READ_WHOLE or any("://" in path for path in files):
        return digest_of([[footer.size, footer.key] for footer in footers])
    check_read([Path(path) for path in files])
    return digest_of([file_key(path) for path in files])


def _check_schema(ours: pa.Schema, theirs: pa.Schema, first: str, path: str) -> None:
    columns = [{field.name: field.type for field in schema} for schema in (ours, theirs)]
    if columns[0] != columns[1]:
        name = sorted(n for n in {*columns[0], *columns[1]} if columns[0].get(n) != columns[1].get(n))[0]
        found = [str(types.get(name, "missing")) for types in columns]
        raise InputError(
            f"All files must have the same columns, but {name!r} is {found[0]} in {first} and {found[1]} in {path}. Name the files of "
            "one data set only."
        )


def _read_footer(path: str) -> _Footer:
    with _reading(path) as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - _TAIL))
        length = int.from_bytes(handle.read(_TAIL)[:4], "little")
        handle.seek(max(0, size - _TAIL - length))
        key = hashlib.blake2b(handle.read(length), digest_size=16).hexdigest()
        handle.seek(0)
        metadata = pq.read_metadata(handle)
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return _Footer(metadata.schema.to_arrow_schema(), rows, size, key)


@functools.lru_cache(maxsize=8)
def _footer(path: str) -> Any:
    with _reading(path) as handle:
        return pq.read_metadata(handle)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[Any]:
    """The opened file; what is wrong with it is an `InputError`."""
    try:
        with fsspec.open(path, "rb") if "://" in path else open(path, "rb") as handle:
            yield handle
    except (pa.ArrowInvalid, OSError, ImportError) as error:
        if (full := system_error(error)) is not None:
            raise full from None
        raise InputError(
            f"{path} cannot be read as parquet: {' '.join(str(error).split()).rstrip('.')}. It is damaged, is none, or has changed since it was "
            "opened."
        ) from None
