"""What a stage shows on a terminal: one line with a bar while it runs, then one line and a short table."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..runs.launch import is_main_process
from ..runs.progress import Bar, shown, watched
from ..runs.stage_folders import StageResult
from .terminal import say
from .terminal import shown as harmless

if TYPE_CHECKING:
    from rich.progress import Progress

VERBOSE = "PD_TRL_VERBOSE"
# Lines of a stage's table in a run; the whole is in the stage's folder.
MAX_LINES = 12
_SECONDS_BETWEEN = 0.1


def verbose() -> bool:
    """Whether what TRL and transformers print is shown: `--verbose`, also in the processes of a launch."""
    return bool(os.environ.get(VERBOSE))


def is_terminal() -> bool:
    """Whether a person looks on: both streams are a terminal, which can move its cursor."""
    return sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class StageBar:
    """
    The line of a running stage: of its open bars, the last one.

    Args:
        progress (`rich.progress.Progress`): Where it is drawn.
        stage (`str`): Name of the stage.
    """

    def __init__(self, progress: "Progress", stage: str):
        self._progress, self._stage = progress, stage
        self._open: list[Bar] = []
        self._drawn = 0.0
        self._task = progress.add_task(harmless(stage), total=None, left="")

    def begin(self, bar: Bar) -> None:
        self._open.append(bar)
        self._draw(fresh=True)

    def move(self, bar: Bar) -> None:
        if time.monotonic() - self._drawn >= _SECONDS_BETWEEN and self._open and self._open[-1] is bar:
            self._draw()

    def end(self, bar: Bar) -> None:
        if bar in self._open:
            self._open.remove(bar)
        if self._open:
            self._draw(fresh=True)
        else:
            self._progress.reset(self._task, total=None, description=harmless(self._stage), left="")

    def _draw(self, fresh: bool = False) -> None:
        bar = self._open[-1]
        title = harmless(" ".join((self._stage, bar.title)))
        if fresh:
            # The estimate is of this part.
            self._progress.reset(self._task, total=bar.total, completed=int(bar.n), description=title, left="left")
        else:
            self._progress.update(self._task, completed=bar.n, description=title)
        self._drawn = time.monotonic()


@contextmanager
def stage_line(stage: str) -> Iterator[None]:
    """Shows the line of a stage while the block runs, on a terminal; elsewhere nothing."""
    before, shown.quiet_trainers = shown.quiet_trainers, not verbose()
    try:
        if verbose() or not is_terminal() or not is_main_process():
            yield
            return
        from rich import progress as rich
        from rich.console import Console

        columns = (
            rich.SpinnerColumn("line"), rich.TextColumn("{task.description}", markup=False), rich.BarColumn(bar_width=24),
            rich.TaskProgressColumn(), rich.TimeElapsedColumn(), rich.TextColumn("{task.fields[left]}"), rich.TimeRemainingColumn(),
        )  # fmt: skip
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        with rich.Progress(
            *columns, console=console, transient=True, refresh_per_second=4, redirect_stdout=False
        ) as progress:
            with watched(StageBar(progress, stage)):
                yield
    finally:
        shown.quiet_trainers = before


def show_short(result: StageResult, seconds: float) -> None:
    """The line of a finished stage and the start of its table, on a terminal."""
    width = shutil.get_terminal_size().columns
    counts = ", ".join(f"{name} {count:,}" for name, count in result.counts.items())
    state = "already done" if result.skipped else f"{seconds:.0f} s"
    say(_cut(f"✓ {result.stage}  {state}" + (f"  {counts}" if counts else ""), width))
    lines = "\n".join(map(str, result.lines)).rstrip().split("\n")
    # Whole paragraphs, so that no table ends with its head.
    most = max((i for i, line in enumerate(lines[: MAX_LINES + 1]) if not line.strip()), default=MAX_LINES)
    most = len(lines) if len(lines) <= MAX_LINES else most
    for line in filter(str.strip, lines[:most]):
        say(_cut(f"    {line}", width))
    if left := sum(bool(line.strip()) for line in lines[most:]):
        # A path is of use whole only.
        say(f"    … {left} more lines: {result.folder}", paths=[result.folder])


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"


class StandardError(logging.StreamHandler[Any]):
    """Writes to what is standard error at the time: a bar stands below what is written while it is drawn."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        pass
