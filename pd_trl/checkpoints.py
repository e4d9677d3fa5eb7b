"""Going on from a training run's last whole checkpoint, and only from one of the same run."""

import json
import logging
import re
import shutil
from pathlib import Path

from .artifacts import Manifest, write_json
from .errors import InputError
from .runs.schema import anything, mapping, read_document

logger = logging.getLogger(__name__)

_IDENTITY = "run_identity.json"


def last_checkpoint(folder: Path, manifest: Manifest, may_write: bool = True) -> str | None:
    """
    The newest whole checkpoint in `folder`, or `None`. Remembers the run in `run_identity.json`; a checkpoint that a kill left
    unfinished is removed.

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
    whole = [path for _, path in checkpoints if _is_whole(path)]
    if may_write:
        for _, path in checkpoints:
            if path not in whole:
                logger.warning("Removing %s, which was left unfinished.", path)
                shutil.rmtree(path, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(
            identity, {"key": manifest.key, "inputs": manifest.inputs, "arguments": manifest.arguments}, private=True
        )
    if not whole:
        return None
    logger.info("Going on from %s.", whole[-1])
    return str(whole[-1])


def _is_whole(checkpoint: Path) -> bool:
    # The trainer writes its state last.
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    weights = list(checkpoint.glob("*.safetensors"))
    return bool(weights) and (checkpoint / "optimizer.pt").is_file()
