"""From pairs with labels per aspect to preferences: one chosen and one rejected response a row."""

import logging
from collections.abc import Sequence
from typing import Literal, TypeAlias

import datasets
import numpy as np
import pyarrow as pa

from ..errors import InputError
from .assignment import assign_aspects
from .columnar import dataset_table, table_dataset, to_numpy
from .label_report import LabelReport, label_report, own_labels
from .labelling import check_choice, choose_labels, label_plan, preference_columns
from .validation import OVERALL, aspects_of, check_pairs

logger = logging.getLogger(__name__)

LabelChoice: TypeAlias = Literal["own", "one", "all"]


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
    check_choice(labels, conflict, relabel)
    found = check_pairs(pairs)
    own = own_labels(pairs)
    table = dataset_table(pairs)
    plan = label_plan(table.column_names, found, own is not None, labels, conflict, relabel, aspects)

    def assign(table: pa.Table, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        overall = to_numpy(table.column(f"pref_{OVERALL}")) if f"pref_{OVERALL}" in table.column_names else None
        return assign_aspects(usable, overall, table.column("pair_id").to_pylist(), conflict, seed)

    chosen, original, dropped = choose_labels(table, own, plan.aspects, plan.labels, plan.relabel, assign)
    if len(chosen.rows) == 0:
        raise InputError(f"None of the {len(table):,} pairs gives a preference: {dropped}.")
    columns = preference_columns(table, plan, chosen, original)
    preferences = table_dataset(pa.table(columns), pairs.features)
    report = label_report(pairs, preferences, dropped)
    log_labels(report)
    return preferences, report


def log_labels(report: LabelReport) -> None:
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
