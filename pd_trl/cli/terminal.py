"""What the command line shows: without secrets, and harmless to a terminal, whoever wrote it."""

import logging
import sys

from ..safety.secrets import known_secrets, masked_text
from ..text.tables import printable


def shown(text: object) -> str:
    """`text` as it may be shown: names, paths and messages may come from strangers, and may hold passwords."""
    return printable(masked_text(str(text), known_secrets()))


def say(text: object) -> None:
    """Prints `text` and a line break on standard output."""
    sys.stdout.write(f"{shown(text)}\n")
    sys.stdout.flush()


def complain(text: object) -> None:
    """Prints `text` and a line break on standard error."""
    sys.stderr.write(f"{shown(text)}\n")


class ShownFormatter(logging.Formatter):
    """Log messages as they may be shown."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))
