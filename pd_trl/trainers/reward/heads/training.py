"""Set-up that only a model with heads needs: LoRA's modules, and passing TRL's check for one output."""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ....errors import InputError
from ....models.heads.configuration import MultiAspectRewardConfig


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
