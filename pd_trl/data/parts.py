"""Whether columns are parts of longer ones, of which some questions can only be answered as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_IN_PARTS: ContextVar[bool] = ContextVar("in_parts", default=False)


class NeedsWholeError(Exception):
    """What a part of the rows means depends on the others, such as the scale of `8/10`: all must be read together."""


@contextmanager
def reading_parts() -> Iterator[None]:
    """Within the block, columns are parts of longer ones."""
    token = _IN_PARTS.set(True)
    try:
        yield
    finally:
        _IN_PARTS.reset(token)


def needs_whole(why: str) -> None:
    """Raises [`NeedsWholeError`] where columns are parts of longer ones."""
    if _IN_PARTS.get():
        raise NeedsWholeError(why)
