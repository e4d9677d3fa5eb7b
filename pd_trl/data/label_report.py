"""Report of the labels of a preference set: counts, ties, and how often labels contradict each other."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from ..text.tables import number, table
from .chat import equal_text, text_kind, text_length
from .columnar import dataset_table, take, to_numpy
from .sides import OWN_LABEL
from .validation import OVERALL, aspects_of


@dataclass
class LabelReport:
    """
    Report of a preference set.

    Args:
        pairs (`int`):
            Source pairs: `kept` plus all of `dropped`.
        kept (`int`):
            Pairs with at least one row.
        rows (`int`):
            Rows; more than `kept` with `labels="all"`.
        dropped (`dict[str, int]`):
            Pairs without a row, by reason. Each pair has one reason.
        chat (`bool`):
            Whether the texts are chat messages.
        rows_per_aspect (`dict[str, int]`):
            Rows by the value of their `aspect` column.
        decided (`dict[str, int]`):
            Pairs in which the aspect (or `overall`) prefers one response.
        ties (`dict[str, int]`):
            Pairs in which it prefers neither response.
        unlabelled (`dict[str, int]`):
            Pairs without its label.
        conflict (`dict[str, dict[str, float | None]]`):
            For two aspects, the share of pairs in which they prefer different responses, among the pairs that both decide.
        conflict_with_overall (`dict[str, float | None]`):
            For an aspect, the share of pairs in which it differs from `overall`, among the pairs that both decide.
        rows_against_overall (`float`, *optional*):
            Share of rows whose chosen response contradicts the overall label, among the rows that it decides.
        chosen_longer (`dict[str, float]`):
            By the rows' aspect, the share of rows whose chosen response has more characters than the rejected one.
        reversed (`int`, *optional*):
            Rows whose chosen response is the source's rejected one; `None` if the source has no chosen and rejected
            responses.
    """

    pairs: int
    kept: int
    rows: int
    dropped: dict[str, int]
    chat: bool
    rows_per_aspect: dict[str, int]
    decided: dict[str, int]
    ties: dict[str, int]
    unlabelled: dict[str, int]
    conflict: dict[str, dict[str, float | None]]
    conflict_with_overall: dict[str, float | None]
    rows_against_overall: float | None
    chosen_longer: dict[str, float]
    reversed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a dictionary that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        kind = "chat" if self.chat else "standard"
        head = (
            f"{self.pairs:,} pairs ({kind}): {self.kept:,} kept, {sum(self.dropped.values()):,} dropped; "
            f"{self.rows:,} rows"
        )
        lines = [head, *(f"  dropped, {reason}: {count:,}" for reason, count in self.dropped.items())]
        if self.reversed is not None:
            lines.append(f"  rows that reverse the source's own chosen and rejected: {self.reversed:,}")
        # Where rows carry the overall label itself, their agreement with it says nothing.
        if self.rows_against_overall is not None and set(self.rows_per_aspect) != {OVERALL}:
            lines.append(
                f"  agreement with the overall label: {1 - self.rows_against_overall:.3f} of the rows it decides"
            )
        aspects = list(self.conflict)
        compared = [f"with {name}" for name in (OVERALL, *aspects)] if aspects else []
        if compared:
            lines.append("  right half: agreement of two labels, as a share of the pairs that both decide")
        body = [["aspect" if aspects else "label", "rows", "decided", "ties", "unlabelled", "longer", *compared]]
        for name in dict.fromkeys([*aspects, *self.decided, *self.rows_per_aspect]):
            numbers: list[int | None] = [self.rows_per_aspect.get(name, 0)]
            numbers += [counts.get(name) for counts in (self.decided, self.ties, self.unlabelled)]
            shares = [self.chosen_longer.get(name)]
            if compared:
                shares.append(_agreement(self.conflict_with_overall.get(name)))
            shares += [_agreement(self.conflict.get(name, {}).get(other)) for other in aspects]
            body.append([name, *map(_count, numbers), *map(number, shares)])
        return "\n".join([*lines, *table(body)])


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _agreement(conflict: float | None) -> float | None:
    return None if conflict is None else 1 - conflict


def disagreement(first: np.ndarray, second: np.ndarray) -> float | None:
    """Returns the share of pairs in which two labels differ, among the pairs that both decide; `None` if there are none."""
    both = np.isin(first, (0.0, 1.0)) & np.isin(second, (0.0, 1.0))
    return float((first[both] != second[both]).mean()) if both.any() else None


def own_labels(pairs: datasets.Dataset) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Returns the aspect of the source's own label (`None` for a pair without one) and that label (1: side a, 0: side b,
    0.5: a tie), both of shape `(num_pairs,)`; `None` if no pair has such a label.
    """
    if OWN_LABEL not in pairs.column_names:
        return None
    given = np.array(pairs[OWN_LABEL][:], dtype=object)
    names = np.full(len(given), None, dtype=object)
    values = np.full(len(given), np.nan)
    for name in {name for name in given.tolist() if isinstance(name, str)}:
        if f"pref_{name}" in pairs.column_names:
            rows = given == name
            names[rows] = name
            values[rows] = to_numpy(dataset_table(pairs.select_columns(f"pref_{name}")).column(0))[rows]
    return (names, values) if any(name is not None for name in names) else None


def _num_reversed(pairs: datasets.Dataset, table: pa.Table, pair_ids: list[str]) -> int | None:
    own = own_labels(pairs)
    if own is None:
        return None
    sides = dataset_table(pairs.select_columns(["pair_id", "response_a"]))
    row_of = {name: row for row, name in enumerate(map(str, sides.column("pair_id").to_pylist()))}
    rows = np.array([row_of[name] for name in pair_ids], dtype=np.int64)
    a_wins = equal_text(table.column("chosen"), take(sides.column("response_a"), rows))
    known = np.array([name is not None for name in own[0][rows]], dtype=bool)
    # Only the scores are tied: the source has still chosen side a.
    return int((known & (a_wins != (own[1][rows] != 0))).sum())


def label_report(
    pairs: datasets.Dataset, preferences: datasets.Dataset, dropped: Mapping[str, int] | None = None
) -> LabelReport:
    """
    Returns the report of a preference set.

    Args:
        pairs (`Dataset`):
            Pairs.
        preferences (`Dataset`):
            Preferences made from them by [`to_preferences`].
        dropped (`Mapping[str, int]`, *optional*):
            Counts by reason. Without it, all pairs without a row have one reason.
    """
    aspects = [name for name in aspects_of(pairs) if f"vote_{name}" in preferences.column_names]
    names = aspects + ([OVERALL] if f"pref_{OVERALL}" in pairs.column_names else [])
    labelled = dataset_table(pairs.select_columns([f"pref_{name}" for name in names]))
    labels = {name: to_numpy(labelled.column(f"pref_{name}")) for name in names}
    table = dataset_table(preferences)
    row_aspects = np.array(table.column("aspect").to_pylist(), dtype=object)
    longer = text_length(table.column("chosen")) > text_length(table.column("rejected"))
    against = None
    if f"vote_{OVERALL}" in table.column_names:
        votes = to_numpy(table.column(f"vote_{OVERALL}"))
        decided = np.abs(votes) == 1
        against = float((votes[decided] < 0).mean()) if decided.any() else None
    present = sorted(set(row_aspects))
    known = set(dataset_table(pairs.select_columns("pair_id")).column("pair_id").to_pylist())
    # With labels="all" the id of a row is "<pair_id>/<aspect>".
    ids = zip(table.column("pair_id").to_pylist(), row_aspects, strict=True)
    pair_ids = [name if name in known else name.removesuffix(f"/{aspect}") for name, aspect in ids]
    kept = len({*pair_ids})
    if dropped is None:
        dropped = {"not in the preferences": len(pairs) - kept} if kept < len(pairs) else {}
    return LabelReport(
        pairs=len(pairs),
        kept=kept,
        rows=len(table),
        dropped=dict(dropped),
        chat=text_kind(table.column("chosen").type) == "chat",
        rows_per_aspect={name: int((row_aspects == name).sum()) for name in present},
        decided={name: int(np.isin(values, (0.0, 1.0)).sum()) for name, values in labels.items()},
        ties={name: int((values == 0.5).sum()) for name, values in labels.items()},
        unlabelled={name: int(np.isnan(values).sum()) for name, values in labels.items()},
        conflict={k: {j: disagreement(labels[k], labels[j]) for j in aspects if j != k} for k in aspects},
        conflict_with_overall={k: disagreement(labels[k], labels[OVERALL]) for k in aspects}
        if OVERALL in labels
        else {},
        rows_against_overall=against,
        chosen_longer={name: float(longer[row_aspects == name].mean()) for name in present},
        reversed=_num_reversed(pairs, table, pair_ids),
    )
