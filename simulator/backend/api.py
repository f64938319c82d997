"""The backend's HTTP face: artifacts in by name and version and out by signed URL, a thing's replica, health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

from simulator import __version__
from simulator.backend.replica import Replica
from simulator.backend.storage import Storage
from simulator.links.asgi import guarded
from simulator.model import io
from simulator.model.errors import ScenarioError

_PIECE = 256 * 1024
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Serve = Callable[[io.Request, str], io.Response]


class ArtifactFacts(BaseModel):
    """An artifact in the storage; `url` is stable and opens nothing by itself."""

    url: str
    size: int
    sha256: str


class SignedUrl(BaseModel):
    """Leave to download, for one thing until `expires_at` (Unix seconds)."""

    url: str
    expires_at: int


class ReplicaDocument(BaseModel):
    """A thing's document."""

    thing: str
    version: int
    desired: dict[str, Any]
    reported: dict[str, Any]


def app(
    *,
    storage: Storage,
    serve: Serve,
    replica: Replica,
    health: Callable[[], dict[str, Any]],
    now: Callable[[], float],
    token: str,
    max_artifact_bytes: int,
) -> Any:
    """The whole face as one ASGI application. `serve(request, address)` answers a device's download; `now()` is Unix
    time; all else but /health wants the token."""
    face = guarded(FastAPI(title="fleetsim backend", version=__version__), token)

    @face.get("/health")
    async def healthy() -> dict[str, Any]:
        """Whether it is up, and what it holds. Needs no token."""
        return {"status": "ok", "version": __version__, **health()}

    @face.get("/artifacts")
    async def artifacts() -> list[ArtifactFacts]:
        """All artifacts."""
        return [
            ArtifactFacts(url=storage.base + s.path, size=len(s.content), sha256=s.sha256)
            for s in storage.artifacts.values()
        ]

    @face.put("/artifacts/{name}/{version}")
    async def upload(name: str, version: str, request: Request) -> ArtifactFacts:
        """Keep the body as an artifact: 409 where other bytes have that name and version, 413 past the bound."""
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > max_artifact_bytes:
                raise HTTPException(413, f"more than {max_artifact_bytes} bytes")
        try:
            artifact = storage.put(name, version, bytes(content))
        except ScenarioError as error:
            raise HTTPException(409, str(error)) from None
        return ArtifactFacts(url=artifact.url, size=artifact.size_bytes or 0, sha256=artifact.sha256 or "")

    @face.post("/artifacts/{name}/{version}/url")
    async def sign(name: str, version: str, thing: str, ttl_s: int = 3600, address: str = "") -> SignedUrl:
        """A pre-signed URL for one thing, and for one address if one is given."""
        stored = storage.at(name, version)
        if stored is None:
            raise HTTPException(404, f"no artifact {name} {version}")
        expires = int(now()) + ttl_s
        return SignedUrl(url=storage.presign(stored, thing, expires, address), expires_at=expires)

    @face.get("/things/{thing}")
    async def document(thing: str) -> ReplicaDocument:
        """A thing's replica."""
        row = replica.rows.get(thing)
        if row is None:
            raise HTTPException(404, f"no replica of {thing!r}")
        return ReplicaDocument(thing=thing, version=row.version, desired=row.desired, reported=row.reported)

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"].startswith("/artifacts/"):
            await _download(serve, scope, send)
        else:
            await face(scope, receive, send)

    return route


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
