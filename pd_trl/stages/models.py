"""What TRL's `ModelConfig` means for a trainer."""

from typing import Any

from ..errors import InputError


def model_settings(model_args: Any, training_args: Any) -> tuple[str, Any]:
    """
    The model's path or id and the PEFT configuration (or `None`); fills `training_args.model_init_kwargs` as TRL's scripts do.
    """
    from trl import get_peft_config, get_quantization_config

    if not model_args.model_name_or_path:
        raise InputError("No model: name one with --model_name_or_path (a folder or a Hub id).")
    settings = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype or "float32",
    }
    quantization = get_quantization_config(model_args)
    if quantization is not None:
        settings["quantization_config"] = quantization
    training_args.model_init_kwargs = {**settings, **(training_args.model_init_kwargs or {})}
    return model_args.model_name_or_path, get_peft_config(model_args)
