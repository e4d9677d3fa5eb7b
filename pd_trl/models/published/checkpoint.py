"""[`Checkpoint`]: the configuration and the safetensors of a folder."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ...errors import InputError
from ...safety.schema import shown
from ..adapters import read_config

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class Checkpoint:
    """
    What a folder holds, read without any code that comes with it.

    Args:
        folder (`Path`): The model.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The content of `config.json`; empty where there is none."""
        path = self.folder / "config.json"
        return read_config(path) if path.is_file() else {}

    @cached_property
    def files(self) -> dict[str, Path]:
        """The file that holds each tensor, by the tensor's name."""
        found: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    found |= dict.fromkeys(file.keys(), path)
            except (SafetensorError, OSError) as error:
                raise InputError(f"The weights in {path} cannot be read: {error}. Fetch them again.") from None
        return found

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor as it is stored."""
        with safe_open(self.files[name], framework="pt") as file:
            return file.get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which is not read."""
        with safe_open(self.files[name], framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def whole_number(self, name: str) -> int | None:
        """A whole number of the configuration; `None` where it is not there. Raises `InputError` where it is another value."""
        value = self.config.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise InputError(f"`{name}` in {self.folder / 'config.json'} must be a whole number, got {shown(value)}.")

    def labels(self, count: int) -> list[str] | None:
        """The names of `count` outputs in `id2label`; `None` where it names other ones, or only numbers them."""
        named = self.config.get("id2label")
        if not isinstance(named, Mapping) or len(named) != count:
            return None
        found = [named.get(str(k), named.get(k)) for k in range(count)]
        default = [f"LABEL_{k}" for k in range(count)]
        usable = all(isinstance(name, str) and name for name in found) and len(set(found)) == count
        return [str(name) for name in found] if usable and found != default else None


def check_weights(folder: Path, what: str) -> None:
    """Raises `InputError` where a folder has no safetensors: pickles, which run code when they are read, are never read."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    found = f"only {', '.join(pickles[:3])}" if pickles else "none"
    raise InputError(
        f"{what} has no *.safetensors file ({found}). Pickled weights can run code and are not read. Take a revision with "
        "safetensors, or write them from the pickle where you trust it: https://huggingface.co/spaces/safetensors/convert, or "
        "`torch.load(file, weights_only=True)` and `safetensors.torch.save_file`."
    )
