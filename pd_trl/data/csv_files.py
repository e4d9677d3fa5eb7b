"""CSV and TSV files: texts stay as they are written, and columns of nothing but numbers become numbers."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from ..errors import InputError
from .columnar import table_dataset

SUFFIXES = (".csv", ".tsv")
# Columns of texts and names, in which `42` and `None` are what somebody wrote.
_TEXTS = re.compile(
    r".*(?:prompt|instruction|input|context|system|question|query|response|completion|answer|output|generation|text|content|message|"
    r"conversation|model|aspect|source|reason|comment|rationale|feedback|category|label_aspect).*|.*(?:^|_)ids?|(?:chosen|rejected)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|[+-]?\.\d+")
_MAX_CELL = 2**31 - 1


def csv_dataset(files: Sequence[Path], split: str, base: str) -> datasets.Dataset:
    """
    Returns the rows of CSV files as a dataset in memory; see [`csv_table`].

    Args:
        files (`Sequence[Path]`):
            The files.
        split (`str`):
            `base`, or a part of it such as `"train[:100]"`.
        base (`str`):
            What the rows of all files are called.
    """
    loaded = table_dataset(csv_table(files))
    if split == base:
        return loaded
    try:
        parts = datasets.ReadInstruction.from_spec(split).to_absolute({base: len(loaded)})
    except (ValueError, AssertionError) as error:
        raise InputError(f"{files[0]} (split {split!r}) could not be loaded: {error}.") from None
    rows = (range(part.from_ or 0, len(loaded) if part.to is None else part.to) for part in parts)
    return loaded.select([row for part in rows for row in part])


def csv_table(files: Sequence[Path]) -> pa.Table:
    """
    Returns the rows of CSV (or TSV) files. Cells may hold line breaks in quotes; an empty cell is null.

    Raises:
        InputError: If a file is no UTF-8, a row has another number of cells than the header, or quotes do not end; the message names
            file and row.
    """
    columns: dict[str, list[str | None]] = {}
    count = 0
    for path in files:
        rows = _rows(path)
        header = next(rows, [])
        _check_header(path, header)
        for name in header:
            columns.setdefault(name, [None] * count)
        for row, cells in enumerate(rows):
            if not cells:
                continue  # an empty line
            if len(cells) != len(header):
                raise InputError(
                    f"{path} could not be read: row {row} has {len(cells)} cells, but there are {len(header)} columns. A text with the "
                    "separator or a line break in it must stand in double quotes."
                )
            for name, cell in zip(header, cells, strict=True):
                columns[name].append(cell if cell != "" else None)
            count += 1
        for values in columns.values():
            values.extend([None] * (count - len(values)))
    return pa.table({name: _column(name, values) for name, values in columns.items()})


def _rows(path: Path) -> Iterator[list[str]]:
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in content[:4]:
        raise InputError(
            f"{path} could not be read: it is UTF-16 or UTF-32 text, and not UTF-8. Convert it, e.g. with `iconv -f utf-16 -t utf-8`."
        )
    text = content.decode("utf-8-sig", "surrogateescape")
    first = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    before = csv.field_size_limit(_MAX_CELL)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for row, cells in enumerate(reader):
            for name, cell in enumerate(cells):
                if any("\udc80" <= character <= "\udcff" for character in cell):
                    raise InputError(
                        f"{path} could not be read: row {row - 1}, column {name} has bytes that are not UTF-8. The file may have another "
                        "encoding: convert it, e.g. with `iconv -f latin1 -t utf-8`."
                    )
            yield cells
    except csv.Error as error:
        raise InputError(
            f"{path} could not be read: near line {reader.line_num}: {error}. A double quote inside a quoted text is written twice."
        ) from None
    finally:
        csv.field_size_limit(before)


def _check_header(path: Path, header: list[str]) -> None:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if not header or repeated or not all(name.strip() for name in header):
        what = f"names {repeated} twice" if repeated else f"must name every column, but is {header}"
        raise InputError(f"{path} could not be read: its first line {what}.")


def _column(name: str, values: list[str | None]) -> pa.Array:
    known = [value for value in values if value is not None]
    if known and not _TEXTS.fullmatch(name) and all(_NUMBER.fullmatch(value.strip()) for value in known):
        numbers = [None if value is None else float(value) for value in values]
        whole = all(re.fullmatch(r"[+-]?\d{1,15}", value.strip()) for value in known)
        return (
            pa.array([None if n is None else int(n) for n in numbers], pa.int64())
            if whole
            else pa.array(numbers, pa.float64())
        )
    return pa.array(values, pa.string())
