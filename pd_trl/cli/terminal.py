"""What the command line shows: without secrets, and harmless to a terminal, whoever wrote it."""

import logging
import os
import re
import sys
from collections.abc import Iterable

from ..safety.secrets import known_secrets, masked_text
from ..text.tables import printable


def shown(text: object, paths: Iterable[str] = ()) -> str:
    """
    `text` as it may be shown: names, paths and messages may come from strangers, and may hold passwords.

    Args:
        text: What to show.
        paths (iterable of `str`, *optional*): Local folders of results, which are shown as they are called: `run?sig=1` opens
            nothing, and under another name nobody would find it.
    """
    secrets = known_secrets()
    places = "|".join(re.escape(path) for path in sorted({*paths} - {""}, key=len, reverse=True))
    parts = re.split(f"({places})", str(text)) if places else [str(text)]
    return printable("".join(part if i % 2 else masked_text(part, secrets) for i, part in enumerate(parts)))


def say(text: object, paths: Iterable[str] = ()) -> None:
    """Prints `text` and a line break on standard output. Without a reader there, as after `| head`, the work goes on."""
    try:
        sys.stdout.write(f"{shown(text, paths)}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()


def has_reader() -> bool:
    """Whether somebody still reads the standard output."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return False
    return True


def drop_output() -> None:
    """Sends the standard output, whose reader is gone, to nowhere: the interpreter would complain when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: object) -> None:
    """Prints `text` and a line break on standard error."""
    sys.stderr.write(f"{shown(text)}\n")


class ShownFormatter(logging.Formatter):
    """Log messages as they may be shown."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))
