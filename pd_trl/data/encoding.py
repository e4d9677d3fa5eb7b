"""Finds bytes that are not text in a file or a table: by file, row and column."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError
from .json_columns import Problems

_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ADVICE = "The file may have an encoding other than UTF-8: convert it, e.g. with `iconv -f latin1 -t utf-8`."


def _holds_text(dtype: pa.DataType) -> bool:
    if isinstance(dtype, pa.BaseExtensionType):
        return _holds_text(dtype.storage_type)
    if pa.types.is_nested(dtype):
        return any(_holds_text(dtype.field(i).type) for i in range(dtype.num_fields))
    return pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)


def _is_valid(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def broken_text(table: pa.Table) -> Problems:
    """Returns, by column, the rows of a table whose text is not UTF-8, each mask of shape `(num_rows,)`."""
    found = {}
    for field in table.schema:
        column = table.column(field.name)
        if not _holds_text(field.type) or all(_is_valid(chunk) for chunk in column.chunks):
            continue
        masks = [
            np.zeros(len(chunk), dtype=bool)
            if _is_valid(chunk)
            else np.array([not _is_valid(chunk.take(pa.array([row]))) for row in range(len(chunk))], dtype=bool)
            for chunk in column.chunks
        ]
        found[field.name] = np.concatenate(masks)
    return found


def read_json_rows(path: Path) -> Any:
    """
    Returns the content of a JSON file. In a list, the texts of each row are checked.

    Raises:
        InputError: If it cannot be read, naming the file, the row and the column.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"Cannot read {path} as json: {json_trouble(path) or error}.") from None
    if isinstance(content, list):
        for row, value in enumerate(content):
            key = _surrogate_key(value)
            if key is not None:
                raise InputError(f"Cannot read {path}: {_half_pair(row, key)}.")
    return content


def _half_pair(row: int, key: str) -> str:
    column = f", column {key!r}" if key else ""
    return f"row {row}{column} has half of a surrogate pair, which is not a character. Fix or remove it"


def _bytes_of(path: Path) -> bytes:
    """The bytes of a file, unpacked. `datasets` reads `.zst` where zstandard is installed; Arrow always does."""
    if path.suffix.lower() == ".zst":
        with pa.input_stream(path, compression="zstd") as packed:
            return packed.read()
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        return file.read()


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    yield from ((row, line) for row, line in enumerate(content.split(b"\n")) if line.strip())


def _surrogate_key(value: Any) -> str | None:
    """The path of the first text with half of a surrogate pair; `""` for the value itself."""
    if isinstance(value, str):
        return "" if any("\ud800" <= character <= "\udfff" for character in value) else None
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        inner = _surrogate_key(item)
        if inner is not None:
            return f"{key}.{inner}".rstrip(".")
    return None


def _row_trouble(row: int, value: Any, decoded: bool) -> str | None:
    if not isinstance(value, dict):
        return f"row {row} is a {type(value).__name__}, not a JSON object"
    key = _surrogate_key(value)
    if key is None:
        return None
    if decoded:
        return _half_pair(row, key)
    return f"row {row}, column {key!r} has bytes that are not UTF-8. {_ADVICE}"


def json_trouble(path: Path) -> str | None:
    """Returns what is wrong with a JSON or JSON lines file, with its row and column; `None` if nothing is found."""
    if path.suffix.lower() not in (".json", ".jsonl", ".gz", ".zst"):
        return None
    try:
        content = _bytes_of(path)
    except (OSError, EOFError, zlib.error) as error:
        return f"it cannot be decompressed ({error}): it is damaged"
    if content[:2] in _MARKS or b"\x00" in content[:4]:
        return "it is UTF-16 or UTF-32 text, not UTF-8. Convert it, e.g. with `iconv -f utf-16 -t utf-8`"
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        content.decode()
        decoded = True
    except UnicodeDecodeError:
        decoded = False
    if content.lstrip()[:1] == b"[":
        try:
            rows = json.loads(content.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError) as error:
            return f"it is not JSON ({error}): it is damaged, or its name says another format"
        return next(filter(None, (_row_trouble(row, value, decoded) for row, value in enumerate(rows))), None)
    for row, line in _lines(content):
        try:
            value = json.loads(line.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError) as error:
            return f"row {row} is not JSON ({error}): the file is damaged, or its name says another format"
        if trouble := _row_trouble(row, value, decoded):
            return trouble
    return None


def json_table(files: Sequence[Path]) -> pa.Table:
    """Returns the rows of JSON (lines) files. A column with several types becomes JSON text."""
    rows: list[dict[str, Any]] = []
    for path in files:
        content = _bytes_of(path).removeprefix(b"\xef\xbb\xbf")
        if content.lstrip()[:1] == b"[":
            rows += json.loads(content)
        else:
            rows += [json.loads(line) for _, line in _lines(content)]
    columns = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            texts = pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
            columns[name] = texts.cast(pa.json_(pa.string()))
    return pa.table(columns)


def describe_broken(name: str, files: Sequence[Path], broken: Problems) -> str:
    """Returns where text is not UTF-8: file, row and column."""
    for path in files:
        if path.suffix == ".parquet":
            inside = broken_text(pq.read_table(path))
            if inside:
                return f"{path}: {_first(inside)}"
        elif trouble := json_trouble(path):
            return f"{path}: {trouble.rstrip('.')}."
    return f"{name}: {_first(broken)}"


def _first(broken: Problems) -> str:
    column = min(broken, key=lambda name: int(np.argmax(broken[name])))
    row, count = int(np.argmax(broken[column])), int(broken[column].sum())
    return f"row {row}, column {column!r} has bytes that are not UTF-8; {count} rows have such bytes. {_ADVICE}"
