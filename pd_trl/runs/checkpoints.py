"""Going on from a training run's newest whole checkpoint, and only from one of the same run."""

import json
import logging
import re
from pathlib import Path

from ..errors import InputError
from ..safety.schema import anything, mapping, read_document
from .artifacts import Manifest, write_json

logger = logging.getLogger(__name__)

_IDENTITY = "run_identity.json"
# Where transformers finds a model when it resumes: weights or an adapter in one file, an index of several, FSDP's, ZeRO's.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin", "pytorch_model_fsdp.bin")  # fmt: skip
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_SHARDED = ("pytorch_model_fsdp*", "global_step*")


def last_checkpoint(folder: Path, manifest: Manifest, may_write: bool = True) -> str | None:
    """
    The newest whole checkpoint in `folder`, or `None`. Remembers the run in `run_identity.json`. Removes nothing: a checkpoint
    that a kill left unfinished is passed over, and written again when training reaches its step.

    Args:
        folder (`Path`): Output folder of a trainer.
        manifest ([`Manifest`]): What the run will be: its inputs and arguments.
        may_write (`bool`): Whether this process keeps the folder (rank 0).

    Raises:
        InputError: When the folder holds checkpoints of another run.
    """
    checkpoints = sorted(
        (int(match[1]), path)
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
    )
    identity = folder / _IDENTITY
    if (
        checkpoints
        and identity.is_file()
        and read_document(identity, mapping(anything), "the identity of a run").get("key") != manifest.key
    ):
        raise InputError(
            f"{folder} holds checkpoints of a run with other data, model or arguments. Use another output folder, or remove "
            "this one to start again."
        )
    whole: Path | None = None
    for _, path in reversed(checkpoints):
        missing = _what_is_missing(path)
        if missing is None:
            whole = path
            break
        logger.warning("%s is not whole (%s) and is passed over.", path, missing)
    if may_write:
        folder.mkdir(parents=True, exist_ok=True)
        content = {"key": manifest.key, "inputs": manifest.inputs, "arguments": manifest.arguments}
        write_json(identity, content, private=True)
    if whole is None:
        if checkpoints:
            logger.warning("No checkpoint in %s is whole: training starts at step 0.", folder)
        return None
    logger.info("Going on from %s.", whole)
    return str(whole)


def _what_is_missing(checkpoint: Path) -> str | None:
    """
    What a checkpoint lacks for transformers to resume from it, or `None`. Optimiser states are not asked for: without them,
    as with `save_only_model=True`, it goes on with a new optimiser.
    """
    try:
        # The trainer writes its state last.
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "no readable trainer_state.json"
    if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
        return "trainer_state.json has no global_step"
    return None if _has_weights(checkpoint) else "no weights"


def _has_weights(checkpoint: Path) -> bool:
    if any((checkpoint / name).is_file() for name in _WEIGHTS):
        return True
    if any(_is_whole_index(checkpoint / name) for name in _INDICES):
        return True
    if any(any(path.glob("*")) for pattern in _SHARDED for path in checkpoint.glob(pattern) if path.is_dir()):
        return True
    # Several adapters are saved in folders of their own.
    return any((path / name).is_file() for path in checkpoint.iterdir() if path.is_dir() for name in _ADAPTERS)


def _is_whole_index(index: Path) -> bool:
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return bool(files) and all((index.parent / str(name)).is_file() for name in files)
