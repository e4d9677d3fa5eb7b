"""Set-up that only a model with heads needs: what it reads, LoRA's modules, and passing TRL's check for one output."""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ....errors import InputError
from ....models.heads.configuration import MultiAspectRewardConfig
from .batches import AspectCollator
from .reading import FrozenFeatures, ResponseCollator, heads_under, needs_responses


def with_target_modules(peft_config: Any, model: Any) -> Any:
    """
    A copy of a LoRA configuration with the modules that PEFT adapts in the backbone of a model with heads, where it names none
    itself: PEFT looks them up by the kind of model, and knows the backbone's.

    Args:
        peft_config ([`~peft.PeftConfig`], *optional*): The configuration.
        model (`str` or model): The model. Another kind of model is left to PEFT.
    """
    config = getattr(model, "config", None)
    unnamed = getattr(peft_config, "target_modules", "named") is None and not getattr(
        peft_config, "target_parameters", None
    )
    if not unnamed or not isinstance(config, MultiAspectRewardConfig):
        return peft_config
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    kind = config.get_text_config().model_type
    if kind not in KNOWN:
        raise InputError(
            f"PEFT does not know what to adapt in a {kind} model. Set `target_modules`, such as 'all-linear'."
        )
    complete = copy.copy(peft_config)
    complete.target_modules = set(KNOWN[kind])
    return complete


def passing_for_one_output(model: Any) -> AbstractContextManager[None]:
    """A block in which a model with heads passes TRL's check for one output; see [`MultiAspectRewardConfig`]."""
    config = getattr(model, "config", None)
    return config.reading_one_head() if isinstance(config, MultiAspectRewardConfig) else nullcontext()


def check_heads(args: Any, model: Any, aspects: Sequence[str] | None) -> None:
    """
    Raises `InputError` on arguments of heads for a model that has none, or that differ from what its heads read.

    Args:
        args ([`~trl.RewardConfig`]): The training arguments.
        model (`str` or model): The model.
        aspects (sequence of `str`, *optional*): Aspects of its heads.
    """
    chosen, freezes = getattr(args, "reading", {}), getattr(args, "freeze_backbone", False)
    if aspects is None and (chosen or freezes):
        name = next(iter(chosen), "freeze_backbone")
        raise InputError(
            f"`{name}` is for a model with heads. Train one with `train_aspect_rewards(..., heads=True)` (--heads true), or leave it out."
        )
    config = getattr(model, "config", None)
    if chosen and isinstance(config, MultiAspectRewardConfig):
        differ = [name for name, value in chosen.items() if getattr(config, name) != value]
        if differ:
            raise InputError(
                f"The heads of the model read {differ[0]}={getattr(config, differ[0])!r}, and the training arguments say "
                f"{chosen[differ[0]]!r}. Leave the argument out, or start from the backbone."
            )
    if freezes and getattr(args, "share_prefix", False):
        raise InputError(
            "With `freeze_backbone=True` each conversation is read once: there is no prefix to share. Leave `share_prefix` out."
        )


def set_up_heads(trainer: Any, aspects: Sequence[str]) -> None:
    """
    Makes the batches of a trainer name heads and responses, freezes the backbone where it is asked for, and notes what the heads
    read for what is saved beside an adapter.

    Raises:
        InputError: Where the backbone is to be frozen and has an adapter to train.
    """
    model = heads_under(trainer.model)
    if needs_responses(model):
        trainer.data_collator = ResponseCollator(trainer.data_collator)
    trainer.data_collator = AspectCollator(trainer.data_collator, aspects)
    trainer.sidecar_.reading = model.config.reading
    if not getattr(trainer.args, "freeze_backbone", False):
        return
    if hasattr(trainer.model, "peft_config"):
        raise InputError(
            "`freeze_backbone=True` leaves nothing to train in an adapter's backbone. Leave one of the two out."
        )
    model.model.requires_grad_(False)
    trainer.frozen_features_ = FrozenFeatures(model)
