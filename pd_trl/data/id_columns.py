"""Columns of ids as Arrow holds them: checked and compared without a Python object a row."""

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from ..errors import InputError
from .columnar import arrow_column, single_array

# Ids hashed at a time, so that what is computed on the way stays in the processor's cache.
_BLOCK = 16_384


class IdColumn:
    """
    Ids of rows. They become numpy strings only where rows are asked for.

    Args:
        column (`pa.LargeStringArray`): Ids without nulls.
    """

    def __init__(self, column: pa.LargeStringArray):
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @property
    def shape(self) -> tuple[int]:
        return (len(self.column),)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """A 64-bit hash of each id, shape `(num_rows,)`."""
        return id_hashes(self.column)

    def draws(self, seed: int) -> NDArray[np.float64]:
        """
        A number in [0, 1) for each id, shape `(num_rows,)`, by id and seed alone. [`~method.ranking.random_keys`] gives others: it
        is a cryptographic hash, and makes a Python object a row.
        """
        salt = _mixed(np.array([seed % 2**64], dtype=np.uint64))
        drawn = np.empty(len(self))
        for start in range(0, len(self), _BLOCK):
            drawn[start : start + _BLOCK] = _mixed(self.hashes[start : start + _BLOCK] ^ salt)
        return drawn / 2.0**64

    def __getitem__(self, rows: NDArray) -> NDArray[np.str_]:
        places = np.flatnonzero(rows) if rows.dtype == bool else rows
        return _strings(self.column.take(pa.array(places)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.str_]:
        return _strings(self.column)


def row_ids(dataset: Dataset, unique: bool = True) -> IdColumn:
    """
    The `pair_id` of each row, or its position if the data set has no ids.

    Args:
        dataset ([`~datasets.Dataset`]): The rows.
        unique (`bool`, *optional*, defaults to `True`): Whether to refuse ids that occur more than once.

    Raises:
        InputError: If an id is null or occurs more than once.
    """
    if "pair_id" not in dataset.column_names:
        return IdColumn(pa.array([f"{row:012d}" for row in range(len(dataset))], pa.large_string()))
    column = single_array(arrow_column(dataset, "pair_id"))
    if column.null_count:
        first = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]
        raise InputError(
            f"`pair_id` must not be null, but it is in {column.null_count} rows, the first of them row {first}."
        )
    if _can_be_ids(column.type):
        ids = column.cast(pa.large_string())
    else:
        ids = pa.array(np.asarray(column.to_pylist(), dtype=str).tolist(), pa.large_string())
    found = IdColumn(ids)
    if unique:
        _check_unique(found)
    return found


def text_ids(column: Any) -> Any:
    """A column of `pair_id`s as strings; raises `InputError` on null and on types that cannot be ids."""
    if column.null_count:
        raise InputError(f"`pair_id` must not be null, but it is in {column.null_count} rows of a batch.")
    if not _can_be_ids(column.type):
        raise InputError(f"`pair_id` must hold strings or whole numbers, but its type is {column.type}.")
    return column.cast(pa.large_string())


def id_hashes(column: Any) -> NDArray[np.uint64]:
    """A 64-bit hash of each id of a column without nulls."""
    ids = text_ids(column).cast(pa.large_binary())
    result = np.empty(len(ids), dtype=np.uint64)
    for start in range(0, len(ids), _BLOCK):
        block = result[start : start + _BLOCK]
        for rows, text in _by_length(ids.slice(start, _BLOCK)):
            block[rows] = _hashes_of_one_length(text)
    return result


def _can_be_ids(dtype: pa.DataType) -> bool:
    return pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_integer(dtype)


def _check_unique(ids: IdColumn) -> None:
    ranked = np.sort(ids.hashes)
    suspects = np.unique(ranked[1:][ranked[1:] == ranked[:-1]])
    if not suspects.size:
        return
    unique, counts = np.unique(ids[np.isin(ids.hashes, suspects)], return_counts=True)
    repeated = unique[counts > 1]
    if repeated.size:
        raise InputError(
            f"`pair_id` must be unique, but {repeated.size} ids occur more than once, such as {str(repeated[0])!r}. Give each row "
            "its own id, or remove the column."
        )


def _strings(ids: pa.LargeStringArray) -> NDArray[np.str_]:
    """The ids as numpy strings, which compare as Python's do."""
    lengths = pc.binary_length(ids).to_numpy(zero_copy_only=False)
    if not lengths.any() or not pc.all(pc.string_is_ascii(ids)).as_py():
        return np.array(ids.to_pylist(), dtype=str)
    letters = np.zeros((len(ids), int(lengths.max())), dtype=np.uint32)
    for rows, text in _by_length(ids.cast(pa.large_binary())):
        letters[rows, : text.shape[1]] = text
    return letters.view(f"U{letters.shape[1]}").reshape(-1)


def _by_length(ids: pa.LargeBinaryArray) -> list[tuple[Any, NDArray[np.uint8]]]:
    """The bytes of the ids, those of one length together: their rows, and a matrix with an id in each."""
    lengths = pc.binary_length(ids).to_numpy(zero_copy_only=False)
    found = []
    for length in np.unique(lengths).tolist() if len(ids) else []:
        rows = np.flatnonzero(lengths == length)
        whole = rows.size == len(ids)
        part = ids if whole else ids.take(pa.array(rows))
        start = np.frombuffer(part.buffers()[1], dtype=np.int64)[part.offset]
        text = np.frombuffer(part.buffers()[2] or b"", dtype=np.uint8)
        matrix = text[start : start + len(part) * length].reshape(len(part), length)
        found.append((slice(None) if whole else rows, matrix))
    return found


def _hashes_of_one_length(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    count, length = text.shape
    padded = np.zeros((count, 8 * -(-max(length, 1) // 8)), dtype=np.uint8)
    padded[:, :length] = text
    hashes = np.full(count, length + 1, dtype=np.uint64)
    for word in padded.view("<u8").T:
        hashes = _mixed(hashes ^ word)
    return hashes


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64, a bijection whose every output bit depends on every input bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (values ^ (values >> np.uint64(31))) + np.uint64(0x9E3779B97F4A7C15)
