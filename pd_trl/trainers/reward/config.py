"""Configuration of [`PDRewardTrainer`]."""

import math
from dataclasses import dataclass, field

from trl import RewardConfig

from ...errors import InputError
from ...method.length import check_temperature, parse_length_penalty
from ..arguments import sampling_strategy


@dataclass
class PDRewardConfig(RewardConfig):
    r"""
    Configuration class for the [`PDRewardTrainer`].

    This class includes only the parameters that are specific to the proxy rewards of Preference Divergence
    ([arXiv 2508.07638](https://huggingface.co/papers/2508.07638)). For a full list of training arguments, please refer to
    the [`~trl.RewardConfig`] and [`~transformers.TrainingArguments`] documentation. With
    `length_balance_temperature=None` and `length_penalty=0` the trainer is TRL's.

    Parameters:
        > Parameters that control the length bias

        length_balance_temperature (`float`, *optional*, defaults to `1.0`):
            Temperature tau of length-balanced sampling: each epoch draws the pairs with the longer chosen response and
            the others with shares `softmax((f+, f-) / tau)`. `inf` draws half and half, `None` switches balancing off. The
            paper's value is not known; 1.0 is ours.
        length_penalty (`float` or `str`, *optional*, defaults to `"decorrelate"`):
            Length penalty rho per completion token (Eq. 16). 0 or `None` switches it off. The paper's value is not known. Two
            rules, ours and not the paper's, train without the term and subtract it from the gap afterwards (Eq. 17), with a rho
            chosen on half of the prompts of the evaluation set (of several sets, the first); without one there is no term. The
            accuracy is then that of the adjusted gap on the other half. `"decorrelate"`, the default: the gap no longer
            depends on length ([`~length.decorrelating_penalty`]). `"auto"`: the reward is right equally often on pairs whose
            chosen response is the longer and the shorter one ([`~length.balancing_penalty`]). In our benchmark both beat
            a fixed rho used as in Eq. 16 and 17, which the model learns back; docs/benchmark.md has the numbers.
        length_correction (`str`, *optional*, defaults to `"penalty"`):
            How the length enters. `"penalty"`: the training logit is `r(chosen) - r(rejected) - rho * delta_length`, and
            the same adjusted gap is used for PD (Eq. 16-17). `"residual"`: `+ rho * delta_length` in training, so that the
            explicit term absorbs the effect of the length, and the raw gap for PD. `"none"`: neither.

        > Parameters that control the data

        train_share (`float`, *optional*, defaults to `1.0`):
            Share of the training pairs to train on, in (0, 1], drawn by `seed` (the paper's p_r).
        margin_column (`str`, *optional*):
            Column with a margin for each pair, which the reward of the chosen response is to exceed the other's by: the
            training logit is `r(chosen) - r(rejected) - margin`, as in TRL. `None` reads none, whatever the data holds: a
            column named `margin` that came with the data is often something else. (A plain [`~trl.RewardConfig`] reads a
            column named `margin`, as TRL does.)

        > Parameters that control the speed

        share_prefix (`bool`, *optional*, defaults to `False`):
            Whether to read what the two sides of a pair share (the prompt) once: both sides go into one row, under a mask by
            which neither sees the other. Losses and gradients are the same up to rounding. It pays where prompts are longer
            than responses; a batch of which it would spare less than a tenth of the token positions is run as without. Needs a
            decoder in which each layer attends to the whole sequence, with `sdpa` or `eager` attention. With dropout
            (`disable_dropout=False`) both sides see the same noise in what they share.
    """

    length_balance_temperature: float | None = field(
        default=1.0,
        metadata={
            "help": "Temperature tau of length-balanced sampling: each epoch draws the pairs with the longer chosen "
            "response and the others with shares `softmax((f+, f-) / tau)`. `inf` draws half and half, `None` switches "
            "balancing off."
        },
    )
    length_penalty: float | str | None = field(
        default="decorrelate",
        metadata={
            "help": "Length penalty rho per completion token (Eq. 16). 0 switches it off; 'decorrelate' and 'auto' train "
            "without it and choose the rho of the gap (Eq. 17) on held-out pairs."
        },
    )
    length_correction: str = field(
        default="penalty",
        metadata={
            "help": "How the length enters: 'penalty' (Eq. 16-17), 'residual' (the explicit term absorbs the effect of "
            "the length in training, the raw gap is used for PD) or 'none'.",
            "choices": ["penalty", "residual", "none"],
        },
    )
    train_share: float = field(
        default=1.0,
        metadata={"help": "Share of the training pairs to train on, in (0, 1], drawn by `seed` (the paper's p_r)."},
    )
    margin_column: str | None = field(
        default=None,
        metadata={
            "help": "Column with a margin for each pair, subtracted from the difference of the rewards in the loss. Unset reads "
            "none, not even a column named 'margin'."
        },
    )
    share_prefix: bool = field(
        default=False,
        metadata={
            "help": "Whether to read what the two sides of a pair share (the prompt) once, in one row under a tree mask. The "
            "loss is the same; a step is faster where prompts are long."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length_balance_temperature is not None:
            check_temperature(self.length_balance_temperature)
        self.length_penalty = parse_length_penalty(self.length_penalty, self.length_correction)
        if self.max_length is not None and self.max_length < 1:
            raise InputError(f"`max_length` must be at least 1 token, or None for no limit, got {self.max_length}.")
        if not (math.isfinite(self.train_share) and 0 < self.train_share <= 1):
            raise InputError(f"`train_share` must be in (0, 1], got {self.train_share}.")
        if self.balances_length and self.sampling_strategy in ("batch_rebalance", "sequential"):
            raise InputError(
                f"`train_sampling_strategy='{self.sampling_strategy}'` fixes the order of rows and cannot be combined "
                "with length-balanced sampling. Set `length_balance_temperature=None`, or use 'random' or 'group_by_length'."
            )

    @property
    def balances_length(self) -> bool:
        """Whether length-balanced sampling is on."""
        return self.length_balance_temperature is not None

    @property
    def sampling_strategy(self) -> str:
        """`train_sampling_strategy`, also for transformers below 5.1, which has `group_by_length` instead."""
        return sampling_strategy(self)
