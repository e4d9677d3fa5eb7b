"""Routes of what a commit holds: listings, and information about paths."""

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .model import HubError
from .repos import Repos
from .store import Tree


class Trees(Repos):
    """Files and folders of a commit."""

    def xet_of(self, sha256: str) -> str | None:
        raise NotImplementedError

    async def tree(self, request: Request, kind: str, repo_id: str, revision: str, path: str = "") -> Response:
        repo, query = self.repo(request, kind, repo_id), request.query_params
        commit = self.store.commit(repo, self.store.resolve(repo, revision))
        path, tree = path.strip("/"), commit["tree"]
        recursive, expand = (query.get(key, "").lower() in ("1", "true") for key in ("recursive", "expand"))

        def last(name: str) -> dict[str, Any] | None:
            return self.store.last_commit(repo, commit["id"], name) if expand else None

        prefix, entries = path + "/" if path else "", {}
        for name, file in tree.items():
            if not name.startswith(prefix):
                continue
            parts = name[len(prefix) :].split("/")
            if len(parts) == 1 or recursive:
                entries[name] = self.file_entry(name, file, last(name))
            for i in range(1, len(parts) if recursive else min(2, len(parts))):
                folder = prefix + "/".join(parts[:i])
                if folder not in entries:
                    entries[folder] = _folder_entry(folder, tree, last(folder))
        if path and not entries:
            raise HubError(404, f'{path} does not exist on "{revision}"', "EntryNotFound")
        rows = [entries[name] for name in sorted(entries)]
        return self.page(request, rows)

    def page(self, request: Request, rows: list[Any]) -> Response:
        """One page of `rows`, with a link to the next."""
        query = request.query_params
        start = int(query.get("cursor", 0))
        size = min(int(query.get("limit", self.store.page_size)), self.store.page_size)
        headers = {}
        if start + size < len(rows):
            path = request.scope["raw_path"].decode()
            following = urlencode({**dict(query), "cursor": start + size})
            headers["Link"] = f'<{self.store.base}{path}?{following}>; rel="next"'
        return JSONResponse(rows[start : start + size], headers=headers)

    async def paths_info(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo, body = self.repo(request, kind, repo_id), await request.body()
        if "json" in request.headers.get("content-type", ""):
            paths = json.loads(body)["paths"]
        else:
            paths = parse_qs(body.decode()).get("paths", [])
        tree = self.store.tree(repo, self.store.resolve(repo, revision))
        found = []
        for path in (name.strip("/") for name in paths):
            if path in tree:
                found.append(self.file_entry(path, tree[path]))
            elif path == "" or any(name.startswith(path + "/") for name in tree):
                found.append(_folder_entry(path, tree))
        return JSONResponse(found)

    def file_entry(self, path: str, file: dict[str, Any], commit: dict[str, Any] | None = None) -> dict[str, Any]:
        entry = {"type": "file", "oid": file["oid"], "size": file["size"], "path": path}
        if "lfs" in file:
            entry["lfs"] = {"oid": file["sha256"], "size": file["size"], "pointerSize": file["lfs"]}
            if xet := self.xet_of(file["sha256"]):
                entry["xetHash"] = xet
        if commit:
            entry["lastCommit"] = {"id": commit["id"], "title": commit["title"], "date": commit["date"]}
            entry["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
        return entry


def _folder_entry(path: str, tree: Tree, commit: dict[str, Any] | None = None) -> dict[str, Any]:
    below = sorted((name, file["oid"]) for name, file in tree.items() if name.startswith(path + "/"))
    entry = {"type": "directory", "oid": hashlib.sha1(json.dumps(below).encode()).hexdigest(), "size": 0, "path": path}
    if commit:
        entry["lastCommit"] = {"id": commit["id"], "title": commit["title"], "date": commit["date"]}
    return entry
