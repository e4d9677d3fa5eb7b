"""Where the `evaluate` modules are, and how a reward trainer uses them."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ...errors import InputError

if TYPE_CHECKING:
    import torch

METRICS = {
    "win_score": "win score 1 + (wins - losses) / n of A's scores against B's",
    "pairwise_accuracy": "share of pairs whose chosen response has the higher reward, also by length",
    "preference_conflict": "share of other aspects' votes that contradict a label",
}


def path(name: str) -> str:
    """
    Folder of one of pd_trl's metrics, for `evaluate.load(path("win_score"))`, which needs no connection.

    Raises:
        InputError: When there is no such metric.
    """
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise InputError(f"There is no metric '{name}'.{hint} pd_trl has {', '.join(METRICS)}.")
    return str(Path(__file__).resolve().parent / name)


def pair_logits(logits: "torch.Tensor | tuple[torch.Tensor, ...]", labels: Any = None) -> "torch.Tensor":
    """
    Rewards of a batch of a reward trainer as one row for each pair, shape `(num_pairs, 2)`: `preprocess_logits_for_metrics`.

    A trainer keeps as many rows of the last batch as it has examples, and TRL's logits hold all chosen responses before the
    rejected ones, so without this the rejected ones of the last batch are lost.
    """
    import torch

    rewards: Any = logits[0] if isinstance(logits, (tuple, list)) else logits
    chosen, rejected = rewards.reshape(-1).chunk(2)
    return torch.stack([chosen, rejected], dim=1)


def compute_metrics(
    *names: str, delta_lengths: ArrayLike | None = None, others: ArrayLike | None = None
) -> Callable[[Any], dict[str, float]]:
    """
    A `compute_metrics` for [`PDRewardTrainer`] or [`~trl.RewardTrainer`]; pass [`pair_logits`] beside it.

    Args:
        names (`str`):
            Metrics, see [`METRICS`].
        delta_lengths (array of shape `(num_pairs,)`, *optional*):
            Length of the chosen minus that of the rejected response of each evaluation row, for `pairwise_accuracy`.
        others (array of shape `(num_pairs, num_others)`, *optional*):
            Votes or gaps of the other aspects on each evaluation row, for `preference_conflict`.

    Example:

    ```python
    >>> trainer = PDRewardTrainer(
    ...     ...,
    ...     compute_metrics=compute_metrics("win_score", "pairwise_accuracy"),
    ...     preprocess_logits_for_metrics=pair_logits,
    ... )
    ```
    """
    if not names:
        raise InputError(f"Name at least one metric of {', '.join(METRICS)}.")
    if "preference_conflict" in names and others is None:
        raise InputError(
            "`preference_conflict` needs `others`, the votes of the other aspects on each evaluation row."
        )
    try:
        import evaluate
    except ImportError as error:
        raise InputError(
            f"The package evaluate cannot be imported ({error}): `pip install pd_trl[metrics]`."
        ) from None
    modules = {name: evaluate.load(path(name)) for name in names}

    def compute(prediction: Any) -> dict[str, float]:
        rewards = np.asarray(prediction.predictions)
        if rewards.ndim != 2 or rewards.shape[1] != 2:
            raise InputError(
                f"Expected the rewards of both sides of each pair, shape (num_pairs, 2), but got {rewards.shape}. Pass "
                "`preprocess_logits_for_metrics=pair_logits` to the trainer."
            )
        result: dict[str, float] = {}
        for name, module in modules.items():
            chosen, rejected = rewards.astype(np.float64).T
            if name == "preference_conflict":
                result |= module.compute(
                    predictions=chosen - rejected, references=np.asarray(others, dtype=np.float64)
                )
            elif name == "pairwise_accuracy":
                result |= module.compute(predictions=chosen, references=rejected, delta_lengths=delta_lengths)
            else:
                result |= module.compute(predictions=chosen, references=rejected)
        return result

    return compute
