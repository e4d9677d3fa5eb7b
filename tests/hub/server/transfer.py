"""Routes of content: git-lfs, Xet, and downloads."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from .collections import Collections
from .model import HubError
from .xet import decompress, shard_files, xorb_chunks

PART_SIZE = 16 * 1024 * 1024


class Transfer(Collections):
    """Uploads by both protocols, and downloads."""

    xet: bool

    async def lfs_batch(self, request: Request, kind: str, repo_id: str) -> Response:
        body = await request.json()
        # Uploading an object needs no write access: anyone may open a pull request with it.
        self.repo(request, kind, repo_id, content=body["operation"] == "download")
        objects, multipart = [], False
        for wanted in body["objects"]:
            row, href = {"oid": wanted["oid"], "size": wanted["size"]}, f"{self.store.base}/_lfs/{wanted['oid']}"
            if not self.store.blob_path(wanted["oid"]).exists():
                upload: dict[str, Any] = {"href": href}
                if wanted["size"] > PART_SIZE and "multipart" in body.get("transfers", []):
                    parts = range(1, -(-wanted["size"] // PART_SIZE) + 1)
                    header = {"chunk_size": str(PART_SIZE), **{str(part): f"{href}/{part}" for part in parts}}
                    upload, multipart = {"href": href + "/complete", "header": header}, True
                row |= {"authenticated": True, "actions": {"upload": upload, "verify": {"href": href + "/verify"}}}
            objects.append(row)
        answer = {"transfer": "multipart" if multipart else "basic", "objects": objects}
        return JSONResponse(answer, media_type="application/vnd.git-lfs+json")

    async def lfs_put(self, request: Request, oid: str, part: str | None = None) -> Response:
        target = self.store.root / "blobs" / (f"{oid}.part{part}" if part else f"{oid}.{time.monotonic_ns()}")
        with open(target, "wb") as file:
            async for block in request.stream():
                file.write(block)
        if part is None:
            self._adopt(oid, [target])
        return Response(headers={"ETag": f'"{oid[:8]}-{part}"'})

    def _adopt(self, oid: str, parts: list[Path]) -> None:
        digest, joined = hashlib.sha256(), self.store.root / "blobs" / f"{oid}.join"
        with open(joined, "wb") as out:
            for part in parts:
                data = part.read_bytes()
                digest.update(data)
                out.write(data)
                part.unlink()
        if digest.hexdigest() != oid:
            joined.unlink()
            raise HubError(422, "sha256 mismatch")
        joined.replace(self.store.blob_path(oid))

    async def lfs_post(self, request: Request, oid: str, action: str) -> Response:
        body = await request.json()
        if action == "complete":
            self._adopt(oid, [self.store.root / "blobs" / f"{oid}.part{part['partNumber']}" for part in body["parts"]])
        elif not self.store.blob_path(oid).exists() or self.store.blob_path(oid).stat().st_size != body["size"]:
            raise HubError(404, "object not found")
        return JSONResponse({"success": True})

    async def xet_token(self, request: Request, kind: str, repo_id: str, mode: str, revision: str) -> Response:
        if not self.xet:
            raise HubError(404, "xet is off on this server")
        write = mode == "write" and "create_pr" not in request.query_params
        self.repo(request, kind, repo_id, write=write, content=True)
        until, url = int(time.time()) + 3600, f"{self.store.base}/_cas"
        headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(until)}
        return JSONResponse({"accessToken": "xet", "exp": until, "casUrl": url}, headers=headers)

    async def xorb_put(self, request: Request, hash: str) -> Response:
        path = self.store.root / "cas/xorbs" / hash
        new = not path.exists()
        path.write_bytes(await request.body())
        return JSONResponse({"was_inserted": new})

    async def xorb_get(self, request: Request, hash: str) -> Response:
        return self.send_file(request, self.store.root / "cas/xorbs" / hash, {})

    async def shard_put(self, request: Request) -> Response:
        files = shard_files(await request.body())
        for xorb in {term[0] for _, _, terms in files for term in terms}:
            if not (self.store.root / "cas/xorbs" / xorb).exists():
                raise HubError(400, f"shard refers to an unknown xorb {xorb} (a stale Xet cache of the client?)")
        for file_hash, sha256, terms in files:
            content = json.dumps({"hash": file_hash, "sha256": sha256, "terms": terms})
            for name in (file_hash, f"sha256-{sha256}"):
                (self.store.root / "cas/files" / name).write_text(content)
        return JSONResponse({"result": 1})

    def xet_of(self, sha256: str) -> str | None:
        path = self.store.root / "cas/files" / f"sha256-{sha256}"
        return json.loads(path.read_text())["hash"] if self.xet and path.exists() else None

    def materialize(self, sha256: str) -> bool:
        """Whether the content is there, as a blob; rebuilt from chunks where it came by Xet."""
        if self.store.blob_path(sha256).exists():
            return True
        path = self.store.root / "cas/files" / f"sha256-{sha256}"
        if not path.exists():
            return False
        content = bytearray()
        for xorb, _, start, end in json.loads(path.read_text())["terms"]:
            data = (self.store.root / "cas/xorbs" / xorb).read_bytes()
            for chunk in xorb_chunks(data)[start:end]:
                content += decompress(chunk.scheme, data[chunk.payload])
        if hashlib.sha256(content).hexdigest() != sha256:
            raise HubError(422, "xet reconstruction does not match sha256")
        self.store.put_blob(bytes(content))
        return True

    async def reconstruct(self, request: Request, hash: str) -> Response:
        path = self.store.root / "cas/files" / hash
        if not path.exists():
            raise HubError(404, "unknown file")
        terms = json.loads(path.read_text())["terms"]
        low, high = 0, None
        if found := re.match(r"bytes=(\d+)-(\d+)", request.headers.get("range", "")):
            low, high = int(found[1]), int(found[2])
            if low >= sum(term[1] for term in terms):
                return Response(status_code=416)
        out: list[dict[str, Any]] = []
        fetch: dict[str, list[dict[str, Any]]] = {}
        position = skip = 0
        for xorb, size, start, end in terms:
            chunks = xorb_chunks((self.store.root / "cas/xorbs" / xorb).read_bytes())
            inside, at = [], position
            for index in range(start, end):
                if at + chunks[index].size > low and (high is None or at <= high):
                    if not out and not inside:
                        skip = max(0, low - at)
                    inside.append(index)
                at += chunks[index].size
            position += size
            if not inside:
                continue
            span = {"start": inside[0], "end": inside[-1] + 1}
            unpacked = sum(chunks[index].size for index in inside)
            out.append({"hash": xorb, "unpacked_length": unpacked, "range": span})
            url_range = {"start": chunks[inside[0]].start, "end": chunks[inside[-1]].end - 1}
            url = f"{self.store.base}/_cas/xorb/{xorb}"
            fetch.setdefault(xorb, []).append({"range": span, "url": url, "url_range": url_range})
        return JSONResponse({"offset_into_first_range": skip, "terms": out, "fetch_info": fetch})

    def send_file(self, request: Request, path: Path, headers: dict[str, str]) -> Response:
        size = path.stat().st_size
        status, low, high = 200, 0, size - 1
        if found := re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "")):
            low = int(found[1]) if found[1] else max(0, size - int(found[2]))
            high = min(int(found[2] or high), high) if found[1] else high
            if low >= size:
                return Response(status_code=416, headers={"Content-Range": f"bytes */{size}", **headers})
            status, headers = 206, {**headers, "Content-Range": f"bytes {low}-{high}/{size}"}
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(high - low + 1)}
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)

        def body() -> Iterator[bytes]:
            with open(path, "rb") as file:
                file.seek(low)
                left = high - low + 1
                while left > 0 and (block := file.read(min(1 << 20, left))):
                    left -= len(block)
                    yield block

        return StreamingResponse(body(), status, headers, media_type="application/octet-stream")

    async def resolve(self, request: Request, kind: str, repo_id: str, revision: str, path: str) -> Response:
        repo = self.repo(request, kind, repo_id, content=True)
        sha = self.store.resolve(repo, revision)
        file = self.store.tree(repo, sha).get(path)
        if file is None:  # with this header, clients remember the absence
            raise HubError(404, "Entry not found", "EntryNotFound", headers={"X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file["sha256"] if "lfs" in file else file["oid"]}"',
                   "Content-Disposition": f'inline; filename="{os.path.basename(path)}"'}  # fmt: skip
        if "lfs" in file:
            headers |= {"X-Linked-Size": str(file["size"]), "X-Linked-Etag": f'"{file["sha256"]}"'}
            if xet := self.xet_of(file["sha256"]):
                route = f"{self.store.base}/api/{kind}/{repo_id}/xet-read-token/{sha}"
                headers |= {"X-Xet-Hash": xet, "X-Xet-Refresh-Route": route, "Link": f'<{route}>; rel="xet-auth"'}
        return self.send_file(request, self.store.blob_path(file["sha256"]), headers)
