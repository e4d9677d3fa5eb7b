"""Keep or drop with a reason: the columns that a selection adds to its rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray

from ..data.validation import RESERVED_ASPECTS
from ..method.ranking import Threshold

# Name of the threshold of a selection that ranks all pairs together.
ALL_PAIRS = "all"
NO_VOTES = "dropped: no other aspect votes"


def decide(
    scores: NDArray, ids: NDArray, groups: NDArray, thresholds: Mapping[str, Threshold], selector: str
) -> tuple[NDArray[np.bool_], list[str]]:
    """
    Decides which pairs are kept, and why.

    Args:
        scores (array of shape `(num_pairs,)`): Scores of the selector, lowest first; NaN for a pair without a PD.
        ids (array of shape `(num_pairs,)`): `pair_id` of each pair.
        groups (array of shape `(num_pairs,)`): Group whose threshold applies: an aspect, or [`ALL_PAIRS`].
        thresholds (`dict` of `str` to [`Threshold`]): The last pair kept of each group.
        selector (`str`): Name of the selector, for the reasons.

    Returns:
        `tuple`: mask of the kept pairs, and the reason of each pair.
    """
    kept = np.zeros(len(scores), dtype=bool)
    reasons = np.full(len(scores), f"dropped: no {selector} budget for this aspect", dtype=object)
    for name, threshold in thresholds.items():
        rows = groups == name
        inside = threshold.keep(scores[rows], ids[rows])
        tied = scores[rows] == threshold.score
        where = "" if name in (ALL_PAIRS, *RESERVED_ASPECTS) else " of its aspect"
        kept[rows] = inside
        text = np.where(inside, f"kept: {selector} within budget{where}", f"dropped: {selector} over budget{where}")
        reasons[rows] = np.where(tied & ~inside, f"dropped: {selector} tied with the last kept, by pair_id", text)
    reasons[np.isnan(scores)] = NO_VOTES
    return kept, reasons.tolist()


def with_decision(
    dataset: Dataset, values: NDArray[np.float32] | None, kept: NDArray[np.bool_], reasons: list[str]
) -> Dataset:
    """
    `dataset` with the columns `pd` (if there is one; null for a pair without PD), `pd_kept` and `pd_reason`. Earlier
    ones are replaced.
    """
    columns: dict[str, Any] = {"pd_kept": kept, "pd_reason": reasons}
    if values is not None:
        columns = {"pd": pa.array(values, pa.float32(), from_pandas=True), **columns}
    dataset = dataset.remove_columns([name for name in columns if name in dataset.column_names])
    # `add_column` would pickle every reason to compute its fingerprint.
    return concatenate_datasets([dataset, Dataset(pa.table(columns))], axis=1)


def split_kept(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The kept and the dropped rows of a decided data set."""
    kept = np.asarray(dataset["pd_kept"][:], dtype=bool)
    return dataset.select(np.flatnonzero(kept)), dataset.select(np.flatnonzero(~kept))
