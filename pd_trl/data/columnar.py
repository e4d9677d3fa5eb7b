"""Helpers for Arrow tables. Every step works on whole columns, so nothing is lost between batches."""

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets.fingerprint import Hasher
from datasets.table import InMemoryTable

from ..errors import InputError

MESSAGE_TYPE = pa.struct([("role", pa.string()), ("content", pa.string())])
MESSAGES_TYPE = pa.list_(MESSAGE_TYPE)

# Rows per output chunk. An Arrow string array holds at most 2 GiB; a chunk stays far below.
CHUNK_ROWS = 16_384


def _large(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_string(dtype):
        return pa.large_string()
    if pa.types.is_binary(dtype):
        return pa.large_binary()
    if pa.types.is_list(dtype):
        return pa.large_list(_large(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([pa.field(field.name, _large(field.type), field.nullable) for field in dtype])
    return dtype


def chunked(column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the column as a `ChunkedArray`."""
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def single_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Returns the column as one array, with 64-bit offsets if its text is too long for 32-bit ones."""
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.nbytes >= 2**31 - 2**20:
        column = column.cast(_large(column.type))
    return column.combine_chunks()


def take(column: pa.Array | pa.ChunkedArray, indices: np.ndarray) -> pa.ChunkedArray:
    """Returns the rows `indices` of a column. Unlike Arrow's take, it supports more than 2 GiB of text."""
    column = chunked(column)
    dtype = column.type
    whole = column.cast(_large(dtype)).combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], whole.type)
    parts = [
        whole.take(pa.array(indices[start : start + CHUNK_ROWS])).cast(dtype)
        for start in range(0, len(indices), CHUNK_ROWS)
    ]
    return pa.chunked_array(parts, type=dtype)


def take_table(table: pa.Table, indices: np.ndarray) -> pa.Table:
    """Returns the rows `indices` of a table."""
    columns = {name: take(table.column(name), indices) for name in table.column_names}
    return pa.table(columns)


def choose(mask: np.ndarray, if_true: pa.ChunkedArray, if_false: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns, for each row, `if_true` if `mask` holds, else `if_false`."""
    parts = []
    for start in range(0, len(mask), CHUNK_ROWS):
        condition = pa.array(mask[start : start + CHUNK_ROWS])
        left, right = (
            single_array(side.slice(start, len(condition)).combine_chunks()) for side in (if_true, if_false)
        )
        parts.append(pc.if_else(condition, left, right))
    return pa.chunked_array(parts, type=if_true.type)


def to_numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Returns a numeric column as float64 with NaN for null, shape `(num_rows,)`."""
    return np.asarray(chunked(column).cast(pa.float64()).fill_null(float("nan")).to_numpy(), dtype=np.float64)


def from_numpy(values: np.ndarray, dtype: pa.DataType | None = None) -> pa.ChunkedArray:
    """Returns float values as a nullable column: NaN becomes null."""
    array = pa.array(values, type=pa.float64(), mask=np.isnan(values))
    return pa.chunked_array([array if dtype is None else array.cast(dtype)])


def as_mask(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Returns a boolean column as numpy; null is False."""
    return np.asarray(chunked(column).fill_null(False).to_numpy(), dtype=bool)


def is_text(dtype: pa.DataType) -> bool:
    return pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)


def is_list(dtype: pa.DataType) -> bool:
    return pa.types.is_list(dtype) or pa.types.is_large_list(dtype)


def is_messages(dtype: pa.DataType) -> bool:
    """Whether the type is a list of structs with a `role` and a `content` field."""
    if not is_list(dtype) or not pa.types.is_struct(dtype.value_type):
        return False
    return {"role", "content"} <= {field.name for field in dtype.value_type}


def is_numeric(dtype: pa.DataType) -> bool:
    return pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)


def struct_field(array: pa.Array, name: str) -> pa.Array:
    """Returns a field of a struct array (null if the struct is null), or nulls if there is no such field."""
    if not pa.types.is_struct(array.type) or array.type.get_field_index(name) < 0:
        return pa.nulls(len(array))
    return pc.struct_field(array, name)


def find_rows(mask: np.ndarray, limit: int = 5) -> list[int]:
    """Returns the first rows at which the mask holds."""
    return [int(row) for row in np.flatnonzero(mask)[:limit]]


def dataset_table(dataset: datasets.Dataset) -> pa.Table:
    """Returns the dataset as an Arrow table, with a selection or shuffle of rows applied."""
    return dataset.with_format("arrow")[:]


def arrow_column(dataset: datasets.Dataset, name: str) -> pa.ChunkedArray:
    """Returns one column as it is stored, whatever the format of the dataset."""
    rows = stored_rows(dataset)
    # `datasets` would copy the features of all columns for another format, and slice the table once for each row of a selection.
    return chunked(dataset.data.column(name)) if rows is None else take(dataset.data.column(name), rows)


def select_rows(dataset: datasets.Dataset, rows: np.ndarray) -> datasets.Dataset:
    """Returns the rows `rows` in this order, as `dataset.select` does, which makes a Python object of each."""
    rows = rows.astype(np.int64, copy=False)
    if len(rows) == 0 or (rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all()):
        first = int(rows[0]) if len(rows) else 0
        return dataset.select(range(first, first + len(rows)))
    stored = stored_rows(dataset)
    places = np.ascontiguousarray(rows if stored is None else stored[rows], dtype=np.uint64)
    selected = datasets.Dataset(
        dataset.data,
        dataset.info,
        dataset.split,
        InMemoryTable(pa.table({"indices": places})),
        Hasher.hash_bytes([dataset._fingerprint.encode(), places.data]),
    )
    shown = dataset.format
    if shown["type"] is None and len(shown["columns"]) == len(dataset.column_names):
        return selected
    return selected.with_format(shown["type"], shown["columns"], shown["output_all_columns"], **shown["format_kwargs"])


def stored_rows(dataset: datasets.Dataset) -> np.ndarray | None:
    """Returns where the rows of a selection or shuffle stand in the stored table; `None` if the dataset is the whole table."""
    indices = dataset._indices
    return None if indices is None else indices.column(0).to_numpy()


class _HashSink:
    closed = False

    def __init__(self) -> None:
        self.hasher = hashlib.blake2b(digest_size=8)

    def write(self, data: Any) -> int:
        self.hasher.update(data)
        return len(data)

    def flush(self) -> None:
        pass


def table_dataset(table: pa.Table, features: dict[str, Any] | None = None) -> datasets.Dataset:
    """
    Returns the table as an in-memory dataset.

    Args:
        table (`pa.Table`):
            Columns of the dataset.
        features (`dict[str, Any]`, *optional*):
            Features to keep (e.g. a `ClassLabel`), by column; used if the Arrow type agrees.
    """
    table = table.replace_schema_metadata(None)
    inferred = features_of(table.schema, features)
    # The default fingerprint concatenates each column and fails beyond 2 GiB of text.
    sink = _HashSink()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        writer.write_table(table, max_chunksize=CHUNK_ROWS)
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=inferred), fingerprint=sink.hasher.hexdigest())


def features_of(schema: pa.Schema, features: dict[str, Any] | None = None) -> datasets.Features:
    """The features of columns: those given, where the Arrow type agrees, else those of the type."""
    inferred = datasets.Features.from_arrow_schema(schema)
    for name, feature in (features or {}).items():
        if (
            name in inferred
            and datasets.Features({name: feature}).arrow_schema.field(0).type == schema.field(name).type
        ):
            inferred[name] = feature
    return inferred


def pair_hashes(seed: int, salt: str, ids: Iterable[str]) -> np.ndarray:
    """Returns a pseudo-random uint64 per id, shape `(num_ids,)`: a hash of the seed, the salt and the id alone."""
    prefix = f"{seed}/{salt}/".encode()
    digests = b"".join(hashlib.blake2b(prefix + name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype="<u8")


def closest(name: str, candidates: Sequence[str]) -> str:
    """Returns a hint naming the candidates closest to a name, or an empty string."""
    found = difflib.get_close_matches(name, candidates, n=3, cutoff=0.5)
    return f" Did you mean {', '.join(map(repr, found))}?" if found else ""


def require_columns(table: pa.Table, required: Sequence[str], what: str) -> None:
    """Raises [`InputError`] when a column is missing, naming the closest ones found."""
    missing = [name for name in required if name not in table.column_names]
    if missing:
        hints = "".join(closest(name, table.column_names) for name in missing)
        raise InputError(
            f"{what} must have the columns {missing}, which were not found among {table.column_names}.{hints}"
        )
