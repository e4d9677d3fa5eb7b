"""Routes of collections."""

import hashlib
import json
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .accounts import ORGANIZATIONS
from .model import HubError, now
from .refs import Refs


class Collections(Refs):
    """Lists of repositories, in memory."""

    def collection(self, slug: str) -> dict[str, Any]:
        if slug not in self.store.collections:
            raise HubError(404, "Collection not found")
        return self.store.collections[slug]

    def _may_change(self, request: Request, namespace: str) -> None:
        if self.role(request.state.token, namespace) not in ("write", "admin"):
            raise HubError(403, "You cannot change collections of this namespace.")

    async def collection_create(self, request: Request) -> Response:
        body = await request.json()
        self._may_change(request, body["namespace"])
        if len(body["title"]) > 60 or len(body.get("description") or "") > 150:
            raise HubError(400, "A title has at most 60 characters, and a description 150.")
        name = re.sub(r"[^a-z0-9]+", "-", body["title"].lower()).strip("-")
        slug = f"{body['namespace']}/{name}-{hashlib.md5(json.dumps(body).encode()).hexdigest()[:24]}"
        if slug in self.store.collections:
            raise HubError(409, "It exists already.", body={"error": "It exists already.", "slug": slug})
        kind = "org" if body["namespace"] in ORGANIZATIONS else "user"
        self.store.collections[slug] = {
            "slug": slug, "title": body["title"], "description": body.get("description"), "items": [],
            "owner": {"type": kind, "name": body["namespace"], "fullname": body["namespace"]}, "lastUpdated": now(),
            "position": 0, "theme": "blue", "private": body.get("private", False), "upvotes": 0, "isUpvotedByUser": False,
        }  # fmt: skip
        return JSONResponse(self.store.collections[slug])

    async def collection_list(self, request: Request) -> Response:
        owner = request.query_params.get("owner")
        rows = [entry for entry in self.store.collections.values() if owner in (None, entry["owner"]["name"])]
        rows = [e for e in rows if not e["private"] or self.role(request.state.token, e["owner"]["name"]) is not None]
        # A listing shows the first four items only, and clients number the collections themselves.
        rows = [{key: value for key, value in entry.items() if key != "position"} for entry in rows]
        return self.page(request, [{**entry, "items": entry["items"][:4]} for entry in rows])

    async def collection_get(self, request: Request, slug: str) -> Response:
        collection = self.collection(slug)
        if collection["private"] and self.role(request.state.token, collection["owner"]["name"]) is None:
            raise HubError(404, "Collection not found")
        return JSONResponse(collection)

    async def collection_patch(self, request: Request, slug: str) -> Response:
        collection, body = self.collection(slug), await request.json()
        self._may_change(request, collection["owner"]["name"])
        collection |= {key: body[key] for key in ("title", "description", "private", "theme") if key in body}
        return JSONResponse({"success": True, "data": collection})

    async def collection_delete(self, request: Request, slug: str) -> Response:
        self._may_change(request, self.collection(slug)["owner"]["name"])
        del self.store.collections[slug]
        return Response(status_code=204)

    async def item_add(self, request: Request, slug: str) -> Response:
        collection, body = self.collection(slug), await request.json()
        self._may_change(request, collection["owner"]["name"])
        item, note = body["item"], body.get("note")
        if any(row["id"] == item["id"] and row["type"] == item["type"] for row in collection["items"]):
            raise HubError(409, "item already in the collection")
        if item["type"] in ("model", "dataset", "space"):
            repo = self.store.load(item["type"] + "s", item["id"])
            if repo is None or (repo["private"] and self.role(request.state.token, item["id"].split("/")[0]) is None):
                raise HubError(404, f"{item['type']} {item['id']} not found", "RepoNotFound")
        if len(note or "") > 500:
            raise HubError(400, "A note has at most 500 characters.")
        number = hashlib.md5(json.dumps([slug, item]).encode()).hexdigest()[:24]
        row = {"_id": number, "id": item["id"], "type": item["type"], "position": len(collection["items"])}
        collection["items"].append(row | ({"note": {"text": note, "html": note}} if note else {}))
        return JSONResponse(collection)

    async def item_delete(self, request: Request, slug: str, item: str) -> Response:
        collection = self.collection(slug)
        self._may_change(request, collection["owner"]["name"])
        collection["items"] = [row for row in collection["items"] if row["_id"] != item]
        return JSONResponse(collection)

    async def item_patch(self, request: Request, slug: str, item: str) -> Response:
        collection, body = self.collection(slug), await request.json()
        self._may_change(request, collection["owner"]["name"])
        row = next((row for row in collection["items"] if row["_id"] == item), None)
        if row is None:
            raise HubError(404, "no such item")
        if "note" in body:
            row["note"] = {"text": body["note"], "html": body["note"]}
        if "position" in body:
            collection["items"].remove(row)
            collection["items"].insert(body["position"], row)
            for position, other in enumerate(collection["items"]):
                other["position"] = position
        return JSONResponse(collection)
