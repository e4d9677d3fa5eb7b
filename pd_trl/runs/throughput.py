"""One line on how far work is that several processes or actors share: rows, and tokens a second."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..text.tables import printable

logger = logging.getLogger(__name__)

# Seconds between two lines of a log, and between two states of a terminal's line.
_LOG, _TERMINAL = 30.0, 2.0


class Progress:
    """
    Args:
        num_rows (`int`): Rows of the run.
        done (callable): How many of them are finished, by this process and others.
        what (`str`): What the rows are.
        begins (`str`): How the line begins.
        on_terminal (`bool`): Whether it is drawn on a terminal, where there is one. Elsewhere it goes to the log.
    """

    def __init__(
        self,
        num_rows: int,
        done: Callable[[], int],
        what: str = "pairs",
        begins: str = "Scored",
        on_terminal: bool = True,
    ):
        self.num_rows, self.done, self.what, self.begins = num_rows, done, what, begins
        self.tokens = self.again = 0
        self._said: set[str] = set()
        self._start = self._last = time.monotonic()
        self._terminal = on_terminal and sys.stderr.isatty()

    def add(self, result: Mapping[str, Any]) -> None:
        """Counts what came of a part: its `tokens`, the `attempts` that it took, and warnings (`said`)."""
        self.tokens += result["tokens"]
        self.again += result.get("attempts", 1) - 1
        for warning in result.get("said", ()):
            if warning not in self._said:
                self._said.add(warning)
                logger.warning("%s", warning)
        now = time.monotonic()
        if now - self._last >= (_TERMINAL if self._terminal else _LOG):
            self._last = now
            self._show()

    def close(self) -> None:
        """Ends the line."""
        if self._terminal:
            self._show()
            print(file=sys.stderr)

    def __str__(self) -> str:
        speed = self.tokens / max(1e-9, time.monotonic() - self._start)
        again = f", {self.again} units begun again" if self.again else ""
        return f"{self.begins} {self.done():,} of {self.num_rows:,} {self.what}, {speed:,.0f} tokens/s{again}"

    def _show(self) -> None:
        if self._terminal:
            print(f"\r\x1b[K{printable(str(self))}", end="", file=sys.stderr, flush=True)
        else:
            logger.info("%s", self)
