"""Finished rows by key: in a file that grows line by line, from which a run that was killed goes on, or in memory."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from .artifacts import digest_of
from .errors import InputError


class RowLog:
    """
    Finished rows by key, in a jsonl file whose first line says what they were made with.

    A line that a kill cut off is dropped, and its row is missing. One process at a time writes.

    Args:
        path (`str` or `Path`): The file, made where there is none.
        identity (`dict`): All that decides a row beside its key, as json-like values.
    """

    def __init__(self, path: str | os.PathLike, identity: dict[str, Any]):
        self.path = Path(path)
        self.identity = json.loads(json.dumps(identity, default=str))
        self.rows: dict[str, Any] = {}
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
            self._file = self.path.open("a", encoding="utf-8")
            if self.path.stat().st_size == 0:
                self._write({"identity": self.identity})
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

    def add(self, key: str, row: Any) -> None:
        """Appends a finished row."""
        self._write({"key": key, "row": row})
        self.rows[key] = row

    def _write(self, content: dict[str, Any]) -> None:
        self._file.write(json.dumps(content, ensure_ascii=False) + "\n")
        self._file.flush()

    def _read(self) -> None:
        if not self.path.is_file():
            return
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        lines = whole.splitlines()
        try:
            entries = [json.loads(line) for line in lines]
            found = entries[0]["identity"] if entries else self.identity
            self.rows = {entry["key"]: entry["row"] for entry in entries[1:]}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.path} is damaged ({error}). Remove it to begin again.") from None
        if digest_of(found) != digest_of(self.identity):
            changed = sorted(k for k in {*found, *self.identity} if found.get(k) != self.identity.get(k))
            raise InputError(
                f"{self.path} holds the rows of another run ({', '.join(changed)} differ). Choose another folder, or remove it."
            )


class MemoryLog(RowLog):
    """Rows of this process only."""

    def __init__(self) -> None:
        self.rows = {}

    def add(self, key: str, row: Any) -> None:
        """Keeps a finished row."""
        self.rows[key] = row
