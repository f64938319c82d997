"""The null backend: broker, replica and storage in one, which keeps nothing and costs as little as can be.

A load generator can be measured only against something that is faster than itself. `--self-test` therefore puts this
in place of all servers: what then limits the rate of updates is the simulated fleet."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import Any, cast

import mqtt5

from simulator.dialects.base import Completion, CredentialRequest, GetRequest, ReplicaDialect, UpdateRequest
from simulator.model.io import Message, Publish
from simulator.model.state import Document
from simulator.model.update import Status

_BACKLOG = 4096
_TURN_S = 0.01  # deltas go out this often, as many as are due
_CONNACK = mqtt5.ConnAckPacket(max_qos=mqtt5.QoS.AT_LEAST_ONCE).write()
_PONG = mqtt5.PingRespPacket().write()
_ENDS = (Status.SUCCESS, Status.FAILURE)


class _Thing:
    """What must be known of a thing: its connection, the job that it carries out, which content it runs, by its own word
    or as it ended the last job."""

    __slots__ = ("job", "link", "nth", "runs", "waits", "wanted")

    def __init__(self) -> None:
        self.link: _NullClient | None = None
        self.job = ""
        self.nth = self.runs = self.wanted = 0
        self.waits = False  # for the next delta


class _Contents:
    """The two contents that are offered in turn; `url` is where the storage listens."""

    def __init__(self, contents: tuple[bytes, bytes]) -> None:
        self.contents, self.url = contents, ""
        self._downloads = [{"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for c in contents]

    def wanted(self, content: int) -> tuple[Document, Document]:
        """What is desired, as a document's section and as what goes with its download."""
        url = f"{self.url}/{content}"
        return (
            {"software": {"version": f"null-{content}", "softwareURL": url}},
            {"url": url, **self._downloads[content]},
        )


class NullBackend:
    """Answers every device and offers software again and again to those that have nothing to do, of two contents in
    turn: `due` deltas were to be sent so far, `sent` were, and `updates` have ended. `epoch` + the loop's clock is Unix
    time."""

    def __init__(self, dialect: ReplicaDialect, contents: tuple[bytes, bytes], epoch: float) -> None:
        self.dialect, self._epoch = dialect, epoch
        self.due = self.sent = self.updates = 0
        self.doc = 0
        self._software = _Contents(contents)
        self._things: dict[str, _Thing] = {}
        self._waiting: deque[str] = deque()
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []

    async def start(self, host: str) -> int:
        """Listen; the MQTT port."""
        ports = []
        for make in (lambda: _NullClient(self), lambda: _NullStorage(self._software.contents)):
            self._servers.append(await self._loop.create_server(make, host, 0, backlog=_BACKLOG))
            ports.append(int(self._servers[-1].sockets[0].getsockname()[1]))
        self._software.url = f"http://{host}:{ports[1]}"
        return ports[0]

    def stop(self) -> None:
        """Listen no longer."""
        for server in self._servers:
            server.close()

    async def offer(self, rate: float, seconds: float) -> None:
        """Send `rate` deltas a second for so long; one that finds no device without an update goes out later."""
        began = self._loop.time()
        while (passed := self._loop.time() - began) < seconds:
            self.due = int(passed * rate)
            while self.sent < self.due and self._offer_one():
                self.sent += 1
            await asyncio.sleep(_TURN_S)

    def _offer_one(self) -> bool:
        while self._waiting:
            name = self._waiting.popleft()
            thing = self._things[name]
            thing.waits = False
            if thing.link is not None:
                self._delta(name, thing, thing.link)
                return True
        return False

    def _delta(self, name: str, thing: _Thing, link: _NullClient) -> None:
        thing.nth += 1
        thing.job, thing.wanted = f"{name}.{thing.nth}", 1 - thing.runs
        state, download = self._software.wanted(thing.wanted)
        delta = self.dialect.delta(name, state, self._version(), self.now(), job=thing.job, download=download)
        link.send([link.packet(delta)])

    # ---- what clients bring

    def connected(self, name: str, link: _NullClient) -> None:
        """A thing is there; it waits for nothing until it has asked."""
        self._things.setdefault(name, _Thing()).link = link

    def gone(self, name: str, link: _NullClient) -> None:
        """A connection of this thing ended."""
        if (thing := self._things.get(name)) is not None and thing.link is link:
            thing.link = None

    def answer(self, message: Message) -> Publish | None:
        """What is answered to a message."""
        request, now = self.dialect.parse(message), self.now()
        if isinstance(request, UpdateRequest):
            if request.status in _ENDS:
                self._ended(request.thing, request.job, request.status)
            elif not request.status:
                self._began(request.thing, request.state)
            return self.dialect.accepted(request, self._version(), now)
        if isinstance(request, GetRequest):
            return self._current(request, now)
        if isinstance(request, CredentialRequest):
            return self.dialect.credential(request, "null", now + 3600)
        if isinstance(request, Completion):
            self._ended(request.thing, request.job, request.status)
        return None

    def _began(self, name: str, state: Any) -> None:
        """A connection begins: the thing says what it runs, if that is one of the two contents."""
        url = state["reported"]["software"]["softwareURL"]
        if url.startswith(self._software.url):
            self._things[name].runs = int(url[-1])

    def _current(self, request: GetRequest, now: float) -> Publish:
        """What is desired: a job whose delta may have been lost with a connection, or nothing, and it waits for more."""
        thing = self._things[request.thing]
        if thing.job and thing.runs != thing.wanted:
            state, download = self._software.wanted(thing.wanted)
            job, state = thing.job, {"delta": state}
        else:
            job, state, download = "", {}, None
            self._wait(request.thing)
        return self.dialect.current(request, state, self._version(), now, job=job, download=download)

    def _ended(self, name: str, job: str, status: str) -> None:
        thing = self._things[name]
        if job == thing.job:  # said again, it counts once
            thing.job = ""
            thing.runs = thing.wanted if status == Status.SUCCESS else thing.runs
            self.updates += 1
            self._wait(name)

    def _wait(self, name: str) -> None:
        thing = self._things[name]
        if not thing.job and not thing.waits:
            thing.waits = True
            self._waiting.append(name)

    def _version(self) -> int:
        """Of a document: newer than all before, whosever."""
        self.doc += 1
        return self.doc

    def now(self) -> float:
        """Unix time."""
        return self._loop.time() + self._epoch


class _NullClient(asyncio.Protocol):
    """A device's connection."""

    __slots__ = ("_backend", "_id", "_name", "_rest", "_transport")
    _transport: asyncio.Transport

    def __init__(self, backend: NullBackend) -> None:
        self._backend = backend
        self._rest = b""
        self._name = ""
        self._id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.gone(self._name, self)

    def data_received(self, data: bytes) -> None:
        view = memoryview(self._rest + data if self._rest else data)
        self._rest = b""
        answers: list[bytes] = []
        while view:
            try:
                packet, length = mqtt5.read(view)
            except IndexError:
                self._rest = bytes(view)
                break
            view = view[length:]
            self._take(packet, answers)
        if answers:
            self.send(answers)

    def _take(self, packet: Any, answers: list[bytes]) -> None:
        if isinstance(packet, mqtt5.PublishPacket):
            if packet.packet_id is not None:
                answers.append(mqtt5.PubAckPacket(packet.packet_id).write())
            if (answer := self._backend.answer(Message(packet.topic, packet.payload))) is not None:
                answers.append(self.packet(answer))
        elif isinstance(packet, mqtt5.ConnectPacket):
            self._name = packet.username or packet.client_id
            self._backend.connected(self._name, self)
            answers.append(_CONNACK)
        elif isinstance(packet, mqtt5.SubscribePacket):
            codes = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE] * len(packet.topic_filters)
            answers.append(mqtt5.SubAckPacket(packet.packet_id, codes).write())
        elif isinstance(packet, mqtt5.PingReqPacket):
            answers.append(_PONG)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self._transport.close()

    def packet(self, message: Publish) -> bytes:
        """A message to the device."""
        self._id = self._id % 0xFFFF + 1
        return mqtt5.PublishPacket(
            message.topic, message.payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=self._id
        ).write()

    def send(self, packets: list[bytes]) -> None:
        """To the device, in one write."""
        self._transport.write(b"".join(packets))


class _NullStorage(asyncio.Protocol):
    """A download's connection: the path's last character says which content, and it always comes whole."""

    __slots__ = ("_contents", "_rest", "_transport")
    _transport: asyncio.Transport

    def __init__(self, contents: tuple[bytes, bytes]) -> None:
        self._contents = contents
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            content = self._contents[head.split(b" ", 2)[1].endswith(b"1")]
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content))
            self._transport.write(content)
            if b"connection: close" in head.lower():
                self._transport.close()
