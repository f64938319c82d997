"""Reading and spelling the JSON of the atlas dialect: what comes from the wire may be anything."""

from __future__ import annotations

from typing import Any

import orjson

from simulator.dialects.base import Completion
from simulator.model.state import Document
from simulator.model.update import State, Status

EXAMPLE = "atlas-example"
ENDS = {Status.SUCCESS: State.SUCCEEDED, Status.FAILURE: State.FAILED, Status.RUNNING: State.IN_PROGRESS}


def loaded(payload: bytes) -> dict[str, Any] | None:
    """The JSON object that the payload holds; None for anything else."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def part(value: Any, *path: str) -> dict[str, Any]:
    """The object at `path`, or an empty one where something else stands."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str:
    """The value if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def number(value: Any) -> int | None:
    """The value if it is an integer, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def software(version: str, url: str) -> Document:
    """The part of a document that names a piece of software."""
    return {"software": {"version": version, "softwareURL": url}}


def refusal(body: Document) -> tuple[int, str]:
    """(code, message) of a rejection; 0 and empty where it has none."""
    return number(body.get("code")) or 0, text(body.get("message"))


def completion(thing: str, payload: bytes) -> Completion | None:
    """Read `jobID:<id> SUCCESS|FAILURE`; None for anything else."""
    if not payload.startswith(b"jobID:"):
        return None
    job, _, status = payload[6:].decode("utf-8", "replace").rpartition(" ")
    return Completion(thing, job, Status(status)) if job and status in ("SUCCESS", "FAILURE") else None


def add(body: Document, token: Any, job: str) -> None:
    """Add the client token and the job id to an answer, if there are any."""
    if isinstance(token, str) and token:
        body["clientToken"] = token
    if job:
        body["jobID"] = job
