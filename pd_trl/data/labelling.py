"""Which label each pair gets: its own, one aspect's, or one of every aspect."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ..errors import InputError
from .chat import equal_text
from .columnar import closest, to_numpy
from .sides import Labels, build_columns
from .validation import OVERALL

logger = logging.getLogger(__name__)

# Gives the pairs of a table, with what each aspect prefers, the index of an aspect (-1: none), and says which are left out.
Assign: TypeAlias = Callable[[pa.Table, np.ndarray], tuple[np.ndarray, np.ndarray]]


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


def check_choice(labels: str | None, conflict: float | None, relabel: str | None) -> None:
    """Raises `InputError` on arguments that contradict each other."""
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


@dataclass
class LabelPlan:
    """
    How pairs are labelled.

    Args:
        labels (`str`): `"own"`, `"one"` or `"all"`.
        relabel (`str`, *optional*): By what the pairs are labelled instead.
        aspects (`list` of `str`): Aspects whose ratings and votes are kept.
    """

    labels: str
    relabel: str | None
    aspects: list[str]


def label_plan(
    column_names: Sequence[str],
    found: list[str],
    own: bool,
    labels: str | None,
    conflict: float | None,
    relabel: str | None,
    aspects: Sequence[str] | None,
) -> LabelPlan:
    """
    How pairs are labelled.

    Args:
        column_names (sequence of `str`): Columns of the pairs.
        found (`list` of `str`): Their aspects.
        own (`bool`): Whether the source labels some of them.
        labels (`str`, *optional*), conflict (`float`, *optional*), relabel (`str`, *optional*), aspects (sequence of `str`, *optional*):
            See [`to_preferences`].

    Raises:
        InputError: On arguments that the pairs do not allow.
    """
    check_choice(labels, conflict, relabel)
    choice = labels or ("own" if conflict is None and own else "one")
    if relabel is None and labels is None and conflict is None and not own and not found:
        relabel = OVERALL
    if choice == "own" and not own:
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
    chosen = _select_aspects(found, aspects)
    if left := [name for name in found if name not in chosen]:
        logger.info("Ratings and votes of the aspects %s are left out.", left)
    missing = [name for name in chosen if f"pref_{name}" not in column_names]
    if missing:
        raise InputError(
            f"Aspects {missing} have ratings but no pref_<aspect>. Pass the data through load_pairs first."
        )
    return LabelPlan(choice, relabel, chosen)


def preference_columns(
    table: pa.Table, plan: LabelPlan, chosen: Labels, original: np.ndarray | None, swapped: bool | None = None
) -> dict[str, Any]:
    """
    The columns of preferences.

    Args:
        table (`pa.Table`): Pairs.
        plan ([`LabelPlan`]): How they are labelled.
        chosen ([`Labels`]), original (array, *optional*): What [`choose_labels`] returned.
        swapped (`bool`, *optional*): Whether side b is chosen anywhere. `None` looks.
    """
    columns: dict[str, Any] = build_columns(table, chosen, plan.aspects, plan.labels != "all", swapped)
    if original is not None and plan.aspects:
        columns["label_aspect"] = pa.chunked_array([pa.array(original.tolist(), pa.string())])
    return columns


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


def preferences_of(table: pa.Table, aspects: Sequence[str]) -> np.ndarray:
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
    assign: Assign,
    dropped: dict[str, int],
) -> Labels:
    """The label of one aspect for each allowed pair, or of every aspect that decides it."""
    decided = decided_by(preferences, allowed)
    undecided = ~decided.any(axis=1) & allowed
    unlabelled = undecided & np.isnan(preferences).all(axis=1)
    dropped["no labelled aspect"] = int(unlabelled.sum())
    dropped["tied on every labelled aspect"] = int((undecided & ~unlabelled).sum())
    if every:
        rows, index = np.nonzero(decided)
    else:
        index, left_out = assign(table, np.where(decided, preferences, np.nan))
        dropped["left out to reach the share of conflict"] = int(left_out.sum())
        rows = np.flatnonzero(index >= 0)
        index = index[rows]
    return Labels(rows, np.array(aspects, dtype=object)[index], preferences[rows, index] == 1)


def decided_by(preferences: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Whether an aspect can label a pair: it prefers a side, and the pair is `allowed`; shape `(num_pairs, num_aspects)`."""
    decided: np.ndarray = np.isin(preferences, (0.0, 1.0)) & allowed[:, None]
    return decided


def choose_labels(
    table: pa.Table,
    own: tuple[np.ndarray, np.ndarray] | None,
    aspects: list[str],
    labels: str,
    relabel: str | None,
    assign: Assign,
) -> tuple[Labels, np.ndarray | None, dict[str, int]]:
    """Returns the labels, the former aspects of relabelled pairs, and counts of the pairs without a label by reason."""
    preferences = preferences_of(table, aspects)
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
            others = _aspect_labels(table, preferences, aspects, allowed, labels == "all", assign, dropped)
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
