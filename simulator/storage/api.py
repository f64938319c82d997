"""The storage's HTTP face: artifacts in by name and version, and out by signed URL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import HTTPException, Query, Request
from pydantic import BaseModel

from simulator.links.asgi import App, Receive, Scope, Send, error, guarded, tell_health
from simulator.model import io
from simulator.model.errors import ScenarioError
from simulator.storage.core import ArtifactConflict, Storage

_PIECE = 256 * 1024
Serve = Callable[[io.Request, str], io.Response]


class ArtifactEntry(BaseModel):
    """An artifact in the storage; `url` is stable and opens nothing by itself."""

    url: str
    size: int
    sha256: str


class SignedUrl(BaseModel):
    """A grant to download, for one thing until `expires_at` (Unix seconds)."""

    url: str
    expires_at: int


def storage_face(
    *,
    storage: Storage,
    serve: Serve,
    now: Callable[[], float],
    token: str,
    max_artifact_bytes: int,
    keep: Callable[[str, str, bytes], None] = lambda name, version, content: None,
) -> App:
    """The storage's face. `serve(request, address)` answers a device's download; `now()` is Unix time; `keep(name,
    version, content)`, in a thread, makes an upload last; all else but /health wants the token."""
    face = guarded("fleetsim storage", token)
    tell_health(face, lambda: {"artifacts": len(storage.artifacts)})

    @face.exception_handler(ScenarioError)
    async def refused(_: Request, refusal: Exception) -> Any:
        return error(409 if isinstance(refusal, ArtifactConflict) else 422, str(refusal))

    @face.get("/artifacts")
    async def artifacts() -> list[ArtifactEntry]:
        """All artifacts."""
        return [
            ArtifactEntry(url=storage.base + s.path, size=len(s.content), sha256=s.sha256)
            for s in storage.artifacts.values()
        ]

    @face.put("/artifacts/{name}/{version}")
    async def upload(name: str, version: str, request: Request) -> ArtifactEntry:
        """Keep the body as an artifact: 409 where other bytes have that name and version, 413 past the bound."""
        content = await _whole(request, max_artifact_bytes)
        artifact = storage.put(name, version, content)
        try:
            await asyncio.to_thread(keep, name, version, content)
        except OSError as failure:
            raise HTTPException(507, f"the artifact cannot be kept: {failure.strerror or failure}") from None
        return ArtifactEntry(url=artifact.url, size=artifact.size_bytes or 0, sha256=artifact.sha256 or "")

    @face.post("/artifacts/{name}/{version}/url")
    async def sign(
        name: str,
        version: str,
        thing: Annotated[str, Query(min_length=1)],
        ttl_s: Annotated[int, Query(ge=1)] = 3600,
        address: str = "",
    ) -> SignedUrl:
        """A pre-signed URL for one thing, and for one address if one is given."""
        stored = storage.at(name, version)
        if stored is None:
            raise HTTPException(404, f"no artifact {name} {version}")
        expires = int(now()) + ttl_s
        return SignedUrl(url=storage.presign(stored, thing, expires, address), expires_at=expires)

    paths = face.openapi()["paths"]
    paths["/health"]["get"]["security"] = []
    paths["/artifacts/{name}/{version}"] |= _downloads()

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"].startswith("/artifacts/"):
            await _download(serve, scope, send)
        else:
            await face(scope, receive, send)

    return route


def _downloads() -> dict[str, Any]:
    """What OpenAPI is to say of a device's downloads, which the framework does not see."""
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in ("name", "version")
    ]
    text = "With a pre-signed URL's query, or a temporary credential as `Authorization: Bearer CREDENTIAL`."
    answers = {
        "200": "the whole artifact",
        "206": "the range that was asked for",
        "403": "not granted: the signature does not fit, has expired, or is for another address",
        "404": "no such artifact",
        "416": "there is no such range",
    }
    return {
        method: {
            "summary": summary,
            "description": text,
            "operationId": f"{method}_artifact",
            "parameters": parameters,
            "responses": {status: {"description": what} for status, what in answers.items()},
            "security": [],
        }
        for method, summary in (("get", "Download"), ("head", "What a download would answer"))
    }


async def _whole(request: Request, bound: int) -> bytes:
    """The body. One past the bound is read to its end all the same, or the answer (413) would be lost in a reset."""
    content, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= bound:
            content += chunk
        else:
            content.clear()
    if size > bound:
        raise HTTPException(413, f"more than {bound} bytes")
    return bytes(content)


async def _download(serve: Serve, scope: Scope, send: Send) -> None:
    """A device's download, in front of the framework: from memory, in pieces."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    url = (raw.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    response = serve(io.Request(scope["method"], url, headers), (scope.get("client") or ("",))[0])
    head = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": head})
    body = response.body
    if len(body) <= _PIECE:
        await send({"type": "http.response.body", "body": body})
        return
    view = memoryview(body)
    for offset in range(0, len(body), _PIECE):
        more = offset + _PIECE < len(body)
        await send({"type": "http.response.body", "body": bytes(view[offset : offset + _PIECE]), "more_body": more})
