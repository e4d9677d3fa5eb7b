"""The pairs of a selection in rank order: a growing budget keeps one after the other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..data.columnar import arrow_column, as_mask
from ..data.id_columns import IdColumn, row_ids
from ..data.validation import OVERALL
from ..errors import InputError
from ..selection.aspect_columns import VOTE_PREFIX, label_codes, numeric_column, voted_aspects
from ..selection.filter import PDFilter
from ..selection.gaps import GapMatrix, gap_matrix, vote_counts, votes_label
from ..selection.report import numbers_of
from ..selection.report_inputs import dataset_text_lengths, length_difference, other_votes, vote_names
from ..selection.scores import selector_scores
from ..selection.wording import holds_one_label

Matrix = list[list[float | None]]
_BLOCK = 65_536


@dataclass
class RankedPairs:
    """
    The data of each pair that the page needs to count at any budget. All arrays have shape `(num_pairs,)` and are in
    rank order: a budget of n pairs keeps the first n.

    Args:
        rows (integer array): Row of the data set.
        kept (`int`): Pairs that the filter keeps.
        groups (`dict`): Names of the groups of each grouping, `"aspect"` and `"votes"`.
        columns (`dict` of `str` to array): Per pair: the index of its group in each grouping, `agree`, `decided` and
            `voters` (counts of [`VoteCounts`]), `longer` (1 if the chosen response is the longer one), `overall` (1 or -1, 0
            = undecided), `others_agree` and `others_decided` (labels of the other aspects), `chosen` and `rejected`
            (characters), `delta` (length difference), `pd`. Columns that the data cannot give are absent.
        conflicts (`dict`): For all, kept and dropped pairs: share of pairs in which two aspects prefer different
            responses, among the pairs that both decide.
        matrix ([`GapMatrix`], *optional*): Gaps, in the order of the data set.
    """

    rows: NDArray[np.integer]
    kept: int
    groups: dict[str, list[str]]
    columns: dict[str, NDArray]
    conflicts: dict[str, Matrix] = field(default_factory=dict)
    matrix: GapMatrix | None = None


def rank_pairs(decided: Dataset, pd_filter: PDFilter) -> RankedPairs:
    """
    Ranks the pairs of a decided data set as its filter does.

    Raises:
        InputError: If the kept pairs are not the first ones by the filter's ranking.
    """
    ids = row_ids(decided)
    kept = as_mask(arrow_column(decided, "pd_kept"))
    names, labels = label_codes(decided, [])
    strata = labels if pd_filter.per_aspect else None
    rows = ranking(_scores(decided, pd_filter, ids), ids, kept, strata)
    count = int(kept.sum())
    if not kept[rows[:count]].all():
        raise InputError(
            f"The {count} pairs marked as kept are not the first ones by the filter's ranking "
            f"('{pd_filter.selector}'): rows and filter belong to different selections. Run `pd-trl select` again."
        )
    groups: dict[str, list[str]] = {}
    columns = _text_lengths(decided)
    if names and not holds_one_label(names):
        groups["aspect"], columns["aspect"] = names, narrow(labels)
    if "pd" in decided.column_names:
        divergence = numeric_column(decided, "pd").astype(np.float32)
        # Pairs without votes rank last by PD. Under another rule, `pd` may be an older column with missing values anywhere.
        ranked_by_pd = pd_filter.needs_divergence
        columns |= {"pd": divergence} if ranked_by_pd or np.isfinite(divergence).all() else {}
    columns |= _unseen_votes(decided, pd_filter.source, names, labels)
    matrix, conflicts = None, {}
    if pd_filter.aspects_ is not None:
        matrix = gap_matrix(decided, pd_filter.source, pd_filter.aspects_)
        agree, decided_votes, voters, _ = vote_counts(matrix, pd_filter.weights_of(matrix.names))
        columns |= {"agree": narrow(agree), "decided": narrow(decided_votes), "voters": narrow(voters)}
        groups["votes"], columns["votes"] = _vote_groups(agree, voters)
        masks = {"all": np.ones_like(kept), "kept": kept, "dropped": ~kept}
        conflicts = {name: _conflicts(_opinions(matrix, mask)) for name, mask in masks.items()}
    return RankedPairs(rows, count, groups, {name: c[rows] for name, c in columns.items()}, conflicts, matrix)


def ranking(scores: NDArray, ids: Any, kept: NDArray[np.bool_], strata: NDArray | None = None) -> NDArray:
    """
    Rows in the order in which a growing budget keeps them: by score and `pair_id` as in [`select_lowest`], or in
    proportion to the strata as in [`select_per_stratum`]. Of equal scores, kept pairs come first: rounding on the way
    to the disk may have made scores equal.
    """
    order = _ordered((~kept, scores), ids)
    if strata is None:
        return order
    position = np.empty(len(order))
    for name in np.unique(strata):
        rows = order[strata[order] == name]
        # Pairs without a score come last and do not count.
        scored = rows[~np.isnan(scores[rows])]
        position[rows] = np.inf
        position[scored] = (np.arange(scored.size) + 0.5) / max(scored.size, 1)
    return _ordered((strata, position), ids)


def _ordered(keys: Sequence[NDArray], ids: Any) -> NDArray[np.integer]:
    """`np.lexsort` of the keys, ties by id. Only the ids of ties are read."""
    order = np.lexsort(tuple(keys))
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for key in keys:
        ranked = key[order]
        equal = ranked[1:] == ranked[:-1]
        if ranked.dtype.kind == "f":
            equal |= np.isnan(ranked[1:]) & np.isnan(ranked[:-1])
        same &= equal
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(order) and tied.size:
        group = np.cumsum(np.append(True, ~same))
        some = order[tied]
        order[tied] = some[np.lexsort((ids[some], group[tied]))]
    return order


def _scores(decided: Dataset, pd_filter: PDFilter, ids: IdColumn) -> NDArray:
    # PD read from a column of another name is in the column `pd` of the decided rows.
    columns = {name: name if name == "pd" else pd_filter.column_of(name) for name in pd_filter.rule.inputs}
    absent = [column for column in columns.values() if column not in decided.column_names]
    if absent:
        raise InputError(
            f"The pairs have no column {absent[0]!r}, by which the filter ('{pd_filter.selector}') ranks; their columns are "
            f"{', '.join(decided.column_names)}. Run `pd-trl select` again."
        )
    inputs = {name: numeric_column(decided, column) for name, column in columns.items()}
    if "pd" in inputs:
        inputs["pd"] = inputs["pd"].astype(np.float32)
    given = {"pair_id": np.asarray(ids)} if pd_filter.rule.reads_ids else {}
    return selector_scores(pd_filter.rule, {**given, **inputs}, pd_filter.seed)


def _vote_groups(agree: NDArray[np.integer], voters: NDArray[np.integer]) -> tuple[list[str], NDArray]:
    """The names of the different votes, sorted, and the index of each row's."""
    size = int(max(agree.max(initial=0), voters.max(initial=0))) + 1
    codes = voters.astype(np.int64) * size + agree
    found = np.flatnonzero(np.bincount(codes))
    names = sorted((votes_label(code % size, code // size), code) for code in found.tolist())
    place = np.zeros(size * size, dtype=np.int64)
    place[[code for _, code in names]] = np.arange(len(names))
    return [name for name, _ in names], narrow(place[codes])


def narrow(counts: NDArray) -> NDArray:
    """Non-negative numbers in the smallest type that holds them all."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def _text_lengths(decided: Dataset) -> dict[str, NDArray]:
    lengths = dataset_text_lengths(decided)
    columns: dict[str, NDArray] = {side: values.astype(np.uint32) for side, values in lengths.items()}
    delta = length_difference(numbers_of(decided, "delta_length"), lengths)
    if delta is not None:
        known = np.nan_to_num(delta).clip(-(2**31), 2**31 - 1)
        columns |= {"delta": known.astype(np.int32), "longer": (known > 0).astype(np.uint8)}
    return columns


def _unseen_votes(decided: Dataset, source: str, labels: list[str], own: NDArray[np.integer]) -> dict[str, NDArray]:
    """The labels that the selection did not see, counted as in `unseen_labels` of [`SelectionReport`]."""
    columns: dict[str, NDArray] = {}
    overall = numbers_of(decided, "vote_overall")
    if overall is not None and labels != [OVERALL]:
        columns["overall"] = np.sign(np.nan_to_num(overall)).astype(np.int8)
    if not labels or source == "ratings":
        return columns
    schema = decided.features.arrow_schema
    names = [name.removeprefix(VOTE_PREFIX) for name in schema.names if name.startswith(VOTE_PREFIX)]
    known = [*labels, *vote_names(schema)]
    voted = voted_aspects(decided, [name for name in names if name != "overall"], known)
    if len(voted) > 1:
        agree, decides = np.zeros((2, len(decided)), dtype=np.int32)
        for name in voted:
            code = labels.index(name) if name in labels else -1
            agrees, counted = other_votes(numeric_column(decided, f"{VOTE_PREFIX}{name}"), own == code)
            agree += agrees
            decides += counted
        columns |= {"others_agree": narrow(agree), "others_decided": narrow(decides)}
    return columns


def _opinions(matrix: GapMatrix, mask: NDArray[np.bool_]) -> Iterator[NDArray[np.float64]]:
    """
    The response that each aspect prefers, in blocks of rows of shape `(num_pairs, num_aspects)`, in the codes of `pref_`: 1 is the
    chosen one, 0 the rejected one, 0.5 neither. A pair's own aspect prefers the chosen one.
    """
    for start in range(0, len(mask), _BLOCK):
        inside = mask[start : start + _BLOCK]
        own = matrix.own[start : start + _BLOCK][inside, None] == np.arange(len(matrix.names))
        yield np.where(own, 1.0, np.sign(np.nan_to_num(matrix.gaps[start : start + _BLOCK][inside])) / 2 + 0.5)


def _conflicts(blocks: Iterable[NDArray[np.float64]]) -> Matrix:
    """Share of the pairs that two aspects both decide on which they differ, for every two."""
    both, product = np.zeros(()), np.zeros(())
    for opinions in blocks:
        signs = 2 * opinions - 1
        both = both + np.abs(signs).T @ np.abs(signs)
        product = product + signs.T @ signs
    shares = np.divide((both - product) / 2, both, out=np.full_like(both, np.nan), where=both > 0)
    return [
        [None if i == j or np.isnan(value) else float(value) for j, value in enumerate(row)]
        for i, row in enumerate(shares)
    ]


def packed(columns: Mapping[str, NDArray]) -> tuple[list[dict[str, Any]], bytes]:
    """Columns as one little-endian block of bytes, and the name, type and place of each."""
    layout, parts, offset = [], [], 0
    for name, values in columns.items():
        content = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
        layout.append({"name": name, "type": values.dtype.name, "offset": offset, "length": int(values.size)})
        padding = -len(content) % 8
        parts.append(content + b"\0" * padding)
        offset += len(content) + padding
    return layout, b"".join(parts)
