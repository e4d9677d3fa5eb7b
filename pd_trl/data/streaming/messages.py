"""What is logged of parts of the data, said once for all of them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PREFIX = "pd_trl.data"
# As many as `find_rows` gives.
_SHOWN_ROWS = 5


class SummedMessages(logging.Filter):
    """
    Holds messages back and adds up their numbers.

    Attributes:
        first_row (`int`): Row of the part that is read: lists of numbers in messages are rows of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first_row = 0
        self.held: dict[tuple[Any, ...], list[Any]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        given: Any = record.args
        arguments = given if isinstance(given, tuple) else (given,) if given else ()
        fixed = tuple(repr(value) for value in arguments if not isinstance(value, int) and not _are_rows(value))
        key = (record.name, record.levelno, record.msg, fixed)
        known = key in self.held
        held = self.held.setdefault(key, list(arguments))
        for place, value in enumerate(arguments):
            if _are_rows(value):
                rows = [row + self.first_row for row in value]
                held[place] = [*(held[place] if known else ()), *rows][:_SHOWN_ROWS]
            elif known and isinstance(value, int):
                held[place] += value
        return False

    def say(self) -> None:
        """Logs what was held."""
        for (name, level, message, _), arguments in self.held.items():
            logging.getLogger(name).log(level, message, *arguments)


@contextmanager
def summed_messages() -> Iterator[SummedMessages]:
    """Within the block, messages about data are held, and said when it ends well."""
    held = SummedMessages()
    loggers = [
        logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith(f"{_PREFIX}.")
    ]
    for logger in loggers:
        logger.addFilter(held)
    try:
        yield held
    finally:
        for logger in loggers:
            logger.removeFilter(held)
    held.say()


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, int) for entry in value)
