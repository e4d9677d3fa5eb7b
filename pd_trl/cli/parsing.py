"""Arguments by TRL's rules: default < YAML file < command line, and an unknown key is an error with a suggestion."""

import argparse
import os
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..pipeline.mappings import is_mapping_text
from ..pipeline.recipe_rules import check_file, check_servers, set_environment
from ..safety.schema import parse_yaml
from ..safety.secrets import parsed_json
from .help import short_help
from .processes import run_forwarding
from .renamed import old_words, with_current_words
from .unknown import unknown, unknown_flag

HELP_ALL = {"--help-all", "--help_all"}
HELP = {"-h", "--help"} | HELP_ALL
EXIT_CODE_FILE = "PD_TRL_EXIT_CODE_FILE"


def load_yaml(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, str]]:
    """
    The mapping in a YAML file, and the environment variables of its `env`, as in TRL. They are checked here, and set
    after all other checks.
    """
    try:
        content = parse_yaml(Path(path).read_text(encoding="utf-8"), f"The configuration {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the configuration {path}: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(f"The configuration {path} must hold a mapping of keys to values.")
    environment = check_file(content, path)
    content.pop("env", None)
    return content, environment


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


class StageParser:
    """
    Parser of a stage's dataclasses.

    Args:
        dataclass_types (sequence of `type`): Dataclasses of the arguments.
        prog (`str`): Name shown in messages.
        description (`str`): What the stage does.
        defaults (mapping, *optional*): Defaults that differ from those of the dataclasses.
    """

    def __init__(
        self,
        dataclass_types: Sequence[type],
        prog: str,
        description: str = "",
        defaults: Mapping[str, Any] | None = None,
    ):
        # TrlParser's base, which needs no torch: TRL's own takes seconds to import and adds what `parse` does.
        from transformers.hf_argparser import HfArgumentParser

        self.parser = HfArgumentParser(dataclass_types, prog=prog, description=description, allow_abbrev=False)
        self.parser.error = refuse
        self.parser.add_argument("--config", default=None, help="YAML file with these arguments.")
        for action in self.parser._actions:
            # transformers gives a negated flag the help of the other one, and a default that the help would show.
            if f"--no_{action.dest}" in action.option_strings:
                action.default = argparse.SUPPRESS
                action.help = f"Turns --{action.dest} off, as `--{action.dest} false` does."
        self.actions = {a.dest: a for a in self.parser._actions if a.dest not in ("help", "config")}
        self.hints = {name: hint for cls in dataclass_types for name, hint in typing.get_type_hints(cls).items()}
        for name in set(defaults or {}) & set(self.actions):
            self.actions[name].default = (defaults or {})[name]
            self.actions[name].required = False

    def print_help(self, everything: bool = False) -> None:
        """Our arguments and those of the trainer that most runs set, or `everything`."""
        text = self.parser.format_help() if everything else short_help(self.parser, self.parser.dataclass_types)
        sys.stdout.write(text)

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
        content, environment = load_yaml(path) if path else ({}, {})
        rest, config = with_current_words(rest, dict(section or {}) | content, old_words(self.parser.dataclass_types))
        from_file: list[str] = []
        for key, value in config.items():
            if key not in self.actions:
                raise unknown(str(key), self.actions, f"key in {path or 'the recipe'}")
            from_file += self._as_arguments(key, value)
        known, launch = self._split(rest)
        if content:
            check_servers(content, {flag.partition("=")[0].lstrip("-").replace("-", "_") for flag in known})
        try:
            outputs = self.parser.parse_args_into_dataclasses(args=[*from_file, *known], look_for_args_file=False)
        except InputError:
            raise
        except (ValueError, TypeError, ImportError) as error:
            # TRL's and transformers' own checks of their arguments.
            raise InputError(" ".join(str(error).split())) from error
        if not any(getattr(output, "dry_run", False) for output in outputs):
            set_environment(environment)
        return outputs[: len(self.parser.dataclass_types)], launch

    def _as_arguments(self, key: str, value: Any) -> list[str]:
        """A value of YAML as it would be written on the command line, so that types and choices are checked alike."""
        allowed = self._allowed(key)
        takes_list = self.actions[key].nargs == "+"
        if value is None:
            if type(None) not in allowed:
                raise InputError(f"`{key}` must not be null.")
            self.parser.set_defaults(**{key: None})
            return []
        if isinstance(value, Mapping):
            if not self.takes_mapping(key):
                raise InputError(f"`{key}` must be a single value, got the mapping {dict(value)}.")
            self.parser.set_defaults(**{key: dict(value)})
            return []
        if isinstance(value, list):
            if not takes_list or any(isinstance(item, (list, Mapping)) for item in value):
                raise InputError(
                    f"`{key}` must be a {'list of values' if takes_list else 'single value'}, got {value}."
                )
            if value:
                self.parser.set_defaults(**{key: self._items(key, value)})
            return []
        if isinstance(value, str) and self.takes_mapping(key) and is_mapping_text(value) and not parsed_json(value):
            # What is written as text is not searched for secrets and servers, unless it is json.
            raise InputError(
                f"`{key}` is a text that holds a mapping: {value!r}. Write it without the quotes around it."
            )
        if value is False and str in allowed and bool not in allowed:
            value = "no"  # what YAML makes of an unquoted `save_strategy: no`
        if self.needs_list(key):
            raise InputError(f"`{key}` must be a list, got {value!r}. Write it as [{value}].")
        numeric = {int, float} & set(allowed)
        if isinstance(value, (bool, int, float)) and str in allowed and not numeric and bool not in allowed:
            raise InputError(f"`{key}` must be text, got {value!r}. Put quotes around it if it is meant.")
        text = _written(value)
        # What begins with a dash would be read as the next argument.
        return [f"--{key}={text}"] if text.startswith("-") else [f"--{key}", text]

    def _items(self, key: str, values: list[Any]) -> list[Any]:
        """The values of a list, read as the command line reads them. On a command line, one like `--overwrite` would be a flag."""
        action = self.actions[key]
        items = []
        try:
            for value in values:
                items.append(self.parser._get_value(action, _written(value)))
                self.parser._check_value(action, items[-1])
        except argparse.ArgumentError as error:
            refuse(str(error))
        return items

    def needs_list(self, key: str) -> bool:
        """Whether an argument takes a list only; `report_to` and the like take one value or several."""
        return self.actions[key].nargs == "+" and str not in self._allowed(key)

    def takes_mapping(self, key: str) -> bool:
        """Whether an argument takes a mapping."""
        return any(kind is dict or typing.get_origin(kind) is dict for kind in self._allowed(key))

    def _allowed(self, key: str) -> tuple[Any, ...]:
        return typing.get_args(self.hints[key]) or (self.hints[key],)

    def _split(self, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Ours and accelerate's: what this parser does not know, `accelerate launch` must."""
        if HELP & set(arguments):
            self.print_help(everything=bool(HELP_ALL & set(arguments)))
            raise SystemExit(0)
        _, left = self.parser.parse_known_args(arguments)
        if not left:
            return arguments, []
        check_launch_flags(left, [o for a in self.parser._actions for o in a.option_strings])
        return without(arguments, left), left


def refuse(message: str) -> typing.NoReturn:
    if message.endswith("expected one argument"):
        message += ". A value that begins with a dash is written as --name=VALUE"
    raise InputError(f"{message[:1].upper()}{message[1:]}. `--help` lists all arguments.")


def string_to_bool(text: str) -> bool:
    """The words for yes and no that the stages' arguments take, too."""
    words = {"yes": True, "true": True, "t": True, "y": True, "1": True}
    words |= {"no": False, "false": False, "f": False, "n": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return words[text.lower()]


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def without(arguments: Sequence[str], left: Sequence[str]) -> list[str]:
    """`arguments` less `left`, which is a subsequence of them."""
    remaining = iter(left)
    expected = next(remaining, None)
    kept = []
    for argument in arguments:
        if argument == expected:
            expected = next(remaining, None)
        else:
            kept.append(argument)
    return kept


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
                raise unknown_flag(flag, ours)
            takes_value = "=" not in argument
        elif not takes_value:
            raise InputError(
                f"Unexpected argument '{argument}'. Arguments are given as --name value; `--help` lists all."
            )
        else:
            takes_value = False


def launch(command: str, launch_args: list[str], arguments: list[str]) -> int:
    """
    Runs `pd-trl COMMAND ARGUMENTS` in the processes of `accelerate launch LAUNCH_ARGS`. Without a GPU, where accelerate
    starts a single process whatever it is told, `--num_processes` starts that many by torch's launcher.
    """
    import tempfile

    import torch
    from trl.cli.accelerate_config import resolve_accelerate_config_argument

    flags = resolve_accelerate_config_argument(list(launch_args))
    rest = [flag for flag in flags if flag != "--cpu"]
    count = pop_option(rest, "num_processes") or "1"
    on_cpu = "--cpu" in flags or not torch.cuda.is_available()
    if on_cpu and count != "1" and not rest:
        if not count.isdigit():
            raise InputError(f"--num_processes must be a number of processes, got {count!r}.")
        port = f"--master_port={_free_port()}"
        program = ["torch.distributed.run", f"--nproc_per_node={count}", "--master_addr=127.0.0.1", port, "--module"]
    else:
        # accelerate's port is the same for every launch, so that two at once on a machine collide.
        own_port = any(
            flag.split("=")[0] in ("--main_process_port", "--config_file", "--num_machines") for flag in flags
        )
        flags += [] if own_port else ["--main_process_port", str(_free_port())]
        program = ["accelerate.commands.launch", *flags, "--module"]
    with tempfile.TemporaryDirectory() as folder:
        # The launchers return 1 whatever the command's exit code was.
        code_file = Path(folder) / "code"
        environment = {**os.environ, EXIT_CODE_FILE: str(code_file)}
        program = [sys.executable, "-m", *program, "pd_trl", command, *arguments]
        code = run_forwarding(program, environment, EXIT_CODE_FILE)
        return int(code_file.read_text()) if code and code_file.is_file() else code


def _free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
