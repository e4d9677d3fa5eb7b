"""Keep or drop with a reason: the columns that a selection adds to its rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from datasets.fingerprint import Hasher
from numpy.typing import NDArray

from ..data.columnar import arrow_column, as_mask, select_rows, stored_rows
from ..data.id_columns import text_ids
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


class Decider:
    """
    Decides for each row whether it is kept, and why. [`decide`] gives the reason once for each case.

    Args:
        names (sequence of `str`): Groups, by their code: aspects, or [`ALL_PAIRS`] alone.
        thresholds (`dict` of `str` to [`Threshold`]): The last pair kept of each group.
        selector (`str`): Name of the selector, for the reasons.
    """

    def __init__(self, names: Sequence[str], thresholds: Mapping[str, Threshold], selector: str):
        self.names, self.thresholds, self.selector = np.array(names, dtype=object), thresholds, selector
        limits = [thresholds.get(name) for name in names]
        self.limits = np.array([np.nan if limit is None else limit.score for limit in limits])
        self.last = np.array(["" if limit is None else limit.pair_id for limit in limits], dtype=object)

    def __call__(self, scores: NDArray, group: NDArray[np.integer], ids: Any) -> tuple[NDArray[np.bool_], pa.Array]:
        """Mask of the kept rows, and the reasons, of rows with these scores, codes of groups, and ids (a column)."""
        limit = self.limits[group] if len(self.names) > 1 else self.limits[0]
        case = 5 * group.astype(np.int32)
        case += scores > limit
        case[np.isnan(scores)] += 4
        tied = np.flatnonzero(scores == limit)
        names = np.full(tied.size, "", dtype=object)
        if tied.size:
            names[:] = text_ids(ids.take(pa.array(tied))).to_pylist()
            case[tied] += np.where(names <= self.last[group[tied]], 2, 3)
        found = np.flatnonzero(np.bincount(case))
        first = np.zeros(5 * len(self.names), dtype=np.int64)
        first[case[::-1]] = np.arange(len(case) - 1, -1, -1)
        rows = first[found]
        examples = np.full(len(rows), "", dtype=object)
        shown = np.flatnonzero(np.isin(rows, tied))
        examples[shown] = names[np.searchsorted(tied, rows[shown])]
        inside, reasons = decide(scores[rows], examples, self.names[group[rows]], self.thresholds, self.selector)
        place = np.zeros(5 * len(self.names), dtype=np.int32)
        place[found] = np.arange(len(found))
        places = place[case]
        return inside[places], pa.array(reasons, pa.string()).take(pa.array(places))


def with_decision(
    dataset: Dataset, values: NDArray[np.float32] | None, kept: NDArray[np.bool_], reasons: pa.Array
) -> Dataset:
    """
    `dataset` with the columns `pd` (if there is one; null for a pair without PD), `pd_kept` and `pd_reason`. Earlier
    ones are replaced. No other column is read or copied.
    """
    columns: dict[str, Any] = {"pd_kept": pa.array(kept), "pd_reason": reasons}
    if values is not None:
        columns = {"pd": pa.array(values, pa.float32(), from_pandas=True), **columns}
    dataset = dataset.remove_columns([name for name in columns if name in dataset.column_names])
    added = pa.table(columns)
    rows = stored_rows(dataset)
    if rows is None:
        # `add_column` would pickle every reason to compute its fingerprint.
        return concatenate_datasets([dataset, _unpickled(added)], axis=1)
    # A selection or shuffle of rows: joined as it is, `datasets` would write all texts anew.
    stored = Dataset(dataset.data, dataset.info.copy(), dataset.split)
    places = np.full(len(stored), -1)
    places[rows] = np.arange(len(rows))
    added = added.take(pa.array(places, mask=places < 0))
    return select_rows(concatenate_datasets([stored, _unpickled(added)], axis=1), rows)


def _unpickled(table: pa.Table) -> Dataset:
    """The table as a data set whose fingerprint is a hash of its memory."""
    buffers = [buffer for column in table.columns for chunk in column.chunks for buffer in chunk.buffers() if buffer]
    return Dataset(table, fingerprint=Hasher.hash_bytes([str(table.schema).encode(), *buffers]))


def split_kept(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The kept and the dropped rows of a decided data set."""
    kept = as_mask(arrow_column(dataset, "pd_kept"))
    return select_rows(dataset, np.flatnonzero(kept)), select_rows(dataset, np.flatnonzero(~kept))
