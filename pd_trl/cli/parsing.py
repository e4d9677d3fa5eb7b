"""Arguments by TRL's rules: default < YAML file < command line, and an unknown key is an error with a suggestion."""

import difflib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError


def load_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """The mapping in a YAML file; its `env` entries become environment variables, as in TRL."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the configuration {path}: {error}.") from None
    except yaml.YAMLError as error:
        raise InputError(f"The configuration {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"The configuration {path} must hold a mapping of keys to values.")
    environment = content.pop("env", None) or {}
    if not isinstance(environment, Mapping):
        raise InputError(f"`env` in {path} must be a mapping of environment variables to values.")
    for name, value in environment.items():
        os.environ[str(name)] = str(value)
    return content


def pop_option(arguments: list[str], name: str) -> str | None:
    """Takes `--name value` or `--name=value` out of `arguments`; the last one counts."""
    value = None
    i = 0
    while i < len(arguments):
        if arguments[i] == f"--{name}":
            if i + 1 >= len(arguments):
                raise InputError(f"--{name} needs a value.")
            value = arguments[i + 1]
            del arguments[i : i + 2]
        elif arguments[i].startswith(f"--{name}="):
            value = arguments[i].split("=", 1)[1]
            del arguments[i]
        else:
            i += 1
    return value


def unknown(name: str, known: Iterable[str], where: str) -> InputError:
    """The error of an unknown key, with the closest known ones."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return InputError(f"Unknown {where} '{name}'.{hint} `--help` lists all.")


class StageParser:
    """
    Parser of a stage's dataclasses.

    Args:
        dataclass_types (sequence of `type`): Dataclasses of the arguments.
        prog (`str`): Name shown in messages.
        defaults (mapping, *optional*): Defaults that differ from those of the dataclasses.
    """

    def __init__(self, dataclass_types: Sequence[type], prog: str, defaults: Mapping[str, Any] | None = None):
        from trl import TrlParser

        self.parser = TrlParser(dataclass_types, prog=prog, allow_abbrev=False)
        self.parser.add_argument("--config", default=None, help="YAML file with these arguments.")
        self.keys = {action.dest for action in self.parser._actions} - {"help", "config"}
        if defaults:
            self.parser.set_defaults_with_config(**{k: v for k, v in defaults.items() if k in self.keys})

    def parse(
        self, arguments: Sequence[str], section: Mapping[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], list[str]]:
        """
        The dataclasses, and the flags meant for `accelerate launch`.

        Args:
            arguments (sequence of `str`): Command line.
            section (mapping, *optional*): A recipe's section, instead of a `--config` file.
        """
        rest = list(arguments)
        path = pop_option(rest, "config")
        config = dict(section or {}) | (load_yaml(path) if path else {})
        for key in config:
            if key not in self.keys:
                raise unknown(str(key), self.keys, f"key in {path or 'the recipe'}")
        self.parser.set_defaults_with_config(**{k: v for k, v in config.items() if v is not None})
        known, launch = self._split(rest)
        outputs = self.parser.parse_args_into_dataclasses(args=known, look_for_args_file=False)
        return outputs[: len(self.parser.dataclass_types)], launch

    def _split(self, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Ours and accelerate's: what this parser does not know, `accelerate launch` must."""
        if "-h" in arguments or "--help" in arguments:
            self.parser.parse_args(["--help"])
        _, left = self.parser.parse_known_args(arguments)
        if not left:
            return arguments, []
        check_launch_flags(left, [o for a in self.parser._actions for o in a.option_strings])
        remaining = iter(left)
        expected = next(remaining, None)
        known = []
        for argument in arguments:
            if argument == expected:
                expected = next(remaining, None)
            else:
                known.append(argument)
        return known, left


def check_launch_flags(left: Sequence[str], ours: Iterable[str]) -> None:
    """Raises `InputError` unless all of `left` are flags of `accelerate launch` and their values."""
    from accelerate.commands.launch import launch_command_parser

    launch = launch_command_parser()
    theirs = {option for action in launch._actions for option in action.option_strings} | {"--accelerate_config"}
    takes_value = False
    for argument in left:
        flag = argument.split("=", 1)[0]
        if flag.startswith("--"):
            if flag not in theirs:
                names = [option.lstrip("-") for option in ours]
                raise unknown(flag.lstrip("-"), names, "argument")
            takes_value = "=" not in argument
        elif not takes_value:
            raise InputError(
                f"Unexpected argument '{argument}'. Arguments are given as --name value; `--help` lists all."
            )
        else:
            takes_value = False


def launch(command: str, launch_args: list[str], arguments: list[str]) -> int:
    """Runs `pd-trl COMMAND ARGUMENTS` in the processes of `accelerate launch LAUNCH_ARGS`."""
    import subprocess

    from trl.cli.accelerate_config import resolve_accelerate_config_argument

    flags = resolve_accelerate_config_argument(list(launch_args))
    program = [sys.executable, "-m", "accelerate.commands.launch", *flags, "--module", "pd_trl", command, *arguments]
    return subprocess.run(program).returncode
