"""The two passes of a selection over more rows than memory holds: the scales of the gaps, and the threshold of the budget."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..decision import ALL_PAIRS
from ..divergence import preference_divergence
from ..errors import InputError
from ..filter import PDFilter
from ..proxies import vote_weights
from ..selection import Threshold, resolve_budget
from .columns import GapReader, Gaps, divergence_of_columns, hidden
from .order import Found, interpolated, quantile_ranks
from .parquet import ParquetSource, Unit
from .scores import ScoreReader
from .search import Budgets, Sample, Search
from .strata import stratum_counts
from .ties import greatest_kept_id

# Quantiles of the PD that the report shows.
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass
class Decision:
    """
    What the passes found.

    Args:
        labels (`list` of `str`): Name of each code of [`Gaps.own`].
        label_counts (`list` of `int`): Rows with each label.
        scale (array of shape `(num_aspects,)`, float32): Scales of the gaps (Eq. 13).
        weights (array of shape `(num_aspects,)`): Weights of the votes.
        thresholds (`dict`): The last pair kept, of all pairs or of each aspect.
        kept (`int`): Pairs within the budget.
        total (`int`): All pairs.
        divergence_quantiles (`dict`): Quantiles of the PD.
        passes (`int`): Passes over the gap columns.
    """

    labels: list[str]
    label_counts: list[int]
    scale: NDArray[np.float32]
    weights: NDArray[np.float64]
    thresholds: dict[str, Threshold]
    kept: int
    total: int
    divergence_quantiles: dict[str, float] = field(default_factory=dict)
    passes: int = 2

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for json."""
        return {**asdict(self), "scale": self.scale.tolist(), "weights": self.weights.tolist()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Decision":
        """What `to_dict` gave."""
        arrays = {"scale": np.array(content["scale"], np.float32), "weights": np.array(content["weights"], np.float64)}
        thresholds = {name: Threshold(**values) for name, values in content["thresholds"].items()}
        return cls(**{**content, **arrays, "thresholds": thresholds})


class Selection:
    """
    Fits a [`PDFilter`] to the rows of a source, exactly as `PDFilter.fit` does in memory.

    Args:
        pd_filter ([`PDFilter`]): The rule; its statistics are set.
        source ([`ParquetSource`]): The rows.
        budgets ([`Budgets`], *optional*): Bounds of the passes.
    """

    def __init__(self, pd_filter: PDFilter, source: ParquetSource, budgets: Budgets | None = None):
        self.filter, self.source, self.budgets = pd_filter, source, budgets or Budgets()
        self.gaps = GapReader(source, pd_filter.source)
        self.scores = ScoreReader(pd_filter, source)
        self.columns = list(dict.fromkeys([*self.gaps.columns, *self.scores.columns]))
        self.search = Search(source, self.budgets)
        if not source.num_rows:
            raise InputError("There is nothing to select from: the data set is empty.")
        if len(self.gaps.names) < 2:
            raise InputError(
                f"PD needs at least two aspects, and there is only '{self.gaps.names[0]}'. Provide gaps of another aspect."
            )

    def decide(self) -> Decision:
        """Both passes. Sets `aspects_`, `quantiles_` and `thresholds_` of the filter."""
        pd_filter, names = self.filter, self.gaps.names
        count = resolve_budget(pd_filter.budget, self.source.num_rows)
        vote_weights(names, pd_filter.weights, pd_filter.proxy_metrics, pd_filter.min_proxy_accuracy)
        sample = list(self._sample())
        scale, label_counts = self._scales(sample)
        weights = vote_weights(
            names, pd_filter.weights, pd_filter.proxy_metrics, pd_filter.min_proxy_accuracy, warn=True
        )
        self._check_scales(scale, weights, label_counts)
        decision = Decision(self.gaps.labels, label_counts, scale, weights, {}, count, self.source.num_rows)
        self._thresholds(decision, sample)
        decision.passes = self.search.passes
        self.apply(decision)
        return decision

    def apply(self, decision: Decision) -> None:
        """Gives the filter the statistics that were found."""
        names = self.gaps.names
        self.filter.aspects_ = list(names)
        self.filter.quantiles_ = dict(zip(names, map(float, decision.scale), strict=True))
        self.filter.thresholds_ = decision.thresholds

    def _sample(self) -> Iterator[tuple[Unit, int, pa.RecordBatch]]:
        """The heads of units from all over the data."""
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

    def _scales(self, sample: Sample) -> tuple[NDArray[np.float32], list[int]]:
        """Pass 1: the `gamma`-quantile of each aspect's absolute gaps over the pairs of other aspects (Eq. 13)."""
        gamma, names = self.filter.gamma, self.gaps.names
        counts: dict[int, NDArray[np.int64]] = {}
        largest: dict[int, list[float]] = {}

        def values(batch: pa.RecordBatch, unit: Unit, row: int) -> list[NDArray]:
            gaps = self.gaps.read(batch, unit, row)
            if row == unit.first_row:
                counts[unit.index] = np.zeros(len(self.gaps.labels), dtype=np.int64)
                largest[unit.index] = [0.0] * len(names)
            counts[unit.index] += [np.count_nonzero(gaps.own == code) for code in range(len(self.gaps.labels))]
            result = []
            for k in range(len(names)):
                absolute, highest = self.gaps.absolute(gaps, k, unit, row)
                largest[unit.index][k] = max(largest[unit.index][k], highest)
                result.append(absolute)
            return result

        brackets = self.search.brackets(sample, values, [[gamma]] * len(names))
        self.search.read(self.gaps.columns, values, brackets)
        ends: list[tuple[int, int, float]] = []
        wanted: list[tuple[int, int, int]] = []
        for k, (bracket,) in enumerate(brackets):
            if bracket.total:
                lower, upper, along = quantile_ranks(bracket.total, gamma, np.float32)
                ends.append((k, len(wanted), along))
                wanted += [(k, 0, lower), (k, 0, upper)]
        found = self.search.resolve(self.gaps.columns, values, brackets, wanted, [np.float32] * len(names))
        scale = np.full(len(names), np.nan, dtype=np.float32)
        for k, place, along in ends:
            scale[k] = interpolated(found[place].value, found[place + 1].value, along, np.float32)
        for k, (bracket,) in enumerate(brackets):
            if self.filter.source == "ratings" and bracket.total and not max(peak[k] for peak in largest.values()):
                self.filter.leave_out(names[k], bracket.total)
        return scale, sum(counts.values(), np.zeros(len(self.gaps.labels), dtype=np.int64)).tolist()

    def _check_scales(self, scale: NDArray, weights: NDArray, label_counts: Sequence[int]) -> None:
        """Refuses what `preference_divergence` refuses, by its own message: scales are checked before any row is."""
        present = np.flatnonzero(label_counts)
        own = np.where(present < len(scale), present, -1)
        zeros = np.zeros((len(own), len(scale)), dtype=np.float32)
        preference_divergence(zeros, own, self.filter.gamma, weights, scale, aspect_names=self.gaps.names)

    def divergence(
        self, gaps: Gaps, decision: Decision, clipped: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """PD of a batch."""
        return divergence_of_columns(gaps, decision.scale, decision.weights, clipped)

    def _thresholds(self, decision: Decision, sample: Sample) -> None:
        """Pass 2: PD of every pair, the score of the last one kept, and by `pair_id` which of those tied with it is the last."""
        groups = self._groups(decision)

        def values(batch: pa.RecordBatch, unit: Unit, row: int) -> list[NDArray]:
            gaps = self.gaps.read(batch, unit, row)
            divergence = self.divergence(gaps, decision)
            scores = self.scores.read(batch, divergence, unit, row)
            groups_scores = [scores if code is None else hidden(scores, gaps.own != code) for _, code, _, _ in groups]
            return [divergence, *groups_scores]

        shares = [list(SHARES), *([(kept - 0.5) / size] for _, _, size, kept in groups)]
        brackets = self.search.brackets(sample, values, shares)
        self.search.read(self.columns, values, brackets)
        wanted = [(1 + place, 0, kept - 1) for place, (_, _, _, kept) in enumerate(groups)]
        along = []
        for place, share in enumerate(SHARES):
            lower, upper, rest = quantile_ranks(decision.total, share, np.float64)
            along.append(rest)
            wanted += [(0, place, lower), (0, place, upper)]
        dtypes = [np.float32, *([self.scores.dtype] * len(groups))]
        found = self.search.resolve(self.columns, values, brackets, wanted, dtypes)
        for (name, code, _, kept), last in zip(groups, found, strict=False):
            decision.thresholds[name] = self._threshold(decision, code, last, kept)
        ends = found[len(groups) :]
        for place, share in enumerate(SHARES):
            pair = ends[2 * place : 2 * place + 2]
            value = interpolated(pair[0].value, pair[1].value, along[place], np.float64)
            decision.divergence_quantiles[f"{share:g}"] = value

    def _groups(self, decision: Decision) -> list[tuple[str, int | None, int, int]]:
        """Name, code, size and number to keep of each group with a threshold of its own."""
        if not self.filter.per_aspect:
            return [(ALL_PAIRS, None, decision.total, decision.kept)]
        sizes = dict(zip(decision.labels, decision.label_counts, strict=True))
        kept = stratum_counts({name: size for name, size in sizes.items() if size}, decision.kept)
        return [(name, decision.labels.index(name), sizes[name], count) for name, count in kept.items() if count]

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
