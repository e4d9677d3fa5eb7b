"""Finished rows by key: in a file that grows line by line, from which a run that was killed goes on, or in memory."""

import collections
import errno
import json
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from ..errors import InputError
from ..safety.schema import Check, Misfit
from ..safety.secrets import masked
from .artifacts import digest_of, opened_privately

logger = logging.getLogger(__name__)


class RowLog:
    """
    Finished rows by key, in a jsonl file whose first line says what they were made with. A key's last row counts.

    A line that a kill cut off is dropped, and one that is damaged is left out with a warning: their rows are missing. One process
    at a time writes.

    Args:
        path (`str` or `Path`): The file, made where there is none.
        identity (`dict`): All that decides a row beside its key, as json-like values.
        form (check, *optional*): What a row may be. A line with another row is damaged. `None` leaves that to the caller.
    """

    def __init__(self, path: str | os.PathLike, identity: dict[str, Any], form: Check | None = None):
        self.path = Path(path)
        self._form = form
        self.identity = json.loads(json.dumps(masked(identity), default=str))
        self.rows: dict[str, Any] = {}
        self._counts: collections.Counter[str] = collections.Counter()
        # It stays when it is released: a process that waits at a file which is removed holds a lock that no other sees.
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))

    def __enter__(self) -> "RowLog":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"Another process is writing {self.path}. Wait for it, or choose another folder."
            ) from None
        try:
            self._read()
            self._file = open(self.path, "ab", buffering=0, opener=opened_privately)
            if self.path.stat().st_size == 0:
                self._write(_line({"identity": self.identity}))
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def __getitem__(self, key: str) -> Any:
        return self.rows[key]

    def count(self, key: str) -> int:
        """Number of rows that were added under a key, earlier runs included."""
        return self._counts[key]

    def add(self, key: str, row: Any) -> None:
        """
        Appends a finished row, whole or not at all.

        Raises:
            ValueError, TypeError or RecursionError: When no file can hold it.
        """
        self._write(_line({"key": key, "row": row}))
        self.rows[key] = row
        self._counts[key] += 1

    def _write(self, line: bytes) -> None:
        start = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, f"No space for a row of {self.path}")
        except BaseException:
            self._file.truncate(start)
            raise

    def _read(self) -> None:
        if not self.path.is_file():
            return
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        self._take(whole)

    def _take(self, whole: bytes) -> None:
        """Takes in the rows of whole lines."""
        self.rows, self._counts = {}, collections.Counter()
        damaged = []
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                entry = json.loads(line)
                if number == 1:
                    found = dict(entry["identity"])
                else:
                    key, row = entry["key"], entry["row"]
                    if not isinstance(key, str):
                        raise TypeError("a key is no text")
                    if self._form is not None:
                        self._form(row, "row")
            except (ValueError, KeyError, TypeError, RecursionError, Misfit) as error:
                if number == 1:
                    raise InputError(
                        f"{self.path} is damaged in its first line ({error}), which says what its rows are of. Remove it to begin again."
                    ) from None
                damaged.append(number)
                continue
            if number == 1:
                self._check_identity(found)
                continue
            self.rows[key] = row
            self._counts[key] += 1
        if damaged:
            logger.warning(
                "%s: %d of %d lines are damaged and left out (line %s), their rows are made again.",
                self.path, len(damaged), whole.count(b"\n"), ", ".join(map(str, damaged[:5])) + (", …" * (len(damaged) > 5)),
            )  # fmt: skip

    def _check_identity(self, found: dict[str, Any]) -> None:
        found = masked(found)
        if digest_of(found) != digest_of(self.identity):
            changed = sorted(k for k in {*found, *self.identity} if found.get(k) != self.identity.get(k))
            raise InputError(
                f"{self.path} holds the rows of another run ({', '.join(changed)} differ). Choose another folder, or remove it."
            )


def kept_rows(path: str | os.PathLike, identity: dict[str, Any], form: Check | None = None) -> RowLog:
    """The rows that a log holds now, read without changing it; none where there is no log, or one of another run."""
    log = RowLog(path, identity, form)
    try:
        content = log.path.read_bytes() if log.path.is_file() else b""
        log._take(content[: content.rfind(b"\n") + 1])
    except InputError:
        log.rows, log._counts = {}, collections.Counter()
    return log


def carry_over(source: str | os.PathLike, target: str | os.PathLike, identity: dict[str, Any]) -> int:
    """Copies a log to a place that has none, where it holds rows of the same identity, and returns their number."""
    source, target = Path(source), Path(target)
    count = 0 if target.exists() or source == target else len(kept_rows(source, identity).rows)
    if count:
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = target.with_name(f".{target.name}.copy")
        with open(copy, "wb", opener=opened_privately) as file:
            file.write(source.read_bytes())
        os.replace(copy, target)
    return count


def _line(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False) + "\n").encode()


class MemoryLog(RowLog):
    """Rows of this process only."""

    def __init__(self) -> None:
        self.rows = {}
        self._counts = collections.Counter()

    def add(self, key: str, row: Any) -> None:
        """Keeps a finished row."""
        self.rows[key] = row
        self._counts[key] += 1
