"""Report of the labels of a preference set: counts, ties, and how often labels contradict each other."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
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


def own_labels(pairs: datasets.Dataset) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Returns the aspect of the source's own label (`None` for a pair without one) and that label (1: side a, 0: side b,
    0.5: a tie), both of shape `(num_pairs,)`; `None` if no pair has such a label.
    """
    wanted = [name for name in pairs.column_names if name == OWN_LABEL or name.startswith("pref_")]
    if OWN_LABEL not in wanted:
        return None
    names, values = own_of_each(dataset_table(pairs.select_columns(wanted)))
    return (names, values) if any(name is not None for name in names) else None


def own_of_each(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The same of the rows of a table, of which none may have a label."""
    names = np.full(len(table), None, dtype=object)
    values = np.full(len(table), np.nan)
    if OWN_LABEL not in table.column_names:
        return names, values
    given = np.array(table.column(OWN_LABEL).to_pylist(), dtype=object)
    for name in {name for name in given.tolist() if isinstance(name, str)}:
        if f"pref_{name}" in table.column_names:
            rows = given == name
            names[rows] = name
            values[rows] = to_numpy(table.column(f"pref_{name}"))[rows]
    return names, values


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
    sums = LabelSums(aspects)
    sums.add_pairs(dataset_table(pairs.select_columns([n for n in pairs.column_names if n.startswith("pref_")])))
    table = dataset_table(preferences)
    sums.add_rows(table)
    known = set(dataset_table(pairs.select_columns("pair_id")).column("pair_id").to_pylist())
    # With labels="all" the id of a row is "<pair_id>/<aspect>".
    ids = zip(table.column("pair_id").to_pylist(), table.column("aspect").to_pylist(), strict=True)
    pair_ids = [name if name in known else name.removesuffix(f"/{aspect}") for name, aspect in ids]
    kept = len({*pair_ids})
    if dropped is None:
        dropped = {"not in the preferences": len(pairs) - kept} if kept < len(pairs) else {}
    return sums.report(kept, dropped, _num_reversed(pairs, table, pair_ids))


class LabelSums:
    """
    Sums from which a [`LabelReport`] is made; those of parts of the data add up.

    Args:
        aspects (sequence of `str`): Aspects that have votes.
    """

    def __init__(self, aspects: Sequence[str]):
        self.aspects = list(aspects)
        self.names: list[str] = []
        self.pairs = self.rows = 0
        self.chat = False
        self.counts: Counter[Any] = Counter()

    def add_pairs(self, table: pa.Table) -> None:
        """Adds the labels of pairs."""
        self.names = self.aspects + [OVERALL] * (f"pref_{OVERALL}" in table.column_names)
        self.pairs += len(table)
        labels = {name: to_numpy(table.column(f"pref_{name}")) for name in self.names}
        decided = {name: np.isin(values, (0.0, 1.0)) for name, values in labels.items()}
        for name, values in labels.items():
            self.counts["decided", name] += int(decided[name].sum())
            self.counts["ties", name] += int((values == 0.5).sum())
            self.counts["unlabelled", name] += int(np.isnan(values).sum())
        for first, second in itertools.combinations(self.names, 2):
            both = decided[first] & decided[second]
            differ = int((labels[first][both] != labels[second][both]).sum())
            for one, other in ((first, second), (second, first)):
                self.counts["both", one, other] += int(both.sum())
                self.counts["differ", one, other] += differ

    def add_rows(self, table: pa.Table) -> None:
        """Adds rows of preferences."""
        self.rows += len(table)
        self.chat = text_kind(table.column("chosen").type) == "chat"
        encoded = table.column("aspect").combine_chunks().dictionary_encode()
        place = encoded.indices.to_numpy()
        longer = text_length(table.column("chosen")) > text_length(table.column("rejected"))
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            self.counts["rows", name] += int((place == code).sum())
            self.counts["longer", name] += int(longer[place == code].sum())
        if f"vote_{OVERALL}" in table.column_names:
            votes = to_numpy(table.column(f"vote_{OVERALL}"))
            self.counts["voted"] += int((np.abs(votes) == 1).sum())
            self.counts["against"] += int((votes == -1).sum())

    def _conflict(self, first: str, second: str) -> float | None:
        both = self.counts["both", first, second]
        return self.counts["differ", first, second] / both if both else None

    def report(self, kept: int, dropped: Mapping[str, int], reversed: int | None) -> LabelReport:
        """
        The report.

        Args:
            kept (`int`): Pairs with a row.
            dropped (`Mapping[str, int]`): Pairs without one, by reason.
            reversed (`int`, *optional*): Rows that reverse the source's own label.
        """
        present = sorted(key[1] for key in self.counts if key[0] == "rows" and self.counts[key])
        counts, aspects = self.counts, self.aspects
        return LabelReport(
            pairs=self.pairs,
            kept=kept,
            rows=self.rows,
            dropped=dict(dropped),
            chat=self.chat,
            rows_per_aspect={name: counts["rows", name] for name in present},
            decided={name: counts["decided", name] for name in self.names},
            ties={name: counts["ties", name] for name in self.names},
            unlabelled={name: counts["unlabelled", name] for name in self.names},
            conflict={k: {j: self._conflict(k, j) for j in aspects if j != k} for k in aspects},
            conflict_with_overall={k: self._conflict(k, OVERALL) for k in aspects} if OVERALL in self.names else {},
            rows_against_overall=counts["against"] / counts["voted"] if counts["voted"] else None,
            chosen_longer={name: counts["longer", name] / counts["rows", name] for name in present},
            reversed=reversed,
        )
