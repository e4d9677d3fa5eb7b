"""In which order an adaptive rating asks, and when it stops asking about a pair."""

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..method.divergence import GAMMA
from ..method.ranking import random_keys, select_lowest
from .gaussian import Array, Blocks, Posterior, RatingModel, blocks_of, clipped_mean, normal_cdf, normal_pdf

# Pairs that are rated on every aspect before anything is known of the judge, and the share of all calls that they take at least.
_FIRST_PAIRS = 30
_FIRST_SHARE = 0.04
# Share of all calls between two looks at what is known.
_STEP = 0.04
MAX_CALL_SHARE = 0.4
# Expected loss, as a share of what the selection gains, at which nothing else is asked.
_TOLERANCE = 0.01


class AdaptiveOrder:
    """
    Asks for the ratings that say most about which pairs have the lowest PD.

    The first calls rate a random sample of pairs on every aspect. From then on a Gaussian model ([`RatingModel`]), fitted to what is
    known, gives the mean and the spread of each pair's PD, and each open rating its knowledge gradient: how much knowing it is
    expected to improve the choice of the pairs to keep. A rating that can move no pair across the threshold is worth nothing, so
    that nobody asks about pairs that can no longer be kept, or are kept in any case.

    Args:
        signs (array of shape `(num_pairs,)`): Label of each pair before it is rated: 1 for side a, -1 for side b, 0 for none.
        own (integer array of shape `(num_pairs,)`): Aspect of the label, -1 for none of the rated ones.
        rows (integer array of shape `(num_pairs, 2)`): Responses of each pair, side a and side b.
        prompts (integer array of shape `(num_pairs,)`): Prompt of each pair.
        num_aspects (`int`): Aspects.
        count (`int`): Pairs to keep.
        pair_ids (array of `str`): Ids of the pairs, which decide the sample.
        seed (`int`, *optional*, defaults to `42`): Seed of the sample.
        max_share (`float`, *optional*, defaults to `0.4`): Largest share of all calls to ask for.
        gamma (`float`, *optional*, defaults to `0.9`): Quantile of Eq. 13.
    """

    def __init__(
        self,
        signs: Array,
        own: NDArray[np.int64],
        rows: NDArray[np.int64],
        prompts: NDArray[np.int64],
        num_aspects: int,
        count: int,
        pair_ids: NDArray[np.str_],
        seed: int = 42,
        max_share: float = MAX_CALL_SHARE,
        gamma: float = GAMMA,
    ):
        if not 0 < max_share <= 1:
            raise InputError(f"`max_call_share` is a share in (0, 1], got {max_share}.")
        if num_aspects < 2:
            raise InputError(
                "`adaptive` saves calls by what one aspect says of another: the rubric must name two or more."
            )
        self.num_aspects, self.count, self.gamma = num_aspects, count, gamma
        self.used = np.flatnonzero((signs != 0) & (rows[:, 0] != rows[:, 1]))
        sides = np.where((signs >= 0)[:, None], rows, rows[:, ::-1])
        self.sides, self.own, self.num_pairs = sides, own, len(signs)
        self.needed = np.zeros((int(rows.max()) + 1, num_aspects), dtype=bool)
        for pair in self.used.tolist():
            for row in sides[pair]:
                self.needed[row] |= np.arange(num_aspects) != own[pair]
        self.asked = np.zeros_like(self.needed)
        self.total = int(self.needed.sum())
        self.most = max(1, math.floor(max_share * self.total))
        self.order = self.used[np.argsort(random_keys(pair_ids[self.used], seed), kind="stable")]
        self.pair_ids = pair_ids
        size = num_aspects + bool((own[self.used] < 0).any())
        self.blocks = blocks_of(sides, prompts, self.used, size)
        self.model = RatingModel(sides, own, self.blocks, num_aspects, size > num_aspects)
        self.scales: Array | None = None
        self.expected_loss = 1.0

    def next_cells(self, values: Array) -> NDArray[np.bool_] | None:
        """
        Ratings to ask for next, a mask of shape `(num_responses, num_aspects)`; `None` when nothing else is worth it.

        Args:
            values (array of that shape): The ratings so far, NaN where there is none.
        """
        self.asked |= np.isfinite(values)
        num_asked = int(self.asked.sum())
        if not num_asked:
            cells = self._first_cells()
        else:
            if self.scales is None:
                self.scales = self._scales(values)
                self.model.start(values)
            self.model.refine(values)
            if num_asked >= self.most:
                return None
            cells = self._best_cells(values, min(self.most - num_asked, max(1, round(_STEP * self.total))))
        if not cells.any():
            return None
        self.asked |= cells
        return cells

    def _first_cells(self) -> NDArray[np.bool_]:
        cells = np.zeros_like(self.needed)
        wanted = max(_FIRST_SHARE * self.total, 2 * self.num_aspects * _FIRST_PAIRS)
        for pair in self.order.tolist():
            cells[self.sides[pair]] = True
            if cells.sum() >= wanted:
                break
        return cells

    def _scales(self, values: Array) -> Array:
        """The scale of each aspect (Eq. 13) by the sample; 0 for one that never differs, which then has no vote."""
        gaps = np.abs(self._gaps(values))
        scales = np.zeros(self.num_aspects)
        for k in range(self.num_aspects):
            known = gaps[np.isfinite(gaps[:, k]), k]
            if known.size:
                scales[k] = np.quantile(known, self.gamma) or known.max()
        return scales

    def _gaps(self, values: Array) -> Array:
        """Ratings of the chosen minus those of the rejected response."""
        gaps: Array = values[self.sides[:, 0]] - values[self.sides[:, 1]]
        unused = np.ones(self.num_pairs, dtype=bool)
        unused[self.used] = False
        gaps[unused] = np.nan
        return gaps

    def _weights(self, pairs: NDArray[np.int64]) -> Array:
        """One over the scale of each aspect that votes on a pair, 0 for its own, shape `(*pairs.shape, num_aspects)`."""
        scales = self.scales if self.scales is not None else np.ones(self.num_aspects)
        weights = np.where(scales > 0, 1 / np.where(scales > 0, scales, 1.0), 0.0)
        return weights * (np.arange(self.num_aspects) != self.own[pairs][..., None])

    def _believed(self, blocks: Blocks, posterior: Posterior) -> tuple[Array, Array]:
        """Expected PD of the pairs of each block and its standard deviation (without the clipping), shape `(num_blocks, num_pairs)`."""
        size, index = self.model.size, np.arange(len(blocks.rows))[:, None, None]
        aspects = np.arange(self.num_aspects)
        a = blocks.chosen[..., None] * size + aspects
        b = blocks.rejected[..., None] * size + aspects
        weights = self._weights(blocks.pairs)
        gaps = (posterior.mean[index, a] - posterior.mean[index, b]) * weights
        spread = posterior.covariance
        variances = spread[index, a, a] + spread[index, b, b] - 2 * spread[index, a, b]
        deviations = np.sqrt(np.maximum(variances, 1e-12)) * weights
        clipped = np.where(weights > 0, clipped_mean(gaps, np.maximum(deviations, 1e-9)), 0.0)
        moved = self._moved(blocks, posterior)
        places = np.concatenate([a, b], axis=-1)
        signed = np.concatenate([weights, -weights], axis=-1)
        order = np.arange(blocks.pairs.shape[1])[None, :, None]
        variance = (moved[index, places, order] * signed).sum(axis=-1)
        return -clipped.sum(axis=-1), np.sqrt(np.maximum(variance, 1e-12))

    def _moved(self, blocks: Blocks, posterior: Posterior) -> Array:
        """Covariance of each rating with the sum of a pair's gaps, shape `(num_blocks, num_ratings, num_pairs)`."""
        size, index = self.model.size, np.arange(len(blocks.rows))[:, None]
        order = np.arange(blocks.pairs.shape[1])[None]
        weights = self._weights(blocks.pairs)
        effects = np.zeros((len(blocks.rows), posterior.mean.shape[1], blocks.pairs.shape[1]))
        for k in range(self.num_aspects):
            effects[index, blocks.chosen * size + k, order] += weights[..., k]
            effects[index, blocks.rejected * size + k, order] -= weights[..., k]
        return posterior.covariance @ effects

    def _best_cells(self, values: Array, count: int) -> NDArray[np.bool_]:
        """The open ratings with the largest knowledge gradient, at most one of a response."""
        posteriors = [self.model.posterior(blocks, values) for blocks in self.blocks]
        believed = [self._believed(b, p) for b, p in zip(self.blocks, posteriors, strict=True)]
        means = np.full(self.num_pairs, np.nan)
        deviations = np.full(self.num_pairs, np.nan)
        for blocks, (mean, deviation) in zip(self.blocks, believed, strict=True):
            means[blocks.pairs], deviations[blocks.pairs] = mean, deviation
        kept, threshold = self._threshold(means)
        self.expected_loss = _expected_loss(means[self.used], deviations[self.used], threshold, kept[self.used])
        worth = np.full(self.needed.shape, -1.0)
        if self.expected_loss < _TOLERANCE:
            return worth > 0
        for blocks, posterior, (mean, _) in zip(self.blocks, posteriors, believed, strict=True):
            gradient = self._gradients(blocks, posterior, np.abs(mean - threshold))
            np.maximum.at(worth, blocks.rows, gradient)
        worth[self.asked | ~self.needed] = -1.0
        best = worth.argmax(axis=1)
        top = worth[np.arange(len(worth)), best]
        rows = np.argsort(-top, kind="stable")[:count]
        rows = rows[top[rows] > 0]
        cells = np.zeros_like(self.asked)
        cells[rows, best[rows]] = True
        return cells

    def _gradients(self, blocks: Blocks, posterior: Posterior, distances: Array) -> Array:
        """How much each rating is expected to improve the choice, shape `(num_blocks, num_rows, num_aspects)`."""
        variances = np.maximum(np.einsum("bii->bi", posterior.covariance), 1e-12)
        shifts = np.maximum(np.abs(self._moved(blocks, posterior)) / np.sqrt(variances)[..., None], 1e-9)
        ratio = distances[:, None] / shifts
        gain = (shifts * normal_pdf(ratio) - distances[:, None] * (1 - normal_cdf(ratio))).sum(axis=-1)
        shaped = gain.reshape(len(blocks.rows), blocks.rows.shape[1], self.model.size)
        return np.maximum(shaped[..., : self.num_aspects], 0.0)

    def _threshold(self, means: Array) -> tuple[NDArray[np.bool_], float]:
        """The pairs with the lowest PD, and the PD between them and the others."""
        kept = np.zeros(self.num_pairs, dtype=bool)
        count = min(self.count, len(self.used))
        kept[self.used] = select_lowest(means[self.used], self.pair_ids[self.used], count)[0]
        ranked = np.sort(means[self.used])
        return kept, float(ranked[max(0, count - 1) : count + 1].mean())

    def divergence(self, values: Array) -> Array:
        """Expected PD of each pair by what is known (Eq. 15 with an expected value for each unknown vote), NaN for one without a label."""
        found = np.full(self.num_pairs, np.nan)
        if self.scales is None:
            return found
        for blocks in self.blocks:
            mean, _ = self._believed(blocks, self.model.posterior(blocks, values))
            found[blocks.pairs] = mean
        return found

    def num_stopped(self, values: Array) -> int:
        """Pairs with a label of which an aspect was not asked for."""
        votes = np.arange(self.num_aspects) != self.own[self.used][:, None]
        return int((np.isnan(self._gaps(values)[self.used]) & votes).any(axis=1).sum())


def _expected_loss(means: Array, deviations: Array, threshold: float, kept: NDArray[np.bool_]) -> float:
    """How much PD the kept pairs are expected to lose by what is not known, as a share of what they gain over all pairs."""
    gain = float((means.mean() - means[kept]).sum())
    distance = np.abs(means - threshold)
    ratio = distance / deviations
    lost = float((deviations * normal_pdf(ratio) - distance * (1 - normal_cdf(ratio))).sum())
    return lost / gain if gain > 0 else 1.0
