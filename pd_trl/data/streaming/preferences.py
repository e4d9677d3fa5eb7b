"""Preferences of pairs that lie in shards: what needs all pairs is a byte or two of each, and a key while aspects are drawn."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...runs.row_shards import ShardWriter, shard_tables
from ..assignment import assign_patterns
from ..chat import equal_text
from ..columnar import features_of, pair_hashes
from ..label_report import LabelReport, LabelSums, own_of_each
from ..labelling import LabelPlan, choose_labels, decided_by, label_plan, preference_columns, preferences_of
from ..parts import NeedsWholeError
from ..sides import Labels, few_values
from ..validation import RESERVED_ASPECTS, column_aspects
from .messages import SummedMessages
from .pairs import PairStream

_NONE = -1
# Distinct values of a column that is left out, as `build_columns` counts them.
_MOST_VALUES = 12


class LabelStream:
    """
    Labels pairs part by part, as [`prepare_preferences`] does all together.

    Args:
        labels (`str`, *optional*), relabel (`str`, *optional*), aspects (sequence of `str`, *optional*), seed (`int`):
            See [`to_preferences`].
    """

    def __init__(self, labels: str | None, relabel: str | None, aspects: Sequence[str] | None, seed: int):
        self.labels, self.relabel, self.seed = labels, relabel, seed
        self.given = [aspects] if isinstance(aspects, str) else aspects
        self.found: list[str] = []
        self.own = False
        self._codes: list[NDArray[np.uint64]] = []
        self._without: list[NDArray[np.bool_]] = []
        self.plan: LabelPlan | None = None

    def add(self, pairs: pa.Table) -> None:
        """Notes which aspects can label each pair."""
        self.found = [name for name in column_aspects(pairs.column_names) if name not in RESERVED_ASPECTS]
        if len(self.found) > 63:
            raise NeedsWholeError("more than 63 aspects")
        wanted = self.found if self.given is None else [name for name in self.found if name in self.given]
        allowed = ~equal_text(pairs.column("response_a"), pairs.column("response_b"))
        decided = decided_by(preferences_of(pairs, wanted), allowed)
        # The first aspect is the highest bit, so that codes are in the order of `np.unique` over rows.
        bits = np.uint64(1) << np.arange(len(wanted), dtype=np.uint64)[::-1]
        codes = (decided * bits).sum(axis=1, dtype=np.uint64)
        self._codes.append(codes.astype(np.min_scalar_type(2 ** len(wanted) - 1)))
        names, _ = own_of_each(pairs)
        known = np.array([name is not None for name in names], dtype=bool)
        self.own |= bool(known.any())
        self._without.append(~known)

    def assign(self, pairs: PairStream) -> NDArray[np.integer]:
        """Draws an aspect for each pair that one may label; -1 for the others."""
        self.plan = label_plan(pairs.schema.names, self.found, self.own, self.labels, None, self.relabel, self.given)
        codes, without = np.concatenate(self._codes), np.concatenate(self._without)
        self._codes, self._without = [], []
        if self.plan.labels == "own":
            codes = np.where(without, codes, 0).astype(codes.dtype)
        assigned = np.full(len(codes), _NONE, dtype=np.int16)
        rows = np.flatnonzero(codes)
        if self.plan.labels == "all" or not rows.size:
            return assigned
        keys = np.empty(len(rows), dtype=np.uint64)
        first = place = 0
        for table in shard_tables(pairs.paths, ["pair_id"]):
            last = int(np.searchsorted(rows, first + len(table)))
            some = table.column("pair_id").take(pa.array(rows[place:last] - first))
            keys[place:last] = pair_hashes(self.seed, "aspect", some.to_pylist())
            first, place = first + len(table), last
        patterns, inverse = _places(codes[rows])
        width = len(self.plan.aspects)
        candidates = (patterns[:, None].astype(np.uint64) >> np.arange(width, dtype=np.uint64)[::-1]) & np.uint64(1)
        assigned[rows] = assign_patterns(candidates.astype(bool), inverse, keys)
        return assigned

    def write(
        self, pairs: PairStream, assigned: NDArray[np.integer], folder: Path | None, messages: SummedMessages
    ) -> LabelReport:
        """Writes the preferences into `folder`, if there is one, and returns their report."""
        # Side b is chosen somewhere, unless each pair has the source's own label: a guess, which the first pass proves or refutes.
        guess = self.plan is None or self.plan.labels != "own"
        for swapped in (guess, not guess):
            rows = _Rows(self, pairs, assigned, swapped)
            report = rows.write(folder)
            if rows.side_b == swapped:
                break
            messages.held.clear()
            if folder is not None:
                shutil.rmtree(folder)
        return report


def _places(codes: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The different codes, sorted, and the place of each row's among them."""
    if codes.dtype.itemsize > 2:
        patterns, inverse = np.unique(codes, return_inverse=True)
        return patterns, inverse
    patterns = np.flatnonzero(np.bincount(codes))
    place = np.zeros(int(patterns[-1]) + 1, dtype=np.uint16)
    place[patterns] = np.arange(len(patterns))
    return patterns, place[codes]


class _Rows:
    """One pass over the pairs."""

    def __init__(self, labels: LabelStream, pairs: PairStream, assigned: NDArray[np.integer], swapped: bool):
        self.labels, self.pairs, self.assigned, self.swapped = labels, pairs, assigned, swapped
        self.side_b = False
        self.dropped: Counter[str] = Counter()
        self.kept = self.reversed = 0
        self.left: dict[str, set[object]] = {}

    def write(self, folder: Path | None) -> LabelReport:
        plan, names = self.labels.plan, self.pairs.schema.names
        assert plan is not None
        sums = LabelSums([name for name in self.labels.found if name in plan.aspects and f"pref_{name}" in names])
        schema: pa.Schema | None = None
        with contextlib.ExitStack() as stack:
            for table in self._tables(sums):
                if schema is None:
                    schema = table.schema
                    features = features_of(schema, self.pairs.features)
                    writer = stack.enter_context(ShardWriter(folder, features)) if folder is not None else None
                if table.schema != schema:
                    raise NeedsWholeError("columns that depend on the values of all rows")
                sums.add_rows(table)
                if writer is not None:
                    writer.add(table)
            if schema is None:
                raise NeedsWholeError("no preference, which is an error")
            if any(len(values) > _MOST_VALUES for values in self.left.values()):
                raise NeedsWholeError("a column that may compare the sides")
        dropped = {reason: count for reason, count in self.dropped.items() if count}
        return sums.report(self.kept, dropped, self.reversed if self.labels.own else None)

    def _tables(self, sums: LabelSums) -> Iterator[pa.Table]:
        """The preferences of each part of the pairs that has any."""
        plan, first = self.labels.plan, 0
        assert plan is not None
        types = self.pairs.schema
        for stored in shard_tables(self.pairs.paths):
            table = stored.cast(types)
            part = self.assigned[first : first + len(table)]
            first += len(table)
            sums.add_pairs(table)
            own = own_of_each(table) if self.labels.own else None
            drawn = part, np.zeros(len(table), dtype=bool)

            def assign(table: pa.Table, usable: np.ndarray, drawn: Any = drawn) -> tuple[np.ndarray, np.ndarray]:
                return drawn

            chosen, original, dropped = choose_labels(table, own, plan.aspects, plan.labels, plan.relabel, assign)
            self.dropped.update(dropped)
            if not len(chosen.rows):
                continue
            self._count(chosen, own)
            columns = preference_columns(table, plan, chosen, original, self.swapped)
            self._note_left(table, columns)
            yield pa.table(columns)

    def _count(self, chosen: Labels, own: tuple[np.ndarray, np.ndarray] | None) -> None:
        self.side_b |= not bool(chosen.a_wins.all())
        self.kept += len(np.unique(chosen.rows))
        if own is not None:
            names, values = (part[chosen.rows] for part in own)
            known = np.array([name is not None for name in names], dtype=bool)
            # Only the scores are tied: the source has still chosen side a.
            self.reversed += int((known & (chosen.a_wins != (values != 0))).sum())

    def _note_left(self, table: pa.Table, columns: dict[str, pa.ChunkedArray]) -> None:
        """Of columns that are left out, which may compare the sides by their values, their distinct values."""
        for name in table.column_names:
            if (
                name not in columns
                and name not in ("response_a", "response_b")
                and not name.startswith(("rating_", "pref_"))
            ):
                self.left.setdefault(name, set()).update(few_values(table.column(name)))
