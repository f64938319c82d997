"""A tape that is made from a live run's record: what others did to one device, as far as the device's own events tell.

The record holds what reached the device, not all that was said to it. So the others' parts are played by rule where it
is silent (a question with no answer on record is answered "nothing differs"), and by the record where it speaks. What
faults did on the device's road is taken out again: they are there when it is played, and do it anew.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from simulator.broker.packets import ConnAck, Connect, PubAck, Publish, SubAck, Subscribe
from simulator.device.ramp import due
from simulator.dialects.base import CredentialRequest, GetRequest, UpdateRequest
from simulator.links.base import Body, MqttOptions, Wires, whole
from simulator.links.memory import MemoryMqtt
from simulator.model.errors import LinkError, TransferError
from simulator.model.events import Kind
from simulator.model.io import Message, Request, Response
from simulator.model.io import Publish as Said
from simulator.model.scenario import Scenario
from simulator.model.update import Status
from simulator.worlds import setup
from simulator.worlds.reproduce.one_device import Turned
from simulator.worlds.reproduce.tape import Event, Lost, Mouth, Refused
from simulator.worlds.virtual import EPOCH

_OWN_DOING = ("mishap: ", "no road", "no answer")  # attempts to connect that never left the device
_CHUNK = 65536
_CREDENTIAL_S = 3600


class Joined(NamedTuple):
    """The device was connected. `unanswered` is how many of its questions then brought nothing: it asked again."""

    resumed: bool
    unanswered: int = 0


class Wanted(NamedTuple):
    """It learned what is desired, by a delta or as the answer to a question."""

    by: str
    job: str
    version: str
    digest: str | None
    doc: int | None
    size_bytes: int | None
    leave_until_us: int | None


class Answer(NamedTuple):
    """Its report of this job's end was answered (of any job's, if none is named); `code` is 0 where it was accepted."""

    job: str
    doc: int | None
    code: int = 0
    message: str = ""


class Cue(NamedTuple):
    """What comes to the device over MQTT, and when."""

    t_us: int
    event: Joined | Refused | Lost | Wanted | Answer


class Piece(NamedTuple):
    """How one HTTP request ended, and how many bytes it had brought. `cut`: they were all that came, by the server's
    doing or the road's."""

    t_us: int
    status: int
    size: int
    etag: str
    error: str
    cut: bool


@dataclass(slots=True)
class Script:
    """All that came to one device, by its record."""

    began_us: int
    end_us: int = 0
    cues: list[Cue] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    turns: list[tuple[int, int, bool]] = field(default_factory=list)


# ---- from the record


def script_of(
    scenario: Scenario, ordinal: int, own: Iterable[dict[str, Any]], faults: Iterable[dict[str, Any]]
) -> Script:
    """The script that a device's own events make, which begin with its start; `faults` are the run's begins and ends."""
    reader: _Reader | None = None
    for event in own:
        if reader is None:
            ramp_s = due(scenario.fleet.ramp, scenario.fleet.devices, ordinal)
            reader = _Reader(max(0, event["t_us"] - event.get("span_us", 0) - round(ramp_s * 1e6)))
        reader.read(event)
    assert reader is not None
    script = reader.script
    script.cues.sort(key=lambda cue: cue.t_us)
    script.turns = [(f["t_us"], f.get("size", 0), f["status"] == "begin") for f in faults]
    return script


class _Reader:
    """Reads a device's events in their order."""

    def __init__(self, began_us: int) -> None:
        self.script = Script(began_us)
        self._copies: list[tuple[int, str]] = []  # what a fault will bring once more, and from when on
        self._held: list[tuple[int, str, int]] = []  # until when a fault holds what, and since when
        self._troubles: list[dict[str, Any]] = []  # of the exchange under way
        self._joined: int | None = None  # the cue of this connection

    def read(self, event: dict[str, Any]) -> None:
        self.script.end_us = event["t_us"]
        reading = {
            Kind.CONNECT: self._connect,
            Kind.LOST: self._lost,
            Kind.REPORT: self._report,
            Kind.DELTA: self._delta,
            Kind.ANSWER: self._answer,
            Kind.DOWNLOAD: self._download,
            Kind.FAULT: self._fault,
        }.get(event["kind"])
        if reading is not None:
            reading(event, event["t_us"])

    def _cue(self, t_us: int, event: Joined | Refused | Lost | Wanted | Answer) -> None:
        self.script.cues.append(Cue(t_us, event))

    def _connect(self, event: dict[str, Any], t_us: int) -> None:
        detail = event.get("detail", "")
        if event["status"] != "failed":
            self._joined = None  # its first question
            self._cue(t_us, Joined(event["status"] == "resumed"))
        elif not detail.startswith(_OWN_DOING):
            self._cue(t_us, Refused(detail))

    def _lost(self, event: dict[str, Any], t_us: int) -> None:
        self._copies, self._held = [], []  # what a fault holds back is lost with the connection
        if event["status"] == "lost":
            self._cue(t_us, Lost(event.get("detail", "")))

    def _report(self, event: dict[str, Any], t_us: int) -> None:
        if event["status"] != "initial":
            return
        if self._joined is None:
            self._joined = max(n for n, cue in enumerate(self.script.cues) if isinstance(cue.event, Joined))
            return
        at, joined = self.script.cues[self._joined]
        assert isinstance(joined, Joined)
        self.script.cues[self._joined] = Cue(at, joined._replace(unanswered=joined.unanswered + 1))

    def _delta(self, event: dict[str, Any], t_us: int) -> None:
        by = event.get("detail", "delta")
        for copy in self._copies:
            if copy[0] <= t_us and copy[1] == by:
                self._copies.remove(copy)
                return
        came_us = t_us
        for held in self._held:
            if held[0] <= t_us and held[1] == by:
                self._held.remove(held)
                came_us = held[2]
                break
        leave_us = event.get("span_us")
        until_us = None if leave_us is None else t_us + leave_us
        job, version = event.get("job", ""), event.get("version", "")
        digest, doc, size = event.get("digest"), event.get("doc"), event.get("size")
        self._cue(came_us, Wanted(by, job, version, digest, doc, size, until_us))

    def _answer(self, event: dict[str, Any], t_us: int) -> None:
        if "job" not in event:
            return  # nobody waited for it: it changed nothing
        if event["status"] == "accepted":
            self._cue(t_us, Answer(event["job"], event.get("doc")))
        elif event["status"] == "rejected":
            code, _, message = event.get("detail", "").partition(" ")
            self._cue(t_us, Answer(event["job"], None, int(code), message))

    def _download(self, event: dict[str, Any], t_us: int) -> None:
        troubles, self._troubles = self._troubles, []
        said = orjson.loads(event.get("detail", "{}"))
        status, error = int(event["status"]), said.get("error", "")
        if any("answer" in trouble for trouble in troubles) or (status == 0 and error in ("offline", "")):
            return  # no server's doing
        harmed = any(trouble.keys() - {"request", "wait_s"} for trouble in troubles)
        cut = not harmed and status in (200, 206) and error not in ("", "offline")
        etag = "" if harmed else said.get("etag", "")
        self.script.pieces.append(Piece(t_us, status, event.get("size", 0), etag, error, cut))

    def _fault(self, event: dict[str, Any], t_us: int) -> None:
        did = orjson.loads(event.get("detail", "{}"))
        if "request" in did:
            self._troubles.append(did)
        elif "retained" in did:
            self._copies.append((t_us, "delta"))
        elif did.get("message") == "accepted" and did.get("lost"):
            self._cue(t_us, Answer("", None))
        elif by := {"delta": "delta", "get_accepted": "get"}.get(did.get("message", "")):
            self._copies += [(t_us + round(after_s * 1e6), by) for after_s in did.get("again_s", ())]
            if "delay_s" in did:
                self._held.append((t_us + round(did["delay_s"] * 1e6), by, t_us))


# ---- played


class Actor:
    """Plays a script to one device; `url` is where the software is said to be, `content` its bytes."""

    def __init__(
        self, script: Script, scenario: Scenario, thing: str, url: str, content: bytes, skew_s: float, turned: Turned
    ) -> None:
        self.script, self._thing, self._url, self.content = script, thing, url, content
        self._epoch, self._turned = EPOCH + skew_s, turned
        self._replica = setup.replica_dialect(scenario.target)
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[str] = self.loop.create_future()
        self._at = self._packets = 0
        self._timer: asyncio.TimerHandle | None = None
        self._clients: list[MemoryMqtt] = []
        self._joined = Joined(False)
        self._report: UpdateRequest | None = None

    def begin(self) -> None:
        """Faults come and go by the clock, and so does the end."""
        for t_us, nth, on in self.script.turns:
            self.loop.call_at(t_us / 1e6, self._turned, nth, on)
        self.loop.call_at(self.script.end_us / 1e6, self.over.set_result, "")

    def wires(self, options: MqttOptions, address: str) -> Wires:
        """The device's wires; later ones are a rival's, who is let in."""
        make = _Client if not self._clients else MemoryMqtt
        self._clients.append(make(Mouth(self, len(self._clients)), options))
        if isinstance(client := self._clients[-1], _Client):
            client.actor = self
        return Wires(client, _Storage(self), address)

    def recorded(self) -> None:
        """Nothing waits for it: the record's own times decide."""

    def _cue(self) -> Cue | None:
        return self.script.cues[self._at] if self._at < len(self.script.cues) else None

    async def attempt(self) -> None:
        """Wait for how the next attempt to connect went; what was to come before never does. Raises LinkError."""
        while (cue := self._cue()) is not None and not isinstance(cue.event, Joined | Refused):
            self._at += 1
        if cue is None:
            await self.over  # the record knows of no further one
            raise LinkError("the record ends")
        await self.until(cue.t_us)
        self._at += 1
        if isinstance(cue.event, Refused):
            raise LinkError(cue.event.reason)
        assert isinstance(cue.event, Joined)
        self._joined = cue.event

    async def until(self, t_us: int) -> None:
        """Wait for this time of the record, if it is yet to come."""
        await asyncio.sleep(max(0.0, t_us / 1e6 - self.loop.time()))

    def _go_on(self) -> None:
        """Wait for what comes next by itself."""
        if self._timer is not None:
            self._timer.cancel()
        if (cue := self._cue()) is not None and not isinstance(cue.event, Joined | Refused):
            self._timer = self.loop.call_at(cue.t_us / 1e6, self._ring)

    def _ring(self) -> None:
        cue, client = self._cue(), self._clients[0]
        if cue is None or not client.up:
            return
        if isinstance(cue.event, Answer):
            if self._report is None or cue.event.job not in ("", self._report.job):
                return  # it answers what is not said yet
            self._reply(cue.event, self._report)
        elif isinstance(cue.event, Wanted):
            self._command(cue.event)
        elif isinstance(cue.event, Lost):
            client.lose(cue.event.reason)
        self._at += 1
        self._go_on()

    def _reply(self, answer: Answer, report: UpdateRequest) -> None:
        now = self.loop.time() + EPOCH
        if answer.code:
            self._deliver(self._replica.rejected(report, answer.code, answer.message, now))
        else:
            self._deliver(self._replica.accepted(report, answer.doc or 0, now))

    def _command(self, wanted: Wanted) -> None:
        now, until_us = self.loop.time() + EPOCH, wanted.leave_until_us
        software = {"software": {"version": wanted.version, "softwareURL": self._url}}
        download: dict[str, Any] = {"url": self._url, "size": wanted.size_bytes, "sha256": wanted.digest}
        if until_us is not None:
            download["expiresAt"] = self._epoch + until_us / 1e6
        leave: dict[str, Any] = {"job": wanted.job, "download": download}
        doc: Any = wanted.doc  # None where the backend numbers nothing
        if wanted.by == "get":
            state = {"desired": software, "reported": {}, "delta": software}
            self._deliver(self._replica.current(GetRequest(self._thing), state, doc, now, **leave))
        else:
            self._deliver(self._replica.delta(self._thing, software, doc, now, **leave))

    def _deliver(self, said: Said) -> None:
        self._packets = self._packets % 65535 + 1
        self._clients[0].arrived(Publish(said.topic, said.payload, 1, False, False, self._packets))

    # ---- what the device says

    def reach(self, client: int) -> None:
        """How it went is the attempt's to tell."""

    def said(self, event: Event, client: int) -> None:
        """Answer as a broker does, and as a replica where the record does not."""
        link = self._clients[client]
        if isinstance(event, Connect):
            link.arrived(ConnAck(0, client == 0 and self._joined.resumed))
            self._go_on()
        elif isinstance(event, Subscribe):
            link.arrived(SubAck(event.packet_id, tuple(wanted.qos for wanted in event.filters)))
        elif isinstance(event, Publish):
            if event.packet_id is not None:
                link.arrived(PubAck(event.packet_id))
            self._hear(Message(event.topic, event.payload))

    def _hear(self, message: Message) -> None:
        request, now = self._replica.parse(message), self.loop.time() + EPOCH
        if isinstance(request, UpdateRequest) and request.status in (Status.SUCCESS, Status.FAILURE):
            self._report = request
            self._go_on()
        elif isinstance(request, CredentialRequest):
            self._deliver(
                self._replica.credential(request, "Bearer recorded", self._epoch + self.loop.time() + _CREDENTIAL_S)
            )
        elif isinstance(request, GetRequest) and not self._answers_later():
            same: dict[str, Any] = {"desired": {}, "reported": {}, "delta": {}}
            self._deliver(self._replica.current(request, same, 0, now, job="", download=None))

    def _answers_later(self) -> bool:
        """Whether the record has an answer to this question, or knows that none came."""
        if self._joined.unanswered:
            self._joined = self._joined._replace(unanswered=self._joined.unanswered - 1)
            return True
        for cue in self.script.cues[self._at :]:
            if isinstance(cue.event, Joined | Refused):
                return False
            if isinstance(cue.event, Wanted) and cue.event.by == "get":
                return True
        return False


class _Client(MemoryMqtt):
    """A client whose attempts to connect take as long, and go, as those on record."""

    __slots__ = ("actor",)
    actor: Actor

    async def connect(self) -> bool:
        """Connect when the record says so. Raises LinkError."""
        self.abort()
        await self.actor.attempt()
        return await super().connect()


class _Storage:
    """Gives the artifact as the record says that it was given; implements `HttpLink`."""

    __slots__ = ("_actor", "_nth")

    def __init__(self, actor: Actor) -> None:
        self._actor, self._nth = actor, 0

    async def open(self, request: Request, *, bound: int, timeout_s: float) -> Body:
        """The next response on record. Raises LinkError."""
        actor, pieces = self._actor, self._actor.script.pieces
        if self._nth >= len(pieces):
            raise LinkError("the record holds no further download")
        piece, self._nth = pieces[self._nth], self._nth + 1
        if piece.status not in (200, 206):
            await actor.until(piece.t_us)
        if not piece.status:
            raise LinkError(piece.error)
        return _Body(actor, piece, request)

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """The same, whole."""
        return await whole(await self.open(request, bound=bound, timeout_s=timeout_s))

    async def close(self) -> None:
        """Nothing to close."""


class _Body:
    """The bytes that this request gets, until when it got them; implements `Body`."""

    __slots__ = ("_actor", "_content", "_piece", "headers", "status")

    def __init__(self, actor: Actor, piece: Piece, request: Request) -> None:
        content, self._actor, self._piece, self.status = actor.content, actor, piece, piece.status
        asked = next((value for name, value in request.headers if name == "range"), "bytes=0-")
        first = int(asked.removeprefix("bytes=").partition("-")[0]) if piece.status == 206 else 0
        self._content = content[first:] if piece.status in (200, 206) else b""
        self.headers = {"content-length": str(len(self._content))}
        self.headers["etag"] = piece.etag or f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if piece.status in (206, 416):
            places = f"{first}-{len(content) - 1}" if piece.status == 206 else "*"
            self.headers["content-range"] = f"bytes {places}/{len(content)}"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        piece, content = self._piece, self._content
        last = max(0, min(piece.size, len(content)) - 1)  # the byte that came when the record says
        for offset in range(0, last, _CHUNK):
            yield content[offset : min(offset + _CHUNK, last)]
        await self._actor.until(piece.t_us)
        if not piece.cut:
            yield content[last:]
        elif piece.size:
            yield content[last : piece.size]
        if piece.cut and not piece.error.startswith("ended after"):
            raise TransferError(piece.error, received=piece.size)

    def close(self) -> None:
        """Nothing to let go of."""
