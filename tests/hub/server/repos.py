"""Routes of repositories: making, moving, settings, information, and the validation of cards."""

import re
import shutil
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .accounts import PRIVATE_BY_DEFAULT, Accounts
from .model import PREFIX, HubError, as_list, card_data
from .store import Repo, Store, Tree
from .validation import metadata_errors

NAME = r"\w[\w.\-]*/\w[\w.\-]*"


class Repos(Accounts):
    """Repositories as a whole."""

    store: Store

    def repo(self, request: Request, kind: str, repo_id: str, *, write: bool = False, content: bool = False) -> Repo:
        """A repository that the request may see (and write to, or read files of)."""
        repo, token = self.store.load(kind, repo_id), request.state.token
        role = self.role(token, repo_id.split("/")[0])
        if repo is None or (repo["private"] and role is None):
            if token is None:
                raise HubError(401, "Repository not found or private: sign in", "RepoNotFound")
            raise HubError(404, "Repository not found", "RepoNotFound")
        if write and not self.may_write(token, kind, repo_id, repo["creator"]):
            if token is None:
                raise HubError(401, "Invalid username or password.")
            raise HubError(
                403, f"You don't have the required permissions to perform this action on {repo_id}. Pass create_pr=1."
            )
        if content and repo["gated"] and role is None and (token is None or token.user not in repo["access"]):
            raise HubError(403 if token else 401, f"Access to {kind[:-1]} {repo_id} is restricted.", "GatedRepo")
        return repo

    def url(self, kind: str, repo_id: str) -> str:
        return f"{self.store.base}/{PREFIX[kind]}{repo_id}"

    async def repo_create(self, request: Request) -> Response:
        body, token = await request.json(), request.state.token
        kind = (body.get("type") or "model") + "s"
        if token is None:
            raise HubError(401, "Invalid username or password.")
        namespace = body.get("organization") or token.user
        repo_id = f"{namespace}/{body['name']}"
        if not re.fullmatch(NAME, repo_id) or ".." in repo_id or "--" in repo_id:
            raise HubError(400, f"Invalid repo name: {repo_id}")
        if self.store.load(kind, repo_id):
            message = f"You already created this {kind[:-1]} repo: {repo_id}"
            raise HubError(409, message, body={"error": message, "url": self.url(kind, repo_id)})
        if not self.may_write(token, kind, repo_id, None):
            raise HubError(
                403, f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{namespace}"'
            )
        default = "private" if namespace in PRIVATE_BY_DEFAULT else "public"
        private = body.get("private") or (body.get("visibility") or default) == "private"
        self.store.create(kind, repo_id, bool(private), token.user, body.get("sdk"))
        return JSONResponse({"url": self.url(kind, repo_id), "name": repo_id, "id": repo_id})

    async def repo_delete(self, request: Request) -> Response:
        body = await request.json()
        kind = (body.get("type") or "model") + "s"
        owner = body.get("organization") or (request.state.token.user if request.state.token else "")
        self.repo(request, kind, f"{owner}/{body['name']}", write=True)
        shutil.rmtree(self.store.folder(kind, f"{owner}/{body['name']}"))
        return Response(status_code=204)

    async def repo_settings(self, request: Request, kind: str, repo_id: str) -> Response:
        repo, body = self.repo(request, kind, repo_id, write=True), await request.json()
        if "visibility" in body or "private" in body:
            repo["private"] = body.get("visibility") == "private" or bool(body.get("private"))
        repo["gated"] = body.get("gated", repo["gated"])
        self.store.save(repo)
        return JSONResponse({"private": repo["private"], "gated": repo["gated"]})

    async def auth_check(self, request: Request, kind: str, repo_id: str, access: str = "") -> Response:
        self.repo(request, kind, repo_id, write=access == "/write", content=True)
        return JSONResponse({"ok": True})

    async def repo_info(self, request: Request, kind: str, repo_id: str, revision: str = "main") -> Response:
        repo = self.repo(request, kind, repo_id)
        info = self.info(repo, self.store.resolve(repo, revision), blobs="blobs" in request.query_params)
        if wanted := request.query_params.getlist("expand"):
            info = {key: value for key, value in info.items() if key in {*wanted, "_id", "id"}}
        return JSONResponse(info)

    async def repo_list(self, request: Request, kind: str) -> Response:
        query, found = request.query_params, []
        for repo in self.store.all(kind):
            if repo["private"] and self.role(request.state.token, repo["id"].split("/")[0]) is None:
                continue
            info = self.info(repo, repo["branches"]["main"], siblings=False)
            if query.get("author", info["author"]) != info["author"]:
                continue
            if query.get("search", "").lower() not in repo["id"].lower():
                continue
            if all(wanted.strip() in info["tags"] for value in query.getlist("filter") for wanted in value.split(",")):
                found.append(info)
        return JSONResponse(found[: int(query.get("limit", 1000))])

    async def validate_yaml(self, request: Request) -> Response:
        body = await request.json()
        data, error = card_data(body["content"])
        errors = [error] if error else metadata_errors(data or {}, body.get("repoType") or "model")
        warnings = [] if data else ["empty or missing yaml metadata in repo card"]
        answer = {
            "errors": [{"message": text} for text in errors],
            "warnings": [{"message": text} for text in warnings],
        }
        return JSONResponse(answer, 400 if errors else 200)

    def card(self, tree: Tree) -> dict[str, Any]:
        if "README.md" not in tree:
            return {}
        data, _ = card_data(self.store.read_blob(tree["README.md"]["sha256"]).decode("utf-8", "replace"))
        return data or {}

    def info(self, repo: Repo, sha: str, *, blobs: bool = False, siblings: bool = True) -> dict[str, Any]:
        commit = self.store.commit(repo, sha)
        card = self.card(commit["tree"])
        tags = as_list(card.get("tags"))
        for key, prefix in (("license", "license"), ("language", "language"), ("size_categories", "size_categories"),
                            ("datasets", "dataset"), ("base_model", "base_model")):  # fmt: skip
            tags = [*tags, *(f"{prefix}:{value}" for value in as_list(card.get(key)))]
        tags = [*tags, *as_list(card.get("library_name"))]
        info = {"_id": repo["id"], "id": repo["id"], "author": repo["id"].split("/")[0], "sha": sha,
                "private": repo["private"], "gated": repo["gated"], "disabled": False, "downloads": 0, "likes": 0,
                "createdAt": repo["created"], "lastModified": commit["date"], "tags": tags, "cardData": card or None,
                "usedStorage": sum(file["size"] for file in commit["tree"].values())}  # fmt: skip
        if repo["kind"] == "models":
            info |= {"modelId": repo["id"], "pipeline_tag": card.get("pipeline_tag"),
                     "library_name": card.get("library_name")}  # fmt: skip
        if repo["kind"] == "spaces":
            info["sdk"] = card.get("sdk") or repo["sdk"]
        if siblings:
            files = sorted(commit["tree"].items())
            info["siblings"] = [_sibling(path, file) if blobs else {"rfilename": path} for path, file in files]
        return info


def _sibling(path: str, file: dict[str, Any]) -> dict[str, Any]:
    entry = {"rfilename": path, "size": file["size"], "blobId": file["oid"]}
    if "lfs" in file:
        entry["lfs"] = {"sha256": file["sha256"], "size": file["size"], "pointerSize": file["lfs"]}
    return entry
