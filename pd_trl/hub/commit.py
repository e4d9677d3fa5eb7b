"""
One publication, one commit.

Beside `HfApi.create_commit(parent_commit=…)`, which is called here, stands what `HfApi` alone would lose or do twice:

- Another push that came first is built upon: test_moved_head_is_built_upon, test_six_parallel_publishers_are_all_there.
- A commit whose answer was lost is looked for, not made again: test_commit_whose_answer_was_lost_is_not_made_twice.
- A commit is tried again while the Hub is busy: test_commit_is_tried_again_while_the_hub_is_busy, test_retry_after_is_honoured.
- Many shards are still one commit, which `upload_folder` splits: test_many_shards_are_one_commit.
"""

import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HTTPError

from .client import MOVED, HubError, Patience, explained, hub_api, is_transient, jitter, retried, scrubbed, status_of
from .files import size_of
from .head import Build, Changes, Commit, Head, read_head
from .names import page_path
from .preflight import check_ref, read_info

logger = logging.getLogger(__name__)

# Bytes uploaded together: memory grows with a group, and a finished one is not sent again after a kill.
BYTES_PER_UPLOAD = 64_000_000


def commit_files(
    repo_id: str,
    repo_type: str,
    build: Build,
    *,
    message: str,
    branch: str | None = None,
    create_pr: bool = False,
    private: bool | None = None,
    space_sdk: str | None = None,
    tag: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> Commit:
    """
    Publishes files in one commit, or leaves the repository as it was.

    Large files are uploaded first, where nobody sees them. Then one commit is made on the head that `build` saw. Where
    another push came first, `build` is called again with the new head. A commit whose answer was lost is recognised by a
    mark in its description and not made twice.

    Args:
        repo_id (`str`): Full id, with its namespace. Made where it does not exist.
        repo_type (`str`): `"dataset"`, `"model"` or `"space"`.
        build (callable): Takes the [`Head`] and returns the [`Changes`] to it. Called once for each head.
        message (`str`): Title of the commit.
        branch (`str`, *optional*): Branch to commit to, made from the main one where it does not exist.
        create_pr (`bool`, *optional*, defaults to `False`): Open a pull request instead of changing the branch.
        private (`bool`, *optional*): Visibility of a new repository. `None` is the namespace's default.
        space_sdk (`str`, *optional*): Kind of a new Space.
        tag (`str`, *optional*): Tag for the commit.
        token (`str`, *optional*): Token; the one of `hf auth login` or HF_TOKEN where unset.
        dry_run (`bool`, *optional*, defaults to `False`): Return what would change, and change nothing.

    Raises:
        HubError: When the Hub refuses it, or stays out of reach. Nothing was changed then, unless the message says so.
        OSError: When a local file cannot be read, or the disk is full.
    """
    check_ref(branch, "branch")
    publication = _Publication(hub_api(token), repo_id, repo_type, branch, create_pr, token)
    if dry_run:
        head = read_head(repo_id, repo_type, revision=branch, token=token)
        return publication.difference(head, build(head))
    publication.prepare(private, space_sdk)
    commit = publication.run(build, message, tag)
    if tag is not None and not create_pr:
        _tag(publication, commit, tag)
    return commit


class _Publication:
    """One commit on its way, with the large files that were uploaded for it."""

    def __init__(
        self, api: HfApi, repo_id: str, repo_type: str, branch: str | None, create_pr: bool, token: str | None
    ):
        self.api, self.repo_id, self.repo_type, self.token = api, repo_id, repo_type, token
        self.branch, self.create_pr = branch, create_pr
        self.what = f"Publishing the {repo_type} {repo_id}"
        self.mark = f"pd_trl publication {uuid.uuid4().hex}"
        self.state = "nothing was changed there"
        self.uploaded: dict[tuple[str, Path], CommitOperationAdd] = {}

    def prepare(self, private: bool | None, space_sdk: str | None) -> None:
        """Makes the repository and the branch where they are not there."""
        name, kind, branch = self.repo_id, self.repo_type, self.branch
        if not self.create_pr and read_info(name, kind, token=self.token) is None:
            self.state = "the repository was made, and is empty"
            retried(
                lambda: self.api.create_repo(
                    name, repo_type=kind, private=private, space_sdk=space_sdk, exist_ok=True
                ),
                self.what,
            )
        if branch is not None:
            retried(lambda: self.api.create_branch(name, branch=branch, repo_type=kind, exist_ok=True), self.what)

    def difference(self, head: Head, changes: Changes) -> Commit:
        """What `changes` make of `head`."""
        commit = Commit(self.repo_id, self.repo_type, head.sha, branch=self.branch)
        for path, content in changes.add.items():
            there = head.files.get(path)
            if there is not None and there.holds(content):
                commit.unchanged.append(path)
            else:
                commit.added[path] = size_of(content)
        commit.deleted = sorted(path for path in changes.delete if path in head.files and path not in changes.add)
        return commit

    def run(self, build: Build, message: str, tag: str | None = None) -> Commit:
        """Tries until the commit is there. Refuses to give a `tag` in use to other content."""
        # Each other publisher can win once before it is our turn.
        moved, busy = Patience(attempts=40), Patience(attempts=7)
        planned: Commit | None = None
        while True:
            head = read_head(self.repo_id, self.repo_type, revision=self.branch, token=self.token, missing_ok=False)
            if planned is not None and (found := self._found(planned, head)):
                return found
            changes = build(head)
            planned = self.difference(head, changes)
            if planned.is_empty:
                logger.info("%s: all of it is there already, at commit %s.", self.what, head.sha)
                return planned
            if tag is not None and self.tagged(tag) is not None:
                raise HubError(
                    f"The {self.repo_type} {self.repo_id} has the tag {tag!r} already, of other content. Choose another one: readers "
                    "pin tags. Nothing was uploaded."
                )
            try:
                operations = self._operations(planned, changes)
                info = self._commit(operations, head, message)
            except _Uploading as error:
                raise explained(error.cause, f"{self.what} ({self.state})") from None
            except HTTPError as error:
                if status_of(error) in MOVED:
                    # Short, and never the same: those who lost against one another would meet again.
                    if moved.wait(error, self.what, _spread(moved.tries)):
                        continue
                elif is_transient(error) and busy.wait(error, self.what):
                    continue
                if found := self._found(planned, None):
                    return found
                raise explained(error, f"{self.what} ({self.state})") from None
            planned.sha = info.oid
            if self.create_pr:
                planned.pr_url, planned.pr_revision = info.pr_url, info.pr_revision
            return planned

    def tagged(self, tag: str) -> str | None:
        """The commit that has `tag`."""
        refs = retried(lambda: self.api.list_repo_refs(self.repo_id, repo_type=self.repo_type), self.what)
        return next((ref.target_commit for ref in refs.tags if ref.name == tag), None)

    def _operations(self, planned: Commit, changes: Changes) -> list[Any]:
        deletions = [CommitOperationDelete(path_in_repo=path) for path in planned.deleted]
        small, large = [], {}
        for path in planned.added:
            content = changes.add[path]
            if isinstance(content, bytes):
                small.append(CommitOperationAdd(path_in_repo=path, path_or_fileobj=content))
            else:
                key = path, content
                large[key] = self.uploaded.get(key) or CommitOperationAdd(
                    path_in_repo=path, path_or_fileobj=str(content)
                )
        waiting = [operation for key, operation in large.items() if key not in self.uploaded]
        for group in [*_groups(waiting), small]:
            self._upload(group)
        self.uploaded |= large
        return [*deletions, *small, *large.values()]

    def _upload(self, operations: list[CommitOperationAdd]) -> None:
        """Uploads content that no commit refers to yet."""
        patience = Patience(attempts=4)
        while operations:
            try:
                self.api.preupload_lfs_files(
                    self.repo_id, additions=operations, repo_type=self.repo_type, revision=self.branch,
                    create_pr=self.create_pr, free_memory=False,
                )  # fmt: skip
                break
            except (HTTPError, RuntimeError, ConnectionError) as error:
                cause = error.__cause__ if isinstance(error.__cause__, HTTPError) else error
                refused = status_of(cause) is not None and not is_transient(cause)
                if refused or not patience.wait(cause, self.what):
                    raise _Uploading(cause) from None
        for operation in operations:
            # Said of the head at the time of the upload; what the head has now is compared in `difference`.
            operation._remote_oid = None

    def _commit(self, operations: list[Any], head: Head, message: str) -> CommitInfo:
        try:
            return self.api.create_commit(
                self.repo_id, operations, commit_message=message, commit_description=self.mark, repo_type=self.repo_type,
                revision=self.branch, create_pr=self.create_pr, parent_commit=head.sha,
            )  # fmt: skip
        except json.JSONDecodeError:
            raise HubError(f"{self.what} ({self.state}): the Hub gave no answer that can be read.") from None
        except ValueError as error:
            if isinstance(error, HTTPError):
                raise
            raise HubError(f"{self.what} ({self.state}): {scrubbed(' '.join(str(error).split()))}") from None

    def _found(self, planned: Commit, head: Head | None) -> Commit | None:
        """`planned` as committed, where an earlier try succeeded and its answer was lost."""
        for revision in self._places(planned, head):
            commits = retried(
                lambda revision=revision: self.api.list_repo_commits(  # type: ignore[misc]
                    self.repo_id, repo_type=self.repo_type, revision=revision
                ),
                self.what,
            )
            for commit in commits:
                if self.mark in (commit.message or ""):
                    planned.sha = commit.commit_id
                    if self.create_pr:
                        planned.pr_revision = revision
                        planned.pr_url = self._pr_page(revision)
                    return planned
        return None

    def _places(self, planned: Commit, head: Head | None) -> Sequence[str | None]:
        if not self.create_pr:
            return [] if head is not None and head.sha == planned.sha else [self.branch]
        refs = retried(
            lambda: self.api.list_repo_refs(self.repo_id, repo_type=self.repo_type, include_pull_requests=True),
            self.what,
        )
        return [ref.ref for ref in refs.pull_requests or []][-20:]

    def _pr_page(self, revision: str | None) -> str:
        number = (revision or "").rpartition("/")[2]
        return f"{self.api.endpoint}/{page_path(self.repo_id, self.repo_type)}/discussions/{number}"


def _groups(operations: list[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    """Files to upload together; a large one goes alone."""
    group: list[CommitOperationAdd] = []
    size = 0
    for operation in operations:
        if group and size + operation.upload_info.size > BYTES_PER_UPLOAD:
            yield group
            group, size = [], 0
        group.append(operation)
        size += operation.upload_info.size
    if group:
        yield group


class _Uploading(Exception):
    """An upload that failed for good, before any commit was tried."""

    def __init__(self, cause: Exception):
        super().__init__(str(cause))
        self.cause = cause


def _spread(tries: int) -> float:
    return jitter.uniform(0.05, min(8.0, 0.5 * (tries + 1)))


def _tag(publication: _Publication, commit: Commit, tag: str) -> None:
    try:
        if publication.tagged(tag) == commit.sha:
            return
        retried(
            lambda: publication.api.create_tag(
                commit.repo_id, tag=tag, revision=commit.sha, repo_type=commit.repo_type, exist_ok=False
            ),
            f"Tagging {commit.repo_id}",
        )
    except HubError as error:
        raise HubError(
            f"The {commit.repo_type} {commit.repo_id} was published, as commit {commit.sha}, but has no tag {tag!r}: {error}"
        ) from None
