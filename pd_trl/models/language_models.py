"""[`load_language_model`]: a language model from its folder, with its adapter where it is one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from ..errors import InputError
from .loading import foreign


def load_language_model(
    folder: Path, base: Path | None, dtype: torch.dtype | str, settings: Mapping[str, Any] | None = None
) -> Any:
    """
    Loads a language model onto the CPU.

    Args:
        folder (`Path`): Folder of the model or of a LoRA adapter.
        base (`Path`, *optional*): Folder of the adapter's base; `None` where the model is none.
        dtype (`torch.dtype` or `str`): Type of the weights.
        settings (`dict`, *optional*): More arguments of `from_pretrained`, such as `{"trust_remote_code": True}`.

    Returns:
        The model, a [`~peft.PeftModel`] where it is an adapter.

    Raises:
        InputError: Where it cannot be loaded, or lacks weights of a language model.
    """
    source = base or folder
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            source, use_safetensors=True, dtype=dtype, output_loading_info=True, **(settings or {})
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"The model {source} cannot be loaded as a language model: {str(error).strip()}") from None
    # They would be random, and so would be every output.
    if missing := sorted(found["missing_keys"]):
        raise InputError(
            f"The model {source} lacks the weights {', '.join(missing[:3])}: it is not a language model (is it a reward model?)."
        )
    if base is not None:
        from peft import PeftModel

        with foreign(f"The adapter in {folder}"):
            model = PeftModel.from_pretrained(model, str(folder))
    return model
