"""Routes of branches, tags and pull requests."""

import json
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .commits import Commits
from .model import HubError, now
from .store import Repo


class Refs(Commits):
    """Names of commits, and discussions about them."""

    async def refs(self, request: Request, kind: str, repo_id: str) -> Response:
        repo = self.repo(request, kind, repo_id)

        def rows(space: str, prefix: str) -> list[dict[str, Any]]:
            return [{"name": name, "ref": prefix + name, "targetCommit": sha} for name, sha in repo[space].items()]

        answer = {"branches": rows("branches", "refs/heads/"), "tags": rows("tags", "refs/tags/"), "converts": []}
        if "include_prs" in request.query_params:
            answer["pullRequests"] = rows("prs", "refs/pr/")
        return JSONResponse(answer)

    async def branch_create(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo, body = self.repo(request, kind, repo_id, write=True), await request.json()
        if revision in repo["branches"]:
            raise HubError(409, f"Reference refs/heads/{revision} already exists")
        repo["branches"][revision] = self.store.resolve(repo, body.get("startingPoint") or "main")
        self.store.save(repo)
        return JSONResponse({})

    async def branch_delete(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = self.repo(request, kind, repo_id, write=True)
        if revision == "main":
            raise HubError(403, "Cannot delete refs/heads/main")
        if repo["branches"].pop(revision, None) is None:
            raise HubError(404, "Invalid rev id", "RevisionNotFound")
        self.store.save(repo)
        return Response(status_code=204)

    async def tag_create(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo, body = self.repo(request, kind, repo_id, write=True), await request.json()
        sha = self.store.resolve(repo, revision)
        if not re.fullmatch(r"[\w.\-/]+", body["tag"]):
            raise HubError(400, f"Invalid tag name: {body['tag']}")
        if body["tag"] in repo["tags"]:
            raise HubError(409, f"Tag reference exists already: {body['tag']}")
        repo["tags"][body["tag"]] = sha
        self.store.save(repo)
        return JSONResponse({})

    async def tag_delete(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = self.repo(request, kind, repo_id, write=True)
        if repo["tags"].pop(revision, None) is None:
            raise HubError(404, f"no tag {revision}", "RevisionNotFound")
        self.store.save(repo)
        return Response(status_code=204)

    def new_discussion(self, repo: Repo, title: str, text: str, user: str, sha: str | None = None) -> int:
        number = len(repo["discussions"]) + 1
        repo["discussions"].append({"num": number, "title": title, "text": text, "author": user, "date": now(),
                                    "pr": sha is not None, "status": "open"})  # fmt: skip
        if sha is not None:
            repo["prs"][str(number)] = sha
        return number

    def discussion_json(self, repo: Repo, discussion: dict[str, Any]) -> dict[str, Any]:
        text = {"raw": discussion["text"], "html": discussion["text"], "updatedAt": discussion["date"]}
        event = {"id": "0", "type": "comment", "createdAt": discussion["date"], "author": {"name": discussion["author"]},
                 "data": {"edited": False, "hidden": False, "latest": text, "history": []}}  # fmt: skip
        answer = {"num": discussion["num"], "title": discussion["title"], "status": discussion["status"],
                  "createdAt": discussion["date"], "isPullRequest": discussion["pr"],
                  "author": {"name": discussion["author"]}, "events": [event],
                  "repo": {"name": repo["id"], "type": repo["kind"][:-1]}}  # fmt: skip
        if discussion["pr"]:
            answer |= {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "diff": ""}
            if discussion.get("merge"):
                answer["changes"]["mergeCommitId"] = discussion["merge"]
        return answer

    async def discussions(self, request: Request, kind: str, repo_id: str) -> Response:
        repo = self.repo(request, kind, repo_id)
        rows = [self.discussion_json(repo, discussion) for discussion in reversed(repo["discussions"])]
        return JSONResponse({"discussions": rows, "count": len(rows), "start": 0})

    async def discussion_create(self, request: Request, kind: str, repo_id: str) -> Response:
        repo, body, token = self.repo(request, kind, repo_id), await request.json(), request.state.token
        if token is None or token.role == "read":
            raise HubError(403, "Your token cannot open discussions.")
        head = repo["branches"]["main"] if body.get("pullRequest") else None
        number = self.new_discussion(repo, body["title"], body.get("description", ""), token.user, head)
        repo["discussions"][-1]["status"] = "draft" if body.get("pullRequest") else "open"
        self.store.save(repo)
        return JSONResponse({"num": number, "url": f"{self.url(kind, repo_id)}/discussions/{number}"})

    async def discussion_get(self, request: Request, kind: str, repo_id: str, number: str) -> Response:
        repo = self.repo(request, kind, repo_id)
        return JSONResponse(self.discussion_json(repo, repo["discussions"][int(number) - 1]))

    async def discussion_act(self, request: Request, kind: str, repo_id: str, number: str, action: str) -> Response:
        repo = self.repo(request, kind, repo_id, write=True)
        body = json.loads(await request.body() or b"{}")
        discussion = repo["discussions"][int(number) - 1]
        if action == "status":
            discussion["status"] = body["status"]
        else:
            discussion["merge"] = self._merge(repo, number, f"{discussion['title']} (#{number})", discussion["author"])
            discussion["status"] = "merged"
        self.store.save(repo)
        event = self.discussion_json(repo, discussion)["events"][-1]
        changed = {**event, "type": "status-change", "data": {"status": discussion["status"]}}
        return JSONResponse({"newMessage": event, "newStatus": changed})

    def _merge(self, repo: Repo, number: str, title: str, user: str) -> str:
        base, mine = repo["branches"]["main"], repo["prs"][number]
        ancestors = {commit["id"] for commit in self.store.history(repo, base)}
        fork = next(commit["id"] for commit in self.store.history(repo, mine) if commit["id"] in ancestors)
        old, new, current = (self.store.tree(repo, sha) for sha in (fork, mine, base))
        merged = {
            path: new.get(path) if new.get(path) != old.get(path) else current.get(path)
            for path in {*old, *new, *current}
        }
        tree = {path: file for path, file in merged.items() if file is not None}
        repo["branches"]["main"] = self.store.write_commit(repo, base, tree, title, "", user)
        return repo["branches"]["main"]
