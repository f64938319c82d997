"""The `atlas` dialect: the IoT Atlas pages' Software Update over Device State Replica, as JSON over MQTT.

Device, application and replica side stand side by side here, so that nobody applies different rules to the two ends
of a wire. The variant `atlas-example` is the page's own code: the device publishes `jobID:<id> SUCCESS|FAILURE` on
`update/accepted` and reports nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import orjson
from msgspec import Struct

from simulator.dialects.base import (
    Answered,
    CredentialGranted,
    CredentialRefused,
    InSync,
    OfferAnswered,
    Reported,
    UpdateRequested,
)
from simulator.model.io import NOTHING, Inbound, Message, Publish, Response, Step, Subscribe
from simulator.model.state import Document
from simulator.model.update import Artifact, Download, Execution, Outcome, Progress, State, Status, same_place

EXAMPLE = "atlas-example"
_ENDS = {Status.SUCCESS: State.SUCCEEDED, Status.FAILURE: State.FAILED, Status.RUNNING: State.IN_PROGRESS}


# ---- topics


@dataclass(frozen=True, slots=True)
class Topics:
    """Topic templates; `{thing}` is a whole level, the same level in all of them. Raises ValueError otherwise."""

    update: str = "state/{thing}/update"
    accepted: str = "state/{thing}/update/accepted"
    rejected: str = "state/{thing}/update/rejected"
    delta: str = "state/{thing}/update/delta"
    get: str = "state/{thing}/get"
    get_accepted: str = "state/{thing}/get/accepted"
    get_rejected: str = "state/{thing}/get/rejected"
    credentials: str = "state/{thing}/credentials/get"
    credentials_accepted: str = "state/{thing}/credentials/get/accepted"
    credentials_rejected: str = "state/{thing}/credentials/get/rejected"
    _level: int = field(init=False, default=0, repr=False)
    _names: dict[str, str] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        levels = set()
        for name, template in self.templates().items():
            parts = template.split("/")
            if parts.count("{thing}") != 1 or any(c in template.replace("{thing}", "", 1) for c in "+#\0{}"):
                raise ValueError(f"topic template {name!r} must hold {{thing}} once, as a whole level: {template!r}")
            levels.add(parts.index("{thing}"))
            parts.remove("{thing}")
            self._names["/".join(parts)] = name
        if len(levels) != 1:
            raise ValueError("topic templates must all hold {thing} at the same level")
        if len(self._names) != len(self.templates()):
            raise ValueError("topic templates must all differ")
        object.__setattr__(self, "_level", levels.pop())

    def templates(self) -> dict[str, str]:
        """name -> template."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def parse(self, topic: str) -> tuple[str, str]:
        """The template's name and the thing; ("", "") for a topic that is none of these."""
        parts = topic.split("/")
        if self._level >= len(parts):
            return "", ""
        thing = parts.pop(self._level)
        return self._names.get("/".join(parts), ""), thing


TOPICS = Topics()


def fill(template: str, thing: str) -> str:
    """The template's topic of one thing; `+` makes it the filter for all."""
    return template.replace("{thing}", thing)


def _json(payload: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _part(value: Any, *path: str) -> dict[str, Any]:
    """The object at `path`, or an empty one where something else stands."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _software(version: str, url: str) -> Document:
    return {"software": {"version": version, "softwareURL": url}}


# ---- the device's side


class AtlasDevice:
    """What a device says and hears; implements `DeviceDialect`. `address` is told with the initial state: a backend
    may bind URLs to it. `known` is an artifact whose hash need not be announced."""

    __slots__ = ("_address", "_credential", "_example", "_known", "_thing", "_topics", "answers")
    wake_at: float | None = None

    def __init__(
        self,
        thing: str,
        *,
        topics: Topics = TOPICS,
        variant: str = "atlas",
        credential: bool = False,
        address: str = "",
        known: Artifact | None = None,
    ) -> None:
        self._thing = thing
        self._known = known
        self._topics = topics
        self._example = variant == EXAMPLE
        self.answers = not self._example  # in the page's own code nobody answers the device
        self._credential = credential
        self._address = address

    def open(self, initial: Progress, now: float) -> Step:
        """Subscribe before anything is asked, report the initial state, ask for the desired one."""
        t, thing = self._topics, self._thing
        # atlas software-update step 1; atlas replica: the first action of every (re)connect is to obtain and compare
        names = [t.delta, t.get_accepted, t.get_rejected]
        if self._credential:
            names += [t.credentials_accepted, t.credentials_rejected]
        ask = self.ask_current(now)
        if self._example:
            return Step((Subscribe(tuple(fill(n, thing) for n in names)), *ask.outputs))
        names += [t.accepted, t.rejected]
        return Step((Subscribe(tuple(fill(n, thing) for n in names)), *self.report(initial, now).outputs, *ask.outputs))

    def ask_current(self, now: float) -> Step:
        """Publish on `get`."""
        return Step((Publish(fill(self._topics.get, self._thing), b""),))

    def ask_credential(self, job: str, now: float) -> Step:
        """Ask for a credential for this job's artifact, over the device's own channel."""
        return Step((Publish(fill(self._topics.credentials, self._thing), orjson.dumps({"jobID": job})),))

    def report(self, progress: Progress, now: float) -> Step:
        """Say what runs now and, where it speaks of an update, how that went."""  # atlas software-update step 8
        if self._example:
            if progress.status not in (Status.SUCCESS, Status.FAILURE):
                return NOTHING
            text = f"jobID:{progress.job} {progress.status}".encode()
            return Step((Publish(fill(self._topics.accepted, self._thing), text),))
        body: dict[str, Any] = {
            "state": {"reported": _software(progress.version, progress.url)},
            "clientToken": progress.token,
        }
        if progress.status is None:
            if self._address:
                body["state"]["reported"]["address"] = self._address
        else:
            body |= {"jobID": progress.job, "status": progress.status, "phase": progress.phase}
            if progress.reason:
                body["reason"] = progress.reason
        return Step((Publish(fill(self._topics.update, self._thing), orjson.dumps(body)),))

    def receive(self, inbound: Inbound, now: float) -> Step:
        """Understand what the replica sent; anything else is ignored."""
        if isinstance(inbound, Response):
            return NOTHING
        name, thing = self._topics.parse(inbound.topic)
        if thing != self._thing:
            return NOTHING
        body = _json(inbound.payload)
        if body is None:
            return NOTHING
        signal: Any = None
        if name == "accepted":
            if "reported" in _part(body, "state"):
                signal = Answered(_text(body.get("clientToken")), _text(body.get("jobID")), _int(body.get("version")))
        elif name == "delta":
            signal = self._requested(body, _part(body, "state", "software"), "delta")
        elif name == "get_accepted":
            wanted = _part(body, "state", "delta", "software")
            signal = self._requested(body, wanted, "get") or InSync(_int(body.get("version")))
        elif name == "rejected":
            signal = Answered(_text(body.get("clientToken")), "", None, *_refusal(body))
        elif name == "credentials_accepted":
            signal = CredentialGranted(
                _text(body.get("jobID")), _text(body.get("authorization")), body.get("expiresAt")
            )
        elif name == "credentials_rejected":
            signal = CredentialRefused(_text(body.get("jobID")), *_refusal(body))
        return Step((), (signal,)) if signal is not None else NOTHING

    def _requested(self, body: Document, wanted: Document, source: str) -> UpdateRequested | None:
        """The delta is the command: what is desired, its job id, and leave to download."""  # step 5 and 6
        url = _text(wanted.get("softwareURL"))
        if not url:
            return None
        leave = _part(body, "download")
        version = _text(wanted.get("version")) or _text(_part(body, "state", "desired", "software").get("version"))
        expires = leave.get("expiresAt")
        sha256 = _text(leave.get("sha256")).lower() or None
        if sha256 is None and self._known is not None and same_place(self._known.url, url):
            sha256 = self._known.sha256
        return UpdateRequested(
            Execution(
                _text(body.get("jobID")) or url,
                self._thing,
                Artifact(version, url, _int(leave.get("size")), sha256),
            ),
            Download(
                _text(leave.get("url")) or url,
                float(expires) if isinstance(expires, int | float) else None,
                self._credential and bool(leave),
            ),
            _int(body.get("version")),
            source,
        )

    def wake(self, now: float) -> Step:
        """Everything is pushed in this dialect."""
        return NOTHING


def _refusal(body: Document) -> tuple[int, str]:
    return _int(body.get("code")) or 0, _text(body.get("message"))


# ---- the application's side


class AtlasApplication:
    """What an application says and hears; implements `ServiceDialect`."""

    __slots__ = ("_example", "_topics")

    def __init__(self, *, topics: Topics = TOPICS, variant: str = "atlas") -> None:
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
            "state": {"desired": _software(artifact.version, artifact.url)},
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
        if self._example and name == "accepted" and (said := completion(thing, inbound.payload)):
            return Step((), (Reported(thing, "", "", Outcome(thing, said.job, _ENDS[said.status])),))
        body = _json(inbound.payload)
        if body is None:
            return NOTHING
        token = _text(body.get("clientToken"))
        if name == "rejected":
            if token.startswith("offer:"):
                return Step((), (OfferAnswered(thing, token[6:], *_refusal(body), token=token),))
            return NOTHING
        if name != "accepted":
            return NOTHING
        state = _part(body, "state")
        signals: list[Any] = []
        if "desired" in state and token.startswith("offer:"):
            signals.append(OfferAnswered(thing, token[6:], doc=_int(body.get("version")), token=token))
        if "reported" in state:
            signals.append(self._reported(thing, body, _part(state, "reported", "software")))
        return Step((), tuple(signals))

    def _reported(self, thing: str, body: Document, software: Document) -> Reported:
        job, status = _text(body.get("jobID")), _text(body.get("status"))
        outcome = None
        if job and status in Status.__members__:
            outcome = Outcome(thing, job, _ENDS[Status(status)], _text(body.get("reason")))
        return Reported(thing, _text(software.get("version")), _text(software.get("softwareURL")), outcome)


class AtlasProbe:
    """What somebody says and hears who asks about one thing, and is no device: conditional updates, `get`, and what a
    replica must refuse."""

    __slots__ = ("_topics", "thing")

    def __init__(self, thing: str, *, topics: Topics = TOPICS) -> None:
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
        body = _json(message.payload)
        if body is None:
            return None
        refused = _refusal(body) if name in ("rejected", "get_rejected") else (None, "")
        return Answered(_text(body.get("clientToken")), "", _int(body.get("version")), *refused)


# ---- the replica's side


class UpdateRequest(Struct, frozen=True):
    """Somebody asks for a change of a thing's document. `state` is what the request carried, as it came."""

    thing: str
    state: Any
    version: Any = None
    token: Any = None
    job: str = ""
    status: str = ""
    reason: str = ""


class GetRequest(Struct, frozen=True):
    """Somebody asks for the thing's document."""

    thing: str
    token: Any = None


class CredentialRequest(Struct, frozen=True):
    """A device asks for leave to download the artifact of `job`."""

    thing: str
    job: str
    token: Any = None


class Completion(Struct, frozen=True):
    """`atlas-example`: the device's own word that a job ended."""

    thing: str
    job: str
    status: Status


class Malformed(Struct, frozen=True):
    """A request that is no JSON object; `name` is the topic's, so that the answer finds its way."""

    thing: str
    name: str


ReplicaRequest = UpdateRequest | GetRequest | CredentialRequest | Completion | Malformed


def completion(thing: str, payload: bytes) -> Completion | None:
    """Read `jobID:<id> SUCCESS|FAILURE`; None for anything else."""
    if not payload.startswith(b"jobID:"):
        return None
    job, _, status = payload[6:].decode("utf-8", "replace").rpartition(" ")
    return Completion(thing, job, Status(status)) if job and status in ("SUCCESS", "FAILURE") else None


class AtlasReplica:
    """How a replica hears requests and spells its answers."""

    __slots__ = ("_example", "_topics")

    def __init__(self, *, topics: Topics = TOPICS, variant: str = "atlas") -> None:
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
        body = _json(message.payload)
        if body is None:
            return Malformed(thing, name)
        token = body.get("clientToken")
        if name == "update":
            return UpdateRequest(
                thing,
                body.get("state"),
                body.get("version"),
                token,
                _text(body.get("jobID")),
                _text(body.get("status")),
                _text(body.get("reason")),
            )
        if name == "get":
            return GetRequest(thing, token)
        return CredentialRequest(thing, _text(body.get("jobID")), token)

    def accepted(self, request: UpdateRequest, version: int, now: float) -> Publish:
        """Say that the update is committed."""  # atlas software-update step 9
        body: Document = {"state": request.state, "version": version, "timestamp": int(now)}
        _add(body, request.token, request.job)
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
        _add(body, None, job)
        if download:
            body["download"] = download
        return Publish(fill(self._topics.delta, thing), orjson.dumps(body))

    def current(
        self, request: GetRequest, state: Document, version: int, now: float, *, job: str, download: Document | None
    ) -> Publish:
        """The answer to `get`: `state` holds desired, reported and delta."""
        body: Document = {"state": state, "version": version, "timestamp": int(now)}
        _add(body, request.token, job)
        if download:
            body["download"] = download
        return Publish(fill(self._topics.get_accepted, request.thing), orjson.dumps(body))

    def credential(self, request: CredentialRequest, authorization: str, expires_at: float) -> Publish:
        """A temporary credential: the value of an Authorization header."""
        body: Document = {"authorization": authorization, "expiresAt": int(expires_at)}
        _add(body, request.token, request.job)
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
        _add(body, getattr(request, "token", None), getattr(request, "job", ""))
        return Publish(fill(template, request.thing), orjson.dumps(body))


def _add(body: Document, token: Any, job: str) -> None:
    if isinstance(token, str) and token:
        body["clientToken"] = token
    if job:
        body["jobID"] = job
