"""The application's side of the atlas dialect: step 3 of the pattern."""

from __future__ import annotations

from typing import Any

import orjson

from simulator.dialects.atlas.documents import (
    ENDS,
    EXAMPLE,
    completion,
    loaded,
    number,
    part,
    refusal,
    software,
    text,
)
from simulator.dialects.atlas.topics import TOPICS, AtlasTopics
from simulator.dialects.base import (
    OfferAnswered,
    Reported,
)
from simulator.dialects.topics import fill
from simulator.model.io import NOTHING, Inbound, Publish, Response, Step, Subscribe
from simulator.model.state import Document
from simulator.model.update import Execution, Outcome, Status


class AtlasApplication:
    """What an application says and hears; implements `ApplicationDialect`."""

    __slots__ = ("_example", "_topics")

    def __init__(self, *, topics: AtlasTopics = TOPICS, variant: str = "atlas") -> None:
        self._topics = topics
        self._example = variant == EXAMPLE

    def open(self, now: float) -> Step:
        """Listen to the answers of all things."""
        names = (self._topics.accepted, self._topics.rejected)
        return Step((Subscribe(tuple(fill(n, "+") for n in names)),))

    def offer(self, execution: Execution, now: float) -> Step:
        """Publish the desired state."""  # atlas software-update step 3; atlas command: same id on resend
        artifact = execution.artifact
        body = {
            "state": {"desired": software(artifact.version, artifact.url)},
            "jobID": execution.id,
            "clientToken": self.token(execution.id),
        }
        return Step((Publish(fill(self._topics.update, execution.thing), orjson.dumps(body)),))

    def token(self, job: str) -> str:
        """The same for each time that the job is offered."""
        return f"offer:{job}"

    def receive(self, inbound: Inbound, now: float) -> Step:
        """Hear how offers were answered and what devices report; only what the replica accepted counts."""
        if isinstance(inbound, Response):
            return NOTHING
        name, thing = self._topics.parse(inbound.topic)
        if self._example and name == "accepted" and (ended := completion(thing, inbound.payload)):
            return Step((), (Reported(thing, "", "", Outcome(thing, ended.job, ENDS[ended.status])),))
        body = loaded(inbound.payload)
        if body is None:
            return NOTHING
        token = text(body.get("clientToken"))
        if name == "rejected":
            if token.startswith("offer:"):
                return Step((), (OfferAnswered(thing, token[6:], *refusal(body), token=token),))
            return NOTHING
        if name != "accepted":
            return NOTHING
        state = part(body, "state")
        signals: list[Any] = []
        if "desired" in state and token.startswith("offer:"):
            signals.append(OfferAnswered(thing, token[6:], doc=number(body.get("version")), token=token))
        if "reported" in state:
            signals.append(self._reported(thing, body, part(state, "reported", "software")))
        return Step((), tuple(signals))

    def _reported(self, thing: str, body: Document, software: Document) -> Reported:
        job, status = text(body.get("jobID")), text(body.get("status"))
        outcome = None
        if job and status in Status.__members__:
            outcome = Outcome(thing, job, ENDS[Status(status)], text(body.get("reason")))
        return Reported(thing, text(software.get("version")), text(software.get("softwareURL")), outcome)
