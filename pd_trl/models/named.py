"""[`ModelOutput`]: how a reward model, one of its outputs and the direction of this are named."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError

_KEYS = ("model", "output", "sign", "scale")
_FORMS = "'org/model', 'org/model#output', '-org/model#output' or {'model': …, 'output': …, 'sign': -1, 'scale': 1.0}"


@dataclass(frozen=True)
class ModelOutput:
    """
    One output of a reward model, as a voter.

    Args:
        model (`str` or model): Folder or Hub id, or a model in memory, alone or with its tokenizer.
        output (`str`, *optional*): Name or number of the output. `None` is the one of the aspect's name, or the only one.
        sign (`int`, *optional*): 1 where more is better, -1 where less is, as of a cost. `None` is what is known of the model.
        scale (`float`, *optional*, defaults to `1.0`): Positive factor of the output.
    """

    model: Any
    output: str | None = None
    sign: int | None = None
    scale: float = 1.0

    @property
    def is_named(self) -> bool:
        """Whether the model is a folder or a Hub id."""
        return isinstance(self.model, (str, os.PathLike))

    @property
    def choice(self) -> dict[str, Any]:
        """What was chosen of the model, for the identity of a run; empty where nothing was."""
        chosen = {"output": self.output, "sign": self.sign, "scale": None if self.scale == 1 else self.scale}
        return {name: value for name, value in chosen.items() if value is not None}

    def __str__(self) -> str:
        output = "" if self.output is None else f"#{self.output}"
        scale = "" if self.scale == 1 else f" times {self.scale:g}"
        return f"{'-' if self.sign == -1 else ''}{self.model}{output}{scale}"


def model_output(value: Any) -> ModelOutput:
    """
    The output that `value` names.

    Args:
        value: A folder or Hub id, with `#` and an output's name or number behind it, and with `-` before it where less is better; a
            mapping of `model`, `output`, `sign` and `scale`; a model in memory, alone or with its tokenizer.

    Raises:
        InputError: On other keys, or values out of range.
    """
    if isinstance(value, ModelOutput):
        return value
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if value is None or isinstance(value, (bool, int, float, list)):
        raise InputError(f"A reward model is named as {_FORMS}, got {value!r}.")
    if not isinstance(value, str):
        return ModelOutput(value)
    name, output = split_output(value)
    if name.startswith("-") and not Path(name).exists():
        return ModelOutput(name[1:], output, -1)
    return ModelOutput(name, output)


def split_output(name: str) -> tuple[str, str | None]:
    """Folder or Hub id, and the output where one is named, as in `me/rm-heads#honesty`."""
    model, _, output = name.rpartition("#")
    return (model, output) if model and output and not Path(name).expanduser().exists() else (name, None)


def _of_mapping(value: Mapping[str, Any]) -> ModelOutput:
    unknown = sorted(str(key) for key in value if key not in _KEYS)
    if unknown or value.get("model") is None:
        found = f"the key {unknown[0]!r}" if unknown else "no `model`"
        raise InputError(f"A reward model is named as {_FORMS}, got {found}.")
    named = model_output(value["model"])
    output, sign, scale = value.get("output"), value.get("sign"), value.get("scale", 1.0)
    for key, given, inside in (("output", output, named.output), ("sign", sign, named.sign)):
        if given is not None and inside is not None:
            raise InputError(f"`{key}` is given twice: as {given!r}, and in the name {value['model']!r}.")
    if output is not None and (isinstance(output, bool) or not isinstance(output, (str, int)) or output == ""):
        raise InputError(f"`output` must be the name or the number of an output, got {output!r}.")
    if sign is not None and (isinstance(sign, bool) or sign not in (1, -1)):
        raise InputError(f"`sign` must be 1 (more is better) or -1 (less is better), got {sign!r}.")
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not (0 < scale and math.isfinite(scale)):
        raise InputError(f"`scale` must be a positive number, got {scale!r}. Where less is better, set `sign` to -1.")
    return ModelOutput(
        named.model,
        named.output if output is None else str(output),
        named.sign if sign is None else int(sign),
        float(scale),
    )
