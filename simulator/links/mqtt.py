"""The lean MQTT 5 link, for thousands of devices in one process.

The link is the client: it connects, subscribes, publishes, and keeps what a lost connection must not lose (the session's
publishes that have no PUBACK yet, and the answers that somebody waits for). Each connection is a Wire (wire.py), which the
link makes anew whenever it connects. Packets are read and written by the `mqtt5` codec; nothing is started for a connection
but the protocol itself: no task, no thread, and no timer while nothing is due."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Sequence
from functools import partial

from mqtt5 import (
    ConnAckPacket,
    ConnectPacket,
    DisconnectPacket,
    PingRespPacket,
    PubAckPacket,
    PublishPacket,
    QoS,
    RetainHandling,
    SubAckPacket,
    SubscribePacket,
    TopicFilter,
    Will,
)

from simulator.links.base import MqttOptions
from simulator.links.reasons import in_words
from simulator.links.wire import Wheel, Wire
from simulator.model.errors import LinkError, PeerError

_QOS = (QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE)
_BYE = DisconnectPacket().write()
_DUP = 0x08  # MQTT 5 3.3.1.1
_puback = partial(struct.Struct("!HH").pack, 0x4002)  # MQTT 5 3.4.2.1: success needs no more than the packet id
_DRAIN_S = 1.0  # how long a broker may take to close


class LeanDelivery:
    """A message that arrived; implements `Delivery`."""

    __slots__ = ("_wire", "dup", "packet_id", "payload", "qos", "retain", "topic")

    def __init__(self, wire: Wire, packet: PublishPacket) -> None:
        self._wire: Wire | None = wire
        self.topic, self.payload = packet.topic, packet.payload
        self.retain, self.dup, self.packet_id = packet.retain, packet.duplicate, packet.packet_id
        self.qos = 0 if self.packet_id is None else 1

    def ack(self) -> None:
        """PUBACK, once."""
        wire, self._wire = self._wire, None
        if wire is not None and self.packet_id is not None:
            wire.send(_puback(self.packet_id))


class LeanMqtt:
    """An MQTT 5 client on asyncio transports; implements `MqttLink`. Its loop must not change."""

    stalls = True
    __slots__ = (
        "__weakref__",
        "_answer",
        "_bell_at",
        "_inbox",
        "_lost",
        "_next_id",
        "_options",
        "_room",
        "_unacked",
        "_until",
        "_waiter",
        "_window",
        "_wire",
        "refused",
    )

    def __init__(self, options: MqttOptions) -> None:
        self._options = options
        self._wire: Wire | None = None
        self._inbox: deque[LeanDelivery] | None = None
        self._waiter: asyncio.Future[bool] | None = None  # True: to return with nothing
        self._answer: asyncio.Future[ConnAckPacket | SubAckPacket] | None = None
        self._room: asyncio.Future[None] | None = None  # waits for the socket or the broker to take more
        self._unacked: dict[int, bytes] | None = None
        self._window = 65535  # the broker's receive maximum
        self._next_id = 0
        self._until: float | None = None  # how long the present `receive` waits
        self._bell_at = 0.0  # what the wheel's bell was asked for; 0 where it was not
        self._lost = "not connected"
        self.refused = 0

    # ---- the port

    async def connect(self) -> bool:
        """Connect; True when the broker resumed a session. Raises LinkError, PeerError."""
        self.abort()
        self._inbox, o = None, self._options
        wire = Wire(self)
        try:
            async with o.gate or contextlib.nullcontext(), asyncio.timeout(o.connect_timeout_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: wire,
                    o.host,
                    o.port,
                    ssl=o.tls,
                    server_hostname=o.host if o.tls else None,
                    local_addr=(o.source, 0) if o.source else None,
                )
                self._wire = wire
                answer = await self._ask(wire, _connect_packet(o))
        except TimeoutError:
            wire.end("no answer")
            timed_out = f"{o.host}:{o.port} did not answer within {o.connect_timeout_s:g} s"
            raise LinkError(timed_out, reached=wire.transport is not None) from None
        except OSError as error:
            raise LinkError(f"{o.host}:{o.port}: {error.strerror or error}") from None
        except BaseException:
            wire.end("given up")
            raise
        if not isinstance(answer, ConnAckPacket):
            wire.end("no CONNACK")
            raise PeerError("the broker's first packet is no CONNACK")
        code = int(answer.reason_code)
        if code:
            wire.end("refused")
            why = f" ({answer.reason_str})" if answer.reason_str else ""
            raise PeerError(f"the broker refused the connection: {in_words(code)}{why}", code=code)
        self._window = answer.receive_max
        keep_alive = o.keep_alive_s if answer.server_keep_alive is None else answer.server_keep_alive
        if keep_alive:
            wire.wheel.watch(wire, max(1, keep_alive * 3 // 4))
        if answer.session_present:
            for data in (self._unacked or {}).values():
                wire.send(bytes((data[0] | _DUP,)) + data[1:])  # MQTT 5 4.4.0-1
        else:
            self._unacked = None
        return answer.session_present

    async def subscribe(self, filters: Sequence[str], *, qos: int = 1, no_local: bool = False) -> None:
        """Subscribe and wait for the SUBACK. Raises LinkError, PeerError."""
        wire = self._require()
        wanted = [
            TopicFilter(
                pattern,
                max_qos=_QOS[qos],
                no_local=no_local,
                retain_as_published=False,
                retain_handling=RetainHandling.SEND_ALWAYS,
            )
            for pattern in filters
        ]
        timer = wire.wheel.loop.call_later(
            self._options.connect_timeout_s, wire.end, "the broker did not answer a SUBSCRIBE"
        )
        try:
            answer = await self._ask(wire, SubscribePacket(self._fresh_id(), wanted).write())
        finally:
            timer.cancel()
        assert isinstance(answer, SubAckPacket)
        for pattern, reason in zip(filters, answer.reason_codes, strict=True):
            if int(reason) >= 0x80:
                code = int(reason)
                raise PeerError(f"the broker refused the subscription to {pattern}: {in_words(code)}", code=code)

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand the message over; waits for the receive maximum and for a full socket. Raises LinkError."""
        wire = self._require()
        while wire.paused or (qos and self._unacked is not None and len(self._unacked) >= self._window):
            self._room = wire.wheel.loop.create_future()
            try:
                await self._room
            finally:
                self._room = None
            wire = self._require()
        if not qos:
            wire.send(PublishPacket(topic, payload, retain=retain).write())
            return
        packet_id = self._fresh_id()
        data = PublishPacket(topic, payload, qos=QoS.AT_LEAST_ONCE, retain=retain, packet_id=packet_id).write()
        if self._unacked is None:
            self._unacked = {}
        self._unacked[packet_id] = data
        wire.send(data)

    @property
    def unacknowledged(self) -> int:
        """How many messages wait for their PUBACK."""
        return len(self._unacked or ())

    async def receive(self, until: float | None = None) -> LeanDelivery | None:
        """The next message; None at `until`, or at `wake`. Raises LinkError once lost and drained."""
        while not self._inbox:
            if self._wire is None or not self._wire.alive:
                raise LinkError(self._lost)
            wheel = self._wire.wheel
            if until is not None:
                if wheel.loop.time() >= until:
                    return None
                if not self._bell_at or until < self._bell_at:
                    self._ask_bell(wheel, until)
            self._until = until
            self._waiter = waiter = wheel.loop.create_future()
            try:
                if await waiter:
                    return None
            finally:
                self._waiter = None
        return self._inbox.popleft()

    def wake(self) -> None:
        """Let the `receive` that waits return None."""
        self._wake(True)

    def abort(self) -> None:
        """Cut the connection without DISCONNECT."""
        if self._wire is not None:
            self._wire.flush()
            self._wire.end("aborted")

    def stall(self, on: bool) -> None:
        """Neither read, write nor ping; or do so again."""
        wire = self._require()
        assert wire.transport is not None
        wire.flush()
        wire.stalled = on
        if on:
            wire.transport.pause_reading()
        else:
            wire.transport.resume_reading()
            wire.flush()

    async def close(self) -> None:
        """DISCONNECT and close."""
        wire = self._wire
        if wire is not None and wire.alive:
            assert wire.transport is not None
            wire.send(_BYE)
            wire.flush()
            wire.alive = False
            self.lost(wire, "closed")
            # the broker closes: were we to do it, its PUBACKs would meet a reset, which costs it what it has not read
            wire.gone = wire.wheel.loop.create_future()
            timer = wire.wheel.loop.call_later(_DRAIN_S, wire.transport.abort)
            try:
                await wire.gone
            finally:
                timer.cancel()
                wire.transport.abort()

    # ---- what the wire tells

    def arrived(self, wire: Wire, packet: object) -> None:
        """A packet of the present connection."""
        if isinstance(packet, PublishPacket):
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.append(LeanDelivery(wire, packet))
            self._wake()
        elif isinstance(packet, PubAckPacket):
            self.refused += int(packet.reason_code) >= 0x80
            if self._unacked is not None:
                self._unacked.pop(packet.packet_id, None)
                if not self._unacked:
                    self._unacked = None
                self.wake_writer()
        elif isinstance(packet, PingRespPacket):
            wire.pinged = False
        elif isinstance(packet, ConnAckPacket | SubAckPacket):
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(packet)
        elif isinstance(packet, DisconnectPacket):
            why = f" ({packet.reason_str})" if packet.reason_str else ""
            wire.end(f"the broker disconnected: 0x{int(packet.reason_code):02x}{why}")
        else:
            wire.end(f"the broker sent {type(packet).__name__}, which QoS 1 does not need")

    def lost(self, wire: Wire, reason: str) -> None:
        """The connection has ended; whoever waits for anything learns it."""
        if wire is not self._wire:
            return
        self._lost = reason
        self._wire = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LinkError(reason, reached=True))
        self._wake()
        self.wake_writer()

    def wake_writer(self) -> None:
        """There may be room again."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # ---- within

    async def _ask(self, wire: Wire, data: bytes) -> ConnAckPacket | SubAckPacket:
        self._answer = wire.wheel.loop.create_future()
        wire.send(data)
        try:
            return await self._answer
        finally:
            self._answer = None

    def _require(self) -> Wire:
        wire = self._wire
        if wire is None or not wire.alive:
            raise LinkError(self._lost)
        return wire

    def _fresh_id(self) -> int:
        packet_id = self._next_id % 65535 + 1
        while self._unacked is not None and packet_id in self._unacked:
            packet_id = packet_id % 65535 + 1
        self._next_id = packet_id
        return packet_id

    def _wake(self, empty: bool = False) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(empty)

    def _ask_bell(self, wheel: Wheel, at: float) -> None:
        self._bell_at = at
        wheel.ring(self._rang, at)

    def _rang(self, at: float) -> None:
        if self._bell_at != at:  # one that was asked for later, for earlier, has taken its place
            return
        self._bell_at, wire, until = 0.0, self._wire, self._until
        if wire is None or self._waiter is None or until is None:
            return
        if wire.wheel.loop.time() < until:
            self._ask_bell(wire.wheel, until)
        else:
            self._wake()


def _connect_packet(o: MqttOptions) -> bytes:
    will = Will(o.will[0], payload=o.will[1], qos=QoS.AT_LEAST_ONCE) if o.will else None
    return ConnectPacket(
        o.client_id,
        username=o.username,
        password=None if o.password is None else o.password.encode(),
        clean_start=o.clean_start,
        will=will,
        keep_alive=o.keep_alive_s,
        session_expiry_interval=o.session_expiry_s,
    ).write()
