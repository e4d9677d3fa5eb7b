"""Reads a PEFT adapter's folder: its base model, and whether it is a reward model."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from ..errors import InputError
from ..hub import local_model_folder
from ..safety.schema import anything, optional, read_document, record, sequence, text

ADAPTER_CONFIG = "adapter_config.json"
# The configuration of a model or an adapter, as far as it is read here.
_CONFIG = record(
    {
        "architectures": optional(sequence(text())),
        "task_type": optional(text()),
        "base_model_name_or_path": optional(text()),
        "modules_to_save": optional(sequence(text())),
    },
    others=anything,
)
# Modules that hold the head of a sequence classifier: of decoders, and of encoders.
_HEADS = {"score", "classifier"}


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """The configuration of a model or an adapter; raises `InputError` naming the file where it is none."""
    content: dict[str, Any] = read_document(path, _CONFIG, "the configuration of a model")
    return content


def adapter_config(folder: Path) -> dict[str, Any]:
    """The content of `adapter_config.json`; raises `InputError` where it cannot be used."""
    return read_config(folder / ADAPTER_CONFIG)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / ADAPTER_CONFIG).is_file()


def base_of(folder: Path) -> str:
    """
    Path or Hub id of an adapter's base model. A relative path is looked for in the working directory, then beside the adapter;
    a `file://` address is a path.

    Raises:
        InputError: When the adapter names none.
    """
    name = adapter_config(folder).get("base_model_name_or_path")
    if not isinstance(name, str) or not name.strip():
        raise InputError(
            f"The adapter in {folder} names no base model: write its path or Hub id into `base_model_name_or_path` of "
            f"{ADAPTER_CONFIG}."
        )
    if name.startswith("file:"):
        name = unquote(urlparse(name).path)
    beside = folder / name
    if not Path(name).expanduser().is_dir() and not name.startswith("~") and beside.is_dir():
        return os.path.normpath(beside)
    return name


def base_folder(folder: Path, what: str) -> Path:
    """Local folder of the base model of the adapter in `folder`, which `what` names in messages."""
    return local_model_folder(base_of(folder), what=f"base model of {what}")


def is_reward_adapter(config: Mapping[str, Any]) -> bool:
    """Whether an adapter makes a sequence classifier of its base: by its task, or where it has none by the head it keeps."""
    if config.get("task_type"):
        return bool(config["task_type"] == "SEQ_CLS")
    return saves_head(config, adapted=True)


def saves_head(config: Mapping[str, Any], *, adapted: bool) -> bool:
    """Whether an adapter holds a classifier's head: whole, or where `adapted` counts as low-rank changes of the base's."""
    parts = [config.get("modules_to_save"), config.get("target_modules") if adapted else None]
    names = [str(name) for part in parts for name in ([part] if isinstance(part, str) else part or [])]
    return any(name.split(".")[-1] in _HEADS for name in names)


def has_adapter(model: Any) -> bool:
    """Whether a model in memory has an adapter that is not merged. Older versions of peft leave `peft_config` on a merged one."""
    if not hasattr(model, "peft_config"):
        return False
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(model, PeftModel) or any(isinstance(module, BaseTunerLayer) for module in model.modules())
