"""From pairs with labels per aspect to preferences: one chosen and one rejected response a row."""

import logging
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import datasets
import numpy as np
import pyarrow as pa

from ..errors import InputError
from .assignment import assign_aspects
from .chat import equal_text
from .columnar import closest, dataset_table, table_dataset, to_numpy
from .label_report import LabelReport, label_report, own_labels
from .sides import Labels, build_columns
from .validation import OVERALL, aspects_of, check_pairs

logger = logging.getLogger(__name__)

LabelChoice: TypeAlias = Literal["own", "one", "all"]


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


def _check_arguments(labels: str | None, conflict: float | None, relabel: str | None) -> None:
    if labels not in (None, "own", "one", "all"):
        raise InputError(f"labels must be 'own', 'one', 'all' or None, but got {labels!r}.")
    if relabel not in (None, "overall", "mean"):
        raise InputError(f"relabel must be None, 'overall' or 'mean', but got {relabel!r}.")
    if conflict is not None and not (isinstance(conflict, (int, float)) and 0 <= conflict <= 1):
        raise InputError(f"conflict must be a share in [0, 1], but got {conflict!r}.")
    if labels == "all" and (conflict is not None or relabel is not None):
        name = "conflict" if conflict is not None else "relabel"
        raise InputError(f"{name} needs labels='one', which gives each pair one label, but labels is 'all'.")
    if labels == "own" and conflict is not None:
        raise InputError(
            "conflict needs labels='one': it chooses aspects, but labels='own' keeps the source's labels."
        )


def effective_labels(pairs: datasets.Dataset, labels: str | None, conflict: float | None = None) -> str:
    """
    Returns the default of `labels`: `"own"` if the pairs have the source's own label and no share of conflict is asked
    for, else `"one"`.
    """
    if labels is not None:
        return labels
    return "own" if conflict is None and own_labels(pairs) is not None else "one"


def effective_relabel(
    pairs: datasets.Dataset, labels: str | None, conflict: float | None, relabel: str | None
) -> str | None:
    """Returns `relabel`, or `"overall"` where no label is chosen and the pairs have the overall one alone."""
    if relabel is None and labels is None and conflict is None and own_labels(pairs) is None and not aspects_of(pairs):
        return OVERALL
    return relabel


def _mean_difference(table: pa.Table, preferences: np.ndarray, aspects: list[str]) -> np.ndarray:
    """Returns the mean over aspects of the ratings' difference, or of the preferences' if there are no ratings."""
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
    # Sums of decimals such as 0.1 have rounding errors, which are far below any difference of ratings.
    return np.round(np.divide(total, count, out=np.full(len(table), np.nan), where=count > 0), 9)


def _relabel(
    labels: Labels,
    relabel: str,
    table: pa.Table,
    preferences: np.ndarray,
    aspects: list[str],
    dropped: dict[str, int],
) -> tuple[Labels, np.ndarray]:
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
    return Labels(labels.rows[kept], renamed, values[kept] > 0), labels.aspects[kept]


def _preferences_of(table: pa.Table, aspects: Sequence[str]) -> np.ndarray:
    columns = [to_numpy(table.column(f"pref_{name}")) for name in aspects]
    return np.stack(columns, axis=1) if columns else np.zeros((len(table), 0))


def _own_label(
    table: pa.Table, own: tuple[np.ndarray, np.ndarray], aspects: list[str], same: np.ndarray, dropped: dict[str, int]
) -> tuple[Labels, np.ndarray]:
    """The source's own labels, and the pairs without one."""
    names, values = own
    known = np.array([name is not None for name in names], dtype=bool)
    used = np.isin(names.astype(str), [*aspects, OVERALL]) & known & ~same
    decided = used & np.isin(values, (0.0, 1.0))
    dropped["label of an aspect that is left out"] = int((known & ~used & ~same).sum())
    dropped["tie of the source's own label"] = int((used & ~decided).sum())
    rows = np.flatnonzero(decided)
    return Labels(rows, names[rows], values[rows] == 1), ~known


def _aspect_labels(
    table: pa.Table,
    preferences: np.ndarray,
    aspects: list[str],
    allowed: np.ndarray,
    every: bool,
    conflict: float | None,
    seed: int,
    dropped: dict[str, int],
) -> Labels:
    """The label of one aspect for each allowed pair, or of every aspect that decides it."""
    decided = np.isin(preferences, (0.0, 1.0)) & allowed[:, None]
    undecided = ~decided.any(axis=1) & allowed
    unlabelled = undecided & np.isnan(preferences).all(axis=1)
    dropped["no labelled aspect"] = int(unlabelled.sum())
    dropped["tied on every labelled aspect"] = int((undecided & ~unlabelled).sum())
    if every:
        rows, index = np.nonzero(decided)
    else:
        overall = to_numpy(table.column(f"pref_{OVERALL}")) if f"pref_{OVERALL}" in table.column_names else None
        usable = np.where(decided, preferences, np.nan)
        index, left_out = assign_aspects(usable, overall, table.column("pair_id").to_pylist(), conflict, seed)
        dropped["left out to reach the share of conflict"] = int(left_out.sum())
        rows = np.flatnonzero(index >= 0)
        index = index[rows]
    return Labels(rows, np.array(aspects, dtype=object)[index], preferences[rows, index] == 1)


def _label(
    table: pa.Table,
    own: tuple[np.ndarray, np.ndarray] | None,
    aspects: list[str],
    labels: str,
    conflict: float | None,
    relabel: str | None,
    seed: int,
) -> tuple[Labels, np.ndarray | None, dict[str, int]]:
    """Returns the labels, the former aspects of relabelled pairs, and counts of the pairs without a label by reason."""
    preferences = _preferences_of(table, aspects)
    same = equal_text(table.column("response_a"), table.column("response_b"))
    dropped = {"identical responses": int(same.sum())}
    allowed = ~same
    chosen = Labels(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=object), np.zeros(0, dtype=bool))
    if relabel == OVERALL and not aspects:
        # There is only the overall label.
        rows = np.flatnonzero(allowed)
        chosen = Labels(rows, np.full(len(rows), None, dtype=object), np.zeros(len(rows), dtype=bool))
    else:
        if labels == "own" and own is not None:
            chosen, without = _own_label(table, own, aspects, same, dropped)
            allowed &= without
        if labels != "own" or allowed.any():
            others = _aspect_labels(table, preferences, aspects, allowed, labels == "all", conflict, seed, dropped)
            chosen = _in_order(chosen, others)
    original = None
    if relabel is not None:
        chosen, original = _relabel(chosen, relabel, table, preferences, aspects, dropped)
    return chosen, original, {reason: count for reason, count in dropped.items() if count}


def _in_order(first: Labels, second: Labels) -> Labels:
    """Both sets of labels, in the order of the pairs."""
    rows = np.concatenate([first.rows, second.rows])
    order = np.argsort(rows, kind="stable")
    aspects, a_wins = (
        np.concatenate(parts)[order] for parts in ((first.aspects, second.aspects), (first.a_wins, second.a_wins))
    )
    return Labels(rows[order], aspects, a_wins)


def prepare_preferences(
    pairs: datasets.Dataset,
    *,
    labels: LabelChoice | None = None,
    conflict: float | None = None,
    relabel: Literal["overall", "mean"] | None = None,
    seed: int = 42,
    aspects: Sequence[str] | None = None,
) -> tuple[datasets.Dataset, LabelReport]:
    """Returns preferences and the report of their labels. For the arguments see [`to_preferences`]."""
    _check_arguments(labels, conflict, relabel)
    found = check_pairs(pairs)
    own = own_labels(pairs)
    choice = effective_labels(pairs, labels, conflict)
    relabel = effective_relabel(pairs, labels, conflict, relabel)  # type: ignore[assignment]
    if choice == "own" and own is None:
        raise InputError(
            "labels='own' keeps the label of the source's chosen and rejected responses, but this source has none. "
            "Pass labels='one' to label each pair by one aspect."
        )
    if not found and choice != "own" and relabel != OVERALL:
        given = f"relabel={relabel!r}" if relabel else f"conflict={conflict:g}" if conflict else f"labels={choice!r}"
        raise InputError(
            f"{given} needs labels of aspects, and the pairs have only the overall label. Leave it out: each pair then keeps "
            "the overall label, and the reward models that `score_pairs` is given vote as the aspects."
        )
    chosen_aspects = _select_aspects(found, aspects)
    if left := [name for name in found if name not in chosen_aspects]:
        logger.info("Ratings and votes of the aspects %s are left out.", left)
    table = dataset_table(pairs)
    missing = [name for name in chosen_aspects if f"pref_{name}" not in table.column_names]
    if missing:
        raise InputError(
            f"Aspects {missing} have ratings but no pref_<aspect>. Pass the data through load_pairs first."
        )
    chosen, original, dropped = _label(table, own, chosen_aspects, choice, conflict, relabel, seed)
    if len(chosen.rows) == 0:
        raise InputError(f"None of the {len(table):,} pairs gives a preference: {dropped}.")
    columns: dict[str, Any] = build_columns(table, chosen, chosen_aspects, unique=choice != "all")
    if original is not None and chosen_aspects:
        columns["label_aspect"] = pa.chunked_array([pa.array(original.tolist(), pa.string())])
    preferences = table_dataset(pa.table(columns), pairs.features)
    report = label_report(pairs, preferences, dropped)
    _log(report)
    return preferences, report


def _log(report: LabelReport) -> None:
    logger.info("Preferences: %s", report)
    for reason, count in report.dropped.items():
        logger.warning("%d of %d pairs give no preference: %s.", count, report.pairs, reason)
    if report.reversed:
        logger.warning(
            "%d of %d rows reverse the source's chosen and rejected responses. With labels='own' they keep the "
            "source's label.",
            report.reversed,
            report.rows,
        )


def to_preferences(
    pairs: datasets.Dataset,
    *,
    labels: LabelChoice | None = None,
    conflict: float | None = None,
    relabel: Literal["overall", "mean"] | None = None,
    seed: int = 42,
    aspects: Sequence[str] | None = None,
) -> datasets.Dataset:
    """
    Turns pairs into preferences, each row with one label.

    Args:
        pairs (`Dataset`):
            Pairs from [`load_pairs`].
        labels (`str`, *optional*):
            `"own"` keeps the label of the source's chosen and rejected responses. It is the `overall` label, unless
            the source has an `aspect` column. Pairs without such a label get one aspect's, as with `"one"`. `"one"`
            gives each pair the label of ONE aspect that prefers a response. The aspects are drawn by `seed` and used
            as evenly as possible: these are the disjoint sets D_k of the paper (arXiv 2508.07638), on which proxies
            are trained. Responses may change sides, with a count. `"all"` makes one row for each aspect that prefers a
            response, with the id `<pair_id>/<aspect>`. The default is `"own"` if the source has chosen and rejected
            responses and no `conflict` is asked for, else `"one"`. Pairs that have only an overall label keep it.
        conflict (`float`, *optional*):
            Share of labels that contradict the overall label: exactly `round(conflict * n)` of the `n` pairs with a
            decided overall label. If the share cannot be reached with all pairs, some are left out, with a count.
        relabel (`str`, *optional*):
            Label the same pairs by the `"overall"` label or by the `"mean"` of the aspects' ratings. `aspect` then
            holds this name, and `label_aspect` the aspect that would have labelled the pair.
        seed (`int`, defaults to `42`):
            Seed. A pair's label depends on the seed and the set of pairs, not on their order.
        aspects (`Sequence[str]`, *optional*):
            Aspects that vote, and that label pairs with `"one"` and `"all"`; all by default. Columns of other aspects
            are left out.

    Returns:
        `Dataset`: Preferences with `pair_id`, `prompt_id`, `prompt`, `chosen`, `rejected`, `aspect`,
        `rating_<aspect>_chosen`, `rating_<aspect>_rejected`, `vote_<aspect>` (1: prefers the chosen response, -1: the
        rejected one, 0: neither, null: unlabelled), and the other columns, in the order of the pairs. A column of one
        response follows that response (`<name>_a` becomes `<name>_chosen` or `<name>_rejected`), and `margin` changes
        its sign if side b is chosen. Columns that cannot be swapped are left out with a warning.

    Raises:
        InputTypeError: If the pairs are not a `Dataset`.
        InputError: If an argument or the pairs cannot be used, or the share of conflict cannot be reached.
    """
    return prepare_preferences(pairs, labels=labels, conflict=conflict, relabel=relabel, seed=seed, aspects=aspects)[0]
