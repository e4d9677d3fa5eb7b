"""Label columns of pairs in normal form: nullable ratings, and a preference for every aspect."""

import logging

import numpy as np
import pyarrow as pa

from ..errors import InputError
from .columnar import find_rows, from_numpy
from .json_columns import Problems
from .ratings import check_codes, check_finite, check_range, compare, parse_numbers
from .validation import OVERALL, column_aspects

logger = logging.getLogger(__name__)


def _ratings(
    columns: dict[str, pa.ChunkedArray],
    aspect: str,
    rating_range: tuple[float, float] | None,
    problems: Problems | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    names = [f"rating_{aspect}_{side}" for side in "ab"]
    found = [name for name in names if name in columns]
    if not found:
        return None
    if len(found) == 1:
        missing = next(name for name in names if name not in columns)
        raise InputError(
            f"Column {found[0]!r} has no counterpart {missing!r}, but ratings of both responses are needed. "
            f"The columns are {list(columns)}."
        )
    values = []
    for name, other in zip(names, reversed(names), strict=True):
        side = check_finite(parse_numbers(columns[name], name, problems, columns[other]), name, problems)
        if rating_range is not None and aspect != OVERALL:
            side = check_range(side, name, *rating_range, problems)
        values.append(side)
    return values[0], values[1]


def _preference(columns: dict[str, pa.ChunkedArray], name: str, problems: Problems | None) -> np.ndarray:
    values = check_finite(parse_numbers(columns[name], name, problems), name, problems)
    return check_codes(values, name, (0.0, 0.5, 1.0), "1 (a better), 0 (b better), 0.5 (tie) or null", problems)


def label_columns(
    columns: dict[str, pa.ChunkedArray],
    rating_range: tuple[float, float] | None = None,
    problems: Problems | None = None,
) -> dict[str, pa.ChunkedArray]:
    """
    Returns the label columns as nullable float64, with `pref_<aspect>` for every aspect that has ratings.

    A `pref_<aspect>` of the source is kept. Otherwise it is made by comparing the two ratings.

    Args:
        columns (`dict[str, pa.ChunkedArray]`):
            All columns of the pairs.
        rating_range (`tuple[float, float]`, *optional*):
            Lowest and highest rating of an aspect. Not applied to `overall`, which often has another scale.
        problems (`dict`, *optional*):
            Gets, by reason, the rows with a value that is not a number, infinite, out of range, or not a code of a
            preference. Without it they are errors.

    Raises:
        InputError: If there is no label, one of two rating columns is missing, or a value cannot be used.
        InputTypeError: If a column does not hold numbers.
    """
    names = [name for name in columns if name.startswith(("rating_", "pref_"))]
    aspects = [aspect for aspect in column_aspects(names) if aspect]
    if not aspects:
        raise InputError(
            "The data have no labels: no column is named rating_<aspect>_a, rating_<aspect>_b or pref_<aspect>. The "
            "columns are "
            f"{list(columns)}. Name yours with column_mapping={{'rating_<aspect>_a': '<column>', ...}}."
        )
    if "mean" in aspects:
        raise InputError(
            "'mean' is a reserved name and cannot be an aspect. Give it another name with column_mapping."
        )
    labels: dict[str, pa.ChunkedArray] = {}
    against: dict[str, np.ndarray] = {}
    for aspect in aspects:
        name = f"pref_{aspect}"
        ratings = _ratings(columns, aspect, rating_range, problems)
        given = _preference(columns, name, problems) if name in columns else None
        if ratings is not None:
            labels |= {f"rating_{aspect}_{side}": from_numpy(r) for side, r in zip("ab", ratings, strict=True)}
            implied = compare(*ratings)
            if given is not None and (opposed := np.abs(given - implied) == 1).any():
                against[name] = opposed
            given = implied if given is None else given
        if given is not None:
            labels[name] = from_numpy(given)
    if against:
        first, *others = against
        more = "".join(f", {int(against[name].sum())} of {name!r}" for name in others)
        logger.warning(
            "%d rows of %r prefer the response with the lower rating%s (first rows: %s). The labels are kept; leave the pref_ columns "
            "out where the ratings are right.",
            int(against[first].sum()), first, more, find_rows(against[first]),
        )  # fmt: skip
    return labels
