"""Repositories on disk: blobs by content, commits as json."""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .model import GITATTRIBUTES, HubError, git_blob_sha1, now

Repo = dict[str, Any]
Tree = dict[str, dict[str, Any]]
_SPACES = (("branches", "refs/heads/"), ("tags", "refs/tags/"), ("prs", "refs/pr/"))


class Store:
    """
    `<root>/blobs/<sha256>`, `<root>/cas/{xorbs,files}/…`, `<root>/repos/<kind>/<namespace>/<name>/{repo.json, commits/}`
    """

    def __init__(self, root: Path, base_url: str, page_size: int):
        self.root, self.base, self.page_size = root, base_url, page_size
        for name in ("blobs", "repos", "cas/xorbs", "cas/files"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.collections: dict[str, Any] = {}

    def blob_path(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256

    def put_blob(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.blob_path(sha256).exists():
            self.blob_path(sha256).write_bytes(data)
        return sha256

    def read_blob(self, sha256: str) -> bytes:
        return self.blob_path(sha256).read_bytes()

    def file(self, data: bytes) -> dict[str, Any]:
        """Entry of a tree for a file that is not in LFS."""
        return {"oid": git_blob_sha1(data), "size": len(data), "sha256": self.put_blob(data)}

    def folder(self, kind: str, repo_id: str) -> Path:
        return self.root / "repos" / kind / repo_id

    def load(self, kind: str, repo_id: str) -> Repo | None:
        path = self.folder(kind, repo_id) / "repo.json"
        return json.loads(path.read_text()) if path.exists() else None

    def save(self, repo: Repo) -> None:
        path = self.folder(repo["kind"], repo["id"]) / "repo.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(repo))
        temporary.replace(path)

    def all(self, kind: str) -> Iterator[Repo]:
        for path in sorted((self.root / "repos" / kind).glob("*/*/repo.json")):
            yield json.loads(path.read_text())

    def create(self, kind: str, repo_id: str, private: bool, user: str, sdk: str | None = None) -> Repo:
        (self.folder(kind, repo_id) / "commits").mkdir(parents=True)
        repo = {"kind": kind, "id": repo_id, "private": private, "gated": False, "created": now(), "creator": user,
                "sdk": sdk, "branches": {}, "tags": {}, "prs": {}, "discussions": [], "access": []}  # fmt: skip
        tree = {".gitattributes": self.file(GITATTRIBUTES.encode())}
        if kind == "spaces":
            tree["README.md"] = self.file(f"---\ntitle: {repo_id.split('/')[1]}\nsdk: {sdk}\n---\n".encode())
        repo["branches"]["main"] = self.write_commit(repo, None, tree, "initial commit", "", user)
        self.save(repo)
        return repo

    def write_commit(self, repo: Repo, parent: str | None, tree: Tree, title: str, message: str, user: str) -> str:
        content = {"parents": [parent] if parent else [], "tree": tree, "title": title, "message": message,
                   "author": user, "date": now(), "nonce": time.monotonic_ns()}  # fmt: skip
        sha = hashlib.sha1(json.dumps(content, sort_keys=True).encode()).hexdigest()
        path = self.folder(repo["kind"], repo["id"]) / "commits" / f"{sha}.json"
        path.write_text(json.dumps({"id": sha, **content}))
        return sha

    def commit(self, repo: Repo, sha: str) -> dict[str, Any]:
        return json.loads((self.folder(repo["kind"], repo["id"]) / "commits" / f"{sha}.json").read_text())

    def tree(self, repo: Repo, sha: str) -> Tree:
        return self.commit(repo, sha)["tree"]

    def resolve(self, repo: Repo, revision: str) -> str:
        for space, prefix in _SPACES:
            name = revision.removeprefix(prefix)
            if (space != "prs" or revision.startswith(prefix)) and name in repo[space]:
                return repo[space][name]
        if re.fullmatch(r"[0-9a-f]{5,40}", revision):
            hits = list((self.folder(repo["kind"], repo["id"]) / "commits").glob(revision + "*.json"))
            if len(hits) == 1:
                return hits[0].stem
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, repo: Repo, sha: str | None) -> Iterator[dict[str, Any]]:
        """Commits from `sha` back to the first."""
        while sha:
            commit = self.commit(repo, sha)
            yield commit
            sha = commit["parents"][0] if commit["parents"] else None

    def last_commit(self, repo: Repo, sha: str, path: str) -> dict[str, Any]:
        """The commit that last changed a file, or anything below a folder."""

        def view(commit: dict[str, Any]) -> Any:
            tree = commit["tree"]
            return tree.get(path) or {name: file["oid"] for name, file in tree.items() if name.startswith(path + "/")}

        newest = None
        for commit in self.history(repo, sha):
            if newest is not None and view(commit) != view(newest):
                break
            newest = commit
        if newest is None:
            raise HubError(404, f"Invalid rev id: {sha}", "RevisionNotFound")
        return newest
