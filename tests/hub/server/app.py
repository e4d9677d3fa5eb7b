"""The application: routes, faults on request, and the log of requests."""

import asyncio
import re
from typing import Any
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from .model import HubError
from .repos import NAME
from .store import Store
from .transfer import Transfer

_REPO = r"/api/(?P<kind>models|datasets|spaces)/(?P<namespace>[^/]+)/(?P<name>[^/]+)"
_GIT = r"/(?:(?P<kind>datasets|spaces)/)?(?P<namespace>[^/]+)/(?P<name>[^/]+?)"
_COLLECTION = r"/api/collections/(?P<slug>[^/]+/[^/]+)"
_REV = r"(?P<revision>[^/]+)"
_OID = r"[0-9a-f]{64}"
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "repo_create"),
    ("DELETE", r"/api/repos/delete", "repo_delete"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("GET", r"/api/(?P<kind>models|datasets|spaces)", "repo_list"),
    ("GET", rf"{_REPO}(?:/revision/{_REV})?", "repo_info"),
    ("GET", rf"{_REPO}/auth-check(?P<access>/write)?", "auth_check"),
    ("PUT", rf"{_REPO}/settings", "repo_settings"),
    ("POST", rf"{_REPO}/preupload/{_REV}", "preupload"),
    ("POST", rf"{_REPO}/commit/{_REV}", "commit"),
    ("GET", rf"{_REPO}/tree/{_REV}(?:/(?P<path>.*))?", "tree"),
    ("POST", rf"{_REPO}/paths-info/{_REV}", "paths_info"),
    ("GET", rf"{_REPO}/refs", "refs"),
    ("GET", rf"{_REPO}/commits/{_REV}", "commits"),
    ("POST", rf"{_REPO}/branch/{_REV}", "branch_create"),
    ("DELETE", rf"{_REPO}/branch/{_REV}", "branch_delete"),
    ("POST", rf"{_REPO}/tag/{_REV}", "tag_create"),
    ("DELETE", rf"{_REPO}/tag/{_REV}", "tag_delete"),
    ("GET", rf"{_REPO}/discussions", "discussions"),
    ("POST", rf"{_REPO}/discussions", "discussion_create"),
    ("GET", rf"{_REPO}/discussions/(?P<number>\d+)", "discussion_get"),
    ("POST", rf"{_REPO}/discussions/(?P<number>\d+)/(?P<action>merge|status)", "discussion_act"),
    ("POST", r"/api/collections", "collection_create"),
    ("GET", r"/api/collections", "collection_list"),
    ("GET", _COLLECTION, "collection_get"),
    ("PATCH", _COLLECTION, "collection_patch"),
    ("DELETE", _COLLECTION, "collection_delete"),
    ("POST", rf"{_COLLECTION}/items?", "item_add"),
    ("DELETE", rf"{_COLLECTION}/items/(?P<item>[^/]+)", "item_delete"),
    ("PATCH", rf"{_COLLECTION}/items/(?P<item>[^/]+)", "item_patch"),
    ("POST", rf"{_GIT}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", rf"/_lfs/(?P<oid>{_OID})(?:/(?P<part>\d+))?", "lfs_put"),
    ("POST", rf"/_lfs/(?P<oid>{_OID})/(?P<action>complete|verify)", "lfs_post"),
    ("GET", rf"{_REPO}/xet-(?P<mode>read|write)-token/{_REV}", "xet_token"),
    ("POST", rf"/_cas/v1/xorbs/default/(?P<hash>{_OID})", "xorb_put"),
    ("GET", rf"/_cas/xorb/(?P<hash>{_OID})", "xorb_get"),
    ("POST", r"/_cas/v1/shards", "shard_put"),
    ("GET", rf"/_cas/v1/reconstructions/(?P<hash>{_OID})", "reconstruct"),
    ("POST", r"/_cas/v1/telemetry", "nothing"),
    ("POST", r"/_test/faults", "faults_add"),
    ("GET", r"/_test/log", "log_get"),
    ("DELETE", r"/_test/log", "log_clear"),
    ("GET", rf"{_GIT}/resolve/{_REV}/(?P<path>.+)", "resolve"),
]  # fmt: skip


class Hub(Transfer):
    """
    The server as an ASGI application.

    A fault is `{"path": regular expression}` and optionally `method`, `times` (1), `skip` (requests to let pass first),
    `status`, `headers`, `body`, `delay` (seconds before it), `after` (the change is made all the same) and `drop` (the
    connection breaks instead of an answer).
    """

    def __init__(self, store: Store, xet: bool):
        self.store, self.xet = store, xet
        self.log: list[dict[str, Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.routes = [(method, re.compile(path + "$"), getattr(self, name)) for method, path, name in ROUTES]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        # Not decoded: a revision may contain %2F.
        path = scope["raw_path"].decode()
        entry = {"method": request.method, "path": path, "query": scope["query_string"].decode()}
        fault = self.fault_of(request.method, path) if not path.startswith("/_test") else {}
        if fault.get("delay"):
            await asyncio.sleep(fault["delay"])
        breaks = bool(fault) and ("status" in fault or fault.get("drop"))
        try:
            request.state.token = self.token(request)
            if breaks and not fault.get("after"):
                response: Response = self.broken(fault)
            else:
                response = await self.answer(request, path)
                if breaks:
                    response = self.broken(fault)
        except HubError as error:
            headers = {"X-Error-Message": error.message.replace("\n", " "), **error.headers}
            if error.code:
                headers["X-Error-Code"] = error.code
            response = JSONResponse(error.body or {"error": error.message}, error.status, headers)
        except ClientDisconnect:
            return
        entry["status"] = "dropped" if breaks and fault.get("drop") else response.status_code
        if not path.startswith("/_test"):
            self.log.append(entry)
        if entry["status"] == "dropped":
            # A body is announced and never sent, so that the connection is closed.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]})
            return
        response.headers["X-Request-Id"] = f"Root=1-{len(self.log)}"
        await response(scope, receive, send)

    async def answer(self, request: Request, path: str) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        for known, pattern, handler in self.routes:
            if known == method and (hit := pattern.match(path)):
                arguments = {key: unquote(value) for key, value in hit.groupdict().items() if value is not None}
                if "name" in arguments:
                    arguments.setdefault("kind", "models")
                    arguments["repo_id"] = arguments.pop("namespace") + "/" + arguments.pop("name")
                    if not re.fullmatch(NAME, arguments["repo_id"]) or ".." in arguments["repo_id"]:
                        raise HubError(400, f"Invalid repo name: {arguments['repo_id']}")
                return await handler(request, **arguments)
        if re.match(r"/(api/(models|datasets|spaces)/[^/]+|[^/]+/resolve/.+)", path):
            raise HubError(404 if request.state.token else 401, "Repository not found", "RepoNotFound")
        raise HubError(404, f"There is no page for {request.method} {path}")

    def fault_of(self, method: str, path: str) -> dict[str, Any]:
        for fault in self.faults:
            if (
                fault.get("times", 1) < 1
                or fault.get("method", method) != method
                or not re.search(fault["path"], path)
            ):
                continue
            if fault.get("skip", 0) > 0:
                fault["skip"] -= 1
                continue
            fault["times"] = fault.get("times", 1) - 1
            return fault
        return {}

    def broken(self, fault: dict[str, Any]) -> Response:
        body = fault.get("body", {"error": "injected fault"})
        return JSONResponse(body, fault.get("status", 200), fault.get("headers"))

    async def nothing(self, request: Request) -> Response:
        return JSONResponse({})

    async def faults_add(self, request: Request) -> Response:
        self.faults.append(await request.json())
        return JSONResponse({})

    async def log_get(self, request: Request) -> Response:
        return JSONResponse(self.log)

    async def log_clear(self, request: Request) -> Response:
        self.log.clear()
        self.faults.clear()
        return JSONResponse({})
