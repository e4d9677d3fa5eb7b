"""Reading ratings and preference labels of any type into nullable floats."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, InputTypeError
from .columnar import as_mask, chunked, find_rows, from_numpy, is_numeric, is_text, to_numpy

# What annotation pipelines write where there is no rating.
_MISSING = pa.array(["", "n/a", "na", "nan", "none", "null", "-"])


def parse_numbers(column: pa.Array | pa.ChunkedArray, name: str) -> np.ndarray:
    """
    Returns a column as float64 with NaN for a missing value, shape `(num_rows,)`.

    Args:
        column (`pa.Array` or `pa.ChunkedArray`):
            Numbers, booleans, or strings such as `"4"` (with `"N/A"`, `"None"` or an empty string for a missing one).
        name (`str`):
            Name of the column, for the message of the error.

    Raises:
        InputTypeError: If the column has another type, or a string is not a number.
    """
    column = chunked(column)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type):
        return to_numpy(column.cast(pa.int8()))
    if is_numeric(column.type):
        return to_numpy(column)
    if not is_text(column.type):
        raise InputTypeError(
            f"Column {name!r} must hold numbers (or strings of numbers, 'N/A' for a missing one), but its type is "
            f"{column.type}."
        )
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    text = pc.if_else(pc.is_in(pc.utf8_lower(text), value_set=_MISSING), pa.scalar(None, pa.string()), text)
    try:
        return to_numpy(text.cast(pa.float64()))
    except pa.ArrowInvalid:
        numeric = pc.match_substring_regex(text, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?inf(inity)?$")
        wrong = as_mask(pc.invert(numeric))
        rows = find_rows(wrong)
        values = [text[row].as_py() for row in rows]
        raise InputTypeError(
            f"Column {name!r} must hold numbers, but {int(wrong.sum()):,} of its {len(text):,} values are not: rows "
            f"{rows} hold {values}. Turn them into numbers, or into null where there is no rating."
        ) from None


def check_finite(values: np.ndarray, name: str) -> None:
    """Raises [`InputError`] naming the rows of infinite values; NaN counts as missing and is fine."""
    infinite = np.isinf(values)
    if infinite.any():
        raise InputError(
            f"Column {name!r} must hold finite numbers (null for a missing one), but {int(infinite.sum()):,} of "
            f"{len(values):,} values are infinite, the first in rows {find_rows(infinite)}. Replace them by null."
        )


def check_range(values: np.ndarray, name: str, low: float, high: float) -> None:
    """Raises [`InputError`] naming the rows of values outside `[low, high]`."""
    outside = (values < low) | (values > high)
    if outside.any():
        rows = find_rows(outside)
        raise InputError(
            f"Column {name!r} must lie in [{low:g}, {high:g}], but {int(outside.sum()):,} of {len(values):,} "
            "values do "
            f"not: rows {rows} hold {values[rows].tolist()}."
        )


def compare(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the preference of each pair of ratings: 1 where the first is higher, 0 lower, 0.5 equal, NaN unknown."""
    preference = np.where(first > second, 1.0, np.where(first < second, 0.0, 0.5))
    preference[np.isnan(first) | np.isnan(second)] = np.nan
    return preference


def strength_preference(
    column: pa.ChunkedArray, name: str, low: float = -3, high: float = 3, invalid: float = -100
) -> pa.ChunkedArray:
    """
    Returns signed preference strengths as preferences: negative prefers the first response, positive the second.

    Args:
        column (`pa.ChunkedArray`):
            Strengths.
        name (`str`):
            Name of the column, for the message of the error.
        low (`float`, defaults to `-3`):
            Lowest strength.
        high (`float`, defaults to `3`):
            Highest strength.
        invalid (`float`, defaults to `-100`):
            Strength that says "neither response is valid": unlabelled.
    """
    values = parse_numbers(column, name)
    values = np.where(values == invalid, np.nan, values)
    check_range(values, name, low, high)
    return from_numpy(compare(-values, np.where(np.isnan(values), np.nan, 0.0)))
