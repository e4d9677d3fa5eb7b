"""A Gaussian model of ratings: what the known ratings and labels say of those that were not asked for."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A half-normal gap, given its sign, as an observation with this mean (in standard deviations) and this noise (in variances):
# the posterior then has the half-normal's mean and variance.
_SIGN_MEAN = math.sqrt(math.pi / 2)
_SIGN_NOISE = math.pi / 2 - 1
# Noise of a known rating, in variances of the aspect: small, and no zero to divide by.
_KNOWN_NOISE = 1e-4
# Largest size of a block: ratings of the responses to one prompt that are looked at together.
_BLOCK = 256


def normal_pdf(x: Array) -> Array:
    """Density of the standard normal."""
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def normal_cdf(x: Array) -> Array:
    """Distribution of the standard normal, to 1e-7 (Abramowitz and Stegun 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(x))
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    upper = normal_pdf(x) * series
    return np.where(x >= 0, 1 - upper, upper)


def clipped_mean(mean: Array, deviation: Array) -> Array:
    """Expected value of a normal variable that is clipped to [-1, 1]."""
    low, high = (-1 - mean) / deviation, (1 - mean) / deviation
    below, above = normal_cdf(low), 1 - normal_cdf(high)
    return above - below + mean * (1 - above - below) + deviation * (normal_pdf(low) - normal_pdf(high))


@dataclass
class Blocks:
    """
    Blocks of one size: responses to one prompt, and the pairs among them.

    Args:
        rows (integer array of shape `(num_blocks, num_rows)`): Responses.
        pairs (integer array of shape `(num_blocks, num_pairs)`): Pairs.
        chosen, rejected (integer arrays of that shape): Places of the pairs' responses in `rows`.
    """

    rows: NDArray[np.int64]
    pairs: NDArray[np.int64]
    chosen: NDArray[np.int64]
    rejected: NDArray[np.int64]


def blocks_of(
    sides: NDArray[np.int64], prompts: NDArray[np.int64], pairs: NDArray[np.int64], num_aspects: int
) -> list[Blocks]:
    """
    Pairs by prompt, in blocks that are small enough, those of one size together.

    Args:
        sides (integer array of shape `(num_pairs, 2)`): Chosen and rejected response of each pair.
        prompts (integer array of shape `(num_pairs,)`): Prompt of each pair.
        pairs (integer array): The pairs to take.
        num_aspects (`int`): Ratings of a response.
    """
    most = max(1, _BLOCK // (2 * num_aspects))
    by_prompt: dict[int, list[int]] = defaultdict(list)
    for pair in pairs.tolist():
        by_prompt[int(prompts[pair])].append(pair)
    found: dict[tuple[int, int], list[tuple[list[int], list[int], list[int], list[int]]]] = defaultdict(list)
    for members in by_prompt.values():
        for start in range(0, len(members), most):
            part = members[start : start + most]
            rows = sorted({int(row) for pair in part for row in sides[pair]})
            place = {row: index for index, row in enumerate(rows)}
            chosen, rejected = ([place[int(sides[pair, side])] for pair in part] for side in (0, 1))
            found[len(rows), len(part)].append((rows, part, chosen, rejected))
    return [Blocks(*(np.array(column) for column in zip(*group, strict=True))) for _, group in sorted(found.items())]


@dataclass
class Posterior:
    """
    What is believed of a group of blocks.

    Args:
        mean (array of shape `(num_blocks, num_rows * num_aspects)`): Expected ratings.
        covariance (array of shape `(num_blocks, num_rows * num_aspects, num_rows * num_aspects)`): Their covariance.
    """

    mean: Array
    covariance: Array


class RatingModel:
    """
    Ratings of a response are the sum of a mean, an effect of the prompt and a deviation of the response, each aspect correlated with
    the others. A label is the sign of the gap of its aspect; an overall one has an aspect of its own, the last, that is never rated.

    Args:
        sides (integer array of shape `(num_pairs, 2)`): Chosen and rejected response of each pair.
        own (integer array of shape `(num_pairs,)`): Aspect of each pair's label.
        blocks (`list` of [`Blocks`]): The pairs.
        num_aspects (`int`): Aspects that are rated.
        has_overall (`bool`): Whether there is an overall label.
    """

    def __init__(
        self,
        sides: NDArray[np.int64],
        own: NDArray[np.int64],
        blocks: list[Blocks],
        num_aspects: int,
        has_overall: bool,
    ):
        self.sides, self.blocks = sides, blocks
        self.num_rated, self.size = num_aspects, num_aspects + has_overall
        self.own = np.where(own < 0, num_aspects, own)
        self.mean: Array = np.zeros(self.size)
        self.within: Array = np.eye(self.size)
        self.between: Array = np.eye(self.size)

    def start(self, values: Array) -> None:
        """First moments of the pairs whose responses are rated on every aspect, chosen minus rejected."""
        K = self.num_rated
        rated = values[np.isfinite(values).all(axis=1)]
        gaps = values[self.sides[:, 0]] - values[self.sides[:, 1]]
        known = np.isfinite(gaps).all(axis=1)
        gaps = gaps[known]
        total = np.cov(rated.T).reshape(K, K) if len(rated) > 1 else np.eye(K)
        within = gaps.T @ gaps / max(1, len(gaps)) / 2
        scale = max(float(np.trace(within)) / K, 1e-12)
        within = 0.95 * within + 0.05 * np.diag(np.diag(within)) + 1e-4 * scale * np.eye(K)
        lowest = 0.02 * max(float(np.trace(total)) / K, scale)
        shares, axes = np.linalg.eigh(total - within)
        between = (axes * np.maximum(shares, lowest)) @ axes.T
        self.mean[:K] = rated.mean(axis=0) if len(rated) else 0.0
        self.within[:K, :K], self.between[:K, :K] = within, between
        if self.size > K:
            self._start_overall(gaps[self.own[known] == K], within)

    def _start_overall(self, gaps: Array, within: Array) -> None:
        K = self.num_rated
        # E[gap | sign] = sqrt(2 / pi) cov(gap, overall) where the overall gap has a variance of 1.
        shared = gaps.mean(axis=0) * _SIGN_MEAN / 2 if len(gaps) else np.zeros(K)
        explained = float(shared @ np.linalg.solve(within, shared))
        shared *= min(1.0, math.sqrt(0.45 / explained)) if explained > 0 else 1.0
        self.within[K, :K] = self.within[:K, K] = shared
        self.within[K, K] = 0.5
        self.between[K, :K] = self.between[:K, K] = 0.0
        self.between[K, K] = 0.02

    def posterior(self, blocks: Blocks, values: Array) -> Posterior:
        """What the known ratings and the labels say of a group of blocks."""
        num_blocks, num_rows = blocks.rows.shape
        size = num_rows * self.size
        prior = np.kron(np.ones((num_rows, num_rows)), self.between) + np.kron(np.eye(num_rows), self.within)
        mean = np.tile(self.mean, num_rows)
        precision = np.repeat(np.linalg.inv(prior)[None], num_blocks, axis=0)
        weighted = np.repeat((precision[0] @ mean)[None], num_blocks, axis=0)
        known = np.full((num_blocks, num_rows, self.size), np.nan)
        known[:, :, : self.num_rated] = values[blocks.rows]
        noise = np.tile(_KNOWN_NOISE * np.diag(self.within), num_rows)
        flat = known.reshape(num_blocks, size)
        seen = np.isfinite(flat)
        diagonal = np.arange(size)
        precision[:, diagonal, diagonal] += np.where(seen, 1 / noise, 0.0)
        weighted += np.where(seen, flat / noise, 0.0)
        self._add_labels(blocks, known, precision, weighted)
        covariance: Array = np.asarray(np.linalg.inv(precision), dtype=np.float64)
        return Posterior(np.einsum("bij,bj->bi", covariance, weighted), covariance)

    def _add_labels(self, blocks: Blocks, known: Array, precision: Array, weighted: Array) -> None:
        index = np.arange(len(blocks.rows))
        for place in range(blocks.pairs.shape[1]):
            aspect = self.own[blocks.pairs[:, place]]
            first, second = blocks.chosen[:, place], blocks.rejected[:, place]
            # A rated gap says more than its sign.
            rated = np.isfinite(known[index, first, aspect]) & np.isfinite(known[index, second, aspect])
            variance = 2 * self.within[aspect, aspect]
            weight = np.where(rated, 0.0, 1 / (_SIGN_NOISE * variance))
            a, b = first * self.size + aspect, second * self.size + aspect
            precision[index, a, a] += weight
            precision[index, b, b] += weight
            precision[index, a, b] -= weight
            precision[index, b, a] -= weight
            pull = weight * np.sqrt(variance) * _SIGN_MEAN
            weighted[index, a] += pull
            weighted[index, b] -= pull

    def refine(self, values: Array) -> None:
        """One step of expectation maximisation: the moments that fit what is known and what is believed of the rest."""
        size = self.size
        within, between, mean = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
        num_rows = num_blocks = 0
        for blocks in self.blocks:
            believed = self.posterior(blocks, values)
            count, rows = blocks.rows.shape
            inverse = np.linalg.inv(self.within)
            effect = np.linalg.inv(np.linalg.inv(self.between) + rows * inverse)
            pull = effect @ inverse
            ratings = believed.mean.reshape(count, rows, size)
            spread = believed.covariance.reshape(count, rows, size, rows, size)
            prompt = (ratings - self.mean).sum(axis=1) @ pull.T
            summed = spread.sum(axis=3)
            prompt_spread = effect + pull @ summed.sum(axis=1) @ pull.T
            between += prompt.T @ prompt + prompt_spread.sum(axis=0)
            rest = ratings - self.mean - prompt[:, None]
            within += np.einsum("brk,brl->kl", rest, rest) + np.einsum("brkrl->kl", spread)
            crossed = summed.sum(axis=(0, 1)) @ pull.T
            within += rows * prompt_spread.sum(axis=0) - crossed - crossed.T
            mean += (ratings - prompt[:, None]).mean(axis=1).sum(axis=0)
            num_rows, num_blocks = num_rows + count * rows, num_blocks + count
        self.within, self.between, self.mean = within / num_rows, between / num_blocks, mean / num_blocks
        if size > self.num_rated:
            # The scale of an aspect that is never rated is ours to choose.
            scale = math.sqrt(0.5 / self.within[-1, -1])
            for matrix in (self.within, self.between):
                matrix[-1] *= scale
                matrix[:, -1] *= scale
