"""openbmb/UltraFeedback: normally four completions per prompt, each rated by GPT-4 on four aspects from 1 to 5."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import InputError
from ..chat import flatten
from ..columnar import as_mask, chunked, from_numpy, is_list, is_text, require_columns, struct_field
from ..json_columns import Problems, decode_json, is_json
from ..pairing import Responses, build_pairs
from ..prompts import with_input
from ..ratings import parse_numbers
from .base import Adapter, Converted, Options, pass_through

logger = logging.getLogger(__name__)

FIXED_REVISION = "40b436560ca83a8dba36114c22ab3c66e43f6d5e"


def _matches(fields: Mapping[str, pa.DataType]) -> bool:
    completions = fields.get("completions")
    if "instruction" not in fields or completions is None or not is_list(completions):
        return False
    dtype = completions.value_type
    return pa.types.is_struct(dtype) and {"response", "annotations"} <= {field.name for field in dtype}


def _first_of_list(array: pa.Array) -> pa.Array:
    # Annotation files older than the Hub's hold a list with one dict instead of a struct.
    offsets, values = flatten(array)
    starts, lengths = offsets[:-1], np.diff(offsets)
    return values.take(pa.array(starts, mask=lengths == 0))


def aspect_ratings(annotation: pa.Array, name: str, problems: Problems | None = None) -> np.ndarray:
    """Returns the ratings of one aspect: its annotation is a struct, a list of one struct, or JSON of either."""
    if is_json(annotation.type):
        return parse_numbers(pa.array(map(_rating, decode_json(annotation)), pa.string()), name, problems)
    if is_list(annotation.type):
        annotation = _first_of_list(annotation)
    return parse_numbers(struct_field(annotation, "Rating"), name, problems)


def _rating(annotation: Any) -> str | None:
    if isinstance(annotation, list):
        annotation = annotation[0] if annotation else None
    rating = annotation.get("Rating") if isinstance(annotation, dict) else None
    return None if rating is None else str(rating)


def _warn_of_overall_bug(overall: np.ndarray, fine_grained: np.ndarray) -> None:
    suspicious = int(((overall == 10) & (fine_grained <= 2)).sum())
    if suspicious:
        logger.warning(
            "%d completions have overall_score 10 but a mean rating of at most 2: this is the revision before "
            "the fix of "
            "2023-12-29. Pass revision=%r, or do not use the overall label.",
            suspicious,
            FIXED_REVISION,
        )


def convert(table: pa.Table, options: Options) -> Converted:
    """Returns pairs of completions. Critiques, rationales and system prompts are left out because of their size."""
    require_columns(table, ("instruction", "completions"), "UltraFeedback data")
    offsets, completions = flatten(table.column("completions"))
    present = as_mask(completions.is_valid())
    groups = np.repeat(np.arange(len(table)), np.diff(offsets))[present]
    skipped = {"completions that are null": int((~present).sum())}
    completions = completions.filter(pa.array(present))
    response = struct_field(completions, "response")
    if not is_text(response.type):
        raise InputError(f"UltraFeedback: completions[].response must hold strings, but its type is {response.type}.")

    columns = {"response": chunked(response)}
    for name in ("model", "principle"):
        columns[name] = chunked(struct_field(completions, name).cast(pa.string()))
    problems = options.new_problems()
    fine_grained, overall = (
        parse_numbers(struct_field(completions, name), f"completions[].{name}", problems)
        for name in ("fine-grained_score", "overall_score")
    )
    columns["fine-grained_score"] = from_numpy(fine_grained)
    _warn_of_overall_bug(overall, fine_grained)

    annotations = struct_field(completions, "annotations")
    aspects = [field.name for field in annotations.type] if pa.types.is_struct(annotations.type) else []
    ratings = {
        k: aspect_ratings(struct_field(annotations, k), f"completions[].annotations.{k}.Rating", problems)
        for k in aspects
    }
    columns |= {f"rating_{k}": from_numpy(values) for k, values in ratings.items()}
    columns["rating_overall"] = from_numpy(overall)

    known = np.array([~np.isnan(values) for values in ratings.values()]).sum(axis=0)
    total = np.nansum(np.array(list(ratings.values())), axis=0)
    mean = np.divide(total, known, out=np.full(len(groups), np.nan), where=known > 0) if ratings else overall
    prompts = pass_through(table, {"instruction", "completions"})
    prompts = {"prompt": with_input(table, "instruction"), **prompts}
    responses = Responses(
        groups=groups,
        columns=columns,
        prompt_columns=prompts,
        scores=mean if np.isnan(overall).all() else overall,
        prompt_keys=[key or "" for key in prompts["prompt"].to_pylist()],
        problems=problems,
    )
    pairs, unpaired, odd = build_pairs(responses, options.pairing, options.seed)
    return Converted(
        table=pairs,
        skipped={reason: count for reason, count in (skipped | unpaired).items() if count},
        left_out=[
            "completions[].critique",
            "completions[].custom_system_prompt",
            "completions[].annotations rationales",
        ],
        problems=odd,
    )


ADAPTER = Adapter(
    name="ultrafeedback",
    hub_ids=("openbmb/UltraFeedback",),
    columns=("instruction", "completions"),
    matches=_matches,
    convert=convert,
    by_row=True,
    pairing="all",
    rating_range=(1, 5),
)
