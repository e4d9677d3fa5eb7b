"""Length-balanced sampling and the length term of the reward (arXiv 2508.07638, Eq. 16-17)."""

import logging
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError

logger = logging.getLogger(__name__)

LENGTH_CORRECTIONS = ("penalty", "residual", "none")


def balanced_shares(share_longer: float, temperature: float) -> tuple[float, float]:
    r"""
    Shares to draw from the pairs whose chosen response is at least as long as the rejected one, and from the others:
    `softmax((f+, f-) / temperature)` (arXiv 2508.07638).

    Args:
        share_longer (`float`): Share `f+` of pairs with `len(chosen) >= len(rejected)`.
        temperature (`float`): The paper's tau, positive. `math.inf` draws half and half; a small value draws the larger
            side only.
    """
    check_temperature(temperature)
    # A difference of shares this far over the temperature is a step function in floating point.
    exponent = min(max((1 - 2 * share_longer) / temperature, -700.0), 700.0)
    longer = 1 / (1 + math.exp(exponent))
    return longer, 1 - longer


def check_temperature(temperature: float) -> None:
    """Raises `InputError` unless `temperature` is positive (`math.inf` included)."""
    if not temperature > 0:
        raise InputError(
            f"`length_balance_temperature` must be positive (inf = half and half) or None to switch it off, got {temperature}."
        )


def check_length_penalty(length_penalty: float, length_correction: str) -> None:
    """Raises `InputError` on a negative penalty or an unknown kind of correction."""
    if length_correction not in LENGTH_CORRECTIONS:
        raise InputError(
            f"`length_correction` must be one of {', '.join(LENGTH_CORRECTIONS)}, got {length_correction!r}."
        )
    if not 0 <= length_penalty < math.inf:
        raise InputError(f"`length_penalty` is per token and must be finite and not negative, got {length_penalty}.")


def parse_length_penalty(length_penalty: float | str | None, length_correction: str) -> float | str:
    """
    A penalty as written on a command line or in YAML: a number, the name of a rule ([`PENALTY_RULES`]), or `None` (0); raises
    `InputError` otherwise.
    """
    if length_penalty is None:
        return 0.0
    if isinstance(length_penalty, str) and length_penalty.strip().lower() in PENALTY_RULES:
        if length_correction == "none":
            return 0.0
        rule = length_penalty.strip().lower()
        if length_correction != "penalty":
            raise InputError(
                f"`length_penalty='{rule}'` chooses the penalty that is subtracted from the gap, so that it goes with "
                f"`length_correction='penalty'`. Set a number of nats per token for {length_correction!r}."
            )
        return rule
    try:
        penalty = float(length_penalty)
    except (TypeError, ValueError):
        raise InputError(
            f"`length_penalty` must be a number of nats per token or one of {', '.join(PENALTY_RULES)}, got {length_penalty!r}."
        ) from None
    check_length_penalty(penalty, length_correction)
    return penalty


def decorrelating_penalty(gaps: ArrayLike, delta_lengths: ArrayLike) -> float:
    """
    The length penalty rho at which `gap - rho * delta_length` no longer depends on length: the slope of the gap on the length,
    through the origin, since swapping the sides of a pair changes the sign of both.

    Args:
        gaps (array of shape `(num_pairs,)`): Rewards of the chosen minus those of the rejected responses, on pairs that
            the model was not trained on.
        delta_lengths (array of shape `(num_pairs,)`): Completion tokens of the chosen minus those of the rejected.

    Returns:
        `float`: rho per token, 0 where the gap does not grow with length.
    """
    gap, delta = np.asarray(gaps, dtype=np.float64), np.asarray(delta_lengths, dtype=np.float64)
    return max(0.0, float(gap @ delta) / float(delta @ delta)) if delta.any() else 0.0


def balancing_penalty(gaps: ArrayLike, delta_lengths: ArrayLike) -> float:
    """
    The length penalty rho that makes `gap - rho * delta_length` right equally often whichever side is longer: it maximises
    the mean of the accuracies on the pairs whose chosen response is the longer one and on those whose chosen response is
    the shorter one. An aspect that is honestly correlated with length keeps that correlation.

    Args:
        gaps (array of shape `(num_pairs,)`): Rewards of the chosen minus those of the rejected responses, on pairs that
            the model was not trained on.
        delta_lengths (array of shape `(num_pairs,)`): Completion tokens of the chosen minus those of the rejected.

    Returns:
        `float`: rho per token, not negative; the smallest of the best ones. 0 where either half is empty.
    """
    gap, delta = np.asarray(gaps, dtype=np.float64), np.asarray(delta_lengths, dtype=np.float64)
    longer, shorter = delta > 0, delta < 0
    if not longer.any() or not shorter.any():
        return 0.0
    # A pair with the longer side chosen is right below rho = gap / delta, one with the shorter side chosen above it.
    turning = gap[delta != 0] / delta[delta != 0]
    steps = np.unique(turning[turning > 0])
    candidates = np.concatenate([[0.0], (steps[:-1] + steps[1:]) / 2, steps[-1:] * 2])
    right_longer = 1 - np.searchsorted(np.sort(gap[longer] / delta[longer]), candidates, side="right") / longer.sum()
    right_shorter = np.searchsorted(np.sort(gap[shorter] / delta[shorter]), candidates, side="left") / shorter.sum()
    return float(candidates[np.argmax(right_longer + right_shorter)])


# How a penalty can be chosen on held-out pairs, by name.
PENALTY_RULES: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "decorrelate": decorrelating_penalty,
    "auto": balancing_penalty,
}


def training_margin(length_penalty: float | str | None, length_correction: str) -> float:
    """
    Margin per token of `delta_length` to subtract from `r(chosen) - r(rejected)` in the training logit: `+rho` for
    `"penalty"` (Eq. 16), `-rho` for `"residual"` (the explicit term absorbs the length effect), 0 for `"none"` and for a
    penalty that is chosen after training.
    """
    if length_penalty is None or isinstance(length_penalty, str):
        return 0.0
    check_length_penalty(length_penalty, length_correction)
    return {"penalty": length_penalty, "residual": -length_penalty, "none": 0.0}[length_correction]


def adjusted_gap(gap: ArrayLike, delta_length: ArrayLike, length_penalty: float, length_correction: str) -> NDArray:
    """
    Gap that enters the PD: `gap - rho * delta_length` for `"penalty"` (Eq. 17), the raw gap for `"residual"` and
    `"none"`.
    """
    check_length_penalty(length_penalty, length_correction)
    raw = np.asarray(gap, dtype=np.float32)
    if length_correction != "penalty" or length_penalty == 0:
        return raw
    return (raw - np.float64(length_penalty) * np.asarray(delta_length)).astype(np.float32)


class LengthBalancedSampler:
    """
    Draws an epoch of row indices in which the pairs with `len(chosen) >= len(rejected)` and the others have the shares of
    [`balanced_shares`] (length-balanced sampling, arXiv 2508.07638).

    Each epoch has as many draws as there are rows. Its two shares are met within one row; a side is drawn without
    replacement until it is exhausted, then again from the start; if one side is empty, all draws are from the other. The
    order is a pure function of `(seed, epoch)`, so that every rank sees the same one and a resumed run goes on with it.

    Args:
        delta_lengths (integer array of shape `(num_pairs,)`):
            Completion tokens of the chosen minus those of the rejected response.
        temperature (`float`, *optional*, defaults to `1.0`):
            The paper's tau. The paper's value is not known; 1.0 is ours.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the order.
        epoch (`int` or callable returning `int`, *optional*, defaults to `0`):
            Epoch to draw. A callable is asked at the start of each iteration.
        lengths (integer array of shape `(num_pairs,)`, *optional*):
            Lengths to group by: rows of similar length come next to each other, as in transformers'
            `group_by_length`.
        batch_size (`int`, *optional*, defaults to `1`):
            Batch size, used with `lengths` only.
    """

    def __init__(
        self,
        delta_lengths: ArrayLike,
        temperature: float = 1.0,
        seed: int = 42,
        epoch: int | Callable[[], int] = 0,
        lengths: ArrayLike | None = None,
        batch_size: int = 1,
    ):
        delta = np.asarray(delta_lengths)
        if delta.ndim != 1 or delta.size == 0:
            raise InputError(f"`delta_lengths` must be a non-empty vector, got shape {delta.shape}.")
        check_temperature(temperature)
        self.longer, self.shorter = np.flatnonzero(delta >= 0), np.flatnonzero(delta < 0)
        self.temperature, self.seed, self.epoch = temperature, seed, epoch
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.batch_size = batch_size
        share = self.longer.size / delta.size
        target = balanced_shares(share, temperature)[0]
        self.num_longer = round(target * delta.size)
        if self.longer.size == 0 or self.shorter.size == 0:
            side = "chosen" if self.shorter.size == 0 else "rejected"
            logger.warning("Length balancing has nothing to balance: the %s response is never the shorter one.", side)
            self.num_longer = self.longer.size
        self.num_shorter = delta.size - self.num_longer

    def __len__(self) -> int:
        return self.num_longer + self.num_shorter

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch() if callable(self.epoch) else self.epoch
        return iter(self.indices(epoch).tolist())

    def indices(self, epoch: int) -> NDArray[np.integer]:
        """Row indices of one epoch, shape `(num_pairs,)`."""
        generator = np.random.default_rng([int(self.seed), int(epoch)])
        drawn = np.concatenate(
            [_draw(self.longer, self.num_longer, generator), _draw(self.shorter, self.num_shorter, generator)]
        )
        generator.shuffle(drawn)
        return drawn if self.lengths is None else group_by_length(drawn, self.lengths, self.batch_size)


def group_by_length(order: NDArray[np.integer], lengths: NDArray, batch_size: int) -> NDArray[np.integer]:
    """
    `order` sorted by length, longest first, within blocks of 50 batches (as transformers does): a batch then holds rows
    of similar length while the order of blocks stays random. The longest row comes first, so that running out of memory
    shows at once.
    """
    block = max(1, min(50 * batch_size, math.ceil(order.size / 4)))
    blocks = [order[start : start + block] for start in range(0, order.size, block)]
    blocks = [rows[np.argsort(-lengths[rows], kind="stable")] for rows in blocks]
    longest = max(range(len(blocks)), key=lambda b: (lengths[blocks[b][0]], -b))
    blocks[0][0], blocks[longest][0] = blocks[longest][0], blocks[0][0]
    return np.concatenate(blocks)


def _draw(rows: NDArray[np.integer], count: int, generator: np.random.Generator) -> NDArray[np.integer]:
    rounds = [generator.permutation(rows) for _ in range(math.ceil(count / rows.size))] if count else []
    return np.concatenate([*rounds, rows[:0]])[:count]
