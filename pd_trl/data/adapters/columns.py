"""Pairs in our own schema, or in any other with a column mapping."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError, InputTypeError
from ..columnar import as_mask, closest, from_numpy, is_text
from ..json_columns import Problems
from ..prompts import INSTRUCTION, with_input
from ..ratings import compare, parse_numbers
from ..sided import CHOSEN_REJECTED, rename, side_tokens, to_sides
from ..validation import short_names
from .base import Adapter, Converted, Options, pass_through

LABEL_PATTERN = re.compile(r"^(?:rating_(?P<rated>.+)_(?P<side>[ab])|pref_(?P<preferred>.+))$")
_FIXED = (
    "prompt",
    "response_a",
    "response_b",
    "chosen",
    "rejected",
    "prompt_id",
    "pair_id",
    "aspect",
    "model_a",
    "model_b",
)
_SIDES = {"chosen": "response_a", "rejected": "response_b"}
_HELP = (
    "prompt, response_a and response_b (or chosen and rejected), prompt_id, pair_id, aspect, rating_<aspect>_a and "
    "rating_<aspect>_b, pref_<aspect>"
)


def _our_name(name: str) -> str:
    if name in _SIDES:
        return _SIDES[name]
    if match := re.match(r"^(rating_.+|model)_(chosen|rejected)$", name):
        return f"{match[1]}_{'a' if match[2] == 'chosen' else 'b'}"
    return name


def has_sided_ratings(names: Iterable[str]) -> bool:
    """Whether there are ratings of an aspect named by the sides `chosen` and `rejected`."""
    return any(re.match(r"^rating_(?!overall_).+_(chosen|rejected)$", name) for name in names)


def check_mapping(mapping: Mapping[str, str], found: list[str]) -> dict[str, str]:
    """
    Returns the mapping with `chosen` and `rejected` as sides a and b.

    Args:
        mapping (`Mapping[str, str]`):
            Our names to the names in the source.
        found (`list[str]`):
            Columns of the source.

    Raises:
        InputError: If a name of ours is unknown or given twice, or a name of the source does not exist.
    """
    checked: dict[str, str] = {}
    for ours, theirs in mapping.items():
        if not isinstance(ours, str) or not isinstance(theirs, str):
            raise InputTypeError(f"column_mapping must map strings to strings, but got {ours!r}: {theirs!r}.")
        name = _our_name(ours)
        if name not in _FIXED and not LABEL_PATTERN.match(name):
            raise InputError(
                f"column_mapping has the unknown name {ours!r}.{closest(ours, _FIXED)} Names are: {_HELP}."
            )
        if theirs not in found:
            raise InputError(
                f"column_mapping maps {ours!r} to {theirs!r}, which is not a column.{closest(theirs, found)} The "
                "columns "
                f"are {found}."
            )
        if name in checked:
            raise InputError(f"column_mapping gives {name!r} twice: {checked[name]!r} and {theirs!r}.")
        checked[name] = theirs
    return checked


def _has_labels(names: list[str]) -> bool:
    return any(LABEL_PATTERN.match(name) for name in names)


def _labels_of_aspect(columns: Mapping[str, pa.ChunkedArray], problems: Problems | None) -> dict[str, pa.ChunkedArray]:
    """
    The labels of the aspects that the column `aspect` names: each row's for the chosen response; in the other rows what the
    source says of this aspect, as a label or by ratings.
    """
    aspect = columns["aspect"]
    if not is_text(aspect.type):
        raise InputTypeError(
            f"Column 'aspect' must hold the name of each row's aspect, but its type is {aspect.type}."
        )
    labels = {}
    values = {value: "column 'aspect'" for value in aspect.unique().to_pylist() if value is not None}
    for value in sorted(short_names(values)):
        rows = as_mask(pc.equal(aspect, value))
        others = np.full(len(rows), np.nan)
        sides = [columns.get(f"rating_{value}_{side}") for side in "ab"]
        if all(side is not None for side in sides):
            others = compare(
                *(parse_numbers(a, f"rating_{value}", {}, b) for a, b in zip(sides, reversed(sides), strict=True))
            )
        if f"pref_{value}" in columns:
            given = parse_numbers(columns[f"pref_{value}"], f"pref_{value}", problems)
            others = np.where(np.isnan(given), others, given)
        labels[f"pref_{value}"] = from_numpy(np.where(rows, 1.0, others))
    return labels


def own_label(columns: Mapping[str, pa.ChunkedArray]) -> dict[str, pa.ChunkedArray]:
    """
    Returns `label_aspect` and the overall label of pairs whose side a is the source's chosen response: a tie if the
    overall ratings are equal, else a label for side a.
    """
    num_rows = len(columns["response_a"])
    label = np.ones(num_rows)
    sides = [columns.get(f"rating_overall_{side}") for side in "ab"]
    if all(side is not None for side in sides):
        first, second = (
            parse_numbers(side, "rating_overall", {}, other)
            for side, other in zip(sides, reversed(sides), strict=True)
        )
        label[first == second] = 0.5
    return {
        "pref_overall": columns.get("pref_overall", from_numpy(label)),
        "label_aspect": pa.chunked_array([pa.repeat(pa.scalar("overall"), num_rows)]),
    }


def other_model(columns: Mapping[str, pa.ChunkedArray]) -> dict[str, pa.ChunkedArray]:
    """Returns an empty `model_b` (or `model_a`) if only the other side's model is known, so that both can change sides."""
    known = [name for name in ("model_a", "model_b") if name in columns]
    if len(known) != 1:
        return {}
    column = columns[known[0]]
    return {"model_b" if known == ["model_a"] else "model_a": pa.chunked_array([pa.nulls(len(column), column.type)])}


def convert(table: pa.Table, options: Options) -> Converted:
    """
    Returns pairs of our schema, with the columns renamed by the mapping.

    For chosen/rejected sources, side a is the chosen response. Their own label belongs to the aspect in the `aspect`
    column, or else is the overall label; `label_aspect` names it.
    """
    if votes := [name for name in table.column_names if name.startswith("vote_")]:
        raise InputError(
            f"This is preference data already (columns {votes[:3]}) and needs no load_pairs. Load it with "
            "datasets.load_dataset and use it as it is."
        )
    mapping = check_mapping(options.column_mapping or {}, table.column_names)
    sides = {"chosen", "rejected"} <= set(options.column_mapping or {})
    ours = {"response_a", "response_b"} & {*mapping, *table.column_names}
    if not sides and {"chosen", "rejected"} <= set(table.column_names) and not ours:
        mapping |= {"response_a": "chosen", "response_b": "rejected"}
        sides = True
    if sides:
        free = (name for name in table.column_names if _our_name(name) != name and name not in mapping.values())
        mapping |= {_our_name(name): name for name in free if _our_name(name) not in mapping}
    if "prompt" not in {*mapping, *table.column_names} and INSTRUCTION in table.column_names:
        mapping["prompt"] = INSTRUCTION
    columns = {
        ours: with_input(table, theirs) if ours == "prompt" else table.column(theirs)
        for ours, theirs in mapping.items()
    }
    rest = pass_through(table, set(mapping.values()))
    if {"response_a", "response_b"} <= set(mapping):
        tokens = [side_tokens(mapping["response_a"], mapping["response_b"]), CHOSEN_REJECTED if sides else None]
        rest = rename(rest, to_sides(rest, tokens, columns))
    left_out = [name for name in rest if name in columns]
    columns |= {name: column for name, column in rest.items() if name not in columns}
    missing = [name for name in ("response_a", "response_b") if name not in columns]
    if missing:
        raise InputError(
            f"Pairs must have the columns {missing}, but the columns are {table.column_names}. Name yours with "
            f"column_mapping={{'response_a': '<column>', 'response_b': '<column>', ...}}; names are: {_HELP}."
        )
    problems = options.new_problems()
    if sides and "aspect" in columns:
        columns |= _labels_of_aspect(columns, problems)
        columns["label_aspect"] = columns.pop("aspect").cast(pa.string())
    elif sides:
        columns |= own_label(columns)
    return Converted(pa.table(columns | other_model(columns)), left_out=left_out, problems=problems or {})


def _matches(fields: Mapping[str, pa.DataType]) -> bool:
    names = set(fields)
    if {"chosen", "rejected"} <= names and ("aspect" in names or has_sided_ratings(names)):
        return True
    return {"response_a", "response_b"} <= names and _has_labels(list(fields))


ADAPTER = Adapter(
    name="columns",
    hub_ids=(),
    columns=("prompt", "response_a", "response_b", "rating_<aspect>_a", "rating_<aspect>_b", "pref_<aspect>"),
    matches=_matches,
    convert=convert,
    by_row=True,
)
