"""One row a prompt, with several rated responses: the form of the bundled sample, and of any data written like it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from ...errors import InputError
from ..chat import flatten
from ..columnar import as_mask, choose, chunked, from_numpy, is_list, require_columns, struct_field, to_numpy
from ..pairing import Responses, build_pairs
from ..ratings import parse_numbers
from ..validation import OVERALL
from .base import Adapter, Converted, Options, pass_through

_FIELDS = ("response", "ratings", OVERALL)


def _matches(fields: Mapping[str, pa.DataType]) -> bool:
    responses = fields.get("responses")
    if "prompt" not in fields or responses is None or not is_list(responses):
        return False
    dtype = responses.value_type
    return pa.types.is_struct(dtype) and {*_FIELDS} <= {field.name for field in dtype}


def convert(table: pa.Table, options: Options) -> Converted:
    """
    Returns pairs of the responses to a prompt. Where the source rates them on the whole, the better one of a pair is side a, as
    its chosen one, and the label is the overall one.
    """
    require_columns(table, ("prompt", "responses"), "Data with one row a prompt")
    offsets, responses = flatten(table.column("responses"))
    present = as_mask(responses.is_valid())
    groups = np.repeat(np.arange(len(table)), np.diff(offsets))[present]
    responses = responses.filter(pa.array(present))
    given = struct_field(responses, "ratings")
    if not pa.types.is_struct(given.type):
        raise InputError(f"responses[].ratings must map aspects to numbers, but its type is {given.type}.")

    problems = options.new_problems()
    ratings = {
        field.name: parse_numbers(struct_field(given, field.name), f"responses[].ratings.{field.name}", problems)
        for field in given.type
    }
    others = [field.name for field in responses.type if field.name not in _FIELDS]
    columns = {name: chunked(struct_field(responses, name)) for name in ("response", *others)}
    columns |= {f"rating_{name}": from_numpy(values) for name, values in ratings.items()}
    scores = np.mean(np.array(list(ratings.values())), axis=0) if ratings else np.full(len(groups), np.nan)
    if responses.type.get_field_index(OVERALL) >= 0:
        scores = parse_numbers(struct_field(responses, OVERALL), f"responses[].{OVERALL}", problems)
        columns[f"rating_{OVERALL}"] = from_numpy(scores)
    prompts = pass_through(table, {"responses"})
    keys = [str(key or "") for key in table.column("prompt").to_pylist()]
    pairs, unpaired, odd = build_pairs(
        Responses(groups, columns, prompts, scores, keys, problems), options.pairing, options.seed
    )
    skipped = {"responses that are null": int((~present).sum())} | unpaired
    return Converted(
        _chosen_first(pairs, list(columns)),
        {reason: count for reason, count in skipped.items() if count},
        problems=odd,
    )


def _chosen_first(pairs: pa.Table, names: Sequence[str]) -> pa.Table:
    if f"rating_{OVERALL}_a" not in pairs.column_names:
        return pairs
    first, second = (to_numpy(pairs.column(f"rating_{OVERALL}_{side}")) for side in "ab")
    swapped = second > first
    columns = {name: pairs.column(name) for name in pairs.column_names}
    for name in names:
        sides = columns[f"{name}_a"], columns[f"{name}_b"]
        columns[f"{name}_a"], columns[f"{name}_b"] = choose(swapped, *sides[::-1]), choose(swapped, *sides)
    labelled = ~np.isnan(first) & ~np.isnan(second)
    columns["label_aspect"] = chunked(pa.array([OVERALL if known else None for known in labelled], pa.string()))
    return pa.table(columns)


ADAPTER = Adapter(
    name="responses",
    hub_ids=(),
    columns=("prompt", "responses", "responses[].response", "responses[].ratings.<aspect>"),
    matches=_matches,
    convert=convert,
    by_row=True,
    pairing="all",
)
