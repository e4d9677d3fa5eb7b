"""Bars of work that takes long: those of tqdm, or what the command line shows in their place."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm.auto import tqdm


class Watcher(Protocol):
    """What is told of bars, in place of tqdm's drawing."""

    def begin(self, bar: "Bar") -> None: ...
    def move(self, bar: "Bar") -> None: ...
    def end(self, bar: "Bar") -> None: ...


class _Shown:
    watcher: Watcher | None = None
    # Whether trainers print no dictionaries of numbers.
    quiet_trainers: bool = False
    part: str = ""


shown = _Shown()


@contextmanager
def watched(watcher: Watcher | None) -> Iterator[None]:
    """Tells `watcher` of all bars within the block."""
    before = shown.watcher
    shown.watcher = watcher
    try:
        yield
    finally:
        shown.watcher = before


@contextmanager
def part_of(title: str) -> Iterator[None]:
    """Names the part of the work within the block, such as `"honesty (3 of 4)"`: bars begin with it."""
    before = shown.part
    shown.part = title
    try:
        yield
    finally:
        shown.part = before


class Bar(tqdm):
    """A tqdm bar, which draws nothing where a [`Watcher`] shows it."""

    def __init__(self, *args: Any, desc: str | None = None, **kwargs: Any):
        # Before tqdm's own, which may call `close`.
        self.watcher = shown.watcher
        self.title = " ".join(text for text in (shown.part, desc) if text)
        if self.watcher is not None:
            kwargs["disable"] = True
        super().__init__(*args, desc=desc, **kwargs)
        if self.watcher is not None:
            self.watcher.begin(self)

    def __iter__(self) -> Iterator[Any]:
        if self.watcher is None:
            yield from super().__iter__()
            return
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    def update(self, n: float | None = 1) -> bool | None:
        if self.watcher is None:
            return super().update(n)
        self.n += n or 0
        self.watcher.move(self)
        return None

    def close(self) -> None:
        watcher, self.watcher = getattr(self, "watcher", None), None
        if watcher is not None:
            watcher.end(self)
        super().close()
