"""Which proxies vote in PD, and with what weight."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

logger = logging.getLogger(__name__)


def vote_weights(
    names: Sequence[str],
    weights: Mapping[str, float],
    proxy_metrics: Mapping[str, Mapping[str, float]],
    min_accuracy: float | None = None,
    warn: bool = False,
) -> NDArray[np.float64]:
    """
    Weight of each aspect's vote, shape `(num_aspects,)`: as given, 1 where not, and 0 where the aspect's reward model is less
    accurate than `min_accuracy` on held-out pairs.

    Args:
        names (sequence of `str`): Aspects.
        weights (`dict`): Weights as given.
        proxy_metrics (`dict`): Held-out metrics of each aspect's reward model.
        min_accuracy (`float`, *optional*): Accuracy from which on a reward model has a vote.
        warn (`bool`, *optional*, defaults to `False`): Whether to say which lost theirs.

    Raises:
        InputError: On a weight of an unknown aspect, an accuracy that is not known, or when no aspect is left to vote.
    """
    unknown = sorted(set(weights) - set(names))
    if unknown:
        raise InputError(
            f"`weights` names {', '.join(map(repr, unknown))}, but the aspects with gaps are {', '.join(names)}."
        )
    result = {name: float(weights.get(name, 1.0)) for name in names}
    for name in (name for name in names if min_accuracy is not None and result[name]):
        accuracy = proxy_metrics.get(name, {}).get("pair_accuracy")
        if accuracy is None and name in proxy_metrics:
            raise InputError(
                "`min_proxy_accuracy` needs the held-out accuracy of every reward model, and no pair was left to measure that of "
                f"'{name}' on. Train it again with a larger `heldout`, or leave it out with a weight of 0."
            )
        if accuracy is None:
            raise InputError(
                f"`min_proxy_accuracy` needs the held-out accuracy of every reward model, and that of '{name}' is not "
                "known. Pass `reward_models` with the folders of `train_aspect_rewards`, or `proxy_metrics`. Pairs with an overall "
                "label alone cannot measure it: leave `min_proxy_accuracy` out there, and see in the report how often each model "
                "agrees with that label."
            )
        if min_accuracy is not None and accuracy < min_accuracy:
            level = logging.WARNING if warn else logging.DEBUG
            message = (
                "The reward model of '%s' is right on %.1f %% of held-out pairs, below min_proxy_accuracy=%g: no vote."
            )
            logger.log(level, message, name, 100 * accuracy, min_accuracy)
            result[name] = 0.0
    if not any(result.values()):
        raise InputError(
            "No aspect is left to vote: all weights are 0 or all reward models below `min_proxy_accuracy`."
        )
    return np.array([result[name] for name in names])
