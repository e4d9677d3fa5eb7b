"""What can be done to proxies' gaps before PD is computed: variations that are tried, and damage that PD must stand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from datasets import Dataset

from ...method.divergence import preference_divergence
from ...selection.gaps import gap_matrix
from ...trainers.reward.aspects import heldout_rows
from .cell import Cell, Cost
from .settings import DEFAULT_PROXY

HELDOUT = 0.1
_ENSEMBLE = 3


def _with_gaps(rows: Dataset, gaps: dict[str, np.ndarray]) -> Dataset:
    names = {f"reward_gap_{aspect}": values.astype(np.float32) for aspect, values in gaps.items()}
    rows = rows.remove_columns([name for name in names if name in rows.column_names])
    for name, values in names.items():
        rows = rows.add_column(name, values)
    return rows


def _gaps(rows: Dataset, aspect: str) -> np.ndarray:
    return np.asarray(rows[f"reward_gap_{aspect}"], dtype=np.float64)


def shuffled_proxy(cell: Cell, rows: Dataset) -> tuple[Dataset, Cost]:
    """The first aspect's proxy has learnt nothing: its gaps are those of other pairs."""
    aspect = cell.world.aspects[0]
    order = np.random.default_rng(cell.settings.seed).permutation(len(rows))
    return _with_gaps(rows, {aspect: _gaps(rows, aspect)[order]}), Cost()


def length_proxy(cell: Cell, rows: Dataset) -> tuple[Dataset, Cost]:
    """The first aspect's proxy has learnt only that longer is better."""
    return _with_gaps(rows, {cell.world.aspects[0]: np.asarray(rows["delta_length"], dtype=np.float64)}), Cost()


def inverted_proxy(cell: Cell, rows: Dataset) -> tuple[Dataset, Cost]:
    """The first aspect's proxy has learnt the opposite."""
    aspect = cell.world.aspects[0]
    return _with_gaps(rows, {aspect: -_gaps(rows, aspect)}), Cost()


def ensemble(cell: Cell, rows: Dataset) -> tuple[Dataset, Cost]:
    """The mean gap of three proxies, shrunk by `mean² / (mean² + variance)` where they disagree."""
    members, cost = [rows], Cost()
    for offset in range(1, _ENSEMBLE):
        scored, extra = cell.scored(replace(DEFAULT_PROXY, name=f"member{offset}", seed_offset=offset))
        members.append(scored)
        cost = cost + extra
    gaps = {}
    for aspect in cell.world.aspects:
        values = np.stack([_gaps(member, aspect) for member in members])
        mean, variance = values.mean(0), values.var(0, ddof=1)
        gaps[aspect] = mean * mean**2 / np.maximum(mean**2 + variance, 1e-12)
    return _with_gaps(rows, gaps), cost


def calibrated(cell: Cell, rows: Dataset) -> tuple[Dataset, Cost]:
    """
    PD from what a proxy's gap is worth on held-out pairs, in place of its scale: the vote is `2·σ(slope·gap) − 1`, the slope
    fitted to the labels of the aspect's own held-out pairs; a proxy no better than a coin has no vote.
    """
    heldout = heldout_rows(cell.preferences, HELDOUT, cell.settings.seed)
    own = np.asarray(rows["aspect"])
    divergence = np.zeros(len(rows))
    for aspect in cell.world.aspects:
        gap = _gaps(rows, aspect)
        vote = np.tanh(_slope(gap[heldout & (own == aspect)]) * gap / 2)
        divergence -= np.where(own == aspect, 0.0, vote)
    return rows.add_column("pd_changed", divergence), Cost()


def _slope(gaps: np.ndarray) -> float:
    """Maximum-likelihood slope of a logistic regression without intercept whose labels are all "chosen", at least 0."""
    slopes = np.geomspace(1e-3, 30, 400) / max(float(np.abs(gaps).mean()), 1e-12)
    losses = np.logaddexp(0, -slopes[:, None] * gaps[None, :]).mean(1)
    return float(slopes[np.argmin(losses)]) if losses.min() < np.log(2) else 0.0


def _divergence(cell: Cell, rows: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrix = gap_matrix(rows, "rewards", list(cell.world.aspects))
    result = preference_divergence(matrix.gaps, matrix.own, aspect_names=matrix.names)
    return result.values.astype(np.float64), result.normalized_gaps, matrix.own


def with_own_aspect(cell: Cell, rows: Dataset) -> tuple[Dataset, Cost]:
    """The pair's own proxy votes too, so that a label that it finds unlikely counts as a conflict."""
    values, normalized, own = _divergence(cell, rows)
    return rows.add_column("pd_changed", values - normalized[np.arange(len(own)), own]), Cost()


def covers_prompts(cell: Cell, rows: Dataset) -> tuple[Dataset, Cost]:
    """Consensus within each prompt: the rank of a pair among its prompt's pairs, then PD."""
    values, _, _ = _divergence(cell, rows)
    prompts = np.unique(np.asarray(rows["prompt_id"]), return_inverse=True)[1]
    order = np.lexsort((values, prompts))
    starts = np.flatnonzero(np.diff(prompts[order], prepend=-1))
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))
    # |PD| < num_aspects, so that this never changes a rank.
    return rows.add_column("pd_changed", ranks + values / (4 * cell.settings.num_aspects)), Cost()


CHANGES: dict[str, Callable[[Cell, Dataset], tuple[Dataset, Cost]]] = {
    "shuffled proxy": shuffled_proxy,
    "length proxy": length_proxy,
    "inverted proxy": inverted_proxy,
    "ensemble": ensemble,
    "calibrated": calibrated,
    "with own aspect": with_own_aspect,
    "covers prompts": covers_prompts,
}
