"""What a repository holds, and what a publication makes of it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from ..errors import InputError
from .client import hub_api, retried
from .download import download_file

Content: TypeAlias = "Path | bytes"


@dataclass(frozen=True)
class RemoteFile:
    """A file at a commit: its size in bytes, the id of its git blob, and the sha256 of a large one."""

    size: int
    blob_id: str
    sha256: str | None = None

    def holds(self, content: Content) -> bool:
        """Whether it is the same, byte for byte."""
        if size_of(content) != self.size:
            return False
        if self.sha256 is not None:
            return _digest(content, hashlib.sha256()) == self.sha256
        return _digest(content, hashlib.sha1(b"blob %d\0" % self.size)) == self.blob_id  # noqa: S324


@dataclass(frozen=True)
class Head:
    """
    What a branch holds.

    Args:
        repo_id (`str`): Repository.
        repo_type (`str`): Its type.
        sha (`str`, *optional*): Commit at the head of the branch; `None` where the repository does not exist.
        files (`dict`): Its files by path.
        token (`str`, *optional*): Token to read them with.
    """

    repo_id: str
    repo_type: str
    sha: str | None = None
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)

    def read(self, path: str) -> str | None:
        """Text of a file at this commit, `None` where there is none."""
        if path not in self.files:
            return None
        local = download_file(self.repo_id, path, repo_type=self.repo_type, revision=self.sha, token=self.token)
        try:
            return None if local is None else local.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path} of the {self.repo_type} {self.repo_id} is not UTF-8 ({error.reason} at byte {error.start}), so that what "
                "it says cannot be kept. Mend it there, and publish again."
            ) from None


@dataclass
class Changes:
    """
    What a publication makes of a head.

    Args:
        add (`dict`): Content of each path that is to be there: a local file, or bytes.
        delete (`list` of `str`): Paths that are to go.
    """

    add: dict[str, Content] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)


Build: TypeAlias = Callable[[Head], Changes]


@dataclass
class Commit:
    """
    What a publication changed.

    Args:
        repo_id (`str`): Repository.
        repo_type (`str`): Its type.
        sha (`str`, *optional*): The commit; of a dry run, the head that it was planned on.
        added (`dict`): Bytes of each path that is new or changed.
        deleted (`list` of `str`): Paths that went.
        unchanged (`list` of `str`): Paths that were there already, byte for byte.
        branch (`str`, *optional*): Branch committed to. `None` is the main one.
        pr_url (`str`, *optional*): Page of the pull request.
        pr_revision (`str`, *optional*): Its revision, such as `"refs/pr/1"`.
    """

    repo_id: str
    repo_type: str
    sha: str | None
    added: dict[str, int] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    branch: str | None = None
    pr_url: str | None = None
    pr_revision: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing had to change."""
        return not self.added and not self.deleted


def read_head(
    repo_id: str, repo_type: str, *, revision: str | None = None, token: str | None = None, missing_ok: bool = True
) -> Head:
    """The head of a branch with its files, of the main one where there is no such branch; empty without a repository."""
    api = hub_api(token)
    what = f"Reading the {repo_type} {repo_id}"

    def read() -> Head:
        try:
            info = api.repo_info(repo_id, repo_type=repo_type, revision=revision)
        except RevisionNotFoundError:
            if not missing_ok or revision is None:
                raise
            info = api.repo_info(repo_id, repo_type=repo_type)
        except RepositoryNotFoundError:
            if not missing_ok:
                raise
            return Head(repo_id, repo_type, token=token)
        entries = api.list_repo_tree(repo_id, repo_type=repo_type, revision=info.sha, recursive=True)
        return Head(repo_id, repo_type, info.sha, dict(_files(entries)), token)

    return retried(read, what)


def size_of(content: Content) -> int:
    """Bytes of a file to publish."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _files(entries: Any) -> Iterator[tuple[str, RemoteFile]]:
    for entry in entries:
        if hasattr(entry, "blob_id"):
            lfs = getattr(entry, "lfs", None)
            yield entry.path, RemoteFile(entry.size, entry.blob_id, lfs.sha256 if lfs is not None else None)


def _digest(content: Content, digest: Any) -> str:
    if isinstance(content, bytes):
        digest.update(content)
        return str(digest.hexdigest())
    with open(content, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())
