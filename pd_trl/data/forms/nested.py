"""Ratings inside columns: `ratings_a: {"helpfulness": {"rating": "4"}}`, `ratings: {"chosen": {...}, "rejected": {...}}`."""

import logging
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ..columnar import is_list
from ..json_columns import Problems, is_json
from ..scales import read_scale
from ..sided import CHOSEN_REJECTED, SIDES
from .values import json_column, set_column, values_of

logger = logging.getLogger(__name__)

_STEM = r"(?:rating|score|annotation|grade|evaluation|label|aspect)s?"
_OF_A_SIDE = re.compile(rf"{_STEM}_(?P<after>a|b|chosen|rejected)|(?P<before>chosen|rejected)_{_STEM}")
_ONE = re.compile(r"rating_.+_(?:a|b|chosen|rejected)")
_BOTH = re.compile(_STEM)
_VALUE = ("rating", "Rating", "score", "Score", "value", "grade")


def read(table: pa.Table, mapping: Mapping[str, str], problems: Problems) -> pa.Table:
    """Returns the table with a column `rating_<aspect>_<side>` for each rating inside another column."""
    for name in table.column_names:
        column = table.column(name)
        if not _is_nested(column.type):
            continue
        if _ONE.fullmatch(name) or name in mapping.values():
            values = values_of(column)
            if any(isinstance(value, (dict, list)) for value in values) and any(map(is_rating, values)):
                table = set_column(table, name, json_column([_read(value) for value in values]))
        elif found := _OF_A_SIDE.fullmatch(name):
            side = found["after"] or found["before"]
            table = _spread(table, name, {side: values_of(column)})
        elif _BOTH.fullmatch(name):
            values = values_of(column)
            for sides in (SIDES, CHOSEN_REJECTED):
                if all(value is None or (isinstance(value, dict) and set(sides) <= set(value)) for value in values):
                    table = _spread(
                        table, name, {side: [(value or {}).get(side) for value in values] for side in sides}
                    )
                elif _by_aspect(values, sides):
                    parts = {side: [_of_side(value, side) for value in values] for side in sides}
                    table = _spread(table, name, parts)
    return table


def may_hold_ratings(name: str) -> bool:
    """Whether a column of this name is read as ratings where its values are."""
    return any(pattern.fullmatch(name) for pattern in (_ONE, _OF_A_SIDE, _BOTH))


def _is_nested(dtype: pa.DataType) -> bool:
    return pa.types.is_struct(dtype) or is_json(dtype) or is_list(dtype) or pa.types.is_map(dtype)


def _by_aspect(values: list[Any], sides: tuple[str, ...]) -> bool:
    """Whether each value is a mapping of aspects to the ratings of both sides."""
    known = [value for value in values if value]
    return bool(known) and all(
        isinstance(value, dict)
        and all(entry is None or (isinstance(entry, dict) and set(sides) <= set(entry)) for entry in value.values())
        for value in known
    )


def _of_side(value: Any, side: str) -> dict[str, Any]:
    return {aspect: (entry or {}).get(side) for aspect, entry in (value or {}).items()}


def _spread(table: pa.Table, name: str, parts: Mapping[str, list[Any]]) -> pa.Table:
    """Returns the table with the ratings of each side in columns of their own, in place of the column, if they all can be read."""
    columns: dict[str, list[Any]] = {}
    left_out: list[str] = []
    for side, values in parts.items():
        # A dictionary with a rating in it is the rating of one thing, and no aspects.
        if not all(value is None or (isinstance(value, dict) and not is_rating(value)) for value in values):
            return table
        for aspect in dict.fromkeys(key for value in values for key in value or {}):
            ratings = [(value or {}).get(aspect) for value in values]
            if _are_ratings(ratings):
                columns[f"rating_{aspect}_{side}"] = [_read(rating) for rating in ratings]
            else:
                left_out.append(aspect)
    taken = set(columns) & set(table.column_names)
    if not columns or taken:
        return table
    if left_out:
        logger.warning(
            "Column %r: %s are no ratings, and are left out.", name, ", ".join(map(repr, dict.fromkeys(left_out)))
        )
    table = table.remove_column(table.column_names.index(name))
    for column, ratings in columns.items():
        table = table.append_column(column, json_column(ratings))
    return table


def _are_ratings(values: list[Any]) -> bool:
    """Whether most values are ratings, and most of their texts can be read as such: others are remarks."""
    known = [value for value in values if value is not None]
    ratings = [rating_of(value) for value in known if is_rating(value)]
    texts = [rating for rating in ratings if isinstance(rating, str) and rating.strip()]
    return 2 * len(ratings) >= len(known) > 0 and 2 * len(read_scale(texts)) >= len(set(texts))


def _read(value: Any) -> Any:
    """A rating, or a value that is none as it is, which is then refused."""
    return rating_of(value) if is_rating(value) else value


def is_rating(value: Any) -> bool:
    """Whether a value is a rating: a number, a text, or a mapping (or list of one) that has it under a usual name."""
    if isinstance(value, list):
        return len(value) == 1 and isinstance(value[0], dict) and is_rating(value[0])
    if isinstance(value, dict):
        return any(isinstance(value.get(name), (int, float, str)) for name in _VALUE)
    return isinstance(value, (int, float, str))


def rating_of(value: Any) -> Any:
    """Returns the number or text of a rating; `None` where there is none."""
    if isinstance(value, list):
        return rating_of(value[0]) if value else None
    if isinstance(value, dict):
        return next((value[name] for name in _VALUE if value.get(name) is not None), None)
    return value
