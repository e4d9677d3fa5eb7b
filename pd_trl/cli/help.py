"""The help of a stage: our arguments in a line or two each, then the trainer's arguments that most runs set."""

import argparse
import dataclasses
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

_PACKAGE = __name__.partition(".")[0]
_NAME_WIDTH = 26
_MAX_WIDTH = 110
# Of the arguments of TRL and transformers, those that most runs set.
_USUAL = (
    "model_name_or_path", "output_dir", "learning_rate", "num_train_epochs", "per_device_train_batch_size",
    "gradient_accumulation_steps", "max_length", "beta", "seed", "use_peft", "push_to_hub",
)  # fmt: skip


def short_help(
    parser: argparse.ArgumentParser, dataclass_types: Iterable[Any], own: Sequence[str] = ("config",)
) -> str:
    """
    The help of a stage in at most a screen or two.

    Args:
        parser (`argparse.ArgumentParser`): Parser of the stage.
        dataclass_types (iterable of `type`): Dataclasses of its arguments.
        own (sequence of `str`, *optional*): Names of arguments that belong to no dataclass and are ours.

    Returns:
        `str`: our arguments, those of TRL that most runs set, and how many others `--help-all` lists.
    """
    ours = {*own, *(name for cls in dataclass_types for name in own_fields(cls))}
    actions = {action.dest: action for action in parser._actions if action.dest != "help" and not negates(action)}
    width = min(shutil.get_terminal_size((100, 24)).columns, _MAX_WIDTH)
    shown = [action for name, action in actions.items() if name in ours]
    usual = [actions[name] for name in _USUAL if name in actions and name not in ours]
    lines = [f"usage: {parser.prog} [--config FILE] [arguments]", ""]
    lines += [*textwrap.wrap(" ".join((parser.description or "").split()), width), "", "arguments:"]
    lines += [line for action in shown for line in _described(action, width)]
    if usual:
        others = len(actions) - len(shown) - len(usual)
        lines += ["", f"arguments of TRL that most runs set (--help-all lists {others} more):"]
        lines += [line for action in usual for line in _described(action, width, sentences=1)]
    if any(isinstance(action.default, bool) for action in (*shown, *usual)):
        lines += ["", "In [] is the default. Where it is true or false, --name alone means true."]
    return "\n".join(lines) + "\n"


def own_fields(cls: type) -> set[str]:
    """Fields of a dataclass that a class of this package declares, inherited ones included."""
    fields = {field.name for field in dataclasses.fields(cls)}
    declared = {
        name
        for base in cls.__mro__
        if base.__module__.startswith(_PACKAGE)
        for name in base.__dict__.get("__annotations__", {})
    }
    return fields & declared


def negates(action: argparse.Action) -> bool:
    """Whether a flag only turns another off, as `HfArgumentParser` adds one to every flag that is on by default."""
    return isinstance(action, argparse._StoreFalseAction)


def _described(action: argparse.Action, width: int, sentences: int | None = None) -> list[str]:
    name = f"  --{action.dest}"
    text = " ".join((action.help or "").replace("%%", "%").split())
    if sentences is not None:
        text = " ".join(re.split(r"(?<=[.!?])\s", text)[:sentences])
    if action.choices and not all(str(choice) in text for choice in action.choices):
        text = f"{text.rstrip('.')}: {', '.join(map(str, action.choices))}."
    if action.default not in (None, "", argparse.SUPPRESS):
        text = f"{text} [{_shown(action.default)}]"
    lines = textwrap.wrap(text, width - _NAME_WIDTH - 2) or [""]
    if len(name) > _NAME_WIDTH:
        return [name, *(" " * (_NAME_WIDTH + 2) + line for line in lines)]
    first = f"{name:<{_NAME_WIDTH}}  {lines[0]}".rstrip()
    return [first, *(" " * (_NAME_WIDTH + 2) + line for line in lines[1:])]


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    value = getattr(default, "value", default)
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
