"""Columns as Python values and back."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..json_columns import Problems, decode_json, has_json_fields, is_json, is_json_list


class UnreadError(ValueError):
    """A value that would be half read, with the reason."""


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """Returns the values of a column, JSON decoded."""
    if is_json(column.type) or is_json_list(column.type) or has_json_fields(column.type):
        return decode_json(column)
    return column.to_pylist()


def json_column(values: Sequence[Any]) -> pa.ChunkedArray:
    """Returns values of one simple type as a column of it, and any others as JSON."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {str}:
        return pa.chunked_array([pa.array(values, pa.string())])
    if kinds <= {int, float}:
        return pa.chunked_array([pa.array(values, pa.float64())])
    texts = [None if value is None else json.dumps(value, default=str) for value in values]
    return pa.chunked_array([pa.array(texts, pa.string()).cast(pa.json_(pa.string()))])


def mark(problems: Problems, reason: str, row: int, num_rows: int) -> None:
    """Marks a row that cannot be read."""
    problems.setdefault(reason, np.zeros(num_rows, dtype=bool))[row] = True


def set_column(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    """Returns the table with another column of the name."""
    return table.set_column(table.column_names.index(name), name, column)
