"""nvidia/HelpSteer and nvidia/HelpSteer2: one response per row, five attributes rated from 0 to 4.

Complexity and verbosity are descriptive: a higher value is not a better response. Choose the aspects to use with the
`aspects` argument of [`to_preferences`].
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError
from ..chat import split_turns, wrap_text
from ..columnar import MESSAGES_TYPE, as_mask, chunked, from_numpy, require_columns, single_array, take
from ..pairing import Responses, build_pairs
from ..ratings import parse_numbers, strength_preference
from ..sided import rename, to_sides
from .base import Adapter, Converted, Options, pass_through

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_MARKER = "<extra_id_1>"


def conversational(columns: dict[str, pa.ChunkedArray], responses: tuple[str, ...]) -> dict[str, pa.ChunkedArray]:
    """
    Returns the columns with chat messages when any prompt has `<extra_id_1>` turn markers, unchanged otherwise.

    The whole data set is converted, so it never mixes strings and messages.
    """
    prompt = columns["prompt"]
    marked = as_mask(pc.match_substring(prompt, _MARKER))
    if not marked.any():
        return columns
    rows = np.flatnonzero(marked)
    messages = pa.array([split_turns(text) for text in take(prompt, rows).to_pylist()], MESSAGES_TYPE)
    # Multi-turn prompts are appended behind the single-turn ones, and every row then points to its own prompt.
    pointers = np.arange(len(prompt))
    pointers[rows] = len(prompt) + np.arange(len(rows))
    candidates = pa.chunked_array([*wrap_text(prompt, "user").chunks, messages], type=MESSAGES_TYPE)
    wrapped = {name: wrap_text(columns[name], "assistant") for name in responses}
    return columns | wrapped | {"prompt": take(candidates, pointers)}


def _group(table: pa.Table, options: Options, pair_rows: bool) -> tuple[np.ndarray, np.ndarray]:
    prompts = single_array(table.column("prompt"))
    if pair_rows and options.pairing == "adjacent":
        even = len(prompts) // 2 * 2
        first, second = (prompts.take(pa.array(np.arange(side, even, 2))) for side in (0, 1))
        differ = np.flatnonzero(~as_mask(pc.equal(first, second)))
        if len(differ):
            raise InputError(
                f"pairing='adjacent' expects rows 2i and 2i+1 to share their prompt, but {len(differ):,} of "
                f"{even // 2:,} "
                f"such pairs do not, the first at rows {2 * differ[0]} and {2 * differ[0] + 1}. Rows may have been "
                "filtered or shuffled: pass pairing='all' to group the rows by prompt instead."
            )
        return np.arange(len(prompts)), np.arange(len(prompts)) // 2
    codes = np.asarray(prompts.dictionary_encode(null_encoding="encode").indices.to_numpy(), dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    return order, codes[order]


def _convert(table: pa.Table, options: Options, pair_rows: bool) -> Converted:
    require_columns(table, ("prompt", "response"), "HelpSteer data")
    order, groups = _group(table, options, pair_rows)
    first_rows = np.concatenate([[0], np.flatnonzero(np.diff(groups)) + 1]).astype(int) if len(groups) else order
    attributes = [name for name in ATTRIBUTES if name in table.column_names]
    problems = options.new_problems()
    ratings = {name: parse_numbers(table.column(name), name, problems)[order] for name in attributes}
    columns = {"response": take(table.column("response"), order)}
    columns |= {f"rating_{name}": from_numpy(values) for name, values in ratings.items()}
    columns |= {
        name: take(column, order) for name, column in pass_through(table, {"prompt", "response", *attributes}).items()
    }
    prompts = {"prompt": take(table.column("prompt"), order[first_rows])}
    keys = [key or "" for key in prompts["prompt"].to_pylist()]
    scores = np.mean(np.array(list(ratings.values())), axis=0) if ratings else np.full(len(groups), np.nan)
    merged = conversational(prompts | {"response": columns["response"]}, ("response",))
    responses = Responses(
        groups,
        columns | {"response": merged["response"]},
        {"prompt": merged["prompt"]},
        scores,
        keys,
        {reason: mask[order] for reason, mask in (problems or {}).items()},
    )
    pairs, skipped, odd = build_pairs(responses, options.pairing, options.seed)
    return Converted(pairs, skipped, problems=odd)


def _convert_grouped(table: pa.Table, options: Options) -> Converted:
    return _convert(table, options, pair_rows=False)


def _convert_pair_rows(table: pa.Table, options: Options) -> Converted:
    return _convert(table, options, pair_rows=True)


def _rated(fields: Mapping[str, pa.DataType]) -> bool:
    return {"prompt", "response", *ATTRIBUTES} <= set(fields) and not any(
        pa.types.is_list(fields[name]) for name in ATTRIBUTES
    )


def _matches_first(fields: Mapping[str, pa.DataType]) -> bool:
    return _rated(fields) and pa.types.is_int32(fields["helpfulness"])


def _matches_second(fields: Mapping[str, pa.DataType]) -> bool:
    return _rated(fields) and not pa.types.is_int32(fields["helpfulness"])


_SPLITS = {"train": "train", "validation": "val", "val": "val"}


def convert_preference(table: pa.Table, options: Options) -> Converted:
    """Returns HelpSteer2's direct preferences: strengths from -3 (response 1 better) to 3, and only an overall label."""
    require_columns(table, ("prompt", "response_1", "response_2", "preference_strength"), "HelpSteer2 preference data")
    skipped = {}
    name = options.split.split("[")[0]
    if "split" in table.column_names and name in _SPLITS:
        wanted = as_mask(pc.equal(table.column("split"), _SPLITS[name]))
        skipped[f"rows of another split than {_SPLITS[name]!r}"] = int((~wanted).sum())
        table = table.filter(pa.array(wanted))
    problems = options.new_problems()
    columns = {
        "prompt": table.column("prompt"),
        "response_a": table.column("response_1"),
        "response_b": table.column("response_2"),
        "pref_overall": strength_preference(table.column("preference_strength"), "preference_strength", problems),
    }
    rest = pass_through(table, {"prompt", "response_1", "response_2"})
    columns |= rename(rest, to_sides(rest, [("1", "2")], columns))
    columns = conversational({k: chunked(column) for k, column in columns.items()}, ("response_a", "response_b"))
    return Converted(
        pa.table(columns), {reason: count for reason, count in skipped.items() if count}, problems=problems or {}
    )


HELPSTEER = Adapter(
    name="helpsteer",
    hub_ids=("nvidia/HelpSteer",),
    columns=("prompt", "response", *ATTRIBUTES),
    matches=_matches_first,
    convert=_convert_grouped,
    pairing="all",
    rating_range=(0, 4),
)

HELPSTEER2 = Adapter(
    name="helpsteer2",
    hub_ids=("nvidia/HelpSteer2",),
    columns=("prompt", "response", *ATTRIBUTES),
    matches=_matches_second,
    convert=_convert_pair_rows,
    pairing="adjacent",
    rating_range=(0, 4),
    load_kwargs={"preference": {"data_dir": "preference"}, "disagreements": {"data_dir": "disagreements"}},
    # On the Hub all rows are in one split, and a column names the split of each row.
    hub_splits={"nvidia/HelpSteer2/preference": {"validation": "train", "val": "train"}},
)

HELPSTEER2_PREFERENCE = Adapter(
    name="helpsteer2_preference",
    hub_ids=(),
    columns=("prompt", "response_1", "response_2", "preference_strength"),
    matches=lambda fields: {"prompt", "response_1", "response_2", "preference_strength"} <= set(fields),
    convert=convert_preference,
)
