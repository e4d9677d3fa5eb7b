"""`adapter_config.json`: what is read of it."""

import os
from pathlib import Path
from typing import Any

from ..errors import InputError
from .schema import anything, optional, read_document, record, sequence, text

ADAPTER_NAME = "adapter_config.json"
# The configuration of a model or an adapter, as far as it is read here.
CONFIG = record(
    {
        "architectures": optional(sequence(text())),
        "task_type": optional(text()),
        "base_model_name_or_path": optional(text()),
        "modules_to_save": optional(sequence(text())),
    },
    others=anything,
)


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """The configuration of a model or an adapter; raises `InputError` naming the file where it is none."""
    content: dict[str, Any] = read_document(path, CONFIG, "the configuration of a model")
    return content


def adapter_base(folder: str | os.PathLike) -> str:
    """The name of the model that the adapter in `folder` is of; raises `InputError` where the file names none."""
    path = Path(folder) / ADAPTER_NAME
    name = read_config(path).get("base_model_name_or_path")
    if not name:
        raise InputError(f"{path} names no base model (`base_model_name_or_path`), without which it cannot be used.")
    return str(name)
