"""Training arguments: defaults, what fits the device, and TRL's configurations as ours."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InputError, InputTypeError

if TYPE_CHECKING:
    from transformers import TrainingArguments

ConfigT = TypeVar("ConfigT", bound="TrainingArguments")


def default_arguments(
    args: Any, config_class: type[ConfigT], trl_class: type, model: Any, neutral: Mapping[str, Any] | None = None
) -> ConfigT:
    """
    `args` as a `config_class`.

    Args:
        args ([`~transformers.TrainingArguments`], *optional*): What the trainer was given. `None` is a default configuration,
            named after the model as TRL does.
        config_class (`type`): Our configuration.
        trl_class (`type`): TRL's that it extends. One of these becomes a copy of ours.
        model (`str` or model): The model.
        neutral (mapping, *optional*): Values of our own parameters in such a copy, where they are not the defaults.
    """
    if args is None:
        from trl.trainer.utils import get_config_model_id

        name = model if isinstance(model, str) else get_config_model_id(model.config)
        return config_class(f"{str(name).split('/')[-1]}-{trl_class.__name__.removesuffix('Config')}")
    if isinstance(args, config_class):
        return args
    if not isinstance(args, trl_class):
        raise InputTypeError(f"`args` must be a `{config_class.__name__}`, got `{type(args).__name__}`.")
    upgraded: Any = object.__new__(config_class)
    for item in dataclasses.fields(config_class):
        if not hasattr(args, item.name):
            setattr(upgraded, item.name, (neutral or {}).get(item.name, item.default))
    upgraded.__dict__.update(args.__dict__)
    return upgraded


def check_offloading(args: Any) -> None:
    """Raises `InputError` where TRL's activation offloading has no device to offload from."""
    import torch

    if getattr(args, "activation_offloading", False) and not torch.accelerator.is_available():
        raise InputError(
            "`activation_offloading` moves activations from a GPU to the host, and there is no GPU. Leave it out here."
        )


def sampling_strategy(args: Any) -> str:
    """`train_sampling_strategy`, also for transformers below 5.1, which has `group_by_length` instead."""
    if hasattr(args, "train_sampling_strategy"):
        return args.train_sampling_strategy
    return "group_by_length" if getattr(args, "group_by_length", False) else "random"


def orders_by_length(args: Any) -> bool:
    """Whether the sampler of transformers looks for the column `length_column_name`."""
    return sampling_strategy(args) in ("group_by_length", "batch_rebalance")


def device_arguments() -> dict[str, Any]:
    """Training arguments that fit the device: TRL's defaults need an accelerator with bfloat16."""
    import torch

    from ..models.loading import model_device, model_dtype

    on_cpu = {"use_cpu": True} if model_device().type == "cpu" else {}
    return {"bf16": model_dtype() == torch.bfloat16, **on_cpu}
