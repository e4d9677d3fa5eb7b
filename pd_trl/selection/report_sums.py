"""Sums over the rows of a selection, from which its report is made. In memory all rows are one batch; those of shards add up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..method.votes import gap_moments
from .aspect_columns import VOTE_PREFIX, VoteColumn
from .gaps import Gaps, count_votes
from .report_inputs import Basis, Batch, length_difference, other_votes

# Raise it when the sums of `to_dict` change: shards that an earlier version left are then written again.
FORM = 2


class ReportSums:
    """
    Sums from which the report is made. They can be saved as json, so the sums of finished shards survive a kill.

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
        self.add_columns(batch)
        self.add_lengths(batch)

    def add_columns(self, batch: Batch) -> None:
        """Adds what a batch of rows has beside its lengths."""
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
            decided = others & (filled[k] != 0)
            self._add(f"agrees_{k}", [np.count_nonzero(rows) for rows in (decided & (gap > 0), decided, others)])
            if delta is not None:
                rows = others & np.isfinite(delta)
                x, y = filled[k][rows], delta[rows]
                self._add(f"length_{k}", [x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y])

    def _add_votes(self, gaps: Gaps, kept: NDArray[np.bool_]) -> None:
        agree, _, voters, most = count_votes(gaps, self.names, self.basis.weights)
        size = len(self.names) + 1
        votes = voters.astype(np.int64) * size + agree
        self._add("votes", [np.bincount(votes[rows], minlength=size * size) for rows in (slice(None), kept)])
        self._add("missing_votes", [np.count_nonzero((voters > 0) & (voters < most)), np.count_nonzero(voters == 0)])

    def add_lengths(self, batch: Batch) -> None:
        """Adds the lengths of a batch of rows."""
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


def _by_group(values: NDArray, kept: NDArray[np.bool_]) -> list[float]:
    """Sums over all, the kept and the dropped rows."""
    whole, inside = float(values.sum()), float(values[kept].sum())
    return [whole, inside, whole - inside if values.dtype.kind != "f" else float(values[~kept].sum())]
