"""Configuration of [`PDDPOTrainer`]."""

from dataclasses import dataclass, field

from trl import DPOConfig

from ...errors import InputError
from ...method.ranking import check_budget, parse_budget
from ..base import PreferenceConfig

# Losses of the difference of log-ratios only, into which a shift of the reference log-probabilities enters as Eq. 4 wants.
DFPO_LOSS_TYPES = ("sigmoid", "robust", "hinge", "exo_pair", "discopop")


@dataclass
class PDDPOConfig(PreferenceConfig, DPOConfig):
    r"""
    Configuration class for the [`PDDPOTrainer`].

    This class includes only the parameters that are specific to Preference Divergence
    ([arXiv 2508.07638](https://huggingface.co/papers/2508.07638)). For a full list of training arguments, please refer to
    the [`~trl.DPOConfig`] and [`~transformers.TrainingArguments`] documentation. With the defaults below the trainer is
    TRL's.

    Parameters:
        > Parameters that control the selection

        pd_budget (`float` or `int`, *optional*):
            What to keep of the training set: a `float` in (0, 1] is a share (the paper's lambda; 0.3 for UltraFeedback, 0.5
            for HelpSteer), an `int` a number of pairs. The pairs with the lowest values of `pd_column` are kept. `None`
            keeps all.
        pd_column (`str`, *optional*, defaults to `"pd"`):
            Column with the Preference Divergence of each pair.

        > Parameters that control the loss

        pd_loss (`str`, *optional*):
            `"dfpo"` trains with Eq. 4, `-log sigmoid(kappa * M + pd)` with `M` the DPO margin (v1 of the paper calls this
            objective DMPO). The PD term is the estimated, normalised PD of `pd_column`; the paper's is not known. `None`
            trains with `loss_type` as it is.
        pd_num_aspects (`int`, *optional*):
            Number of aspects kappa of Eq. 4. `None` counts the `reward_gap_<aspect>` columns of the training set; `overall` is
            no aspect.
        pd_divide_beta (`bool`, *optional*, defaults to `True`):
            Whether `pd_loss="dfpo"` divides `beta` by kappa. Eq. 4 multiplies the margin by kappa, so that at the same `beta` it
            trains kappa times as strongly as DPO. `True` trains with the strength of DPO at this `beta`; `False` is Eq. 4 with
            `beta` as given. The paper does not say which `beta` it takes for this loss.

        > Parameters that control the speed

        share_prefix (`bool`, *optional*, defaults to `False`):
            Whether to read what the two sides of a pair share (the prompt) once. The losses are the same, and a step is faster
            where prompts are long. See [`~trainers.base.PreferenceConfig`].
    """

    pd_budget: float | str | None = field(
        default=None,
        metadata={
            "help": "What to keep of the training set: a share such as 0.3, or a number of pairs such as 5000. The pairs with "
            "the lowest values of `pd_column` are kept. Unset keeps all."
        },
    )
    pd_column: str = field(
        default="pd",
        metadata={"help": "Column with the Preference Divergence of each pair."},
    )
    pd_loss: str | None = field(
        default=None,
        metadata={"help": "'dfpo' trains with Eq. 4 of arXiv 2508.07638. Unset trains with `loss_type` as it is."},
    )
    pd_num_aspects: int | None = field(
        default=None,
        metadata={
            "help": "Number of aspects of Eq. 4. Unset counts the `reward_gap_<aspect>` columns of the training set."
        },
    )
    pd_divide_beta: bool = field(
        default=True,
        metadata={
            "help": "With pd_loss='dfpo', divide beta by the number of aspects, so that the loss is as strong as DPO's at this "
            "beta. False is Eq. 4 with beta as given."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pd_budget = parse_budget(self.pd_budget)
        if self.pd_budget is not None:
            check_budget(self.pd_budget)
        if isinstance(self.pd_loss, str) and self.pd_loss.lower() in ("none", "null"):
            self.pd_loss = None
        if self.pd_loss is None:
            return
        if self.pd_loss != "dfpo":
            raise InputError(f"`pd_loss` must be 'dfpo' or None, got {self.pd_loss!r}.")
        loss_types = [self.loss_type] if isinstance(self.loss_type, str) else list(self.loss_type)
        unsupported = [name for name in loss_types if name not in DFPO_LOSS_TYPES]
        if unsupported or self.f_divergence_type != "reverse_kl":
            found = f"loss_type={unsupported}" if unsupported else f"f_divergence_type={str(self.f_divergence_type)!r}"
            raise InputError(
                "`pd_loss='dfpo'` adds the PD term to the difference of the log-ratios, so it needs a loss of that difference "
                f"alone: `loss_type` among {', '.join(DFPO_LOSS_TYPES)} and `f_divergence_type='reverse_kl'`, got {found}."
            )
        if not self.beta > 0:
            raise InputError(f"`pd_loss='dfpo'` needs a positive `beta`, got {self.beta}.")
        if self.pd_num_aspects is not None and self.pd_num_aspects < 2:
            raise InputError(f"`pd_num_aspects` must be at least 2, got {self.pd_num_aspects}.")
