"""Label columns of pairs in normal form: nullable ratings, and a preference for every aspect."""

import logging

import numpy as np
import pyarrow as pa

from ..errors import InputError
from .columnar import find_rows, from_numpy
from .ratings import check_finite, check_range, compare, parse_numbers
from .validation import OVERALL, column_aspects

logger = logging.getLogger(__name__)

_CODES = np.array([0.0, 0.5, 1.0])


def _ratings(
    columns: dict[str, pa.ChunkedArray], aspect: str, rating_range: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray] | None:
    names = [f"rating_{aspect}_{side}" for side in "ab"]
    found = [name for name in names if name in columns]
    if not found:
        return None
    if len(found) == 1:
        missing = next(name for name in names if name not in columns)
        raise InputError(
            f"Column {found[0]!r} has no counterpart {missing!r}: the ratings of both responses are needed. The "
            "columns "
            f"are {list(columns)}."
        )
    values = [parse_numbers(columns[name], name) for name in names]
    for name, side in zip(names, values, strict=True):
        check_finite(side, name)
        if rating_range is not None and aspect != OVERALL:
            check_range(side, name, *rating_range)
    return values[0], values[1]


def _preference(columns: dict[str, pa.ChunkedArray], name: str) -> np.ndarray:
    values = parse_numbers(columns[name], name)
    check_finite(values, name)
    wrong = ~np.isnan(values) & ~np.isin(values, _CODES)
    if wrong.any():
        rows = find_rows(wrong)
        raise InputError(
            f"Column {name!r} must be 1 (a better), 0 (b better), 0.5 (tie) or null, but {int(wrong.sum()):,} of "
            f"{len(values):,} values are not: rows {rows} hold {values[rows].tolist()}. Recode them."
        )
    return values


def label_columns(
    columns: dict[str, pa.ChunkedArray], rating_range: tuple[float, float] | None = None
) -> dict[str, pa.ChunkedArray]:
    """
    Returns the label columns as nullable float64, with `pref_<aspect>` for every aspect that has ratings.

    A `pref_<aspect>` of the source is kept as it is; else it compares the two ratings.

    Args:
        columns (`dict[str, pa.ChunkedArray]`):
            All columns of the pairs.
        rating_range (`tuple[float, float]`, *optional*):
            Lowest and highest rating of an aspect; not applied to `overall`, which often has a scale of its own.

    Raises:
        InputError: If there is no label, one of two rating columns is missing, or a value is infinite, out of range,
        or not
            one of the codes of a preference.
        InputTypeError: If a column does not hold numbers.
    """
    names = [name for name in columns if name.startswith(("rating_", "pref_"))]
    aspects = [aspect for aspect in column_aspects(names) if aspect]
    if not aspects:
        raise InputError(
            "The data have no labels: no column is rating_<aspect>_a, rating_<aspect>_b or pref_<aspect>, the "
            "columns are "
            f"{list(columns)}. Name yours with column_mapping={{'rating_<aspect>_a': '<column>', ...}}."
        )
    if "mean" in aspects:
        raise InputError(
            "'mean' is a reserved name and cannot be an aspect. Give it another name with column_mapping."
        )
    labels: dict[str, pa.ChunkedArray] = {}
    for aspect in aspects:
        name = f"pref_{aspect}"
        ratings = _ratings(columns, aspect, rating_range)
        given = _preference(columns, name) if name in columns else None
        if ratings is not None:
            labels |= {f"rating_{aspect}_{side}": from_numpy(r) for side, r in zip("ab", ratings, strict=True)}
            implied = compare(*ratings)
            if given is not None and (opposed := np.abs(given - implied) == 1).any():
                logger.warning(
                    "%d rows of %r prefer the response with the lower rating, the first rows %s; the label is kept.",
                    int(opposed.sum()),
                    name,
                    find_rows(opposed),
                )
            given = implied if given is None else given
        if given is not None:
            labels[name] = from_numpy(given)
    return labels
