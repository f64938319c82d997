"""MQTT within one process, for the virtual world: the same broker core as in live runs, without sockets.

The fabric is the network and the broker in one. A packet takes no time: when the call that sends it returns, the core has
dealt with it, and what the core answers lies in its clients' inboxes, in order. A road that takes time is a link of its own
around this one (latency.py)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from simulator.broker.core import Broker
from simulator.broker.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Filter,
    Packet,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
)
from simulator.links.base import MqttOptions
from simulator.links.reasons import in_words
from simulator.model.errors import LinkError, PeerError


class Client(Protocol):
    """Whom a broker's packets are for."""

    def __hash__(self) -> int: ...

    def arrived(self, packet: Packet) -> None:
        """The broker sent this."""

    def lose(self, reason: str) -> None:
        """The connection ended from the other side."""


class Fabric(Protocol):
    """What carries a client's packets to its broker; the clock is that of `loop`."""

    loop: asyncio.AbstractEventLoop

    def reach(self) -> None:
        """A client is about to connect. Raises LinkError where nobody is there."""

    def submit(self, client: Client, packet: Packet) -> None:
        """A client's packet; what answers it at once has arrived when this returns."""

    def vanish(self, client: Client) -> None:
        """A client's connection was cut."""

    def watch(self) -> None:
        """A session may have been left."""


class MemoryBroker:
    """The fabric: carries packets between clients and the core, at once and in order; a road that takes time is
    `links.latency`."""

    def __init__(self, core: Broker) -> None:
        self.core = core
        self.down = False
        self.loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def reach(self) -> None:
        """A client is about to connect. Raises LinkError where nobody is there."""
        if self.down:
            raise LinkError("connection refused")

    def submit(self, client: Client, packet: Packet) -> None:
        """A client's packet to the core, and what the core says then to whom it is for."""
        if not self.down:
            for to, answer in self.core.receive(client, packet, self.loop.time()):
                to.arrived(answer)  # type: ignore[attr-defined]

    def vanish(self, client: Client) -> None:
        """A client's connection was cut."""
        for to, packet in self.core.dropped(client, self.loop.time()):
            to.arrived(packet)  # type: ignore[attr-defined]
        self.watch()

    def kill(self) -> None:
        """The broker dies with all that it knows; nobody can connect until it is revived."""
        self.down = True
        for client in self.core.restart():
            client.lose("the broker is gone")  # type: ignore[attr-defined]

    def revive(self) -> None:
        """The broker is there again, and knows nobody."""
        self.down = False

    def watch(self) -> None:
        """A session may have been left: forget it when it expires."""
        due = self.core.wake_at
        if due is not None and (self._timer is None or due < self._due):
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._due = self.loop.call_at(due, self._tick), due

    def _tick(self) -> None:
        self._timer = None
        self.core.tick(self.loop.time())
        self.watch()


class MemoryDelivery:
    """A message that reached a client of the memory fabric."""

    __slots__ = ("_link", "dup", "packet_id", "payload", "qos", "retain", "topic")

    def __init__(self, link: MemoryMqtt, packet: Publish) -> None:
        self._link: MemoryMqtt | None = link
        self.topic, self.payload, self.qos, self.retain = packet.topic, packet.payload, packet.qos, packet.retain
        self.dup, self.packet_id = packet.dup, packet.packet_id

    def ack(self) -> None:
        """PUBACK, once."""
        link, self._link = self._link, None
        if link is not None and self.packet_id is not None and link.up:
            link.fabric.submit(link, PubAck(self.packet_id))


class Silence:
    """A stalled connection: it holds back what is said either way, until it is over or the connection is cut. A broker
    that hears nothing for one and a half keep-alives gives the connection up (MQTT 5 3.1.2-22), and nobody hears so.
    """

    __slots__ = ("_client", "_fabric", "_said", "_timer", "came", "loop", "lost", "over")

    def __init__(self, client: MemoryMqtt, fabric: Fabric, keep_alive_s: float) -> None:
        self._client, self._fabric, self.loop = client, fabric, fabric.loop
        self.came: list[Packet] = []
        self.lost = ""  # why the connection is no more, on the other side
        self.over = self.loop.create_future()
        self._said: list[Packet] = []
        self._timer = self.loop.call_later(1.5 * keep_alive_s, self._given_up) if keep_alive_s else None

    def _given_up(self) -> None:
        self.lost = "keep-alive: the broker heard nothing"
        self._fabric.vanish(self._client)

    def reach(self) -> None:
        """A client is about to connect. Raises LinkError where nobody is there."""
        self._fabric.reach()

    def submit(self, client: Client, packet: Packet) -> None:
        """Hold it back."""
        self._said.append(packet)

    def vanish(self, client: Client) -> None:
        """The connection was cut, and what was held back is lost."""
        self._end()
        self._fabric.vanish(client)

    def watch(self) -> None:
        """A session may have been left."""
        self._fabric.watch()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._client.fabric, self._client.silence = self._fabric, None
        self.over.set_result(None)

    def lift(self) -> None:
        """Let everything pass that was held back; what was said on a connection that is no more is lost."""
        self._end()
        for packet in self.came:
            self._client.arrived(packet)
        if self.lost:
            self._client.lose(self.lost)
        for packet in self._said:
            if self._client.up:
                self._fabric.submit(self._client, packet)


class MemoryMqtt:
    """An MQTT client of a MemoryBroker; implements `MqttLink`."""

    stalls = True
    __slots__ = (
        "_answer",
        "_inbox",
        "_lost",
        "_next_id",
        "_options",
        "_unacked",
        "_waiter",
        "fabric",
        "refused",
        "silence",
        "up",
    )

    def __init__(self, fabric: Fabric, options: MqttOptions) -> None:
        self.fabric, self._options = fabric, options
        self.up = False
        self.refused = 0
        self.silence: Silence | None = None  # while it is stalled
        self._inbox: deque[Publish] | None = None  # an empty one takes 760 bytes
        self._waiter: asyncio.Future[None] | None = None
        self._answer: Packet | None = None
        self._lost = ""
        self._next_id = 0
        self._unacked: dict[int, Publish] | None = None

    async def connect(self) -> bool:
        """Connect; True when the broker resumed a session. Raises LinkError, PeerError."""
        self.fabric.reach()
        self.abort()
        self._inbox = None
        self._lost = ""
        o = self._options
        will = Publish(o.will[0], o.will[1], 1) if o.will else None
        answer = self._ask(
            Connect(o.client_id, o.username, o.password, o.clean_start, o.session_expiry_s, o.keep_alive_s, 65535, will)
        )
        self.fabric.watch()
        assert isinstance(answer, ConnAck)
        if answer.code:
            raise PeerError(f"the broker refused the connection: {in_words(answer.code)}", code=answer.code)
        self.up = True
        if answer.session_present:
            for packet in list((self._unacked or {}).values()):
                self.fabric.submit(self, replace(packet, dup=True))
        else:
            self._unacked = None
        return answer.session_present

    def _ask(self, packet: Packet) -> Packet:
        self.fabric.submit(self, packet)
        answer, self._answer = self._answer, None
        if answer is None:
            raise LinkError(self._lost or "no answer", reached=True)
        return answer

    async def subscribe(self, filters: Sequence[str], *, qos: int = 1, no_local: bool = False) -> None:
        """Subscribe and wait for the SUBACK. Raises LinkError, PeerError."""
        if self.silence is not None:
            await self.silence.over
        self._require()
        self._next_id = self._next_id % 65535 + 1
        answer = self._ask(Subscribe(self._next_id, tuple(Filter(f, qos, no_local) for f in filters)))
        assert isinstance(answer, SubAck)
        for pattern, code in zip(filters, answer.codes, strict=True):
            if code >= 0x80:
                raise PeerError(f"the broker refused the subscription to {pattern}: {in_words(code)}", code=code)

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand the message over. Raises LinkError."""
        self._require()
        if qos == 0:
            self.fabric.submit(self, Publish(topic, payload, 0, retain))
            return
        unacked = self._unacked
        if unacked is None:
            unacked = self._unacked = {}
        packet_id = self._next_id % 65535 + 1
        while packet_id in unacked:
            packet_id = packet_id % 65535 + 1
        self._next_id = packet_id
        packet = unacked[packet_id] = Publish(topic, payload, qos, retain, False, packet_id)
        self.fabric.submit(self, packet)

    @property
    def unacknowledged(self) -> int:
        """How many messages wait for their PUBACK."""
        return len(self._unacked or ())

    async def receive(self, until: float | None = None) -> MemoryDelivery | None:
        """The next message; None at `until`, or at `wake`. Raises LinkError once lost and drained."""
        if not self._inbox:
            self._require()
            loop = self.fabric.loop
            if until is not None and loop.time() >= until:
                return None
            self._waiter = waiter = loop.create_future()
            timer = None if until is None else loop.call_at(until, self.wake)
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
            if not self._inbox:
                if not self.up:
                    raise LinkError(self._lost)
                return None
        packet = self._inbox.popleft()
        if not self._inbox:
            self._inbox = None
        return MemoryDelivery(self, packet)

    def wake(self) -> None:
        """Let the `receive` that waits return, with nothing unless something came."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def arrived(self, packet: Packet) -> None:
        """The core sent this."""
        if self.silence is not None:
            self.silence.came.append(packet)
        elif isinstance(packet, Publish):
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.append(packet)
            self.wake()
        elif isinstance(packet, PubAck):
            self.refused += packet.code >= 0x80
            if self._unacked:
                self._unacked.pop(packet.packet_id, None)
                if not self._unacked:
                    self._unacked = None
        elif isinstance(packet, Disconnect):
            self.lose(f"the broker disconnected: 0x{packet.code:02x}")
        else:
            self._answer = packet

    def lose(self, reason: str) -> None:
        """The connection ended from the other side."""
        if self.silence is not None:
            self.silence.lost = reason
            return
        self.up = False
        self._lost = reason
        self.wake()

    def _require(self) -> None:
        if not self.up:
            raise LinkError(self._lost or "not connected")

    def abort(self) -> None:
        """Cut the connection without DISCONNECT."""
        if self.up:
            self.up = False
            self._lost = "aborted"
            self.fabric.vanish(self)
            self.wake()

    def stall(self, on: bool) -> None:
        """Go silent, or come back. Raises LinkError where there is no connection."""
        self._require()
        if on and self.silence is None:
            self.fabric = self.silence = Silence(self, self.fabric, self._options.keep_alive_s)
        elif not on and self.silence is not None:
            self.silence.lift()

    async def close(self) -> None:
        """DISCONNECT and close."""
        if self.silence is not None:
            self.abort()
        elif self.up:
            self.fabric.submit(self, Disconnect())
            self.fabric.watch()
            self.up = False
            self._lost = "closed"
            self.wake()
