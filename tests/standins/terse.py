"""A dialect that nobody speaks: over MQTT like atlas, with none of its topics and none of its words.

A message is a JSON array that begins with its word. The thing's name stands at the third level of its topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from simulator.dialects.base import (
    Answered,
    CredentialRequest,
    GetRequest,
    InSync,
    Malformed,
    OfferAnswered,
    Reported,
    Said,
    UpdateRequest,
    UpdateRequested,
)
from simulator.dialects.meanings import Meaning, Means
from simulator.dialects.registry import Dialect
from simulator.dialects.topics import Topics, fill
from simulator.model.capabilities import Capabilities
from simulator.model.io import NOTHING, Message, Publish, Step, Subscribe
from simulator.model.update import Artifact, Download, Execution, Outcome, State, Status

ENDS = {Status.SUCCESS: State.SUCCEEDED, Status.FAILURE: State.FAILED, Status.RUNNING: State.IN_PROGRESS}


@dataclass(frozen=True, slots=True)
class TerseTopics(Topics):
    """Three topics a thing: what is said up, what comes down, and what the application hears."""

    up: str = "iot/v7/{thing}/up"
    down: str = "iot/v7/{thing}/down"
    news: str = "iot/v7/{thing}/news"


def said(template: str, thing: str, *words: Any) -> Publish:
    return Publish(fill(template, thing), orjson.dumps(words))


def words_of(payload: bytes) -> list[Any]:
    try:
        words = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return [""]
    return words if isinstance(words, list) and words else [""]


class TerseDevice:
    wake_at = None
    roads = frozenset({"mqtt"})
    answers = True

    def __init__(self, thing, /, *, topics, **_):
        self.thing, self.topics = thing, topics

    def open(self, initial, now):
        listen = Subscribe((fill(self.topics.down, self.thing),))
        outputs = listen, *self.report(initial, now).outputs, *self.ask_current(now).outputs
        return Step(outputs, (Said(initial),))

    def ask_current(self, now):
        return Step((said(self.topics.up, self.thing, "what?"),))

    def report(self, progress, now):
        p = progress
        return Step((said(self.topics.up, self.thing, "is", p.version, p.url, p.job, p.status, p.reason, p.token),))

    def receive(self, inbound, now):
        word, *rest = words_of(inbound.payload)
        if word == "run":
            source, job, version, url, granted, doc = rest
            artifact = Artifact(version, url, granted.get("size"), granted.get("sha256"))
            wanted = Execution(job, self.thing, artifact)
            download = Download(granted.get("url", url), granted.get("expiresAt"))
            return Step((), (UpdateRequested(wanted, download, doc, source),))
        if word == "fine":
            return Step((), (InSync(rest[0]),))
        if word == "ok":
            token, job, doc, *_ = rest
            return Step((), (Answered(token, job, doc),))
        if word == "no":
            token, code, why = rest
            return Step((), (Answered(token, "", None, code, why),))
        return NOTHING

    def wake(self, now):
        return NOTHING

    def meaning(self, topic, payload):
        word, *rest = words_of(payload)
        means = {"run": Means.DESIRED, "fine": Means.CURRENT, "ok": Means.ACCEPTED, "no": Means.REJECTED}
        means |= {"what?": Means.ASKED, "is": Means.REPORT}
        ends = word == "is" and rest[3] in ("SUCCESS", "FAILURE")
        return Meaning(means.get(word, Means.OTHER), word, ends)


class TerseReplica:
    def __init__(self, *, topics):
        self.topics = topics

    def open(self):
        return Step((Subscribe((fill(self.topics.up, "+"),)),))

    def parse(self, message: Message):
        _, thing = self.topics.parse(message.topic)
        word, *rest = words_of(message.payload)
        if word == "what?":
            return GetRequest(thing)
        if word == "is":
            version, url, job, status, reason, token = rest
            return UpdateRequest(
                thing,
                {"reported": {"software": {"version": version, "softwareURL": url}}},
                None,
                token,
                job,
                status or "",
                reason,
            )
        if word == "shall":
            job, version, url, token = rest
            return UpdateRequest(
                thing, {"desired": {"software": {"version": version, "softwareURL": url}}}, None, token, job
            )
        return Malformed(thing, "up")

    def accepted(self, request, version, now):
        if "desired" in request.state:
            return said(self.topics.news, request.thing, "taken", request.job, version, request.token)
        return said(
            self.topics.down,
            request.thing,
            "ok",
            request.token,
            request.job,
            version,
            request.status,
            request.reason,
            request.state["reported"]["software"],
        )

    def rejected(self, request, code, message, now):
        return said(self.topics.down, request.thing, "no", getattr(request, "token", ""), code, message)

    def delta(self, thing, state, version, now, *, job, download):
        return self._run(thing, "delta", state["software"], version, job, download)

    def current(self, request, state, version, now, *, job, download):
        if software := state["delta"].get("software"):
            return self._run(request.thing, "get", software, version, job, download)
        return said(self.topics.down, request.thing, "fine", version)

    def _run(self, thing, source, software, version, job, download):
        wanted = (software.get("version", ""), software["softwareURL"])
        return said(self.topics.down, thing, "run", source, job, *wanted, download or {}, version)

    def credential(self, request: CredentialRequest, authorization, expires_at):
        raise AssertionError("there are no credentials")


class TerseApplication:
    def __init__(self, *, topics):
        self.topics = topics

    def open(self, now):
        return Step((Subscribe((fill(self.topics.news, "+"), fill(self.topics.down, "+"))),))

    def offer(self, execution, now):
        a, thing = execution.artifact, execution.thing
        return Step((said(self.topics.up, thing, "shall", execution.id, a.version, a.url, self.token(execution.id)),))

    def token(self, job):
        return f"o-{job}"

    def receive(self, inbound, now):
        _, thing = self.topics.parse(inbound.topic)
        word, *rest = words_of(inbound.payload)
        if word == "taken":
            job, doc, token = rest
            return Step((), (OfferAnswered(thing, job, doc=doc, token=token),))
        if word == "ok":
            _, job, _, status, reason, software = rest
            outcome = Outcome(thing, job, ENDS[Status(status)], reason) if status else None
            return Step((), (Reported(thing, software["version"], software["softwareURL"], outcome),))
        return NOTHING


TERSE = Dialect(
    Capabilities(credentials=False, addresses=False), TerseTopics, TerseDevice, TerseApplication, TerseReplica
)
