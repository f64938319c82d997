"""The replica's HTTP face: a thing's document, as it is committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import HTTPException
from pydantic import BaseModel

from simulator.links.asgi import App, guarded, tell_health
from simulator.model.state import delta
from simulator.replica.core import Row


class ReplicaDocument(BaseModel):
    """A thing's document; `job` is that of the desired state, `delta` what of it is not yet reported."""

    thing: str
    version: int
    job: str
    desired: dict[str, Any]
    reported: dict[str, Any]
    delta: dict[str, Any]


def replica_face(
    *, read: Callable[[str], Awaitable[Row | None]], health: Callable[[], dict[str, Any]], token: str
) -> App:
    """The replica's face. `read(thing)` gives a thing's committed row; all but /health wants the token."""
    face = guarded("fleetsim replica", token)
    tell_health(face, health)

    @face.get("/things/{thing}")
    async def document(thing: str) -> ReplicaDocument:
        """A thing's replica, as it is committed."""
        row = await read(thing)
        if row is None:
            raise HTTPException(404, f"no replica of {thing!r}")
        return ReplicaDocument(
            thing=thing,
            version=row.version,
            job=row.job,
            desired=row.desired,
            reported=row.reported,
            delta=delta(row.desired, row.reported),
        )

    face.openapi()["paths"]["/health"]["get"]["security"] = []
    return face
