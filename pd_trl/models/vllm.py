"""vLLM's import and engine, for rewards and outputs."""

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import InputError
from .loading import model_dtype

_SEVERAL_GPUS = ("tensor_parallel_size", "pipeline_parallel_size")
# Where its parts run changes nothing that it promises.
PLACING = (*_SEVERAL_GPUS, "gpu_memory_utilization")


def import_vllm() -> Any:
    """The package `vllm`; raises `InputError` where it cannot be imported."""
    try:
        import vllm
    except ImportError as error:
        raise InputError(f"vLLM cannot be imported ({error}). Install it with `pip install pd_trl[vllm]`.") from None
    return vllm


def check_engine_kwargs(engine_kwargs: Mapping[str, Any] | None) -> None:
    """Raises `InputError` where vLLM would need more than the one GPU of an actor."""
    for name in _SEVERAL_GPUS:
        if (engine_kwargs or {}).get(name, 1) != 1:
            raise InputError(
                f"`{name}` needs several GPUs, and each actor of Ray has one. Leave `engine` out: one process has all GPUs of its "
                "machine. For outputs, a server of `vllm serve` does too (`model` and `base_url`)."
            )


def vllm_engine(
    model: Any,
    *,
    dtype: torch.dtype | str | None,
    trust_remote_code: bool,
    engine_kwargs: Mapping[str, Any] | None,
    defaults: Mapping[str, Any] | None = None,
    **fixed: Any,
) -> Any:
    """
    A `vllm.LLM`.

    Args:
        model (`str` or `Path`): Folder of the model.
        dtype (`torch.dtype` or `str`, *optional*): See [`model_dtype`].
        trust_remote_code (`bool`): Whether to run code that comes with the model.
        engine_kwargs (mapping, *optional*): The user's arguments.
        defaults (mapping, *optional*): Ours that the user's replace.
        fixed: Ours that decide what the engine does.

    Raises:
        InputError: When vLLM cannot be imported, or the user's arguments name one of ours that are fixed.
    """
    vllm, given = import_vllm(), dict(engine_kwargs or {})
    fixed |= {"model": str(model), "trust_remote_code": trust_remote_code}
    taken = sorted(set(given) & set(fixed))
    if taken:
        raise InputError(f"`engine_kwargs` cannot set {', '.join(taken)}: pd_trl sets it. Leave it out.")
    ours = {"dtype": str(model_dtype(dtype)).removeprefix("torch."), **(defaults or {})}
    return vllm.LLM(**{**ours, **given, **fixed})
