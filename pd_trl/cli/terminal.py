"""What the command line shows: without secrets, and harmless to a terminal, whoever wrote it."""

import logging
import os
import sys

from ..safety.secrets import known_secrets, masked_text
from ..text.tables import printable


def shown(text: object) -> str:
    """`text` as it may be shown: names, paths and messages may come from strangers, and may hold passwords."""
    return printable(masked_text(str(text), known_secrets()))


def say(text: object) -> None:
    """Prints `text` and a line break on standard output. Without a reader there, as after `| head`, the work goes on."""
    try:
        sys.stdout.write(f"{shown(text)}\n")
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
