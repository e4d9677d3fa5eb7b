"""Routes of commits: what to upload, the commit itself, and the history."""

import base64
import fnmatch
import json
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .model import LARGEST_REGULAR, LFS_PATTERNS, HubError, card_data, git_blob_sha1, lfs_pointer
from .store import Repo, Tree
from .trees import Trees


class Commits(Trees):
    """Changes to a repository."""

    def materialize(self, sha256: str) -> bool:
        raise NotImplementedError

    def new_discussion(self, repo: Repo, title: str, text: str, user: str, sha: str | None = None) -> int:
        raise NotImplementedError

    async def preupload(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = self.repo(request, kind, repo_id, write="create_pr" not in request.query_params)
        body, head = await request.json(), self.store.resolve(repo, revision)
        tree = self.store.tree(repo, head)
        ignored = body.get("gitIgnore")
        if ignored is None and ".gitignore" in tree:
            ignored = self.store.read_blob(tree[".gitignore"]["sha256"]).decode()
        patterns = [line for line in (ignored or "").splitlines() if line.strip() and not line.startswith("#")]
        files = []
        for file in body["files"]:
            path, name = file["path"], file["path"].rsplit("/", 1)[-1]
            binary = b"\0" in base64.b64decode(file.get("sample") or "")
            large = file["size"] >= LARGEST_REGULAR or binary
            large = large or any(fnmatch.fnmatch(name, pattern) for pattern in LFS_PATTERNS)
            skip = any(fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(name, pattern) for pattern in patterns)
            row = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": skip}
            if path in tree:
                row["oid"] = tree[path]["sha256"] if "lfs" in tree[path] else tree[path]["oid"]
            files.append(row)
        return JSONResponse({"files": files, "commitOid": head})

    async def commit(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        create_pr = "create_pr" in request.query_params
        repo, token = self.repo(request, kind, repo_id, write=not create_pr), request.state.token
        if create_pr and (token is None or token.role == "read"):
            raise HubError(403 if token else 401, "Your token cannot open pull requests.")
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        if not lines or lines[0]["key"] != "header":
            raise HubError(400, "the first line must be the header")
        header = lines[0]["value"]
        head = self._parent(repo, revision, header.get("parentCommit"), create_pr)
        tree = dict(self.store.tree(repo, head))
        operations: dict[str, list[dict[str, Any]]] = {}
        for line in lines[1:]:
            operations.setdefault(line["key"], []).append(line["value"])
        self._delete(tree, operations)
        self._add(tree, operations)
        text = header.get("description", "")
        sha = self.store.write_commit(repo, head, tree, header["summary"], text, token.user)
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{self.url(kind, repo_id)}/commit/{sha}"}
        if create_pr:
            number = self.new_discussion(repo, header["summary"], text, token.user, sha)
            answer["pullRequestUrl"] = f"{self.url(kind, repo_id)}/discussions/{number}"
        elif revision in repo["branches"]:
            repo["branches"][revision] = sha
        else:
            repo["prs"][revision.removeprefix("refs/pr/")] = sha
        self.store.save(repo)
        return JSONResponse(answer)

    def _parent(self, repo: Repo, revision: str, parent: str | None, create_pr: bool) -> str:
        head = self.store.resolve(repo, revision)
        proposal = not create_pr and revision.removeprefix("refs/pr/") in repo["prs"]
        if revision not in repo["branches"] and not proposal:
            raise HubError(404, f"Invalid rev id: {revision} is not a branch", "RevisionNotFound")
        if parent and not head.startswith(parent):
            if not create_pr:
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            head = self.store.resolve(repo, parent)
        return head

    def _delete(self, tree: Tree, operations: dict[str, list[dict[str, Any]]]) -> None:
        for kind, what in (("deletedFile", "file"), ("deletedFolder", "folder")):
            for value in operations.get(kind, []):
                gone = [path for path in tree if path.startswith(value["path"].rstrip("/") + "/")]
                if kind == "deletedFile" and value["path"] in tree:
                    gone.append(value["path"])
                if not gone:
                    raise HubError(404, f"A {what} with this name doesn't exist: {value['path']}", "EntryNotFound")
                for path in gone:
                    del tree[path]

    def _add(self, tree: Tree, operations: dict[str, list[dict[str, Any]]]) -> None:
        for value in [*operations.get("file", []), *operations.get("lfsFile", [])]:
            parts = value["path"].split("/")
            if "\\" in value["path"] or {"..", ".", ""} & set(parts):
                raise HubError(422, f"Invalid path: {value['path']}")
        for value in operations.get("file", []):
            encoded = value.get("encoding") == "base64"
            data = base64.b64decode(value["content"]) if encoded else value["content"].encode()
            if len(data) > LARGEST_REGULAR:
                raise HubError(413, f"{value['path']} is too big for a regular file")
            if value["path"] == "README.md" and (error := card_data(data.decode("utf-8", "replace"))[1]):
                raise HubError(400, f"Invalid YAML in README.md: {error}")
            tree[value["path"]] = self.store.file(data)
        for value in operations.get("lfsFile", []):
            if not re.fullmatch("[0-9a-f]{64}", value["oid"]) or not self.materialize(value["oid"]):
                raise HubError(400, f"LFS pointer {value['path']} refers to an object that was not uploaded")
            size = self.store.blob_path(value["oid"]).stat().st_size
            pointer = lfs_pointer(value["oid"], size)
            oid = git_blob_sha1(pointer)
            tree[value["path"]] = {"oid": oid, "size": size, "sha256": value["oid"], "lfs": len(pointer)}
        for path in tree:
            parts = path.split("/")
            if any("/".join(parts[:i]) in tree for i in range(1, len(parts))):
                raise HubError(400, f"{path} conflicts with a file of the same name")

    async def commits(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = self.repo(request, kind, repo_id)
        rows = [
            {"id": commit["id"], "title": commit["title"], "message": commit["message"], "date": commit["date"],
             "authors": [{"user": commit["author"]}]}
            for commit in self.store.history(repo, self.store.resolve(repo, revision))
        ]  # fmt: skip
        return self.page(request, rows)
