"""Numbers of the selection report as sums over batches, which add up over shards."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.chat import normalize_text, text_kind, text_length
from .filter import PDFilter
from .gaps import VOTE_PREFIX, VoteColumn, is_number_type, votes_label
from .report import SelectionReport, divergence_range, proxy_verdict
from .out_of_core.columns import Gaps, to_float64
from .out_of_core.passes import Decision

_GROUPS = ("all", "kept", "dropped")
_SIDES = ("chosen", "rejected")
# Of `selection_report`'s numbers, the one that would need a ranking by every rival selector.
NOT_COMPUTED = ("overlap",)


class ReportSums:
    """
    Sums from which the report is made; ready for json, so that those of finished shards outlive a kill.

    Args:
        decision ([`Decision`]): What is kept.
        content (`dict`, *optional*): Sums of `to_dict`.
    """

    def __init__(self, decision: Decision, content: Mapping[str, Any] | None = None):
        self.decision = decision
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

    def add(
        self,
        batch: pa.RecordBatch,
        gaps: Gaps,
        divergence: NDArray[np.float32] | None,
        clipped: NDArray[np.int64],
        kept: NDArray[np.bool_],
        texts: bool = True,
    ) -> None:
        """Adds a batch of rows, with its texts' lengths where it has texts."""
        size = len(self.decision.labels)
        self._add("rows", _by_group(np.ones(len(kept)), kept))
        if size:
            self._add("own", [np.bincount(gaps.own[rows], minlength=size) for rows in (slice(None), kept)])
        delta = _numbers(batch, "delta_length")
        if divergence is not None:
            self._add_divergence(divergence, kept)
            self._add("clipped", clipped)
            self._add("missing", [gaps.missing.get(name, 0) for name in self.decision.labels])
            self._add_gaps(gaps, delta)
            self._add_votes(gaps, kept)
        self._add_lengths(batch, delta, kept, texts)
        self._add_labels(batch, gaps, kept)

    def _add_divergence(self, divergence: NDArray[np.float32], kept: NDArray[np.bool_]) -> None:
        given = ~np.isnan(divergence)
        values, inside = divergence[given].astype(np.float64), kept[given]
        self._add("pd_rows", _by_group(np.ones(len(values)), inside))
        self._add("pd_sum", _by_group(values, inside))
        self._add("pd_ends", [-values.min(initial=np.inf), values.max(initial=-np.inf)])
        self._add("pd_negative", np.count_nonzero(values < 0))

    def _add_gaps(self, gaps: Gaps, delta: NDArray | None) -> None:
        filled = [np.nan_to_num(gap.astype(np.float64)) for gap in gaps.gaps]
        self._add("gap_sum", [gap.sum() for gap in filled])
        self._add("gap_products", [[a @ b for b in filled] for a in filled])
        for k, gap in enumerate(gaps.gaps):
            others = gaps.own != k
            if gaps.missing.get(self.decision.labels[k]):
                others &= ~np.isnan(gap)
            self._add(f"agrees_{k}", [np.count_nonzero(others & (gap > 0)), np.count_nonzero(others)])
            if delta is not None:
                rows = others & np.isfinite(delta)
                x, y = filled[k][rows], delta[rows]
                self._add(f"length_{k}", [x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y])

    def _add_votes(self, gaps: Gaps, kept: NDArray[np.bool_]) -> None:
        agree, voters, most = np.zeros((3, len(kept)), dtype=np.int64)
        for k in np.flatnonzero(self.decision.weights > 0):
            others, gap = gaps.own != k, gaps.gaps[k]
            most += others
            if gaps.missing.get(self.decision.labels[k]):
                others &= ~np.isnan(gap)
            voters += others
            agree += others & (gap > 0)
        size = len(self.decision.weights) + 1
        votes = voters * size + agree
        self._add("votes", [np.bincount(votes[rows], minlength=size * size) for rows in (slice(None), kept)])
        self._add("missing_votes", [np.count_nonzero((voters > 0) & (voters < most)), np.count_nonzero(voters == 0)])

    def _add_lengths(self, batch: pa.RecordBatch, delta: NDArray | None, kept: NDArray, texts: bool) -> None:
        lengths = {}
        for side in _SIDES if texts else ():
            if side in batch.schema.names and text_kind(batch.schema.field(side).type) is not None:
                column = pa.chunked_array([batch.column(side)])
                lengths[side] = text_length(normalize_text(column, side))
                self._add(f"characters_{side}", _by_group(lengths[side], kept))
        if delta is None and len(lengths) == 2:
            delta = lengths["chosen"] - lengths["rejected"]
        if delta is not None:
            self._add("chosen_longer", _by_group(delta > 0, kept))
            self._add("with_length", _by_group(np.isfinite(delta), kept))

    def _add_labels(self, batch: pa.RecordBatch, gaps: Gaps, kept: NDArray) -> None:
        overall = _numbers(batch, "vote_overall")
        if overall is not None:
            overall = np.nan_to_num(overall)
            self._add("overall", [_by_group(overall > 0, kept), _by_group(overall != 0, kept)])
        for name in _vote_columns(batch.schema):
            votes = _numbers(batch, f"{VOTE_PREFIX}{name}")
            column = VoteColumn(False).add(votes)  # type: ignore[arg-type]
            votes = np.nan_to_num(votes)  # type: ignore[arg-type]
            own = gaps.own == self.decision.labels.index(name) if name in self.decision.labels else False
            counted = (votes != 0) & ~np.asarray(own)
            self._add(f"vote_kind_{name}", [not column.only_votes, column.against])
            self._add(f"vote_counts_{name}", [_by_group(counted & (votes > 0), kept), _by_group(counted, kept)])
        for column_name in self.decision.reported:
            values = _numbers(batch, column_name)
            self._add(
                f"lacking_{column_name}", len(kept) if values is None else np.count_nonzero(~np.isfinite(values))
            )

    def report(self, pd_filter: PDFilter) -> SelectionReport:
        """The report, with the keys and meanings of [`selection_report`]; `not_computed` names what it lacks."""
        decision, sums = self.decision, self.sums
        total, kept, dropped = (int(count) for count in sums["rows"])
        rows = {"all": total, "kept": kept, "dropped": dropped}
        places = {} if not decision.labels else dict(sorted((name, i) for i, name in enumerate(decision.labels)))
        numbers: dict[str, Any] = {
            "selector": pd_filter.selector,
            "total": total,
            "kept": kept,
            "dropped": dropped,
            "lengths": self._lengths(rows),
            "kept_by_aspect": _kept_by(sums["own"], places) if places else {},
            "overlap": {},
            "unseen_labels": self._unseen_labels(pd_filter.source),
            "missing_numbers": {
                name: int(sums[f"lacking_{name}"]) for name in decision.reported if sums[f"lacking_{name}"]
            },
        }
        if len(decision.weights):
            fewer, none = (int(count) for count in sums["missing_votes"])
            numbers |= {
                "pd": self._divergence(),
                "aspects": self._aspects(pd_filter),
                "gap_correlation": self._correlations(),
                "kept_by_votes": self._kept_by_votes(),
                "missing_gaps": {
                    name: int(count) for name, count in zip(decision.labels, sums["missing"], strict=True) if count
                },
                "missing_votes": {"fewer": fewer, "none": none},
            }
        return SelectionReport({**numbers, "not_computed": list(NOT_COMPUTED)})

    def _divergence(self) -> dict[str, Any]:
        sums, known = self.sums, float(self.sums["pd_rows"][0])
        if not known:
            return divergence_range(np.empty(0), np.empty(0, dtype=bool))
        means = [_ratio(value, count) for value, count in zip(sums["pd_sum"], sums["pd_rows"], strict=True)]
        return {
            "min": float(-sums["pd_ends"][0]),
            "max": float(sums["pd_ends"][1]),
            "mean": means[0],
            "quantiles": self.decision.divergence_quantiles,
            "share_negative": int(sums["pd_negative"]) / known,
            "mean_kept": means[1],
            "mean_dropped": means[2],
        }

    def _lengths(self, rows: Mapping[str, int]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for place, group in enumerate(_GROUPS):
            entry = {
                f"mean_characters_{side}": _ratio(self.sums[f"characters_{side}"][place], rows[group])
                for side in _SIDES
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
            name: {group: _ratio(agree[i], decided[i]) for i, group in enumerate(_GROUPS)}
            for name, (agree, decided) in counted.items()
        }

    def _voted(self) -> list[str]:
        """Aspects whose votes are in the data, as [`unseen_aspects`] finds them."""
        labels = [name for name, count in zip(self.decision.labels, self.decision.label_counts, strict=True) if count]
        found = []
        for name in (key[len("vote_kind_") :] for key in self.sums if key.startswith("vote_kind_")):
            other, against = (bool(value) for value in self.sums[f"vote_kind_{name}"])
            known = name in labels or name in self.decision.known
            if VoteColumn(known, not other, against).holds_votes:
                found.append(name)
        return found

    def _aspects(self, pd_filter: PDFilter) -> dict[str, Any]:
        decision, sums = self.decision, self.sums
        result = {}
        for k, weight in enumerate(decision.weights):
            name = decision.labels[k]
            positive, others = (int(count) for count in sums[f"agrees_{k}"])
            entry: dict[str, Any] = {
                "weight": float(weight),
                "own_pairs": int(sums["own"][0][k]),
                "quantile": float(decision.scale[k]),
                "clipped": float(sums["clipped"][k]) / max(others, 1),
                "clipped_expected": 1 - pd_filter.gamma,
                "agrees": _ratio(positive, others),
                "length_correlation": _moment_correlation(*sums[f"length_{k}"]) if f"length_{k}" in sums else None,
            }
            metrics = pd_filter.proxy_metrics_.get(name)
            if metrics and "pair_accuracy" in metrics:
                entry["proxy"] = {**metrics, **proxy_verdict(metrics)}
            result[name] = entry
        return result

    def _correlations(self) -> dict[str, dict[str, float | None]]:
        names = self.decision.labels[: len(self.decision.weights)]
        total, sums, products = float(self.sums["rows"][0]), self.sums["gap_sum"], self.sums["gap_products"]
        return {
            a: {
                b: _moment_correlation(total, sums[i], sums[j], products[i][i], products[j][j], products[i][j])
                for j, b in enumerate(names)
            }
            for i, a in enumerate(names)
        }

    def _kept_by_votes(self) -> dict[str, dict[str, Any]]:
        size = len(self.decision.weights) + 1
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


def _moment_correlation(n: float, x: float, y: float, xx: float, yy: float, xy: float) -> float | None:
    """Correlation from sums. Variances below what double precision resolves count as none."""
    if n < 2:
        return None
    spreads = [square - mean * mean / n for mean, square in ((x, xx), (y, yy))]
    if any(spread <= 1e-12 * abs(square) for spread, square in zip(spreads, (xx, yy), strict=True)):
        return None
    return float(np.clip((xy - x * y / n) / np.sqrt(spreads[0] * spreads[1]), -1, 1))


def _numbers(batch: pa.RecordBatch, column: str) -> NDArray[np.float64] | None:
    if column not in batch.schema.names or not is_number_type(batch.schema.field(column).type):
        return None
    return to_float64(batch.column(column))


def _vote_columns(schema: pa.Schema) -> list[str]:
    names = [name[len(VOTE_PREFIX) :] for name in schema.names if name.startswith(VOTE_PREFIX)]
    return [n for n in names if n != "overall" and is_number_type(schema.field(f"{VOTE_PREFIX}{n}").type)]
