"""Files of a repository as its listing has them, and whether a local copy is the same."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Content: TypeAlias = "Path | bytes"

# Digests of local files in this process; one that has changed since is read again.
_known: dict[tuple[str, str, int, int], str] = {}


@dataclass(frozen=True)
class RemoteFile:
    """A file at a commit: its size in bytes, the id of its git blob, and the sha256 of a large one."""

    size: int
    blob_id: str
    sha256: str | None = None

    def holds(self, content: Content) -> bool:
        """Whether it is the same, byte for byte."""
        return size_of(content) == self.size and digest_like(self.sha256 or self.blob_id, content) == self.digest

    @property
    def digest(self) -> str:
        """What tells its content: the sha256 of a large file, else the id of the git blob."""
        return self.sha256 or self.blob_id


def size_of(content: Content) -> int:
    """Bytes of a file to publish."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def listed_files(entries: Iterable[Any]) -> Iterator[tuple[str, RemoteFile]]:
    """The files of a listing of the Hub, by path."""
    for entry in entries:
        if hasattr(entry, "blob_id"):
            lfs = getattr(entry, "lfs", None)
            yield entry.path, RemoteFile(entry.size, entry.blob_id, lfs.sha256 if lfs is not None else None)


def digest_like(expected: str, content: Content) -> str:
    """The digest of `content` of the kind of `expected`: a sha256, or the sha1 of a git blob."""
    if isinstance(content, bytes):
        digest = _new_digest(expected, len(content))
        digest.update(content)
        return str(digest.hexdigest())
    status = content.stat()
    key = (str(content), str(len(expected)), status.st_size, status.st_mtime_ns)
    if key not in _known:
        digest = _new_digest(expected, status.st_size)
        with open(content, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        _known[key] = str(digest.hexdigest())
    return _known[key]


def _new_digest(expected: str, size: int) -> Any:
    return hashlib.sha256() if len(expected) == 64 else hashlib.sha1(b"blob %d\0" % size)  # noqa: S324
