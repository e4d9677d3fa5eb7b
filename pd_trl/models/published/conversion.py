"""[`convert_reward_model`]: a published reward model as a folder of ours."""

import os
from pathlib import Path

import torch

from ...errors import InputError
from ...hub import local_model_folder
from ..adapters import is_adapter
from ..heads.configuration import MultiAspectRewardConfig
from ..sidecar import RewardSidecar
from .checkpoint import Checkpoint, check_weights
from .families import PLAIN, Family, family_of
from .loading import load_published

DTYPES = ("float32", "bfloat16", "float16")


def convert_reward_model(
    model: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    revision: str | None = None,
    tokenizer: str | os.PathLike | None = None,
    dtype: str | None = None,
) -> list[str]:
    """
    Writes a published reward model, and its tokenizer, as a [`MultiAspectRewardModel`]. Of each of its outputs more is better: those
    of a cost model change their sign. No code that comes with the model is run.

    Args:
        model (`str`):
            Folder or Hub id.
        output_dir (`str`):
            Folder of the result.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        tokenizer (`str`, *optional*):
            Folder or Hub id of the tokenizer, where the model's own needs code of its own.
        dtype (`str`, *optional*):
            Type of the weights: `"float32"`, `"bfloat16"` or `"float16"`. `None` is the one that they are stored in.

    Returns:
        `list` of `str`: names of the outputs.

    Raises:
        InputError: When the model is of no family that can be converted.
    """
    folder = local_model_folder(model, revision=revision, what="model")
    checkpoint, family = convertible(folder, str(model))
    place = local_model_folder(tokenizer, what="tokenizer") if tokenizer is not None else None
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    loaded = load_published(checkpoint, family, {"dtype": "auto" if dtype is None else getattr(torch, dtype)}, place)
    with torch.no_grad():
        last = loaded.model.head_layers[-1]
        for part in (last.weight, last.bias):
            if part is not None:
                part.mul_(torch.tensor(loaded.signs, dtype=part.dtype).reshape(-1, *[1] * (part.ndim - 1)))
    loaded.model.save_pretrained(output_dir)
    loaded.tokenizer.save_pretrained(output_dir)
    RewardSidecar(heads={name: {} for name in loaded.model.aspects}).save(output_dir)
    return loaded.model.aspects


def convertible(folder: Path, name: str) -> tuple[Checkpoint, Family]:
    """
    The checkpoint in `folder` and its family.

    Raises:
        InputError: When it is none that can be converted.
    """
    what = f"The model {name}"
    checkpoint = Checkpoint(folder)
    if is_adapter(folder):
        raise InputError(f"{what} is an adapter, which is scored with as it is.")
    if checkpoint.config.get("model_type") == MultiAspectRewardConfig.model_type:
        raise InputError(f"{what} is a `MultiAspectRewardModel` already.")
    check_weights(folder, what)
    family = family_of(checkpoint) or (PLAIN if PLAIN.matches(checkpoint) else None)
    if family is None:
        heads = sorted({tensor.split(".")[0] for tensor in checkpoint.files} - {"model", "transformer"})
        raise InputError(
            f"{what} ({', '.join(checkpoint.config.get('architectures') or ['no architecture'])}) has no head that is known: beside the "
            f"backbone it holds {', '.join(heads[:5]) or 'nothing'}. A classifier of transformers is scored with as it is."
        )
    return checkpoint, family
