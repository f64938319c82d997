"""The embedded broker's socket face: the pure core of `simulator.broker` on asyncio transports, MQTT 5 only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import mqtt5

from simulator.broker import packets as p
from simulator.broker.core import Broker, Output
from simulator.model.errors import ScenarioError

_log = logging.getLogger("fleetsim.broker")
_QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE)
_REFUSED_311 = b"\x20\x02\x00\x01"  # MQTT 3.1.1 3.2.2.3: unacceptable protocol version
_NO_CLIENT_ID = mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.CLIENT_ID_NOT_VALID).write()
_PONG = mqtt5.PingRespPacket().write()
_BUFFER_MAX = 64 << 20  # bytes a client may leave unread
_BACKLOG = 4096
_FIRST_PACKET_S = 10  # how long a connection may wait with its CONNECT


class _Client(asyncio.Protocol):
    """One connection; to the core it is an opaque handle."""

    __slots__ = ("_heard", "_rest", "_server", "limit_s", "transport")

    def __init__(self, server: BrokerServer) -> None:
        self._server = server
        self._rest = b""
        self._heard = 0.0
        self.limit_s: float = _FIRST_PACKET_S  # silence longer than this ends the connection
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._heard = self._server.now()
        self._server.clients.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard = self._server.now()
        if self._rest:
            data = self._rest + data
            self._rest = b""
        view = memoryview(data)
        try:
            while self.transport is not None and view:
                packet, length = mqtt5.read(view)
                view = view[length:]
                self._take(packet)
        except IndexError:
            self._rest = bytes(view)
        except Exception as error:  # a protocol's callback reports its own exceptions
            self._refuse(data, error)

    def _take(self, packet: Any) -> None:
        if isinstance(packet, mqtt5.PingReqPacket):
            self.write(_PONG)
            return
        translate = _INBOUND.get(type(packet))
        if translate is None:
            self.end(f"{type(packet).__name__} is not supported")
            return
        if isinstance(packet, mqtt5.ConnectPacket):
            if not packet.client_id:  # MQTT 5 3.1.3-8
                self.write(_NO_CLIENT_ID)
                self.end("a client without an id", politely=True)
                return
            # MQTT 5 3.1.2-22: one and a half times the keep-alive
            self.limit_s = packet.keep_alive * 1.5 if packet.keep_alive else 0.0
        self._server.receive(self, translate(packet))
        if isinstance(packet, mqtt5.DisconnectPacket):
            self.end("", politely=True)  # MQTT 5 3.14.4-1

    def _refuse(self, data: bytes, error: Exception) -> None:
        if data[:1] == b"\x10" and b"MQTT\x04" in data[:16]:
            _log.warning("refused an MQTT 3.1.1 client: this broker speaks MQTT 5; use --broker mosquitto for 3.1.1")
            self.write(_REFUSED_311)
            self.end("", politely=True)
        else:
            self.end(f"not MQTT 5: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._server.gone(self)

    def write(self, data: bytes) -> None:
        """Send, unless the connection is gone or its client reads nothing."""
        if self.transport is not None:
            self.transport.write(data)
            if self.transport.get_write_buffer_size() > _BUFFER_MAX:
                self.end("the client does not read")

    def end(self, why: str, *, politely: bool = False) -> None:
        """Close; `politely` sends what was written first."""
        if self.transport is not None:
            if why:
                _log.info("closed a connection: %s", why)
            transport, self.transport = self.transport, None
            transport.close() if politely else transport.abort()

    def silent(self, now: float) -> bool:
        """Whether it has been silent for too long."""
        return bool(self.limit_s) and now - self._heard > self.limit_s


class BrokerServer:
    """Serves a core on one address. `now` is the clock of the running loop."""

    def __init__(self, core: Broker) -> None:
        self._core = core
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        self.clients: set[_Client] = set()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which the system chooses for 0. Raises ScenarioError when it is taken."""
        try:
            self._server = await self._loop.create_server(lambda: _Client(self), host, port, backlog=_BACKLOG)
        except OSError as error:
            raise ScenarioError(f"the broker cannot listen on {host}:{port}: {error.strerror or error}") from None
        self._timer = self._loop.call_later(1.0, self._tick)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything, without a word to the clients."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
        for client in list(self.clients):
            client.end("")
        await asyncio.sleep(0)

    def receive(self, client: _Client, packet: p.Packet) -> None:
        """One packet in, what it brings about out."""
        self._carry(self._core.receive(client, packet, self.now()))

    def gone(self, client: _Client) -> None:
        """The connection has ended."""
        self.clients.discard(client)
        self._carry(self._core.dropped(client, self.now()))

    def _carry(self, outputs: list[Output]) -> None:
        for client, packet in outputs:
            assert isinstance(client, _Client)
            client.write(_OUTBOUND[type(packet)](packet))
            if isinstance(packet, p.Disconnect) or (isinstance(packet, p.ConnAck) and packet.code):
                client.end("", politely=True)

    def _tick(self) -> None:
        now = self.now()
        self._timer = self._loop.call_later(1.0, self._tick)
        self._core.tick(now)
        for client in [c for c in self.clients if c.silent(now)]:
            client.end("keep-alive: silent for too long")  # MQTT 5 3.1.2-22


# ---- between the codec's packets and the core's


def _connect(packet: mqtt5.ConnectPacket) -> p.Connect:
    will = packet.will
    return p.Connect(
        packet.client_id,
        packet.username,
        None if packet.password is None else packet.password.decode("utf-8", "replace"),
        packet.clean_start,
        packet.session_expiry_interval,
        packet.keep_alive,
        packet.receive_max,
        None if will is None else p.Publish(will.topic, will.payload or b"", min(int(will.qos), 1), will.retain),
    )


def _publish(packet: mqtt5.PublishPacket) -> p.Publish:
    return p.Publish(packet.topic, packet.payload, int(packet.qos), packet.retain, packet.duplicate, packet.packet_id)


def _subscribe(packet: mqtt5.SubscribePacket) -> p.Subscribe:
    return p.Subscribe(
        packet.packet_id,
        tuple(
            p.Filter(f.pattern, int(f.max_qos), f.no_local, f.retain_as_published, int(f.retain_handling))
            for f in packet.topic_filters
        ),
    )


_INBOUND: dict[type, Callable[[Any], p.Packet]] = {
    mqtt5.ConnectPacket: _connect,
    mqtt5.PublishPacket: _publish,
    mqtt5.PubAckPacket: lambda packet: p.PubAck(packet.packet_id, int(packet.reason_code)),
    mqtt5.SubscribePacket: _subscribe,
    mqtt5.UnsubscribePacket: lambda packet: p.Unsubscribe(packet.packet_id, tuple(packet.patterns)),
    mqtt5.DisconnectPacket: lambda packet: p.Disconnect(int(packet.reason_code)),
}

_OUTBOUND: dict[type, Callable[[Any], bytes]] = {
    p.ConnAck: lambda packet: mqtt5.ConnAckPacket(
        session_present=packet.session_present,
        reason_code=mqtt5.ConnAckReasonCode(packet.code),
        max_qos=mqtt5.QoS.AT_LEAST_ONCE,
    ).write(),
    p.Publish: lambda packet: mqtt5.PublishPacket(
        packet.topic,
        packet.payload,
        qos=_QOS[packet.qos],
        retain=packet.retain,
        packet_id=packet.packet_id,
        duplicate=packet.dup,
    ).write(),
    p.PubAck: lambda packet: mqtt5.PubAckPacket(
        packet.packet_id, reason_code=mqtt5.PubAckReasonCode(packet.code)
    ).write(),
    p.SubAck: lambda packet: mqtt5.SubAckPacket(
        packet.packet_id, [mqtt5.SubAckReasonCode(code) for code in packet.codes]
    ).write(),
    p.UnsubAck: lambda packet: mqtt5.UnsubAckPacket(
        packet.packet_id, [mqtt5.UnsubAckReasonCode(code) for code in packet.codes]
    ).write(),
    p.Disconnect: lambda packet: mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode(packet.code)).write(),
}
