"""From pairs with labels per aspect to preferences: one chosen and one rejected response a row."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa

from ..errors import InputError
from .assignment import assign_aspects
from .chat import equal_text
from .columnar import choose, closest, dataset_table, from_numpy, table_dataset, take, to_numpy
from .label_report import LabelReport, label_report
from .validation import OVERALL, check_pairs, column_aspects

logger = logging.getLogger(__name__)

_LABEL = re.compile(r"^(?:rating_(.+)_[ab]|pref_(.+))$")


@dataclass
class _Labels:
    """One entry per row of the result: the pair it is made from, its aspect, and whether side a is chosen."""

    rows: np.ndarray
    aspects: np.ndarray
    a_wins: np.ndarray


def _select_aspects(found: list[str], aspects: Sequence[str] | None) -> list[str]:
    if aspects is None:
        return found
    if isinstance(aspects, str):
        aspects = [aspects]
    unknown = [name for name in aspects if name not in found]
    if unknown or len(aspects) == 0:
        hints = "".join(closest(name, found) for name in unknown)
        raise InputError(f"aspects must be among {found}, but got {list(aspects)}.{hints}")
    return sorted(set(aspects))


def _check_arguments(labels: str, conflict: float | None, relabel: str | None) -> None:
    if labels not in ("one", "all"):
        raise InputError(f"labels must be 'one' or 'all', but got {labels!r}.")
    if relabel not in (None, "overall", "mean"):
        raise InputError(f"relabel must be None, 'overall' or 'mean', but got {relabel!r}.")
    if conflict is not None and not (isinstance(conflict, (int, float)) and 0 <= conflict <= 1):
        raise InputError(f"conflict must be a share in [0, 1], but got {conflict!r}.")
    if labels == "all" and (conflict is not None or relabel is not None):
        name = "conflict" if conflict is not None else "relabel"
        raise InputError(f"{name} goes with labels='one', in which each pair has one label, not with labels='all'.")


def _mean_difference(table: pa.Table, preferences: np.ndarray, aspects: list[str]) -> np.ndarray:
    """Returns the mean over aspects of the ratings' difference (of the preferences' where nothing is rated)."""
    total = np.zeros(len(table))
    count = np.zeros(len(table))
    for aspect in aspects:
        if f"rating_{aspect}_a" in table.column_names:
            gap = to_numpy(table.column(f"rating_{aspect}_a")) - to_numpy(table.column(f"rating_{aspect}_b"))
            total += np.nan_to_num(gap)
            count += ~np.isnan(gap)
    known = ~np.isnan(preferences)
    votes = np.where(known, preferences - 0.5, 0.0).sum(axis=1)
    total = np.where(count > 0, total, votes)
    count = np.where(count > 0, count, known.sum(axis=1))
    # Sums of decimals such as 0.1 leave rounding errors far below any difference of ratings.
    return np.round(np.divide(total, count, out=np.full(len(table), np.nan), where=count > 0), 9)


def _relabel(
    labels: _Labels,
    relabel: str,
    table: pa.Table,
    preferences: np.ndarray,
    aspects: list[str],
    dropped: dict[str, int],
) -> tuple[_Labels, np.ndarray]:
    if relabel == OVERALL:
        if f"pref_{OVERALL}" not in table.column_names:
            raise InputError("relabel='overall' needs an overall label (pref_overall), which the pairs do not have.")
        values = to_numpy(table.column(f"pref_{OVERALL}"))[labels.rows] - 0.5
    else:
        values = _mean_difference(table, preferences, aspects)[labels.rows]
    missing, tied = np.isnan(values), values == 0
    dropped |= {f"no {relabel} label": int(missing.sum()), f"tie of the {relabel} label": int(tied.sum())}
    kept = ~missing & ~tied
    renamed = np.full(int(kept.sum()), relabel, dtype=object)
    return _Labels(labels.rows[kept], renamed, values[kept] > 0), labels.aspects[kept]


def _sides(names: list[str]) -> list[str]:
    """Returns the stems of the columns that pass through as two sides, `<stem>_a` and `<stem>_b`."""
    stems = [name[:-2] for name in names if name.endswith("_a") and not _LABEL.match(name)]
    return [stem for stem in stems if f"{stem}_b" in names and stem != "response"]


def _swap(columns: dict[str, pa.ChunkedArray], stem: str, a_wins: np.ndarray) -> list[pa.ChunkedArray]:
    a, b = columns[f"{stem}_a"], columns[f"{stem}_b"]
    if a.type != b.type:
        target = b.type if pa.types.is_null(a.type) else a.type
        try:
            a, b = a.cast(target), b.cast(target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"Columns '{stem}_a' ({a.type}) and '{stem}_b' ({b.type}) change sides with the responses and "
                "must have one "
                "type. Convert them, or rename or remove them."
            ) from error
    return [choose(a_wins, a, b), choose(a_wins, b, a)]


def _build(table: pa.Table, labels: _Labels, aspects: list[str], unique: bool) -> dict[str, pa.ChunkedArray]:
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
    columns["chosen"], columns["rejected"] = _swap(source, "response", a_wins)
    columns["aspect"] = pa.chunked_array([pa.array(labels.aspects.tolist(), pa.string())])
    sign = np.where(a_wins, 2.0, -2.0)
    for aspect in [*aspects, OVERALL]:
        if f"rating_{aspect}_a" in source:
            stem = f"rating_{aspect}"
            columns[f"{stem}_chosen"], columns[f"{stem}_rejected"] = _swap(source, stem, a_wins)
        if f"pref_{aspect}" in source:
            votes = (to_numpy(source[f"pref_{aspect}"]) - 0.5) * sign
            columns[f"vote_{aspect}"] = from_numpy(votes, pa.int8())
    stems = _sides(table.column_names)
    for stem in stems:
        columns[f"{stem}_chosen"], columns[f"{stem}_rejected"] = _swap(source, stem, a_wins)
    used = {"pair_id", "prompt_id", "prompt", "response_a", "response_b"}
    used |= {f"{stem}_{side}" for stem in stems for side in "ab"}
    rest = [name for name in table.column_names if name not in used and not column_aspects([name])]
    if taken := [name for name in rest if name in columns]:
        logger.warning("Columns %s of the pairs are left out: preferences have columns of these names.", taken)
    return columns | {name: source[name] for name in rest if name not in columns}


def _label(
    table: pa.Table, aspects: list[str], labels: str, conflict: float | None, relabel: str | None, seed: int
) -> tuple[_Labels, np.ndarray | None, dict[str, int]]:
    """Returns the labels, for relabelled ones the aspects they had, and counts of the pairs without one by reason."""
    columns = [to_numpy(table.column(f"pref_{name}")) for name in aspects]
    preferences = np.stack(columns, axis=1) if columns else np.zeros((len(table), 0))
    same = equal_text(table.column("response_a"), table.column("response_b"))
    decided = ((preferences == 0) | (preferences == 1)) & ~same[:, None]
    undecided = ~decided.any(axis=1) & ~same
    unlabelled = undecided & np.isnan(preferences).all(axis=1)
    dropped = {"identical responses": int(same.sum())}
    if not aspects:
        # Only the overall label is there, and relabel="overall" uses just that.
        rows = np.flatnonzero(~same)
        chosen = _Labels(rows, np.full(len(rows), None, dtype=object), np.zeros(len(rows), dtype=bool))
    else:
        dropped["no labelled aspect"] = int(unlabelled.sum())
        dropped["tied on every labelled aspect"] = int((undecided & ~unlabelled).sum())
        if labels == "one":
            overall = to_numpy(table.column(f"pref_{OVERALL}")) if f"pref_{OVERALL}" in table.column_names else None
            usable = np.where(decided, preferences, np.nan)
            index, left_out = assign_aspects(usable, overall, table.column("pair_id").to_pylist(), conflict, seed)
            dropped["left out to reach the share of conflict"] = int(left_out.sum())
            rows = np.flatnonzero(index >= 0)
            index = index[rows]
        else:
            rows, index = np.nonzero(decided)
        chosen = _Labels(rows, np.array(aspects, dtype=object)[index], preferences[rows, index] == 1)
    original = None
    if relabel is not None:
        chosen, original = _relabel(chosen, relabel, table, preferences, aspects, dropped)
    return chosen, original, {reason: count for reason, count in dropped.items() if count}


def prepare_preferences(
    pairs: datasets.Dataset,
    *,
    labels: Literal["one", "all"] = "one",
    conflict: float | None = None,
    relabel: Literal["overall", "mean"] | None = None,
    seed: int = 42,
    aspects: Sequence[str] | None = None,
) -> tuple[datasets.Dataset, LabelReport]:
    """Returns preferences and the report of their labels. The arguments are [`to_preferences`]'."""
    _check_arguments(labels, conflict, relabel)
    found = check_pairs(pairs)
    if not found and relabel != OVERALL:
        raise InputError("The pairs have no aspect, only the overall label. Pass relabel='overall' to use that.")
    chosen_aspects = _select_aspects(found, aspects)
    if left := [name for name in found if name not in chosen_aspects]:
        logger.info("Ratings and votes of the aspects %s are left out.", left)
    table = dataset_table(pairs)
    missing = [name for name in chosen_aspects if f"pref_{name}" not in table.column_names]
    if missing:
        raise InputError(
            f"Aspects {missing} have ratings but no pref_<aspect>. Pass the data through load_pairs first."
        )
    chosen, original, dropped = _label(table, chosen_aspects, labels, conflict, relabel, seed)
    if len(chosen.rows) == 0:
        raise InputError(f"None of the {len(table):,} pairs gives a preference: {dropped}.")
    columns: dict[str, Any] = _build(table, chosen, chosen_aspects, unique=labels == "one")
    if original is not None and chosen_aspects:
        columns["label_aspect"] = pa.chunked_array([pa.array(original.tolist(), pa.string())])
    preferences = table_dataset(pa.table(columns), pairs.features)
    report = label_report(pairs, preferences, dropped)
    logger.info("Preferences: %s", report)
    for reason, count in report.dropped.items():
        logger.warning("%d of %d pairs give no preference: %s.", count, report.pairs, reason)
    return preferences, report


def to_preferences(
    pairs: datasets.Dataset,
    *,
    labels: Literal["one", "all"] = "one",
    conflict: float | None = None,
    relabel: Literal["overall", "mean"] | None = None,
    seed: int = 42,
    aspects: Sequence[str] | None = None,
) -> datasets.Dataset:
    """
    Turns pairs into preferences, each row with the label of one aspect.

    Args:
        pairs (`Dataset`):
            Pairs from [`load_pairs`].
        labels (`str`, defaults to `"one"`):
            `"one"`: each pair gets the label of ONE aspect that prefers a response, seeded and as evenly spread over
            the aspects as possible: the disjoint sets D_k of the paper (arXiv 2508.07638). `"all"`: one row for each
            aspect that prefers a response, with `<pair_id>/<aspect>` as its id.
        conflict (`float`, *optional*):
            Share of the pairs with a decided overall label whose label is to contradict it, exactly
            `round(conflict * n)` of them. Pairs are left out, with a count, where the share cannot be reached with
            all.
        relabel (`str`, *optional*):
            On the same pairs, choose by the `"overall"` label (the paper's OVA) or the `"mean"` of the aspects'
            ratings (AVG). `aspect` then has this name, and `label_aspect` the one the pair would have had.
        seed (`int`, defaults to `42`):
            Seed. A pair's label depends on it and the set of pairs, not on their order.
        aspects (`Sequence[str]`, *optional*):
            Aspects to use, all by default; columns of the others are left out.

    Returns:
        `Dataset`: Preferences with `pair_id`, `prompt_id`, `prompt`, `chosen`, `rejected`, `aspect`,
        `rating_<aspect>_chosen`, `rating_<aspect>_rejected`, `vote_<aspect>` (1: prefers the chosen response, -1: the
        rejected one, 0: neither, null: unlabelled), and the other columns, in the order of the pairs.

    Raises:
        InputTypeError: If the pairs are not a `Dataset`.
        InputError: If an argument or the pairs cannot be used, or the share of conflict cannot be reached.
    """
    return prepare_preferences(pairs, labels=labels, conflict=conflict, relabel=relabel, seed=seed, aspects=aspects)[0]
