"""A fitted selection as one SQL expression over the columns of the scored pairs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..text.names import did_you_mean
from .aspect_columns import GAP_PREFIX, VOTE_PREFIX
from .fitted import FittedFilter
from .reasons import ALL_PAIRS


@dataclass(frozen=True)
class Dialect:
    """
    How a database writes what the expression needs.

    Args:
        name (callable): A name of a column, quoted.
        text (callable): A text, quoted.
        double (`str`), single (`str`), string (`str`): Types of 64-bit and 32-bit floats and of text. `single` is empty where
            there are no 32-bit floats.
        is_nan (`str`): Function that is true for NaN.
    """

    name: Callable[[str], str]
    text: Callable[[str], str]
    double: str
    single: str
    string: str
    is_nan: str

    def number(self, value: float) -> str:
        """A double as a literal that every database reads as a double, to the last bit."""
        written = repr(float(value))
        return written if "e" in written else f"{written}e0"

    def numeric(self, column: str) -> str:
        """A column as a double."""
        return f"CAST({self.name(column)} AS {self.double})"

    def rounded(self, value: str) -> str:
        """A value in 32 bits, as gaps are held, and as a double again."""
        return f"CAST(CAST({value} AS {self.single}) AS {self.double})" if self.single else value


def _doubled(mark: str) -> Callable[[str], str]:
    return lambda text: mark + text.replace(mark, mark * 2) + mark


def _escaped(mark: str) -> Callable[[str], str]:
    def quoted(text: str) -> str:
        text = text.replace("\\", "\\\\").replace(mark, "\\" + mark)
        return mark + text.replace("\n", "\\n").replace("\r", "\\r") + mark

    return quoted


DIALECTS: dict[str, Dialect] = {
    "duckdb": Dialect(_doubled('"'), _doubled("'"), "DOUBLE", "REAL", "VARCHAR", "isnan"),
    "spark": Dialect(_doubled("`"), _escaped("'"), "DOUBLE", "FLOAT", "STRING", "isnan"),
    "bigquery": Dialect(_escaped("`"), _escaped("'"), "FLOAT64", "", "STRING", "IS_NAN"),
}


def kept_sql(fitted: FittedFilter, dialect: str = "duckdb", voted: Sequence[str] = ()) -> str:
    """
    The condition that is true for the pairs that a fitted selection keeps.

    Args:
        fitted ([`PDFilter`]): Fitted, or loaded.
        dialect (`str`, *optional*, defaults to `"duckdb"`): One of [`DIALECTS`].
        voted (sequence of `str`, *optional*): With `source="ratings"`, the aspects that have a column `vote_<aspect>` in place of
            ratings.

    Raises:
        InputError: If the filter is not fitted, or its rule is no single column or PD, such as `"random"`.
    """
    sql = _dialect(dialect)
    if fitted.thresholds_ is None:
        raise InputError("The filter is not fitted: call `fit`, or load a fitted filter, before `to_sql`.")
    score, exact = _score(fitted, dialect, voted)
    bounds = {name: _bounds(threshold.score, exact) for name, threshold in fitted.thresholds_.items()}
    first, last, ids = (
        _by_stratum(values, sql, fitted.per_aspect)
        for values in (
            {name: sql.number(low) for name, (low, _) in bounds.items()},
            {name: sql.number(high) for name, (_, high) in bounds.items()},
            {name: sql.text(threshold.pair_id) for name, threshold in fitted.thresholds_.items()},
        )
    )
    pair_id = f"CAST({sql.name('pair_id')} AS {sql.string})"
    return f"({score} < {first} OR ({score} <= {last} AND {pair_id} <= {ids}))"


def shown_sql(fitted: FittedFilter) -> str | None:
    """The condition as DuckDB reads it, for cards and reports; `None` for a rule that SQL cannot say."""
    return kept_sql(fitted) if fitted.rule.sign else None


def divergence_sql(fitted: FittedFilter, dialect: str = "duckdb", voted: Sequence[str] = ()) -> str:
    """The expression of PD (Eq. 13-15) by the scales and weights of a fit, as a double; see [`kept_sql`]."""
    sql = _dialect(dialect)
    if fitted.source == "column":
        return sql.numeric(fitted.pd_column)
    if fitted.aspects_ is None:
        raise InputError("The selection has no PD: it was fitted by another rule, on data without usable votes.")
    weights = fitted.weights_of(fitted.aspects_)
    voting = [(name, float(w)) for name, w in zip(fitted.aspects_, weights, strict=True) if w > 0]
    total, whole, present = "0e0", "0e0", "0e0"
    for name, weight in voting:
        gap = _gap(fitted, name, sql, voted)
        own = f"{sql.name('aspect')} = {sql.text(name)}"
        silent = f"{gap} IS NULL OR {sql.is_nan}({gap})"
        scale = fitted.quantiles_[name]
        ratio = f"{gap} / {sql.number(scale if scale > 0 else 1.0)}"
        clipped = f"CASE WHEN {ratio} > 1 THEN 1e0 WHEN {ratio} < -1 THEN -1e0 ELSE {ratio} END"
        missing = "0e0" if fitted.source == "ratings" else "NULL"
        total += (
            f"\n  - CASE WHEN {own} THEN 0e0 WHEN {silent} THEN {missing} ELSE {sql.number(weight)} * ({clipped}) END"
        )
        whole += f" + CASE WHEN {own} THEN 0e0 ELSE {sql.number(weight)} END"
        present += f" + CASE WHEN {own} OR {silent} THEN 0e0 ELSE {sql.number(weight)} END"
    if fitted.source != "ratings" and len(voting) > 1:
        return f"({total})"
    return (
        f"(CASE WHEN {present} = 0 THEN NULL WHEN {present} = {whole} THEN {total} "
        f"ELSE ({total}) * (({whole}) / ({present})) END)"
    )


def _dialect(name: str) -> Dialect:
    if name not in DIALECTS:
        raise InputError(
            f"There is no dialect {name!r}.{did_you_mean(str(name), DIALECTS)} The dialects are {', '.join(DIALECTS)}."
        )
    return DIALECTS[name]


def _score(fitted: FittedFilter, dialect: str, voted: Sequence[str]) -> tuple[str, bool]:
    """The score that pairs are ranked by, and whether it is compared in 64 bits."""
    rule, sql = fitted.rule, DIALECTS[dialect]
    if rule.sign == 0:
        raise InputError(
            f"`selector={fitted.selector!r}` cannot be written as SQL: its score is no column and not PD. Rows that it keeps "
            "have `pd_kept` in the selection's folder."
        )
    (name,) = rule.inputs
    divergence = name == "pd"
    value = divergence_sql(fitted, dialect, voted) if divergence else sql.numeric(fitted.column_of(name))
    # PD is compared in 32 bits, but for that of another column, which is read as it is.
    read_as_it_is = fitted.source == "column" and fitted.pd_column != "pd"
    return (value if rule.sign > 0 else f"(-{value})"), not divergence or read_as_it_is


def _gap(fitted: FittedFilter, aspect: str, sql: Dialect, voted: Sequence[str]) -> str:
    if fitted.source == "rewards":
        return sql.rounded(sql.numeric(f"{GAP_PREFIX}{aspect}"))
    if aspect in voted:
        return sql.rounded(sql.numeric(f"{VOTE_PREFIX}{aspect}"))
    sides = [sql.numeric(f"rating_{aspect}_{side}") for side in ("chosen", "rejected")]
    return sql.rounded(f"({sides[0]} - {sides[1]})")


def _bounds(score: float, exact: bool) -> tuple[float, float]:
    """The lowest and the highest double that a selection takes for `score`: of 32 bits, all that round to it."""
    if exact:
        return score, score
    single = np.float32(score)
    even = single.view(np.uint32) % 2 == 0
    low = (float(np.nextafter(single, np.float32(-np.inf))) + float(single)) / 2
    high = (float(np.nextafter(single, np.float32(np.inf))) + float(single)) / 2
    return (low, high) if even else (math.nextafter(low, math.inf), math.nextafter(high, -math.inf))


def _by_stratum(values: Mapping[str, str], sql: Dialect, per_aspect: bool) -> str:
    if not per_aspect:
        return values[ALL_PAIRS]
    cases = " ".join(f"WHEN {sql.text(name)} THEN {value}" for name, value in values.items())
    # Rows without a label are a stratum too, named as Python writes what is missing.
    return f"CASE COALESCE(CAST({sql.name('aspect')} AS {sql.string}), 'None') {cases} END"
