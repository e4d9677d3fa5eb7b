"""Values inside a column, named by a path with dots: `ratings_a.help`, `completions.0`."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from ..json_columns import decode_json, is_json
from .values import json_column


def flatten_paths(table: pa.Table, names: Iterable[object]) -> pa.Table:
    """Returns the table with a column for each of the names that is a path into one of its columns."""
    for name in names:
        head, dot, path = str(name).partition(".")
        if not dot or name in table.column_names or head not in table.column_names:
            continue
        column = table.column(head)
        values = decode_json(column) if is_json(column.type) else column.to_pylist()
        found = [_at(value, path.split(".")) for value in values]
        if any(value is not None for value in found):
            table = table.append_column(str(name), json_column(found))
    return table


def _at(value: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
