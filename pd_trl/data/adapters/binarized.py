"""Chosen/rejected data with only an overall label: HuggingFaceH4, trl-lib, two of Argilla's, Skywork, and the like."""

from collections.abc import Mapping

import pyarrow as pa

from ...errors import InputError
from ..chat import equal_text, normalize_text
from ..columnar import from_numpy, is_list, is_messages, is_text
from ..prompts import with_input
from ..ratings import parse_numbers
from ..sided import CHOSEN_REJECTED, rename, side_tokens, to_sides
from .base import Adapter, Converted, Options, pass_through
from .columns import has_sided_ratings, other_model, own_label

# Our column: its names in the sources, those of a side in the same order as those of the other.
_NAMES = {
    "prompt": ("prompt", "instruction"),
    "response_a": ("chosen", "chosen_response"),
    "response_b": ("rejected", "rejected_response"),
    # A column that says that it is the overall rating goes before a score, which may be anything, such as a reward model's.
    "rating_overall_a": (
        "rating_overall_a",
        "rating_overall_chosen",
        "score_chosen",
        "chosen_score",
        "chosen-rating",
        "chosen_rating",
        "chosen_avg_rating",
    ),
    "rating_overall_b": (
        "rating_overall_b",
        "rating_overall_rejected",
        "score_rejected",
        "rejected_score",
        "rejected-rating",
        "rejected_rating",
        "rejected_avg_rating",
    ),
    "model_a": ("chosen-model", "chosen_model"),
    "model_b": ("rejected-model", "rejected_model"),
}


def find_names(found: Mapping[str, object]) -> dict[str, str]:
    """Returns the columns found: our name of each, and its name in the source."""
    names = {
        ours: next(name for name in names if name in found)
        for ours, names in _NAMES.items()
        if any(name in found for name in names)
    }
    # Both sides are of one kind where there is one that has both.
    both = zip(*(_NAMES[f"rating_overall_{side}"] for side in "ab"), strict=True)
    pair = next((pair for pair in both if set(pair) <= set(found)), None)
    if pair is not None:
        names |= {"rating_overall_a": pair[0], "rating_overall_b": pair[1]}
    return names


def _matches(fields: Mapping[str, pa.DataType]) -> bool:
    names = find_names(fields)
    # With an `aspect` column the label is not an overall one. With lists as sides, a row is not one pair.
    sides = [fields[names[side]] for side in ("response_a", "response_b") if side in names]
    several = any(is_list(dtype) and is_text(dtype.value_type) for dtype in sides)
    return len(sides) == 2 and not several and "aspect" not in fields and not has_sided_ratings(fields)


def convert(table: pa.Table, options: Options) -> Converted:
    """
    Returns pairs with the chosen response as side a, which the source's own label prefers: the overall label.

    The label is which response the source calls chosen: that is what its makers decided, whatever they rated. `rating_overall_*`
    of the source is the overall rating, or else its score; a score beside such a rating stays as `score_a` and `score_b`, which
    nothing votes by. Equal overall ratings are a tie. If the chosen side has the lower one, the label stays. A `messages` column that copies the chosen conversation is left out.
    """
    names = find_names(dict.fromkeys(table.column_names))
    missing = {"response_a", "response_b"} - set(names)
    if missing:
        raise InputError(
            f"Chosen/rejected data must have a chosen and a rejected column, but found {table.column_names}. Name "
            "yours: "
            "column_mapping={'chosen': '<column>', 'rejected': '<column>'}."
        )
    columns = {}
    problems = options.new_problems()
    for ours, theirs in names.items():
        if ours.startswith("rating_"):
            other = names.get(f"rating_overall_{'b' if ours.endswith('a') else 'a'}")
            beside = table.column(other) if other else None
            columns[ours] = from_numpy(parse_numbers(table.column(theirs), theirs, problems, beside))
        else:
            columns[ours] = with_input(table, theirs) if ours == "prompt" else table.column(theirs)
    left_out = ["messages"] if _is_copy(table, names["response_a"]) else []
    # Columns that have our name, while another column of the source is used instead.
    left_out += [name for name in columns if name in table.column_names and name not in names.values()]
    rest = pass_through(table, {*names.values(), *left_out})
    tokens = [side_tokens(names["response_a"], names["response_b"]), CHOSEN_REJECTED]
    columns |= rename(rest, to_sides(rest, tokens, columns))
    columns |= own_label(columns) | other_model(columns)
    return Converted(pa.table(columns), left_out=left_out, problems=problems or {})


def _is_copy(table: pa.Table, chosen: str) -> bool:
    """Whether the source has a `messages` column that only repeats the chosen conversation."""
    if "messages" not in table.column_names:
        return False
    columns = [table.column(name) for name in ("messages", chosen)]
    if not all(is_messages(column.type) for column in columns):
        return False
    return bool(
        equal_text(
            *(normalize_text(column, name) for column, name in zip(columns, ("messages", chosen), strict=True))
        ).all()
    )


ADAPTER = Adapter(
    name="binarized",
    hub_ids=(
        "HuggingFaceH4/ultrafeedback_binarized",
        "trl-lib/ultrafeedback_binarized",
        "argilla/ultrafeedback-binarized-preferences",
        "argilla/ultrafeedback-binarized-preferences-cleaned",
        "Skywork/Skywork-Reward-Preference-80K-v0.1",
        "Skywork/Skywork-Reward-Preference-80K-v0.2",
    ),
    columns=("prompt", "chosen", "rejected", "score_chosen", "score_rejected"),
    matches=_matches,
    convert=convert,
    by_row=True,
    hub_splits={"HuggingFaceH4/ultrafeedback_binarized": {"train": "train_prefs", "test": "test_prefs"}},
)
