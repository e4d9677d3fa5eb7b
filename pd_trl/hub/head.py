"""What a repository holds, and what a publication makes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from ..errors import InputError
from .client import hub_api, retried
from .download import download_file
from .files import Content, RemoteFile, listed_files


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
        local = download_file(
            self.repo_id, path, repo_type=self.repo_type, revision=self.sha, token=self.token, listed=self.files[path]
        )
        try:
            return None if local is None else local.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path} of the {self.repo_type} {self.repo_id} is not UTF-8 ({error.reason} at byte {error.start}), and its text "
                "cannot be kept. Correct it there, and publish again."
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
        return Head(repo_id, repo_type, info.sha, dict(listed_files(entries)), token)

    return retried(read, what)
