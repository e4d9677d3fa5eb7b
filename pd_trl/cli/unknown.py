"""Errors of keys and flags that are not known, with the closest known one."""

from collections.abc import Iterable

from ..errors import InputError
from ..text.names import did_you_mean


def unknown(name: str, known: Iterable[str], where: str) -> InputError:
    """The error of an unknown key, with the closest known one."""
    return InputError(f"Unknown {where} '{name}'.{did_you_mean(name, set(known))} `--help` lists all.")


def unknown_flag(flag: str, known: Iterable[str]) -> InputError:
    """The error of an unknown flag, with the closest known one as it is typed: each has a form with dashes, too."""
    names = {f"--{option[2:].replace('-', '_')}" for option in known if option.startswith("--")}
    hint = did_you_mean(f"--{flag[2:].replace('-', '_')}", names)
    return InputError(f"Unknown argument '{flag}'.{hint} `--help` lists all.")
