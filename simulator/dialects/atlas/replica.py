"""The replica's side of the atlas dialect: steps 4 and 9 of the pattern."""

from __future__ import annotations

from typing import Any

import orjson

from simulator.dialects.atlas.documents import (
    EXAMPLE,
    add,
    completion,
    loaded,
    text,
)
from simulator.dialects.atlas.topics import TOPICS, AtlasTopics
from simulator.dialects.base import (
    CredentialRequest,
    GetRequest,
    Malformed,
    ReplicaRequest,
    UpdateRequest,
)
from simulator.dialects.topics import fill
from simulator.model.io import Message, Publish, Step, Subscribe
from simulator.model.state import Document


class AtlasReplica:
    """How a replica hears requests and spells its answers; implements `ReplicaDialect`."""

    __slots__ = ("_example", "_topics")

    def __init__(self, *, topics: AtlasTopics = TOPICS, variant: str = "atlas") -> None:
        self._topics = topics
        self._example = variant == EXAMPLE

    def open(self) -> Step:
        """Listen to the requests of all things; not to its own answers."""
        t = self._topics
        listening: list[Any] = [Subscribe(tuple(fill(n, "+") for n in (t.update, t.get, t.credentials)))]
        if self._example:
            listening.append(Subscribe((fill(t.accepted, "+"),), no_local=True))
        return Step(tuple(listening))

    def parse(self, message: Message) -> ReplicaRequest | None:
        """The request that this message makes, or None when it makes none."""
        name, thing = self._topics.parse(message.topic)
        if name == "accepted" and self._example:
            return completion(thing, message.payload)
        if name not in ("update", "get", "credentials"):
            return None
        if name == "get" and not message.payload:
            return GetRequest(thing)
        body = loaded(message.payload)
        if body is None:
            return Malformed(thing, name)
        token = body.get("clientToken")
        if name == "update":
            return UpdateRequest(
                thing,
                body.get("state"),
                body.get("version"),
                token,
                text(body.get("jobID")),
                text(body.get("status")),
                text(body.get("reason")),
            )
        if name == "get":
            return GetRequest(thing, token)
        return CredentialRequest(thing, text(body.get("jobID")), token)

    def accepted(self, request: UpdateRequest, version: int, now: float) -> Publish:
        """Say that the update is committed."""  # atlas software-update step 9
        body: Document = {"state": request.state, "version": version, "timestamp": int(now)}
        add(body, request.token, request.job)
        if request.status:
            body["status"] = request.status
        if request.reason:
            body["reason"] = request.reason
        return Publish(fill(self._topics.accepted, request.thing), orjson.dumps(body))

    def delta(
        self, thing: str, state: Document, version: int, now: float, *, job: str, download: Document | None
    ) -> Publish:
        """The delta, which acts as the software update command; `softwareURL` stands in it whenever software does."""
        body: Document = {"state": state, "version": version, "timestamp": int(now)}
        add(body, None, job)
        if download:
            body["download"] = download
        return Publish(fill(self._topics.delta, thing), orjson.dumps(body))

    def current(
        self, request: GetRequest, state: Document, version: int, now: float, *, job: str, download: Document | None
    ) -> Publish:
        """The answer to `get`: `state` holds desired, reported and delta."""
        body: Document = {"state": state, "version": version, "timestamp": int(now)}
        add(body, request.token, job)
        if download:
            body["download"] = download
        return Publish(fill(self._topics.get_accepted, request.thing), orjson.dumps(body))

    def credential(self, request: CredentialRequest, authorization: str, expires_at: float) -> Publish:
        """A temporary credential: the value of an Authorization header."""
        body: Document = {"authorization": authorization, "expiresAt": int(expires_at)}
        add(body, request.token, request.job)
        return Publish(fill(self._topics.credentials_accepted, request.thing), orjson.dumps(body))

    def rejected(self, request: ReplicaRequest, code: int, message: str, now: float) -> Publish:
        """Refuse a request, on the topic that its sender listens to."""
        t = self._topics
        kind = request.name if isinstance(request, Malformed) else type(request).__name__
        template = {
            "get": t.get_rejected,
            "GetRequest": t.get_rejected,
            "credentials": t.credentials_rejected,
            "CredentialRequest": t.credentials_rejected,
        }.get(kind, t.rejected)
        body: Document = {"code": code, "message": message, "timestamp": int(now)}
        add(body, getattr(request, "token", None), getattr(request, "job", ""))
        return Publish(fill(template, request.thing), orjson.dumps(body))
