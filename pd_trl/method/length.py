"""Length-balanced sampling and the length term of the reward (arXiv 2508.07638, Eq. 16-17)."""

import logging
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

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
