"""The MQTT port over a well-known library, aiomqtt: breadth (MQTT 3.1.1, WebSocket), and a cross-check of the lean
link."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, cast

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from simulator.links.base import MqttOptions
from simulator.links.reasons import in_words
from simulator.model.errors import LinkError, NotSimulated, PeerError, ScenarioError

_DRAIN_S = 1.0  # how long what was published may take to be acknowledged at the end
_CLOSE_S = 5.0
_WAITING_MAX = 1000  # packets waiting for a full socket
_AT_ONCE = 100  # packets read before other clients have their turn


class LibraryDelivery:
    """A message that arrived; implements `Delivery`."""

    __slots__ = ("_paho", "dup", "packet_id", "payload", "qos", "retain", "topic")

    def __init__(self, paho: Client, message: MQTTMessage) -> None:
        self._paho: Client | None = paho
        self.topic, self.payload, self.qos = message.topic, bytes(message.payload), message.qos
        self.retain, self.dup = bool(message.retain), bool(message.dup)
        self.packet_id = message.mid if message.qos else None

    def ack(self) -> None:
        """PUBACK, once."""
        paho, self._paho = self._paho, None
        if paho is not None and self.packet_id is not None and paho.socket() is not None:
            paho.ack(self.packet_id, self.qos)


class LibraryMqtt:
    """An aiomqtt client for MQTT 5 or 3.1.1 (`version` 4); implements `MqttLink`.

    Each connection is an aiomqtt client of its own: one that lost its connection cannot be entered again. MQTT 3.1.1
    has no No Local (the receiver has to know its own messages), and no session that starts clean and is kept.
    """

    stalls = False
    __slots__ = (
        "_client",
        "_inbox",
        "_lost",
        "_options",
        "_reached",
        "_resumed",
        "_room",
        "_version",
        "_waiter",
        "_window",
        "refused",
    )

    def __init__(self, options: MqttOptions, *, version: Literal[4, 5] = 5) -> None:
        if version == 4 and options.clean_start != (options.session_expiry_s == 0):
            raise ScenarioError(
                "MQTT 3.1.1 has one flag for both: a clean start without expiry, or a kept session with one"
            )
        self._options, self._version = options, version
        self._client: aiomqtt.Client | None = None
        self._inbox: deque[LibraryDelivery] = deque()
        self._waiter: asyncio.Future[bool] | None = None  # True: to return with nothing
        self._room: asyncio.Future[None] | None = None
        self._reached = self._resumed = False
        self._window = 65535  # the broker's receive maximum
        self._lost = "not connected"
        self.refused = 0

    # ---- the port

    async def connect(self) -> bool:
        """Connect; True when the broker resumed a session. Raises LinkError, PeerError."""
        self.abort()
        o, before = self._options, self._client
        self._inbox.clear()
        self._reached = False
        self._lost = where = f"{o.host}:{o.port}"
        client = self._client = self._fresh(before)
        try:
            async with o.gate or contextlib.nullcontext(), asyncio.timeout(o.connect_timeout_s):
                await _enter(client)
        except TimeoutError:
            timed_out = f"{where} did not answer within {o.connect_timeout_s:g} s"
            raise LinkError(timed_out, reached=self._reached) from None
        except aiomqtt.exceptions.MqttConnectError as error:
            code = _code(error.rc)
            raise PeerError(f"the broker refused the connection: {in_words(code)}", code=code) from None
        except aiomqtt.MqttError as error:
            raise LinkError(f"{where}: {error}", reached=self._reached) from None
        if client._client.socket() is None:
            raise LinkError(f"{where} closed the connection", reached=True)
        self._lost = ""
        return self._resumed

    async def subscribe(self, filters: Sequence[str], *, qos: int = 1, no_local: bool = False) -> None:
        """Subscribe and wait for the SUBACK. Raises LinkError, PeerError."""
        client = self._require()
        wanted: Any
        if self._version == 5:
            wanted = [(pattern, SubscribeOptions(qos, noLocal=no_local)) for pattern in filters]
        else:
            wanted = [(pattern, qos) for pattern in filters]
        try:
            codes = await client.subscribe(wanted)
        except aiomqtt.MqttError as error:
            self._end(client, "no SUBACK")
            raise LinkError(f"the broker did not answer a SUBSCRIBE: {error}") from None
        for pattern, code in zip(filters, map(_code, codes), strict=True):
            if code >= 0x80:
                raise PeerError(f"the broker refused the subscription to {pattern}: {in_words(code)}", code=code)

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand the message over; waits for the receive maximum and for a full socket. Raises LinkError."""
        paho = self._require()._client
        while len(paho._out_packet) > _WAITING_MAX or (qos and len(paho._out_messages) >= self._window):
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None
            paho = self._require()._client
        rc = MQTTErrorCode.MQTT_ERR_QUEUE_SIZE
        while rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:  # the packet id is still in use: paho takes the next one
            rc = paho.publish(topic, payload, qos, retain).rc
        if rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError(f"not sent: {rc.name}")

    @property
    def unacknowledged(self) -> int:
        """How many messages wait for their PUBACK."""
        return len(self._client._client._out_messages) if self._client is not None else 0

    async def receive(self, until: float | None = None) -> LibraryDelivery | None:
        """The next message; None at `until`, or at `wake`. Raises LinkError once lost and drained."""
        loop = asyncio.get_running_loop()
        while not self._inbox:
            self._require()
            if until is not None and loop.time() >= until:
                return None
            self._waiter = waiter = loop.create_future()
            timer = None if until is None else loop.call_at(until, _wake, waiter)
            try:
                if await waiter:
                    return None
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        return self._inbox.popleft()

    def wake(self) -> None:
        """Let the `receive` that waits return None."""
        _wake(self._waiter, True)

    def abort(self) -> None:
        """Cut the connection without DISCONNECT."""
        if self._client is not None and not self._lost:
            self._end(self._client, "aborted")

    def stall(self, on: bool) -> None:
        """Not with aiomqtt, which reads and pings by itself: said by `stalls`."""
        raise NotSimulated("stall, by the library link")

    async def close(self) -> None:
        """DISCONNECT and close, once what was published has been acknowledged."""
        client = self._client
        if client is None or self._lost:
            return
        paho = client._client
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while not self._lost and (paho._out_packet or paho._out_messages):
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
        self._room = None
        self._note(client, "closed")
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await client.__aexit__(None, None, None)
        _cut(client)

    # ---- what paho tells

    def _connected(self, client: aiomqtt.Client, *args: Any) -> None:
        paho, _, flags, _, properties = args
        self._resumed = bool(flags.session_present)
        self._window = getattr(properties, "ReceiveMaximum", 65535)
        paho._keepalive /= 2  # it looks once a second, and would ping too late for short intervals
        if not self._resumed:
            paho._out_messages.clear()  # the session they belonged to is gone
        client._on_connect(*args)

    def _disconnected(self, client: aiomqtt.Client, *args: Any) -> None:
        _, _, flags, reason, _ = args
        if not client._connected.done():  # aiomqtt would wait for its whole timeout
            client._connected.set_exception(aiomqtt.MqttError("closed before a CONNACK"))
        client._on_disconnect(*args)
        by_broker = flags.is_disconnect_packet_from_server
        # paho closes the socket itself, and would wait for ever for who does so in its callback
        self._note(client, f"the broker disconnected: 0x{_code(reason):02x}" if by_broker else "connection lost")

    def _arrived(self, paho: Client, userdata: object, message: MQTTMessage) -> None:
        if self._client is not None and self._client._client is paho:
            self._inbox.append(LibraryDelivery(paho, message))
            _wake(self._waiter)

    def _acknowledged(self, client: aiomqtt.Client, *args: Any) -> None:
        client._on_publish(*args)
        self.refused += _code(args[3]) >= 0x80
        if self._room is not None:
            asyncio.get_running_loop().call_soon(_wake, self._room)  # paho forgets the message after this call

    def _opened(self, client: aiomqtt.Client, *args: Any) -> None:
        self._reached = True
        client._on_socket_open(*args)
        client._loop.call_soon_threadsafe(client._loop.add_reader, args[2].fileno(), self._read, client)

    def _read(self, client: aiomqtt.Client) -> None:
        """In aiomqtt's place, which reads one packet: uvloop tells of a reset but once, if data comes with it."""
        paho, rc = client._client, MQTTErrorCode.MQTT_ERR_SUCCESS
        try:
            for _ in range(_AT_ONCE):
                sock = paho.socket()
                if sock is None or rc > 0 or (rc < 0 and not (hasattr(sock, "pending") and sock.pending())):
                    break
                rc = paho._packet_read()
            else:
                client._loop.call_soon(self._read, client)
            if rc > 0:
                paho._loop_rc_handle(rc)
        except Exception as error:  # an exception in a callback of the loop reaches nobody
            self._end(client, str(error))

    def _register_write(self, client: aiomqtt.Client, *args: Any) -> None:
        if asyncio._get_running_loop() is None:
            client._on_socket_register_write(*args)  # from the thread that connects
        else:  # at once: a descriptor may be closed, and be another's, when aiomqtt's call_soon comes to it
            client._loop.add_writer(args[2].fileno(), self._write, client)

    def _write(self, client: aiomqtt.Client) -> None:
        try:
            client._client.loop_write()
        except Exception as error:
            self._end(client, str(error))

    def _written(self, client: aiomqtt.Client, *args: Any) -> None:
        client._on_socket_unregister_write(*args)
        _wake(self._room)

    # ---- within

    def _fresh(self, before: aiomqtt.Client | None) -> aiomqtt.Client:
        """An unconnected client with the unacknowledged publishes of the one before."""
        o, v5 = self._options, self._version == 5
        tls = o.tls or (_default_tls() if o.scheme in ("mqtts", "wss") else None)
        web = o.scheme in ("ws", "wss")
        properties = None
        if v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = o.session_expiry_s
        client = aiomqtt.Client(
            o.host,
            o.port,
            username=o.username,
            password=o.password,
            identifier=o.client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
            will=aiomqtt.Will(o.will[0], o.will[1], 1) if o.will else None,
            clean_session=None if v5 else o.clean_start,
            clean_start=o.clean_start if v5 else MQTT_CLEAN_START_FIRST_ONLY,
            transport="websockets" if web else "tcp",
            websocket_path=o.path if web else None,
            timeout=o.connect_timeout_s,
            keepalive=o.keep_alive_s,
            bind_address=o.source or "",
            max_inflight_messages=0,
            properties=properties,
            tls_context=tls,
        )
        client._disconnected.add_done_callback(functools.partial(self._failed, client))
        paho = client._client
        paho.manual_ack_set(True)
        paho.connect_timeout = o.connect_timeout_s
        paho.on_connect = functools.partial(self._connected, client)
        paho.on_disconnect = functools.partial(self._disconnected, client)
        paho.on_message = self._arrived
        paho.on_publish = functools.partial(self._acknowledged, client)
        paho.on_socket_open = functools.partial(self._opened, client)
        paho.on_socket_register_write = functools.partial(self._register_write, client)
        paho.on_socket_unregister_write = functools.partial(self._written, client)
        if before is not None:
            paho._out_messages, paho._last_mid = before._client._out_messages, before._client._last_mid
        return client

    def _failed(self, client: aiomqtt.Client, future: asyncio.Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        self._end(client, str(error or "connection lost"))

    def _end(self, client: aiomqtt.Client, reason: str) -> None:
        """Cut this connection, and tell whoever waits for anything."""
        _cut(client)
        self._note(client, reason)

    def _note(self, client: aiomqtt.Client, reason: str) -> None:
        if client is not self._client or self._lost:
            return
        self._lost = reason
        for pending in client._pending_subscribes.values():
            if not pending.done():  # aiomqtt would wait for its whole timeout
                pending.set_exception(aiomqtt.MqttError(self._lost))
        _wake(self._waiter)
        _wake(self._room)

    def _require(self) -> aiomqtt.Client:
        if self._client is None or self._lost:
            raise LinkError(self._lost)
        return self._client


def _wake(future: asyncio.Future[Any] | None, result: bool = False) -> None:
    if future is not None and not future.done():
        future.set_result(result)


def _code(reason: Any) -> int:
    """MQTT 5's reason code; paho translates those of 3.1.1."""
    return int(getattr(reason, "value", reason))


def _raw(paho: Client) -> socket.socket | None:
    socket_ = paho.socket()
    return cast("socket.socket | None", getattr(socket_, "_socket", socket_))  # within paho's WebSocket


def _cut(client: aiomqtt.Client) -> None:
    """Close the socket without a word."""
    raw = _raw(client._client)
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)
        client._client._sock_close()


async def _enter(client: aiomqtt.Client) -> None:
    """Connect; a thread does it, which cannot be cancelled: what it brings too late is closed. Raises MqttError."""
    entering = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        if not client._connected.done():
            client._connected.set_exception(aiomqtt.MqttError("given up"))
            client._connected.exception()  # somebody has seen it
        entering.add_done_callback(functools.partial(_too_late, client))
        raise
    except BaseException:
        _cut(client)
        raise
    socket_, raw = client._client.socket(), _raw(client._client)
    if socket_ is not raw:
        socket_.send = functools.partial(_send_whole, socket_)  # type: ignore[union-attr, method-assign]
    if raw is not None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _send_whole(websocket: Any, data: bytes) -> int:
    """Paho's own answers 0 when a frame went out in part, and paho then forgets the packet."""
    sent = int(websocket._send_impl(data))
    if not sent:
        raise BlockingIOError
    return sent


def _too_late(client: aiomqtt.Client, entering: asyncio.Future[aiomqtt.Client]) -> None:
    if not entering.cancelled():
        entering.exception()
    _cut(client)


@functools.cache
def _default_tls() -> ssl.SSLContext:
    return ssl.create_default_context()
