"""A dialect that polls over HTTP, as hawkBit's devices do, and its server: no MQTT at all. Everything a device learns it
learns from a response."""

import hashlib
from dataclasses import dataclass, field

import orjson

from simulator.dialects.base import Answered, InSync, Said, UpdateRequested
from simulator.dialects.meanings import Meaning, Means
from simulator.model.errors import NotSimulated
from simulator.model.io import NOTHING, Request, Response, Step
from simulator.model.update import Artifact, Download, Execution

BASE = "http://poll"


def call(method, path, body=None):
    return Request(method, f"{BASE}/{path}", (), b"" if body is None else orjson.dumps(body))


class PollingDevice:
    """Asks every `sleep` seconds, as its server says; a deployment is fetched when a poll names one."""

    roads = frozenset({"http"})
    answers = True

    def __init__(self, thing):
        self.thing, self.wake_at = thing, None

    def open(self, initial, now):
        attributes = call("PUT", f"{self.thing}/attributes", {"version": initial.version})
        return Step((attributes, *self.ask_current(now).outputs), (Said(initial),))

    def meaning(self, topic, payload):
        return Meaning(Means.OTHER, topic)  # it has no MQTT messages

    def ask_current(self, now):
        self.wake_at = None  # until the answer says when
        return Step((call("GET", self.thing),))

    def wake(self, now):
        return self.ask_current(now)

    def ask_credential(self, job, now):
        raise NotSimulated("credentials")

    def ask_chunk(self, job, offset, length, now):
        raise NotSimulated("chunks")

    def report(self, progress, now):
        p = progress
        said = {"job": p.job, "status": p.status, "version": p.version, "reason": p.reason, "token": p.token}
        return Step((call("POST", f"{self.thing}/feedback", said),))

    def receive(self, inbound, now):
        asked = inbound.request
        name = asked.url.removeprefix(f"{BASE}/{self.thing}").strip("/")
        if name == "feedback":
            said = orjson.loads(asked.body)
            code = None if inbound.status == 200 else inbound.status
            return Step((), (Answered(said["token"], said["job"], None, code),))
        body = orjson.loads(inbound.body or b"{}")
        if name == "":
            self.wake_at = now + body["sleep"]
            if "deployment" in body:
                return Step((call("GET", body["deployment"]),))
            return Step((), (InSync(None),))
        if name.startswith("deployments/"):
            artifact = Artifact(body["version"], body["url"], body["size"], body["sha256"])
            order = Execution(body["job"], self.thing, artifact)
            return Step((), (UpdateRequested(order, Download(body["url"]), None, "get"),))
        return NOTHING


@dataclass
class PollingServer:
    """Says what is to be run until a success is reported; serves the artifact, too. `seen` is what it was asked."""

    thing: str
    content: bytes
    sleep: float = 30.0
    open: bool = False
    deaf: int = 0  # so many reports more get 500
    refuses: int = 0  # so many downloads more get 403
    down: bool = False
    seen: list = field(default_factory=list)
    refused_at: list = field(default_factory=list)  # when somebody asked while it was down
    reports: list = field(default_factory=list)

    def serve(self, request):
        path = request.url.removeprefix(f"{BASE}/")
        self.seen.append(f"{request.method} {path}")
        if path == "artifact" and self.refuses:
            self.refuses -= 1
            return Response(403)
        if path == "artifact":
            return Response(200, (("content-length", str(len(self.content))),), self.content)
        if path == self.thing:
            return self.says({"sleep": self.sleep, **({"deployment": f"{path}/deployments/7"} if self.open else {})})
        if path.endswith("/deployments/7"):
            digest = hashlib.sha256(self.content).hexdigest()
            return self.says({"job": "7", "version": "2", "url": f"{BASE}/artifact", "size": len(self.content),
                              "sha256": digest})  # fmt: skip
        if path.endswith("/feedback"):
            if self.deaf:
                self.deaf -= 1
                return Response(500)
            self.reports.append(orjson.loads(request.body))
            self.open &= self.reports[-1]["status"] not in ("SUCCESS", "FAILURE")
        return Response(200)

    def says(self, body):
        return Response(200, (), orjson.dumps(body))
