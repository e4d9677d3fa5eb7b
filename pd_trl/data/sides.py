"""From sides a and b to chosen and rejected responses, with every column that belongs to one of them or compares them."""

import logging
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from .columnar import choose, from_numpy, is_numeric, is_text, take, to_numpy
from .json_columns import decode_json, is_json
from .sided import CHOSEN_REJECTED, SIDES, compares_sides, is_signed, names_a_choice, sided_columns
from .validation import OVERALL

logger = logging.getLogger(__name__)

_LABEL = re.compile(r"^(?:rating_(.+)_[ab]|pref_(.+))$")
OWN_LABEL = "label_aspect"
# More distinct values than this are no choice between two responses.
_MOST_VALUES = 12


@dataclass
class Labels:
    """One entry per row of the result: the pair it is made from, its aspect, and whether side a is chosen."""

    rows: np.ndarray
    aspects: np.ndarray
    a_wins: np.ndarray


def _sided(names: list[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """The columns that pass through as two sides, with their names in preferences."""
    free = [name for name in names if not _LABEL.match(name) and name not in ("response_a", "response_b")]
    return sided_columns(free, SIDES, CHOSEN_REJECTED)


def _swap(source: dict[str, pa.ChunkedArray], sides: tuple[str, str], a_wins: np.ndarray) -> list[pa.ChunkedArray]:
    a, b = (source[name] for name in sides)
    if a.type != b.type:
        target = b.type if pa.types.is_null(a.type) else a.type
        try:
            a, b = a.cast(target), b.cast(target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"Columns {sides[0]!r} ({a.type}) and {sides[1]!r} ({b.type}) change sides with the responses, so "
                "they must have one type. Convert, rename or remove them."
            ) from error
    return [choose(a_wins, a, b), choose(a_wins, b, a)]


def _passed_through(
    source: dict[str, pa.ChunkedArray], names: list[str], a_wins: np.ndarray, own: bool, swapped: bool
) -> tuple[dict[str, pa.ChunkedArray], list[str]]:
    """
    The columns without a side (signed ones with the sign for the chosen response), and the names of columns that would
    become false.
    """
    columns, left = {}, []
    for name in names:
        column = source[name]
        if is_signed(name) and swapped and not pa.types.is_null(column.type):
            if not is_numeric(column.type):
                left.append(name)
                continue
            column = column.cast(pa.int64()) if pa.types.is_unsigned_integer(column.type) else column
            column = pc.if_else(pa.chunked_array([pa.array(a_wins)]), column, pc.negate(column))
        elif (swapped and compares_sides(name, few_values(column))) or (names_a_choice(name) and (swapped or not own)):
            left.append(name)
            continue
        columns[name] = column
    return columns, left


def few_values(column: pa.ChunkedArray) -> list[object]:
    """The distinct values of a column of texts, numbers or switches; none where there are more than a choice would have."""
    if is_json(column.type):
        distinct = {value for value in decode_json(column) if isinstance(value, (str, int, float))}
        return list(distinct) if len(distinct) <= _MOST_VALUES else []
    if not (is_text(column.type) or is_numeric(column.type) or pa.types.is_boolean(column.type)):
        return []
    values = column.unique()
    return values.to_pylist() if len(values) <= _MOST_VALUES + 1 else []


def build_columns(
    table: pa.Table, labels: Labels, aspects: list[str], unique: bool, swapped: bool | None = None
) -> dict[str, pa.ChunkedArray]:
    """
    Returns the columns of preferences.

    Args:
        table (`pa.Table`):
            Pairs.
        labels ([`Labels`]):
            For each row: its pair, its aspect, and which response is chosen.
        aspects (`list[str]`):
            Aspects whose ratings and votes are kept.
        unique (`bool`):
            Whether each pair has at most one label, so that its id can stay.
        swapped (`bool`, *optional*):
            Whether side b is chosen in some row; of a part of the rows, in any. `None` looks.
    """
    whole = len(labels.rows) == len(table) and bool((labels.rows == np.arange(len(table))).all())
    columns_of = {name: table.column(name) for name in table.column_names}
    source = columns_of if whole else {name: take(column, labels.rows) for name, column in columns_of.items()}
    a_wins = labels.a_wins
    ids = source["pair_id"].to_pylist()
    if not unique:
        ids = [f"{name}/{aspect}" for name, aspect in zip(ids, labels.aspects, strict=True)]
    columns = {"pair_id": pa.chunked_array([pa.array(ids, pa.string())])}
    if "prompt_id" in source:
        columns["prompt_id"] = source["prompt_id"]
    columns["prompt"] = source["prompt"]
    columns["chosen"], columns["rejected"] = _swap(source, ("response_a", "response_b"), a_wins)
    columns["aspect"] = pa.chunked_array([pa.array(labels.aspects.tolist(), pa.string())])
    sign = np.where(a_wins, 2.0, -2.0)
    for aspect in [*aspects, OVERALL]:
        stem = f"rating_{aspect}"
        if f"{stem}_a" in source:
            sides = _swap(source, (f"{stem}_a", f"{stem}_b"), a_wins)
            columns[f"{stem}_chosen"], columns[f"{stem}_rejected"] = sides
        if f"pref_{aspect}" in source:
            votes = (to_numpy(source[f"pref_{aspect}"]) - 0.5) * sign
            columns[f"vote_{aspect}"] = from_numpy(votes, pa.int8())
    used = {"pair_id", "prompt_id", "prompt", "response_a", "response_b", OWN_LABEL}
    sided = {old: new for old, new in _sided(table.column_names).items() if not {*new} & {*columns}}
    for old, new in sided.items():
        columns[new[0]], columns[new[1]] = _swap(source, old, a_wins)
        used |= {*old}
    rest = [name for name in table.column_names if name not in used and not _LABEL.match(name)]
    if taken := [name for name in rest if name in columns]:
        logger.warning("Columns %s of the pairs are left out: preferences have columns of these names.", taken)
    kept, left = _passed_through(
        source, [name for name in rest if name not in columns], a_wins, own=OWN_LABEL in table.column_names,
        swapped=not bool(a_wins.all()) if swapped is None else swapped,
    )  # fmt: skip
    if left:
        logger.warning(
            "Columns %s of the pairs are left out: they describe one response, or compare both, and cannot be swapped "
            "if the other response is chosen.",
            left,
        )
    return columns | kept
