"""The two passes that fit a filter out of core: the scales of the gaps, then the threshold of the budget."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import InputError
from ...method.divergence import NO_LABEL, preference_divergence
from ...method.ranking import Threshold, check_budget, resolve_budget
from ...method.votes import gap_moments
from ..fitted import FittedFilter
from ..gaps import Gaps
from ..reasons import ALL_PAIRS
from ..report import SelectionReport
from ..report_inputs import reported_columns, vote_names
from ..report_numbers import SHARES, report_numbers
from ..report_sums import ReportSums
from ..votes import check_no_votes, check_number, learned_weights, no_divergence
from .columns import GapReader, LabelReader, divergence_of_columns, hidden
from .decision import Decision
from .order import Found, interpolated, quantile_ranks
from .scores import ScoreReader
from .search import Budgets, Sample, Search
from .source import RowSource, Unit
from .strata import stratum_counts
from .ties import greatest_kept_id


class Selection:
    """
    Fits a [`PDFilter`] to the rows of a source, exactly as `PDFilter.fit` does in memory.

    Args:
        pd_filter ([`FittedFilter`]): The filter, which gets the statistics.
        source ([`RowSource`]): The rows.
        budgets ([`Budgets`], *optional*): Bounds of the passes.
    """

    def __init__(self, pd_filter: FittedFilter, source: RowSource, budgets: Budgets | None = None):
        self.filter, self.source, self.budgets = pd_filter, source, budgets or Budgets()
        if not source.num_rows:
            raise InputError("The data set is empty: there is nothing to select from.")
        if "pair_id" not in source.column_names:
            raise InputError(
                "The data has no column 'pair_id' by which ties are broken and results are checked; its columns are "
                f"{', '.join(source.column_names)}."
            )
        if pd_filter.per_aspect and "aspect" not in source.column_names:
            raise InputError("`per_aspect=True` needs the column 'aspect', which the data does not have.")
        self.scores = ScoreReader(pd_filter, source)
        self.search = Search(source, self.budgets)
        self.gaps: LabelReader = self._reader()

    def _reader(self) -> LabelReader:
        """A reader of gaps, or of labels alone where there are no gaps and the selector needs none."""
        if self.filter.has_divergence(self.source.column_names):
            try:
                return GapReader(self.source, self.filter.source)
            except InputError as error:
                no_divergence(self.filter, error)
        return LabelReader(self.source)

    @property
    def columns(self) -> list[str]:
        """Columns that the passes read."""
        return list(dict.fromkeys([*self.gaps.columns, *self.scores.columns])) or ["pair_id"]

    @property
    def writes_divergence(self) -> bool:
        """Whether the rows get a column `pd`: PD that is computed, or that of another column."""
        return bool(self.gaps.names) or "pd" in self.scores.inputs

    def decide(self) -> Decision:
        """Both passes. Sets `aspects_`, `quantiles_`, `weights_` and `thresholds_` of the filter."""
        check_budget(self.filter.budget)
        scale, weights, label_counts = self._votes()
        decision = Decision(self.gaps.labels, scale, weights, label_counts, self.source.num_rows)
        self._thresholds(decision, list(self._sample()))
        decision.passes = self.search.passes
        decision.reported = reported_columns(self.source.column_names, self.filter)
        decision.known = vote_names(self.source.schema)
        self.apply(decision)
        return decision

    def apply(self, decision: Decision) -> None:
        """Gives the filter the statistics of a decision."""
        self.filter.set_statistics(self.gaps.names, decision.scale, decision.weights, decision.thresholds)

    def resume(self, decision: Decision) -> None:
        """Uses the decision of an earlier run that was killed while it wrote."""
        if not len(decision.weights):
            self.gaps = LabelReader(self.source)
        self.apply(decision)

    def report(self, sums: ReportSums, overlap: Mapping[str, float] | None = None) -> SelectionReport:
        """The report, from the sums over all rows, and the overlap with rival selections where it is computed."""
        outputs = self.filter.outputs_read()
        return SelectionReport(report_numbers(sums, self.filter, self.filter.proxy_metrics_, overlap, outputs))

    def _votes(self) -> tuple[NDArray[np.float32], NDArray[np.float64], list[int]]:
        """Scales and weights of the votes, both empty where there are none, and the number of rows with each label."""
        pd_filter = self.filter
        if isinstance(self.gaps, GapReader):
            names = self.gaps.names
            try:
                pd_filter.vote_weights(names)
                moments: dict[int, dict[str, NDArray[np.float64]]] = {}
                scale, label_counts, silent = self._scales(self.gaps, list(self._sample()), moments)
                check_number(names, any(label_counts[: len(names)]))
                weights = learned_weights(pd_filter, names, silent, lambda: _added(moments.values()))
                self._check_scales(scale, weights, label_counts)
                return scale, weights, label_counts
            except InputError as error:
                no_divergence(pd_filter, error)
                self.gaps = LabelReader(self.source)
        return np.empty(0, dtype=np.float32), np.empty(0), self._label_counts()

    def _label_counts(self) -> list[int]:
        size = len(self.gaps.labels)

        def counted(unit: Unit) -> NDArray[np.int64]:
            parts = [
                self.gaps.read(batch, unit, row).own for row, batch in self.source.batches(unit, self.gaps.columns)
            ]
            return np.bincount(np.concatenate(parts), minlength=size)

        if not self.gaps.columns:
            return []
        return sum(self.source.each(counted), np.zeros(size, dtype=np.int64)).tolist()

    def _sample(self) -> Iterator[tuple[Unit, int, pa.RecordBatch]]:
        """The first rows of units spread over the data."""
        units = self.source.units
        share = max(100_000, math.ceil(self.budgets.sample_share * self.source.num_rows))
        rows = min(self.budgets.sample_rows, share, self.source.num_rows)
        places = min(len(units), max(1, min(64, rows)))
        for place in range(places):
            unit = units[place * len(units) // places]
            wanted = math.ceil(rows / places)
            for row, batch in self.source.batches(unit, self.columns, min(wanted, self.source.batch_rows)):
                yield unit, row, batch
                wanted -= batch.num_rows
                if wanted <= 0:
                    break

    def _scales(
        self, reader: GapReader, sample: Sample, moments: dict[int, dict[str, NDArray[np.float64]]]
    ) -> tuple[NDArray[np.float32], list[int], dict[str, int]]:
        """
        Pass 1: the `gamma`-quantile of each aspect's absolute gaps over the pairs of other aspects (Eq. 13), the
        number of rows with each label, and the aspects whose ratings decide no pair of another aspect, with the number
        of these pairs. If weights are learned from the correlation of the gaps, `moments` then holds the sums of each unit.
        """
        gamma, names = self.filter.gamma, reader.names
        counts: dict[int, NDArray[np.int64]] = {}
        largest: dict[int, list[float]] = {}

        def values(batch: pa.RecordBatch, unit: Unit, row: int) -> list[NDArray]:
            gaps = reader.read(batch, unit, row)
            if row == unit.first_row:
                counts[unit.index] = np.zeros(len(reader.labels), dtype=np.int64)
                largest[unit.index] = [0.0] * len(names)
                moments.pop(unit.index, None)
            counts[unit.index] += [np.count_nonzero(gaps.own == code) for code in range(len(reader.labels))]
            if self.filter.learns_weights:
                before = moments.get(unit.index)
                moments[unit.index] = _added([*([before] if before else []), gap_moments(gaps.gaps)])
            result = []
            for k in range(len(names)):
                absolute, highest = reader.absolute(gaps, k, unit, row)
                largest[unit.index][k] = max(largest[unit.index][k], highest)
                result.append(absolute)
            return result

        brackets = self.search.brackets(sample, values, [[gamma]] * len(names))
        self.search.read(reader.columns, values, brackets)
        ends: list[tuple[int, int, float]] = []
        wanted: list[tuple[int, int, int]] = []
        for k, (bracket,) in enumerate(brackets):
            if bracket.total:
                lower, upper, along = quantile_ranks(bracket.total, gamma, np.float32)
                ends.append((k, len(wanted), along))
                wanted += [(k, 0, lower), (k, 0, upper)]
        found = self.search.resolve(reader.columns, values, brackets, wanted, [np.float32] * len(names))
        scale = np.full(len(names), np.nan, dtype=np.float32)
        for k, place, along in ends:
            scale[k] = interpolated(found[place].value, found[place + 1].value, along, np.float32)
        label_counts = sum(counts.values(), np.zeros(len(reader.labels), dtype=np.int64)).tolist()
        silent = {}
        for k, name in enumerate(names if self.filter.source == "ratings" else []):
            others = self.source.num_rows - label_counts[k]
            if others and not max(peak[k] for peak in largest.values()):
                silent[name] = others
        return scale, label_counts, silent

    def _check_scales(self, scale: NDArray, weights: NDArray, label_counts: Sequence[int]) -> None:
        """Refuses what `preference_divergence` refuses, with its message. The scales are checked before any row."""
        present = np.flatnonzero(label_counts)
        own = np.where(present < len(scale), present, -1)
        zeros = np.zeros((len(own), len(scale)), dtype=np.float32)
        # Pairs without votes are counted by the next pass.
        preference_divergence(
            zeros, own, self.filter.gamma, weights, scale, aspect_names=self.gaps.names, allow_no_votes=True
        )

    def divergence(
        self, gaps: Gaps, decision: Decision, clipped: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32] | None:
        """PD of a batch, NaN where no other aspect votes; `None` where there are no gaps."""
        if not self.gaps.names:
            return None
        return divergence_of_columns(gaps, decision.scale, decision.weights, clipped)

    def _thresholds(self, decision: Decision, sample: Sample) -> None:
        """Pass 2: PD of every pair, the score of the last pair kept, and by `pair_id` the last of the pairs tied with it."""
        codes: list[int | None] = [None]
        if self.filter.per_aspect:
            codes = np.flatnonzero(decision.label_counts).tolist()
        silent: dict[int, NDArray[np.int64]] = {}

        def values(batch: pa.RecordBatch, unit: Unit, row: int) -> list[NDArray]:
            gaps = self.gaps.read(batch, unit, row)
            divergence = self.divergence(gaps, decision)
            if row == unit.first_row:
                silent[unit.index] = np.zeros(len(decision.labels), dtype=np.int64)
            if divergence is None:
                divergence = np.full(len(gaps.own), np.nan, dtype=np.float32)
                scores = self.scores.read(batch, None, unit, row)
            else:
                scores = self.scores.read(batch, divergence, unit, row)
                without = gaps.own[np.isnan(divergence)]
                silent[unit.index] += np.bincount(without, minlength=len(decision.labels))
            return [divergence, *(scores if code is None else hidden(scores, gaps.own != code) for code in codes)]

        # Only a guess: which pairs have no votes is not known yet.
        guess = resolve_budget(self.filter.budget, decision.total) / decision.total
        shares = [list(SHARES), *([[guess]] * len(codes))]
        brackets = self.search.brackets(sample, values, shares)
        silent.clear()
        self.search.read(self.columns, values, brackets)
        decision.no_votes = sum(silent.values(), np.zeros(len(decision.labels), dtype=np.int64)).tolist()
        self._check_votes(decision)
        groups = self._groups(decision)
        wanted = [(1 + codes.index(code), 0, kept - 1) for _, code, kept in groups]
        known = brackets[0][0].total
        along = []
        for place, share in enumerate(SHARES if known else ()):
            lower, upper, rest = quantile_ranks(known, share, np.float64)
            along.append(rest)
            wanted += [(0, place, lower), (0, place, upper)]
        dtypes = [np.float32, *([self.scores.dtype] * len(codes))]
        found = self.search.resolve(self.columns, values, brackets, wanted, dtypes)
        for (name, code, kept), last in zip(groups, found, strict=False):
            decision.thresholds[name] = self._threshold(decision, code, last, kept)
        ends = found[len(groups) :]
        for place, rest in enumerate(along):
            pair = ends[2 * place : 2 * place + 2]
            value = interpolated(pair[0].value, pair[1].value, rest, np.float64)
            decision.divergence_quantiles[f"{SHARES[place]:g}"] = value

    def _check_votes(self, decision: Decision) -> None:
        """Refuses pairs without votes, or warns that they are dropped, and sets the number of pairs to keep."""
        without = dict(zip(decision.labels, decision.no_votes, strict=True))
        names = self.gaps.names
        counts = {name: without[name] for name in names if without[name]}
        rest = sum(count for name, count in without.items() if name not in names)
        check_no_votes(self.filter, {**({NO_LABEL: rest} if rest else {}), **counts}, decision.total)
        if not self.filter.needs_divergence:
            decision.kept = resolve_budget(self.filter.budget, decision.total)
        else:
            decision.kept = resolve_budget(self.filter.budget, decision.total - sum(decision.no_votes))

    def _groups(self, decision: Decision) -> list[tuple[str, int | None, int]]:
        """Name, code and number to keep of each group that has its own threshold."""
        if not self.filter.per_aspect:
            return [(ALL_PAIRS, None, decision.kept)]
        sizes = dict(zip(decision.labels, decision.label_counts, strict=True))
        if self.filter.needs_divergence:
            sizes = {n: size - silent for (n, size), silent in zip(sizes.items(), decision.no_votes, strict=True)}
        kept = stratum_counts({name: size for name, size in sizes.items() if size}, decision.kept)
        return [(name, decision.labels.index(name), count) for name, count in kept.items() if count]

    def _threshold(self, decision: Decision, code: int | None, last: Found, kept: int) -> Threshold:
        def tied_ids(unit: Unit) -> Iterator[pa.Array]:
            for row, batch in self.source.batches(unit, list(dict.fromkeys([*self.columns, "pair_id"]))):
                gaps = self.gaps.read(batch, unit, row)
                scores = self.scores.read(batch, self.divergence(gaps, decision), unit, row)
                tied = scores == last.value
                if code is not None:
                    tied &= gaps.own == code
                if tied.any():
                    yield batch.column("pair_id").filter(pa.array(tied))

        units = self.source.units if last.units is None else [self.source.units[index] for index in last.units]
        pair_id = greatest_kept_id(self.source, units, tied_ids, last.tied, kept - last.below, self.budgets.held_ids)
        return Threshold(last.value, pair_id)


def _added(parts: Iterable[Mapping[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """Sums of parts of the data, added up in their order."""
    total: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        total = {name: total[name] + value if name in total else value for name, value in part.items()}
    return total
