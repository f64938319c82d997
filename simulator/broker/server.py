"""The embedded broker's socket face: the pure core of `simulator.broker` on asyncio transports, MQTT 5 only."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any, cast

import mqtt5
from msgspec.structs import replace

from simulator.broker import packets as p
from simulator.broker.core import Broker, Output
from simulator.model.errors import ScenarioError

_log = logging.getLogger("fleetsim.broker")
_QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE)
_PONG = mqtt5.PingRespPacket().write()
_REFUSED_311 = b"\x20\x02\x00\x01"  # MQTT 3.1.1 3.2.2.3: unacceptable protocol version
_OLDER = (b"\x00\x04MQTT\x04", b"\x00\x06MQIsdp\x03")
_BUFFER_MAX = 64 << 20  # bytes a client may leave unread
_PACKET_MAX = 16 << 20
_BACKLOG = 4096
_FIRST_PACKET_S = 10.0  # how long a connection may wait with its CONNECT
_GOODBYE_S = 5.0  # how long a client may take to read our last words
_MALFORMED, _TOO_LARGE, _NO_IDENTIFIERS = 0x81, 0x95, 0xA1


class _SocketClient(asyncio.Protocol):
    """One connection; to the core it is an opaque handle."""

    __slots__ = ("_heard", "_limit_s", "_open", "_rest", "_server", "_transport", "assigned_id", "greeted")
    _transport: asyncio.Transport

    def __init__(self, server: BrokerServer) -> None:
        self._server = server
        self._rest = b""
        self._heard = 0.0
        self._limit_s = _FIRST_PACKET_S  # silence longer than this ends the connection
        self._open = False
        self.greeted = False  # whether its CONNECT came
        self.assigned_id: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open = True
        self._heard = self._server.now()
        self._server.clients.add(self)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        view = memoryview(data)
        now = self._server.now()
        while self._open and view:
            try:
                packet, length = mqtt5.read(view)
            except IndexError:
                self._wait(view)
                return
            except BaseException as error:  # the codec panics at text that is not UTF-8, and a panic is no Exception
                self._refuse(view, error)
                return
            view = view[length:]
            self._heard = now
            try:
                self._take(packet)
            except Exception:  # a protocol's callback reports its own exceptions
                _log.exception("a %s broke the broker's connection", type(packet).__name__)
                self.end("")

    def _wait(self, view: memoryview) -> None:
        """The packet is not whole yet, and is kept, unless its head says that it will be too large."""
        size = _announced(view)
        if size > _PACKET_MAX:
            self.dismiss(_TOO_LARGE, f"a packet of {size} bytes")
        else:
            self._rest = bytes(view)

    def _take(self, packet: Any) -> None:
        translate = _INBOUND.get(type(packet))
        if translate is None:
            self.end(f"{type(packet).__name__} is not supported")
            return
        message = translate(packet)
        if isinstance(message, p.Connect):
            self.greeted = True
            # MQTT 5 3.1.2-22: one and a half times the keep-alive
            self._limit_s = message.keep_alive_s * 1.5
            if not message.client_id:  # MQTT 5 3.1.3-6
                self.assigned_id = f"auto-{secrets.token_hex(8)}"
                message = replace(message, client_id=self.assigned_id)
        elif isinstance(packet, mqtt5.SubscribePacket) and packet.subscription_id is not None:
            self.dismiss(_NO_IDENTIFIERS, "a subscription identifier")
            return
        self._server.receive(self, message)
        if isinstance(packet, mqtt5.DisconnectPacket):
            self.end("", politely=True)  # MQTT 5 3.14.4-1

    def _refuse(self, view: memoryview, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        if not self.greeted and view[0] == 0x10 and any(name in bytes(view[:16]) for name in _OLDER):
            _log.warning("refused an MQTT 3.1.1 client: this broker speaks MQTT 5; use --broker mosquitto for 3.1.1")
            self.write(_REFUSED_311)
            self.end("", politely=True)
        else:
            self.dismiss(_MALFORMED, f"not MQTT 5: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = False
        self._server.gone(self)

    def write(self, data: bytes) -> None:
        """Send, unless the connection is gone or its client reads nothing."""
        if self._open:
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > _BUFFER_MAX:
                self.end("the client does not read")

    def dismiss(self, code: int, why: str) -> None:
        """Close with a DISCONNECT, if it was connected at all."""
        if self.greeted:
            self.write(_OUTBOUND[p.Disconnect](p.Disconnect(code)))
        self.end(why, politely=True)

    def end(self, why: str, *, politely: bool = False) -> None:
        """Close; `politely` sends what was written first, for as long as the client reads it."""
        if why and self._open:
            _log.info("closed a connection: %s", why)
        if politely and self._open:
            self._heard, self._limit_s = self._server.now(), _GOODBYE_S
            self._transport.close()
        else:
            self._transport.abort()
        self._open = False

    def silent(self, now: float) -> bool:
        """Whether it has been silent for too long."""
        return bool(self._limit_s) and now - self._heard > self._limit_s


def _announced(view: memoryview) -> int:
    """How long a packet is, by its head; 0 as long as the head is not whole."""
    length = 0
    for at, byte in enumerate(view[1:5]):
        length |= (byte & 0x7F) << 7 * at
        if not byte & 0x80:
            return 2 + at + length
    return 0


class BrokerServer:
    """Serves a core on one address. `now` is the clock of the running loop."""

    def __init__(self, core: Broker) -> None:
        self._core = core
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        self.clients: set[_SocketClient] = set()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which the system chooses for 0. Raises ScenarioError when it is taken."""
        try:
            self._server = await self._loop.create_server(lambda: _SocketClient(self), host, port, backlog=_BACKLOG)
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

    def receive(self, client: _SocketClient, packet: p.Packet) -> None:
        """One packet in, what it brings about out."""
        self._carry(self._core.receive(client, packet, self.now()))

    def gone(self, client: _SocketClient) -> None:
        """The connection has ended."""
        self.clients.discard(client)
        self._carry(self._core.dropped(client, self.now()))

    def _carry(self, outputs: list[Output]) -> None:
        for client, packet in outputs:
            assert isinstance(client, _SocketClient)
            if client.assigned_id and isinstance(packet, p.ConnAck):
                client.write(_connack(packet, client.assigned_id))
            else:
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


def _connack(packet: p.ConnAck, assigned_id: str | None = None) -> bytes:
    return mqtt5.ConnAckPacket(
        session_present=packet.session_present,
        reason_code=mqtt5.ConnAckReasonCode(packet.code),
        assigned_client_id=assigned_id,
        max_qos=mqtt5.QoS.AT_LEAST_ONCE,
        max_packet_size=_PACKET_MAX,
        subscription_id_available=False,
    ).write()


_INBOUND: dict[type, Callable[[Any], p.Packet]] = {
    mqtt5.ConnectPacket: _connect,
    mqtt5.PublishPacket: _publish,
    mqtt5.PubAckPacket: lambda packet: p.PubAck(packet.packet_id, int(packet.reason_code)),
    mqtt5.SubscribePacket: _subscribe,
    mqtt5.UnsubscribePacket: lambda packet: p.Unsubscribe(packet.packet_id, tuple(packet.patterns)),
    mqtt5.PingReqPacket: lambda packet: p.Ping(),
    mqtt5.DisconnectPacket: lambda packet: p.Disconnect(int(packet.reason_code), packet.session_expiry_interval),
}

_OUTBOUND: dict[type, Callable[[Any], bytes]] = {
    p.ConnAck: _connack,
    p.Ping: lambda packet: _PONG,
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
