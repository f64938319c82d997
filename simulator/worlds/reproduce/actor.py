"""Plays a script to one device: all others' parts, by the record where it speaks, and by rule where it is silent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from simulator.broker.packets import ConnAck, Connect, PubAck, Publish, SubAck, Subscribe
from simulator.dialects.base import CredentialRequest, GetRequest, ReplicaDialect, UpdateRequest
from simulator.links.base import Body, MqttOptions, Wires, whole
from simulator.links.memory import MemoryMqtt
from simulator.model.errors import LinkError, TransferError
from simulator.model.io import Message, Request, Response
from simulator.model.io import Publish as Outgoing
from simulator.model.update import Status
from simulator.worlds.parties import EPOCH
from simulator.worlds.reproduce.one_device import Turned
from simulator.worlds.reproduce.player import Mouth
from simulator.worlds.reproduce.script import Answer, Connected, Cue, RecordedPiece, Script, Wanted
from simulator.worlds.reproduce.tape import ConnectRefused, Event, Lost

_CHUNK = 65536
_CREDENTIAL_S = 3600


class Circumstances(NamedTuple):
    """What the scenario tells of the device that is played to: its name, where the new software is said to be, the
    software's bytes, and by how many seconds the device's clock is ahead."""

    thing: str
    url: str
    content: bytes
    skew_s: float


class Actor:
    """Plays a script to one device. `replica` spells what a replica would say; `turned` is called when one of the
    scenario's faults begins or ends."""

    def __init__(self, script: Script, replica: ReplicaDialect, circumstances: Circumstances, turned: Turned) -> None:
        self.script, self.circumstances = script, circumstances
        self._replica, self._turned = replica, turned
        self.loop = asyncio.get_running_loop()
        self.over: asyncio.Future[str] = self.loop.create_future()
        self._at = self._packets = 0
        self._timer: asyncio.TimerHandle | None = None
        self._clients: list[MemoryMqtt] = []
        self._connected = Connected(False)
        self._report: UpdateRequest | None = None

    def begin(self) -> None:
        """Faults come and go by the clock, and so does the end."""
        for t_us, nth, on in self.script.turns:
            self.loop.call_at(t_us / 1e6, self._turned, nth, on)
        self.loop.call_at(self.script.end_us / 1e6, self.over.set_result, "")

    def wires(self, options: MqttOptions, address: str) -> Wires:
        """The device's wires; later ones are a rival's, who is let in."""
        make = RecordedClient if not self._clients else MemoryMqtt
        self._clients.append(make(Mouth(self, len(self._clients)), options))
        if isinstance(client := self._clients[-1], RecordedClient):
            client.actor = self
        return Wires(client, RecordedStorage(self), address)

    def recorded(self) -> None:
        """Does nothing: the times come from the record."""

    def _cue(self) -> Cue | None:
        return self.script.cues[self._at] if self._at < len(self.script.cues) else None

    async def attempt(self) -> None:
        """Wait for how the next attempt to connect went; what was to come before never does. Raises LinkError."""
        while (cue := self._cue()) is not None and not isinstance(cue.event, Connected | ConnectRefused):
            self._at += 1
        if cue is None:
            await self.over  # the record knows of no further one
            raise LinkError("the record ends")
        await self.until(cue.t_us)
        self._at += 1
        if isinstance(cue.event, ConnectRefused):
            raise LinkError(cue.event.reason)
        assert isinstance(cue.event, Connected)
        self._connected = cue.event

    async def until(self, t_us: int) -> None:
        """Wait for this time of the record, if it is yet to come."""
        await asyncio.sleep(max(0.0, t_us / 1e6 - self.loop.time()))

    def _go_on(self) -> None:
        """Wait for what comes next by itself."""
        if self._timer is not None:
            self._timer.cancel()
        if (cue := self._cue()) is not None and not isinstance(cue.event, Connected | ConnectRefused):
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

    def _device_epoch(self) -> float:
        """What the device's own clock shows at the loop's zero, in Unix seconds."""
        return EPOCH + self.circumstances.skew_s

    def _reply(self, answer: Answer, report: UpdateRequest) -> None:
        now = self.loop.time() + EPOCH
        if answer.code:
            self._deliver(self._replica.rejected(report, answer.code, answer.message, now))
        else:
            self._deliver(self._replica.accepted(report, answer.doc or 0, now))

    def _command(self, wanted: Wanted) -> None:
        now, until_us = self.loop.time() + EPOCH, wanted.granted_until_us
        software = {"software": {"version": wanted.version, "softwareURL": self.circumstances.url}}
        download: dict[str, Any] = {"url": self.circumstances.url, "size": wanted.size_bytes, "sha256": wanted.digest}
        if until_us is not None:
            download["expiresAt"] = self._device_epoch() + until_us / 1e6
        grant: dict[str, Any] = {"job": wanted.job, "download": download}
        doc: Any = wanted.doc  # None where the backend numbers nothing
        if wanted.by == "get":
            state = {"desired": software, "reported": {}, "delta": software}
            self._deliver(self._replica.current(GetRequest(self.circumstances.thing), state, doc, now, **grant))
        else:
            self._deliver(self._replica.delta(self.circumstances.thing, software, doc, now, **grant))

    def _deliver(self, message: Outgoing) -> None:
        self._packets = self._packets % 65535 + 1
        self._clients[0].arrived(Publish(message.topic, message.payload, 1, False, False, self._packets))

    # ---- what the device says

    def reach(self, client: int) -> None:
        """How it went is the attempt's to tell."""

    def said(self, event: Event, client: int) -> None:
        """Answer as a broker does, and as a replica where the record does not."""
        link = self._clients[client]
        if isinstance(event, Connect):
            link.arrived(ConnAck(0, client == 0 and self._connected.resumed))
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
                self._replica.credential(
                    request, "Bearer recorded", self._device_epoch() + self.loop.time() + _CREDENTIAL_S
                )
            )
        elif isinstance(request, GetRequest) and not self._answers_later():
            same: dict[str, Any] = {"desired": {}, "reported": {}, "delta": {}}
            self._deliver(self._replica.current(request, same, 0, now, job="", download=None))

    def _answers_later(self) -> bool:
        """Whether the record has an answer to this question, or knows that none came."""
        if self._connected.unanswered:
            self._connected = self._connected._replace(unanswered=self._connected.unanswered - 1)
            return True
        for cue in self.script.cues[self._at :]:
            if isinstance(cue.event, Connected | ConnectRefused):
                return False
            if isinstance(cue.event, Wanted) and cue.event.by == "get":
                return True
        return False


class RecordedClient(MemoryMqtt):
    """A client whose attempts to connect take as long, and go, as those on record."""

    __slots__ = ("actor",)
    actor: Actor

    async def connect(self) -> bool:
        """Connect when the record says so. Raises LinkError."""
        self.abort()
        await self.actor.attempt()
        return await super().connect()


class RecordedStorage:
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
        return RecordedBody(actor, piece, request)

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """The same, whole."""
        return await whole(await self.open(request, bound=bound, timeout_s=timeout_s))

    async def close(self) -> None:
        """Nothing to close."""


class RecordedBody:
    """The bytes that this request gets, until when it got them; implements `Body`."""

    __slots__ = ("_actor", "_content", "_piece", "headers", "status")

    def __init__(self, actor: Actor, piece: RecordedPiece, request: Request) -> None:
        content, self._actor, self._piece, self.status = actor.circumstances.content, actor, piece, piece.status
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
