"""Reading ratings and preference labels of any type into nullable floats."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, InputTypeError
from .columnar import as_mask, chunked, find_rows, from_numpy, is_numeric, is_text, to_numpy
from .json_columns import Problems, decode_json, is_json
from .parts import needs_whole
from .scales import read_scale

# Texts that annotation pipelines write for a missing rating.
_MISSING = pa.array(["", "n/a", "na", "nan", "none", "null", "-"])
_NUMBER = r"(?i)^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$|^[+-]?inf(inity)?$"


def parse_numbers(
    column: pa.Array | pa.ChunkedArray,
    name: str,
    problems: Problems | None = None,
    beside: pa.Array | pa.ChunkedArray | None = None,
) -> np.ndarray:
    """
    Returns a column as float64 with NaN for a missing value, shape `(num_rows,)`.

    Args:
        column (`pa.Array` or `pa.ChunkedArray`):
            Numbers, booleans, strings such as `"4"` (with `"N/A"`, `"None"` or an empty string for a missing one) or as
            [`read_scale`] reads, or a JSON column of any of these.
        name (`str`):
            Name of the column, for the message of the error.
        problems (`dict`, *optional*):
            Gets the rows that cannot be read, which become NaN. Without it they are an error.
        beside (`pa.Array` or `pa.ChunkedArray`, *optional*):
            The ratings of the other response, which are on the same scale.

    Raises:
        InputTypeError: If the column has another type, or a value is not a number.
    """
    column = _plain_column(column)
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
    text = _known_text(column)
    others = _plain_column(beside) if beside is not None else None
    if others is not None and is_numeric(others.type):
        others = others.cast(pa.float64()).cast(pa.string())
    text = _on_scale(text, _known_text(others) if others is not None and is_text(others.type) else None)
    wrong = as_mask(pc.invert(pc.match_substring_regex(text, _NUMBER)))
    if wrong.any():
        reason = f"{name} is not a number"
        if problems is None:
            rows = find_rows(wrong)
            values = [text[row].as_py() for row in rows]
            raise InputTypeError(
                f"Column {name!r} must hold numbers, but {int(wrong.sum()):,} of its {len(text):,} values are not: rows "
                f"{rows} hold {values}. Turn them into numbers, or into null where there is no rating."
            )
        problems[reason] = wrong
        text = pc.if_else(pa.chunked_array([pa.array(wrong)]), pa.scalar(None, pa.string()), text)
    return to_numpy(pc.utf8_ltrim(text, "+").cast(pa.float64()))


def _plain_column(column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of JSON values as texts, and any other as it is."""
    column = chunked(column)
    if not is_json(column.type):
        return column
    return chunked(pa.array([_as_text(value) for value in decode_json(column)], pa.string()))


def _known_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Trimmed texts, null where one says that there is no rating."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.is_in(pc.utf8_lower(text), value_set=_MISSING), pa.scalar(None, pa.string()), text)


def _on_scale(text: pa.ChunkedArray, beside: pa.ChunkedArray | None) -> pa.ChunkedArray:
    """The texts with plain numbers in place of those that are ratings of another form."""
    counts: Counter[str] = Counter()
    for part in (text, beside):
        counted = part.value_counts().to_pylist() if part is not None else []
        counts.update({entry["values"]: entry["counts"] for entry in counted if entry["values"] is not None})
    if all(re.match(_NUMBER, value) for value in counts):
        return text
    needs_whole("ratings in words, or on a scale")
    values = read_scale(counts)
    if all(re.match(_NUMBER, value) for value in values):
        return text
    # A number without a scale, beside ratings that have one, could be on any.
    shown = {v: repr(values[v]) if v in values else f"{v} (no rating on the scale of the others)" for v in counts}
    return chunked(pa.array([shown.get(value) for value in text.to_pylist()], pa.string()))


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return repr(float(value)) if isinstance(value, (bool, int, float)) else str(value)


def check_finite(values: np.ndarray, name: str, problems: Problems | None = None) -> np.ndarray:
    """
    Returns the values with NaN in place of infinite ones. `problems` gets their rows; without it they raise
    [`InputError`]. NaN is a missing value and no problem.
    """
    infinite = np.isinf(values)
    if infinite.any() and problems is None:
        raise InputError(
            f"Column {name!r} must hold finite numbers (null for a missing one), but {int(infinite.sum()):,} of "
            f"{len(values):,} values are infinite, the first in rows {find_rows(infinite)}. Replace them by null."
        )
    return _without(values, infinite, f"{name} is infinite", problems)


def check_range(
    values: np.ndarray, name: str, low: float, high: float, problems: Problems | None = None
) -> np.ndarray:
    """
    Returns the values with NaN in place of those outside `[low, high]`. `problems` gets their rows; without it they
    raise [`InputError`].
    """
    outside = (values < low) | (values > high)
    if outside.any() and problems is None:
        rows = find_rows(outside)
        raise InputError(
            f"Column {name!r} must lie in [{low:g}, {high:g}], but {int(outside.sum()):,} of {len(values):,} "
            "values do "
            f"not: rows {rows} hold {values[rows].tolist()}."
        )
    return _without(values, outside, f"{name} is not in [{low:g}, {high:g}]", problems)


def check_codes(
    values: np.ndarray, name: str, codes: tuple[float, ...], meaning: str, problems: Problems | None = None
) -> np.ndarray:
    """
    Returns the values with NaN in place of those that are not codes. `problems` gets their rows; without it they raise
    [`InputError`] with the meaning of the codes.
    """
    wrong = ~np.isnan(values) & ~np.isin(values, codes)
    if wrong.any() and problems is None:
        rows = find_rows(wrong)
        raise InputError(
            f"Column {name!r} must be {meaning}, but {int(wrong.sum()):,} of "
            f"{len(values):,} rows hold something else: rows {rows} hold {values[rows].tolist()}. Recode them."
        )
    return _without(values, wrong, f"{name} is not {meaning}", problems)


def _without(values: np.ndarray, wrong: np.ndarray, reason: str, problems: Problems | None) -> np.ndarray:
    if problems is not None and wrong.any():
        problems[reason] = wrong
    return np.where(wrong, np.nan, values)


def compare(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the preference of each pair of ratings: 1 if the first is higher, 0 if lower, 0.5 if equal, NaN if unknown."""
    preference = np.where(first > second, 1.0, np.where(first < second, 0.0, 0.5))
    preference[np.isnan(first) | np.isnan(second)] = np.nan
    return preference


def strength_preference(
    column: pa.ChunkedArray,
    name: str,
    problems: Problems | None = None,
    low: float = -3,
    high: float = 3,
    invalid: float = -100,
) -> pa.ChunkedArray:
    """
    Returns signed preference strengths as preferences: negative prefers the first response, positive the second.

    Args:
        column (`pa.ChunkedArray`):
            Strengths.
        name (`str`):
            Name of the column, for the message of the error.
        problems (`dict`, *optional*):
            Gets the rows that cannot be read, which become unlabelled. Without it they are an error.
        low (`float`, defaults to `-3`):
            Lowest strength.
        high (`float`, defaults to `3`):
            Highest strength.
        invalid (`float`, defaults to `-100`):
            Strength that means "neither response is valid": unlabelled.
    """
    values = parse_numbers(column, name, problems)
    values = check_range(np.where(values == invalid, np.nan, values), name, low, high, problems)
    return from_numpy(compare(-values, np.where(np.isnan(values), np.nan, 0.0)))
