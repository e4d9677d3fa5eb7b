"""Arguments that were called otherwise in the last version: the old word works once more, with a note."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError

logger = logging.getLogger(__name__)


def old_words(dataclass_types: Sequence[type]) -> dict[str, str]:
    """The old words of the arguments of a stage, and those that they became."""
    return {old: new for cls in dataclass_types for old, new in getattr(cls, "OLD_WORDS", {}).items()}


def with_current_words(
    arguments: Sequence[str], config: Mapping[str, Any], old: Mapping[str, str]
) -> tuple[list[str], dict[str, Any]]:
    """
    A command line and a section with the words of this version.

    Args:
        arguments (sequence of `str`): The command line.
        config (mapping): The section of a recipe or the file of `--config`.
        old (mapping): From [`old_words`].

    Raises:
        InputError: If an argument is given in both words.
    """
    found = []
    words = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        name = flag.lstrip("-").replace("-", "_")
        if flag.startswith("--") and name in old:
            found.append(name)
            argument = f"--{old[name]}{equals}{value}"
        words.append(argument)
    section = dict(config)
    for name, new in old.items():
        if name in section:
            if new in section:
                raise InputError(f"`{name}` is the old word for `{new}`, and both are given. Leave `{name}` out.")
            section[new] = section.pop(name)
            found.append(name)
    for name in dict.fromkeys(found):
        logger.warning("`%s` is now called `%s`; the old word will be refused in the next version.", name, old[name])
    return words, section
