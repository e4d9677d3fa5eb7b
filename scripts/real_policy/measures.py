"""What a policy's margins on held-out pairs say of each aspect, of the overall label, and of length."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real_data.sets import RealSet


def measures(real: RealSet, margins: NDArray[np.float64], delta_length: NDArray[np.integer]) -> dict[str, Any]:
    """
    Shares of the decided labels that the sign of the margin agrees with, a margin of 0 counting one half.

    Args:
        real ([`RealSet`]): Held-out pairs. No label of theirs was trained on.
        margins (array of shape `(num_pairs,)`): Margin of the chosen response, in nats.
        delta_length (array of shape `(num_pairs,)`): Tokens of the chosen response minus those of the rejected one.

    Returns:
        `dict`: `own` (labels that the pairs carry), `hidden` (those of the other aspects), `aspects` (mean of the aspects'),
        `by_aspect`, `overall` where there is one, `longer` (how often the longer response has the higher reward),
        `length_correlation` (of margin and `delta_length`), `margin` (mean absolute, in nats).
    """
    sign = np.sign(margins)
    others = real.own[:, None] != np.arange(len(real.aspects))
    by_aspect = {aspect: agreement(sign, real.votes[:, k]) for k, aspect in enumerate(real.aspects)}
    known = [value for value in by_aspect.values() if value is not None]
    found: dict[str, Any] = {
        "own": agreement(sign, np.ones(len(sign))),
        "hidden": agreement(sign[:, None].repeat(len(real.aspects), 1), np.where(others, real.votes, 0)),
        "aspects": float(np.mean(known)) if known else None,
        "by_aspect": by_aspect,
        "longer": agreement(sign, np.sign(delta_length)),
        "length_correlation": correlation(margins, delta_length),
        "margin": float(np.abs(margins).mean()),
    }
    if real.overall is not None:
        found["overall"] = agreement(sign, real.overall)
    return found


def agreement(sign: NDArray, votes: NDArray) -> float | None:
    """Share of the decided votes that a sign agrees with; `None` where none is decided."""
    decided = votes != 0
    if not decided.any():
        return None
    return float(np.where(sign == 0, 0.5, sign == votes)[decided].mean())


def correlation(margins: NDArray, delta_length: NDArray) -> float | None:
    """Pearson's, `None` where one of the two does not vary."""
    if np.ptp(margins) == 0 or np.ptp(delta_length) == 0:
        return None
    return float(np.corrcoef(margins, delta_length)[0, 1])


def mean_and_error(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean over seeds and its standard error, `None` where fewer than two seeds are there."""
    known = [v for v in values if v is not None]
    if not known:
        return None, None
    return float(np.mean(known)), float(np.std(known, ddof=1) / len(known) ** 0.5) if len(known) > 1 else None
