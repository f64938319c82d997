"""The storage at work: every answer that it gives to a device is recorded."""

from __future__ import annotations

from collections.abc import Callable

from simulator.model.events import Kind
from simulator.model.io import Request, Response
from simulator.storage.store import Serve
from simulator.trace.recorder import Record


def recording(answer: Serve, record: Record, wall: Callable[[], float]) -> Callable[[Request, str], Response]:
    """Answers a request from an address as `answer` does, and records every answer; `wall()` gives Unix seconds."""

    def serve(request: Request, address: str = "") -> Response:
        response, served = answer(request, wall(), address)
        record(
            Kind.SERVED,
            served.thing,
            status=str(served.status),
            size=served.size,
            digest=served.sha256 or None,
            detail=served.detail,
        )
        return response

    return serve
