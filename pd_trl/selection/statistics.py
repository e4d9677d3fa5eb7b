"""The numbers of a selection's report as sums over batches. In memory all rows are one batch; the sums of shards add up."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.chat import normalize_text, text_length
from ..errors import InputTypeError
from ..method.accuracy import verdict
from ..method.votes import gap_moments, moment_correlation
from .gaps import (
    VOTE_PREFIX,
    Gaps,
    VoteColumn,
    count_votes,
    is_number_type,
    rated_aspects,
    rating_columns,
    scored_aspects,
    votes_label,
)
from .settings import SelectionSettings

GROUPS = ("all", "kept", "dropped")
SIDES = ("chosen", "rejected")
# Quantiles of the PD that the report shows.
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass
class Basis:
    """
    What the report says of a fit as a whole.

    Args:
        labels (`list` of `str`): Name of each code of [`Gaps.own`], those of the aspects first.
        scale (array of shape `(num_aspects,)`, float32): Scales of the gaps (Eq. 13).
        weights (array of shape `(num_aspects,)`): Weights of the votes.
        divergence_quantiles (`dict`): Quantiles of the PD.
        reported (`list` of `str`): Columns of numbers that the report reads, beside the gaps and the votes.
        known (`list` of `str`): Names of `vote_` columns that are those of aspects.
    """

    labels: list[str]
    scale: NDArray[np.float32]
    weights: NDArray[np.float64]
    divergence_quantiles: dict[str, float] = field(default_factory=dict, kw_only=True)
    reported: list[str] = field(default_factory=list, kw_only=True)
    known: list[str] = field(default_factory=list, kw_only=True)


@dataclass
class Batch:
    """
    Rows, as the statistics take them in.

    Args:
        gaps ([`Gaps`]): Labels, and gaps where there are any.
        kept (boolean array of shape `(num_rows,)`): Whether a row is kept.
        numbers (`dict`): By name, the columns of [`number_columns`], NaN where a number is missing.
        lengths (`dict`): Characters of each side, where the texts are read.
        divergence (array of shape `(num_rows,)`, *optional*): PD.
        clipped (array of shape `(num_aspects,)`, *optional*): Gaps of each aspect that count and are beyond their scale.
    """

    gaps: Gaps
    kept: NDArray[np.bool_]
    numbers: Mapping[str, NDArray[np.float64]]
    lengths: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    divergence: NDArray[np.float32] | None = None
    clipped: NDArray[np.int64] | None = None


def reported_columns(column_names: Sequence[str], settings: SelectionSettings) -> list[str]:
    """Columns of numbers that the report reads, whatever the selection ranks by."""
    return [name for name in dict.fromkeys(("delta_length", settings.margin_column)) if name in column_names]


def number_columns(schema: pa.Schema, reported: Iterable[str]) -> list[str]:
    """Columns of numbers that the statistics read: lengths, margins, and votes. One that holds no numbers is left out."""
    votes = [name for name in schema.names if name.startswith(VOTE_PREFIX)]
    wanted = dict.fromkeys(["delta_length", *reported, *votes])
    return [name for name in wanted if name in schema.names and is_number_type(schema.field(name).type)]


def text_lengths(schema: pa.Schema, read: Callable[[str], pa.ChunkedArray]) -> dict[str, NDArray[np.int64]]:
    """Characters of the texts of both sides; a column that holds no texts is left out."""
    found = {}
    for side in SIDES:
        if side in schema.names:
            try:
                found[side] = text_length(normalize_text(read(side), side))
            except InputTypeError:
                continue
    return found


def length_difference(
    delta: NDArray[np.float64] | None, lengths: Mapping[str, NDArray[np.int64]]
) -> NDArray[np.float64] | None:
    """By how much the chosen response is longer: in tokens as given, or else in characters. `None` where neither is known."""
    if delta is None and len(lengths) == len(SIDES):
        return lengths["chosen"].astype(np.float64) - lengths["rejected"]
    return delta


def vote_names(schema: pa.Schema) -> list[str]:
    """Names of `vote_` columns that are those of aspects, by what else there is of them or by the type of votes (int8)."""
    names = schema.names
    rated = [name for name in rated_aspects(names) if len(rating_columns(name, names)) == 2]
    typed = [name for name in names if name.startswith(VOTE_PREFIX) and schema.field(name).type == pa.int8()]
    return [*scored_aspects(names), *rated, *(name[len(VOTE_PREFIX) :] for name in typed)]


def other_votes(votes: NDArray[np.float64], own: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where an aspect's label agrees with a pair's label that is not its `own`, and where it decides at all."""
    votes = np.nan_to_num(votes)
    counted = (votes != 0) & ~own
    return counted & (votes > 0), counted


class ReportSums:
    """
    Sums from which the report is made; ready for json, so that those of finished shards outlive a kill.

    Args:
        basis ([`Basis`]): The fit.
        content (`dict`, *optional*): Sums of `to_dict`.
    """

    def __init__(self, basis: Basis, content: Mapping[str, Any] | None = None):
        self.basis = basis
        self.names = basis.labels[: len(basis.weights)]
        self.sums: dict[str, Any] = {name: np.asarray(value) for name, value in (content or {}).items()}

    def to_dict(self) -> dict[str, Any]:
        return {name: value.tolist() for name, value in self.sums.items()}

    def merge(self, other: "ReportSums") -> None:
        """Adds the sums of other rows."""
        for name, value in other.sums.items():
            self._add(name, value)

    def _add(self, name: str, value: Any) -> None:
        value = np.asarray(value)
        if name not in self.sums:
            self.sums[name] = value
        elif name.startswith(("pd_ends", "vote_kind")):
            self.sums[name] = np.maximum(self.sums[name], value)
        else:
            self.sums[name] = self.sums[name] + value

    def add(self, batch: Batch) -> None:
        """Adds a batch of rows."""
        size = len(self.basis.labels)
        self._add("rows", _by_group(np.ones(len(batch.kept)), batch.kept))
        if size:
            own = batch.gaps.own
            self._add("own", [np.bincount(own[rows], minlength=size) for rows in (slice(None), batch.kept)])
        if batch.divergence is not None:
            self._add_divergence(batch.divergence, batch.kept)
            self._add("clipped", batch.clipped)
            self._add("missing", [batch.gaps.missing.get(name, 0) for name in self.names])
            self._add_gaps(batch.gaps, batch.numbers.get("delta_length"))
            self._add_votes(batch.gaps, batch.kept)
        self._add_lengths(batch)
        self._add_labels(batch)

    def _add_divergence(self, divergence: NDArray[np.float32], kept: NDArray[np.bool_]) -> None:
        given = ~np.isnan(divergence)
        values, inside = divergence[given].astype(np.float64), kept[given]
        self._add("pd_rows", _by_group(np.ones(len(values)), inside))
        self._add("pd_sum", _by_group(values, inside))
        self._add("pd_ends", [-values.min(initial=np.inf), values.max(initial=-np.inf)])
        self._add("pd_negative", np.count_nonzero(values < 0))

    def _add_gaps(self, gaps: Gaps, delta: NDArray | None) -> None:
        for name, value in gap_moments(gaps.gaps).items():
            self._add(name, value)
        filled = [np.nan_to_num(gap.astype(np.float64)) for gap in gaps.gaps]
        for k, gap in enumerate(gaps.gaps):
            others = gaps.own != k
            if gaps.missing.get(self.names[k]):
                others &= ~np.isnan(gap)
            self._add(f"agrees_{k}", [np.count_nonzero(others & (gap > 0)), np.count_nonzero(others)])
            if delta is not None:
                rows = others & np.isfinite(delta)
                x, y = filled[k][rows], delta[rows]
                self._add(f"length_{k}", [x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y])

    def _add_votes(self, gaps: Gaps, kept: NDArray[np.bool_]) -> None:
        agree, voters, most = count_votes(gaps, self.names, self.basis.weights)
        size = len(self.names) + 1
        votes = voters.astype(np.int64) * size + agree
        self._add("votes", [np.bincount(votes[rows], minlength=size * size) for rows in (slice(None), kept)])
        self._add("missing_votes", [np.count_nonzero((voters > 0) & (voters < most)), np.count_nonzero(voters == 0)])

    def _add_lengths(self, batch: Batch) -> None:
        for side, characters in batch.lengths.items():
            self._add(f"characters_{side}", _by_group(characters, batch.kept))
        delta = length_difference(batch.numbers.get("delta_length"), batch.lengths)
        if delta is not None:
            self._add("chosen_longer", _by_group(delta > 0, batch.kept))
            self._add("with_length", _by_group(np.isfinite(delta), batch.kept))

    def _add_labels(self, batch: Batch) -> None:
        overall = batch.numbers.get("vote_overall")
        if overall is not None:
            agree, decided = other_votes(overall, np.zeros(len(overall), dtype=bool))
            self._add("overall", [_by_group(agree, batch.kept), _by_group(decided, batch.kept)])
        places = {name: place for place, name in enumerate(self.basis.labels)}
        for column, votes in batch.numbers.items():
            name = column.removeprefix(VOTE_PREFIX)
            if not column.startswith(VOTE_PREFIX) or name == "overall":
                continue
            kind = VoteColumn(False).add(votes)
            agree, decided = other_votes(votes, batch.gaps.own == places.get(name, -1))
            self._add(f"vote_kind_{name}", [not kind.only_votes, kind.against])
            self._add(f"vote_counts_{name}", [_by_group(agree, batch.kept), _by_group(decided, batch.kept)])
        for column in self.basis.reported:
            values = batch.numbers.get(column)
            missing = len(batch.kept) if values is None else np.count_nonzero(~np.isfinite(values))
            self._add(f"lacking_{column}", missing)

    def numbers(
        self,
        settings: SelectionSettings,
        proxy_metrics: Mapping[str, Mapping[str, float]],
        overlap: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """
        The numbers of the report.

        Args:
            settings ([`SelectionSettings`]): The settings of the selection.
            proxy_metrics (`dict`): Held-out metrics of each aspect's reward model.
            overlap (`dict`, *optional*): Shares of the kept pairs that rival selectors keep too. `None` where no ranking of all rows
                by each of these was made: `not_computed` says so.
        """
        basis, sums = self.basis, self.sums
        total, kept, dropped = (int(count) for count in sums["rows"])
        rows = {"all": total, "kept": kept, "dropped": dropped}
        places = {} if not basis.labels else dict(sorted((name, i) for i, name in enumerate(basis.labels)))
        numbers: dict[str, Any] = {
            "selector": settings.selector,
            "total": total,
            "kept": kept,
            "dropped": dropped,
            "lengths": self._lengths(rows),
            "kept_by_aspect": _kept_by(sums["own"], places) if places else {},
            "overlap": dict(overlap or {}),
            "unseen_labels": self._unseen_labels(settings.source),
            "missing_numbers": {
                name: int(sums[f"lacking_{name}"]) for name in basis.reported if sums[f"lacking_{name}"]
            },
        }
        if len(basis.weights):
            fewer, none = (int(count) for count in sums["missing_votes"])
            numbers |= {
                "pd": self._divergence(),
                "aspects": self._aspects(settings, proxy_metrics),
                "gap_correlation": self._correlations(),
                "kept_by_votes": self._kept_by_votes(),
                "missing_gaps": {
                    name: int(count) for name, count in zip(self.names, sums["missing"], strict=True) if count
                },
                "missing_votes": {"fewer": fewer, "none": none},
            }
        return numbers if overlap is not None else {**numbers, "not_computed": ["overlap"]}

    def _divergence(self) -> dict[str, Any]:
        sums, known = self.sums, float(self.sums["pd_rows"][0])
        if not known:
            names = ("min", "max", "mean", "share_negative", "mean_kept", "mean_dropped")
            return {**dict.fromkeys(names), "quantiles": {}}
        means = [_ratio(value, count) for value, count in zip(sums["pd_sum"], sums["pd_rows"], strict=True)]
        return {
            "min": float(-sums["pd_ends"][0]),
            "max": float(sums["pd_ends"][1]),
            "mean": means[0],
            "quantiles": self.basis.divergence_quantiles,
            "share_negative": int(sums["pd_negative"]) / known,
            "mean_kept": means[1],
            "mean_dropped": means[2],
        }

    def _lengths(self, rows: Mapping[str, int]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for place, group in enumerate(GROUPS):
            entry = {
                f"mean_characters_{side}": _ratio(self.sums[f"characters_{side}"][place], rows[group])
                for side in SIDES
                if f"characters_{side}" in self.sums
            }
            if "chosen_longer" in self.sums:
                known = self.sums["with_length"][place]
                entry["chosen_longer"] = _ratio(self.sums["chosen_longer"][place], known)
            result[group] = entry
        return result

    def _unseen_labels(self, source: str) -> dict[str, dict[str, float | None]]:
        counted = {"overall": self.sums["overall"]} if "overall" in self.sums and self.sums["overall"][1][0] else {}
        voted = self._voted() if source != "ratings" else []
        if len(voted) > 1:
            counted["other aspects"] = sum(self.sums[f"vote_counts_{name}"] for name in voted)
        return {
            name: {group: _ratio(agree[i], decided[i]) for i, group in enumerate(GROUPS)}
            for name, (agree, decided) in counted.items()
        }

    def _voted(self) -> list[str]:
        """Aspects whose votes are in the data, where pairs have labels."""
        if not self.basis.labels:
            return []
        labels = [name for name, count in zip(self.basis.labels, self.sums["own"][0], strict=True) if count]
        found = []
        for name in (key[len("vote_kind_") :] for key in self.sums if key.startswith("vote_kind_")):
            other, against = (bool(value) for value in self.sums[f"vote_kind_{name}"])
            known = name in labels or name in self.basis.known
            if VoteColumn(known, not other, against).holds_votes:
                found.append(name)
        return found

    def _aspects(
        self, settings: SelectionSettings, proxy_metrics: Mapping[str, Mapping[str, float]]
    ) -> dict[str, Any]:
        basis, sums = self.basis, self.sums
        result = {}
        for k, (name, weight) in enumerate(zip(self.names, basis.weights, strict=True)):
            positive, others = (int(count) for count in sums[f"agrees_{k}"])
            entry: dict[str, Any] = {
                "weight": float(weight),
                "own_pairs": int(sums["own"][0][k]),
                "quantile": float(basis.scale[k]),
                "clipped": float(sums["clipped"][k]) / max(others, 1),
                "clipped_expected": 1 - settings.gamma,
                "agrees": _ratio(positive, others),
                "length_correlation": moment_correlation(*sums[f"length_{k}"]) if f"length_{k}" in sums else None,
            }
            metrics = proxy_metrics.get(name)
            if metrics and "pair_accuracy" in metrics:
                entry["proxy"] = {**metrics, **proxy_verdict(metrics)}
            result[name] = entry
        return result

    def _correlations(self) -> dict[str, dict[str, float | None]]:
        counts, products = self.sums["gap_counts"], self.sums["gap_products"]
        sums, squares = self.sums["gap_sums"], self.sums["gap_squares"]
        return {
            a: {
                b: moment_correlation(
                    counts[i][j], sums[i][j], sums[j][i], squares[i][j], squares[j][i], products[i][j]
                )
                for j, b in enumerate(self.names)
            }
            for i, a in enumerate(self.names)
        }

    def _kept_by_votes(self) -> dict[str, dict[str, Any]]:
        size = len(self.names) + 1
        names = {votes_label(n % size, n // size): n for n in range(size * size) if n % size <= n // size}
        return _kept_by(self.sums["votes"], dict(sorted(names.items())))


def _by_group(values: NDArray, kept: NDArray[np.bool_]) -> list[float]:
    """Sums over all, the kept and the dropped rows."""
    whole, inside = float(values.sum()), float(values[kept].sum())
    return [whole, inside, whole - inside if values.dtype.kind != "f" else float(values[~kept].sum())]


def _kept_by(counts: NDArray, places: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    result = {}
    for name, place in places.items():
        total, kept = int(counts[0][place]), int(counts[1][place])
        if total:
            result[name] = {"total": total, "kept": kept, "share": kept / total}
    return result


def _ratio(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None


def proxy_verdict(metrics: Mapping[str, float]) -> dict[str, bool]:
    """Whether a proxy is worse than a coin, better than it, and than "longer wins", by two standard errors of its accuracy."""
    accuracy, error = metrics.get("pair_accuracy", 0.0), metrics.get("pair_accuracy_se", 0.0)
    return {
        "worse_than_coin": verdict(metrics) == "worse than a coin",
        "beats_coin": accuracy - 2 * error > 0.5,
        "beats_length": accuracy - 2 * error > metrics.get("length_accuracy", 0.5),
    }
