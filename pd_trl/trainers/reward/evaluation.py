"""Metrics of held-out pairs. One half of the prompts chooses the length penalty, the other measures the accuracy."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...method.accuracy import half_of_prompts, vote_metrics
from ...method.length import PENALTY_RULES, adjusted_gap
from ...models.sidecar import RewardSidecar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutPairs:
    """
    Rewards of the pairs of an evaluation set.

    Attributes:
        gaps (array of shape `(num_pairs,)`): Reward of the chosen minus reward of the rejected response.
        delta_lengths (array of shape `(num_pairs,)`): Completion tokens of the chosen minus those of the rejected.
        keys (array of shape `(num_pairs, 2)`): What names the prompt of each pair, and the pair.
        heads (array of shape `(num_pairs,)`, *optional*): Of a model with heads: the head of each pair.
    """

    gaps: NDArray[np.floating]
    delta_lengths: NDArray[np.integer]
    keys: NDArray[np.integer]
    heads: NDArray[np.integer] | None = None


def measure_pairs(
    pairs: HeldOutPairs, args: Any, sidecar: RewardSidecar, *, aspects: list[str] | None = None, chooses: bool = False
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """
    Metrics of held-out pairs, see [`~method.accuracy.vote_metrics`].

    Args:
        pairs ([`HeldOutPairs`]):
            Their rewards.
        args ([`PDRewardConfig`]):
            The length term, and the seed by which prompts are halved.
        sidecar ([`RewardSidecar`]):
            Holds the penalty. One that a rule chooses is written here.
        aspects (`list` of `str`, *optional*):
            Aspects of the heads.
        chooses (`bool`, *optional*, defaults to `False`):
            Whether a rule chooses the penalty on these pairs: on half of each aspect's prompts. The accuracy is then that on
            the pairs of the other half.

    Returns:
        `tuple`: metrics of all pairs, and of each aspect that has pairs.
    """
    rule = args.length_penalty if args.length_penalty in PENALTY_RULES else None
    adjusted = pairs.gaps.astype(np.float32)
    measured = np.ones(pairs.gaps.size, dtype=bool)
    penalties: dict[str, float] = {}
    parts = _parts(pairs, aspects)
    for aspect, rows in parts.items():
        gaps, delta = pairs.gaps[rows], pairs.delta_lengths[rows]
        penalty = sidecar.of_head(aspect).length_penalty
        if rule is not None and chooses:
            half = half_of_prompts(pairs.keys[rows, 0], pairs.keys[rows, 1], args.seed)
            penalty = PENALTY_RULES[rule](gaps[half], delta[half])
            sidecar.set_penalty(penalty, aspect if aspects is not None else None)
            measured[rows] = ~half
            _warn_if_unmeasured(half, aspect)
        penalties[aspect] = penalty
        adjusted[rows] = adjusted_gap(gaps, delta, penalty, args.length_correction)
    found = {}
    for aspect, rows in parts.items():
        found[aspect] = _of(pairs, adjusted, rows & measured)
        if rule is not None:
            found[aspect]["length_penalty"] = penalties[aspect]
    if aspects is None:
        return found[""], {}
    return _of(pairs, adjusted, measured), found


def _parts(pairs: HeldOutPairs, aspects: list[str] | None) -> dict[str, NDArray[np.bool_]]:
    """Rows of each aspect that has any; of a model of a single output, all rows under an empty name."""
    if aspects is None or pairs.heads is None:
        return {"": np.ones(pairs.gaps.size, dtype=bool)}
    parts = {aspect: pairs.heads == head for head, aspect in enumerate(aspects)}
    return {aspect: rows for aspect, rows in parts.items() if rows.any()}


def _of(pairs: HeldOutPairs, adjusted: NDArray[np.floating], rows: NDArray[np.bool_]) -> dict[str, float]:
    return vote_metrics(pairs.gaps[rows], adjusted[rows], pairs.delta_lengths[rows], pairs.keys[rows, 0])


def _warn_if_unmeasured(half: NDArray[np.bool_], aspect: str) -> None:
    if half.all():
        logger.warning(
            "All %d held-out pairs%s are equal. The length penalty is chosen on them, so no pair is left to measure the accuracy. "
            "Hold out more pairs.",
            half.size,
            f" of '{aspect}'" if aspect else "",
        )
