"""What makes two runs the same: data, files and settings, known by their content and not by their place."""

import dataclasses
import enum
import hashlib
import json
import os
import re
import time
import typing
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset

from ..errors import InputError
from ..safety.schema import parse_yaml

_BLOCK = 1 << 22
# Rows that a digest of rows takes at a time: it depends on it.
_KEY_ROWS = 1000
# A file that changed so recently could change again within the clock's tick: its digest is not remembered.
_SETTLED_SECONDS = 2.0
_remembered: dict[tuple[int, ...], str] = {}
# A whole number of these is a count, and a fraction a share: 1 is one pair, 1.0 all.
_BUDGETS = ("budget", "pd_budget")


def digest_of(value: Any) -> str:
    """Hex digest of a json-like value, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def settings_key(value: Any) -> str:
    """Hex digest of settings in their one form, see [`canonical`]."""
    return digest_of(canonical(value))


def canonical(value: Any, name: str = "") -> Any:
    """
    The one form of what means the same: 2 and 2.0, lists and tuples, sets in any order, members of an enum and their values,
    and mappings in any order.

    Args:
        value: Settings.
        name (`str`, *optional*): The key under which they stand.
    """
    if isinstance(value, enum.Enum):
        return canonical(value.value, name)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        if name in _BUDGETS:
            return f"{value!r} pairs" if isinstance(value, int) else f"{value!r} of the pairs"
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(key): canonical(entry, str(key)) for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((canonical(entry) for entry in value), key=lambda entry: json.dumps(entry, sort_keys=True))
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [canonical(entry) for entry in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return canonical(dataclasses.asdict(value))
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return canonical(value.item(), name)
    # An address in memory differs from process to process.
    return re.sub(r" at 0x[0-9a-f]+", "", str(value)).removeprefix("torch.")


def deciding(arguments: Any, names: Iterable[str]) -> dict[str, Any]:
    """
    The named arguments of a stage, for a manifest. A mapping that the command line gave as json or YAML is a mapping.

    Args:
        arguments (dataclass): The stage's arguments.
        names (iterable of `str`): Those that decide its result.
    """
    hints = typing.get_type_hints(type(arguments))
    return {name: _parsed(getattr(arguments, name), hints.get(name)) for name in names}


def _parsed(value: Any, hint: Any) -> Any:
    kinds = typing.get_args(hint) or (hint,)
    if isinstance(value, str) and any(kind is dict or typing.get_origin(kind) is dict for kind in kinds):
        try:
            content = json.loads(value)
        except ValueError:
            try:
                content = parse_yaml(value, "a mapping")
            except InputError:
                return value
        return content if isinstance(content, dict) else value
    return value


def data_key(dataset: Dataset, columns: list[str] | None = None) -> str:
    """Hex digest of the rows of `dataset` (of `columns`, where given), in order, however and wherever they are stored."""
    names = sorted(columns if columns is not None else dataset.column_names)
    key = DataKey(names, {name for name in names if hasattr(dataset.features[name], "decode")})
    # The format of Arrow leaves images and sounds as they are stored.
    for table in dataset.select_columns(names).with_format("arrow").iter(batch_size=_KEY_ROWS):
        key.add(table)
    return key.digest()


class DataKey:
    """
    [`data_key`] of rows that come in parts.

    Args:
        names (sequence of `str`): Columns.
        media (container of `str`, *optional*): Those of images and sounds.
    """

    def __init__(self, names: Sequence[str], media: Container[str] = ()):
        self.names, self.media = sorted(names), media
        self._hash = hashlib.blake2b(json.dumps(self.names).encode(), digest_size=16)
        self._rest: pa.Table | None = None

    def add(self, table: pa.Table) -> None:
        """Adds the next rows, in a table of any size."""
        table = table.select(self.names)
        if self._rest is not None:
            table = pa.concat_tables([self._rest, table])
        whole = len(table) - len(table) % _KEY_ROWS
        for start in range(0, whole, _KEY_ROWS):
            self._add(table.slice(start, _KEY_ROWS))
        self._rest = table.slice(whole) if whole < len(table) else None

    def _add(self, table: pa.Table) -> None:
        cells = {name: table.column(name).to_pylist() for name in self.names}
        for name in self.names:
            if name in self.media:
                cells[name] = [_media_key(cell) for cell in cells[name]]
        text = json.dumps([cells[name] for name in self.names], ensure_ascii=False, default=_cell)
        self._hash.update(text.encode())

    def digest(self) -> str:
        """Hex digest of the rows so far, after which no more can be added."""
        if self._rest is not None:
            self._add(self._rest)
            self._rest = None
        return self._hash.hexdigest()


def _media_key(cell: Any) -> Any:
    """The content of a stored image or sound, which may be a file."""
    if not isinstance(cell, Mapping):
        return cell
    if cell.get("bytes") is not None:
        return _cell(cell["bytes"])
    path = cell.get("path")
    return file_key(path) if path and os.path.isfile(path) else path


def _cell(value: Any) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest() if isinstance(value, bytes) else str(value)


def file_key(path: str | os.PathLike) -> str:
    """Hex digest of a file's bytes. A file that did not change since is not read again."""
    before = _signature(path)
    if before in _remembered:
        return _remembered[before]
    settled = time.time() - os.stat(path).st_ctime > _SETTLED_SECONDS
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if settled and _signature(path) == before:
        _remembered[before] = digest.hexdigest()
    return digest.hexdigest()


def _signature(path: str | os.PathLike) -> tuple[int, ...]:
    # `cp -p` sets the time of modification to the original's; nobody sets that of the change.
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def file_keys(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """[`file_key`] of files by their names in `folder`, several at a time."""
    ordered = sorted(names)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(ordered, pool.map(lambda name: file_key(folder / name), ordered), strict=True))


def shard_identity(
    *, data: str, model: str, aspects: Sequence[str], computation: Mapping[str, Any], **settings: Any
) -> dict[str, Any]:
    """
    What the shards of a scoring run have in common.

    Args:
        data (`str`): Key of the texts.
        model (`str`): Key of the model.
        aspects (sequence of `str`): Whose rewards it gives, in order.
        computation (mapping): What rounds: type of the weights, backend, attention.
        settings: What else decides a score.
    """
    return {"data": data, "model": model, "aspects": list(aspects), **computation, **settings}
