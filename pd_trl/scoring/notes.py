"""Notes of who has begun with a shard. They keep processes apart, and exclude nobody: the marker of a shard decides."""

import contextlib
import os
import platform
from pathlib import Path

_HOST = platform.node() or "localhost"


class Notes:
    """
    A file for each shard that is being computed, with a line for each attempt: the machine and the process.

    Args:
        folder (`Path`): Where the files lie.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._own: set[int] = set()

    def path(self, index: int) -> Path:
        """The note of a shard."""
        return self.folder / f"{index:05d}.begun"

    def begin(self, index: int, anyway: bool = False) -> bool:
        """Notes that this process begins with a shard. `False` where another may be at work on it, unless it begins `anyway`."""
        flags = os.O_WRONLY | os.O_CREAT
        try:
            handle = os.open(self.path(index), flags | os.O_EXCL, 0o644)
        except FileExistsError:
            if not anyway and self.is_begun(index):
                return False
            handle = os.open(self.path(index), flags | os.O_APPEND, 0o644)
        with os.fdopen(handle, "ab") as stream:
            stream.write(f"{_HOST} {os.getpid()}\n".encode())
        self._own.add(index)
        return True

    def is_begun(self, index: int) -> bool:
        """Whether another process may be at work on a shard: the last that began with it is not known to have ended."""
        lines = self._lines(index)
        if not lines:
            return self.path(index).is_file()
        host, _, number = lines[-1].rpartition(" ")
        if host != _HOST or not number.isdigit():
            return True
        if int(number) == os.getpid():
            return index in self._own
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        return True

    def attempts(self, index: int) -> int:
        """How often a shard was begun."""
        return len(self._lines(index))

    def remove(self, index: int) -> None:
        """Removes the note of a finished shard."""
        self._own.discard(index)
        self.path(index).unlink(missing_ok=True)

    def _lines(self, index: int) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return self.path(index).read_text(encoding="utf-8", errors="replace").splitlines()
        return []
