"""The side of somebody who asks about one thing, and is no device."""

from __future__ import annotations

import orjson

from simulator.dialects.atlas.documents import (
    loaded,
    number,
    refusal,
    text,
)
from simulator.dialects.atlas.topics import TOPICS, AtlasTopics
from simulator.dialects.base import (
    Answered,
)
from simulator.dialects.topics import fill
from simulator.model.io import Message, Publish
from simulator.model.state import Document


class AtlasProbe:
    """What somebody says and hears who asks about one thing, and is no device: conditional updates, `get`, and what a
    replica must refuse; implements `ProbeDialect`."""

    __slots__ = ("_topics", "thing")

    def __init__(self, thing: str, *, topics: AtlasTopics = TOPICS) -> None:
        self.thing, self._topics = thing, topics

    @property
    def answers(self) -> tuple[str, ...]:
        """The topics on which answers come."""
        t = self._topics
        return tuple(fill(name, self.thing) for name in (t.accepted, t.rejected, t.get_accepted, t.get_rejected))

    def update(self, reported: Document, token: str, version: int | None) -> Publish:
        """Ask for a change of what is reported; with a version only if that is the document's."""
        body: Document = {"state": {"reported": reported}, "clientToken": token}
        if version is not None:
            body["version"] = version
        return Publish(fill(self._topics.update, self.thing), orjson.dumps(body))

    def malformed(self) -> Publish:
        """An update that is no JSON object."""
        return Publish(fill(self._topics.update, self.thing), b"[]")

    def get(self, token: str) -> Publish:
        """Ask for the document."""
        return Publish(fill(self._topics.get, self.thing), orjson.dumps({"clientToken": token}))

    def receive(self, message: Message) -> Answered | None:
        """The answer that this message is; the token is empty where it has none."""
        name, _ = self._topics.parse(message.topic)
        body = loaded(message.payload)
        if body is None:
            return None
        refused = refusal(body) if name in ("rejected", "get_rejected") else (None, "")
        return Answered(text(body.get("clientToken")), "", number(body.get("version")), *refused)
