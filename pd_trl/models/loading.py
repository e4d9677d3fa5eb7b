"""The device and type of a model, and the tokenizer beside it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..errors import InputError

AUTO = "auto"
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


@contextmanager
def foreign(what: str, advice: str = "") -> Iterator[None]:
    """
    A block in which a library loads what strangers wrote. Libraries raise errors of any class there, `Exception` itself among them:
    each becomes an `InputError` in one line.

    Args:
        what (`str`): What is loaded, as the subject of "cannot be loaded".
        advice (`str`, *optional*): What to do about it.
    """
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
        raise InputError(f"{what} cannot be loaded: {said.rstrip('.')}.{advice and ' '}{advice}") from error


def model_device() -> torch.device:
    """The accelerator of this process (by `LOCAL_RANK`), or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def model_dtype(dtype: torch.dtype | str | None = None) -> torch.dtype:
    """
    The type of a model's weights.

    Args:
        dtype (`torch.dtype` or `str`, *optional*):
            The type or its name. `None` is bfloat16 on a GPU that has it and float32 elsewhere; `"auto"` is bfloat16 on a CPU that
            multiplies in it, too ([`has_native_bfloat16`]).

    Raises:
        InputError: When a name is no floating-point type of torch's.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is not None and dtype != AUTO:
        found = getattr(torch, dtype, None)
        if not isinstance(found, torch.dtype) or not found.is_floating_point:
            raise InputError(
                f"`dtype` must be {AUTO} or a floating-point type of torch, such as bfloat16, got {dtype!r}."
            )
        return found
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if dtype == AUTO and has_native_bfloat16() else torch.float32


def has_native_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """
    Whether this machine's CPU multiplies in bfloat16: avx512_bf16 or AMX, or bf16 of ARM. Others compute in it several times more
    slowly than in float32. Only Linux says so; elsewhere it is `False`.

    Args:
        cpuinfo (`Path`): What the system says of its processors.
    """
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = (line.partition(":") for line in lines)
    return any(
        name.strip() in ("flags", "Features") and not _BFLOAT16.isdisjoint(said.split()) for name, _, said in flags
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any((folder / name).is_file() for name in _TOKENIZERS)


def load_tokenizer(
    folder: Path, what: str, *, base: Path | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """
    The tokenizer beside a model; an adapter's own goes before its base's.

    Args:
        folder (`Path`): The model or adapter.
        what (`str`): What messages call it.
        base (`Path`, *optional*): The base model of an adapter.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code that comes with it.

    Raises:
        InputError: When there is none, or it cannot be loaded.
    """
    for place in (folder, base):
        if place is not None and has_tokenizer(place):
            with foreign(f"The tokenizer of {what}"):
                return AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
    raise InputError(f"No tokenizer beside {what}. Save it there with `tokenizer.save_pretrained`.")
