"""Configuration of [`PDRewardTrainer`]."""

import math
from dataclasses import dataclass, field
from typing import Any

from trl import RewardConfig

from ...errors import InputError
from ...method.length import check_temperature, parse_length_penalty
from ..base import PreferenceConfig


@dataclass
class PDRewardConfig(PreferenceConfig, RewardConfig):
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
            When and how the length penalty rho per completion token is chosen. `length_correction` says where it is applied.
            A number is chosen by you, before training (Eq. 16); 0 or `None` switches it off. The paper's value is not known.
            A rule is ours and not the paper's: it chooses rho after training, on half of the prompts of the evaluation set (of
            several sets, the first). Training is then without the term, and the gap is adjusted afterwards (Eq. 17). The
            accuracy is that of the adjusted gap on the other half. Without an evaluation set there is no term.
            `"decorrelate"`, the default, makes the gap independent of length ([`~method.length.decorrelating_penalty`]).
            `"auto"` makes the reward right equally often on pairs whose chosen response is the longer and the shorter one
            ([`~method.length.balancing_penalty`]). In our benchmark both beat a fixed rho as in Eq. 16 and 17, which the model
            learns back; docs/benchmark.md has the numbers.
        length_correction (`str`, *optional*, defaults to `"penalty"`):
            Where rho is applied. `length_penalty` says when and how it is chosen. `"penalty"`: the training logit is
            `r(chosen) - r(rejected) - rho * delta_length`, and the same adjusted gap is used for PD (Eq. 16-17). `"residual"`:
            `+ rho * delta_length` in training, so that the explicit term absorbs the effect of the length, and the raw gap for
            PD. `"none"`: neither.

        > Parameters that control the data

        train_share (`float`, *optional*, defaults to `1.0`):
            Share of the training pairs to train on, in (0, 1], drawn by `seed` (the paper's p_r).
        margin_column (`str`, *optional*):
            Column with the margin of each pair. The training logit is `r(chosen) - r(rejected) - margin`, as in TRL. `None`
            reads no margin, not even from a column named `margin`, which in many data sets means something else. (A plain
            [`~trl.RewardConfig`] reads a column named `margin`, as TRL does.)

        > Parameters of a model with heads

        pooling (`str`, *optional*):
            What new heads read of a decoder: `"last"`, the last token, or `"mean"`, the mean over the response's tokens. `None` is
            `"last"`, with `freeze_backbone` `"mean"`. Encoders are read at the first token.
        layers (`list[int]`, *optional*):
            Layers that new heads read side by side, counted from 1. The backbone is cut after the last of them. `None` is its
            last layer, with `freeze_backbone` the one at two thirds of its depth.
        standardize (`bool`, *optional*):
            Whether new heads read standardized features; mean and scale are measured on the training set, before the first
            step. `None` is `True` with `freeze_backbone` and `False` without.
        freeze_backbone (`bool`, *optional*, defaults to `False`):
            Whether to train the heads alone. What they read of each conversation is computed once and kept in memory, so that
            every epoch but the first is nearly free. Heads then read what worked best in docs/real-data.md and not what the
            paper's separate models read; a learning rate of 1e-3 and 3 epochs were used there.

        > Parameters that control the speed

        share_prefix (`bool`, *optional*, defaults to `False`):
            Whether to read what the two sides of a pair share (the prompt) once. The losses are the same, and a step is faster
            where prompts are long. See [`~trainers.base.PreferenceConfig`].
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

    pooling: str | None = field(
        default=None,
        metadata={
            "help": "What new heads read of a decoder: the 'last' token, or the 'mean' over the response's tokens.",
            "choices": ["last", "mean"],
        },
    )
    layers: list[int] | None = field(
        default=None,
        metadata={"help": "Layers that new heads read side by side, counted from 1. Unset is the backbone's last."},
    )
    standardize: bool | None = field(
        default=None, metadata={"help": "Whether new heads read features of mean 0 and standard deviation 1."}
    )
    freeze_backbone: bool = field(
        default=False,
        metadata={"help": "Train the heads alone, on features that are computed once for each conversation."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length_balance_temperature is not None:
            check_temperature(self.length_balance_temperature)
        self.length_penalty = parse_length_penalty(self.length_penalty, self.length_correction)
        if not (math.isfinite(self.train_share) and 0 < self.train_share <= 1):
            raise InputError(f"`train_share` must be in (0, 1], got {self.train_share}.")
        if self.balances_length and self.sampling_strategy in ("batch_rebalance", "sequential"):
            raise InputError(
                f"`train_sampling_strategy='{self.sampling_strategy}'` fixes the order of rows and cannot be combined "
                "with length-balanced sampling. Set `length_balance_temperature=None`, or use 'random' or 'group_by_length'."
            )

    @property
    def reading(self) -> dict[str, Any]:
        """What new heads read, as arguments of [`MultiAspectRewardModel.from_backbone`]; empty where nothing was chosen."""
        chosen = {"pooling": self.pooling, "layers": self.layers, "standardize": self.standardize}
        return {name: value for name, value in chosen.items() if value not in (None, [])}

    @property
    def balances_length(self) -> bool:
        """Whether length-balanced sampling is on."""
        return self.length_balance_temperature is not None
