"""What every `MqttLink` on sockets must do on the wire, against a broker that is a script."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from simulator.links.base import MqttLink
from simulator.model.errors import LinkError, PeerError
from tests.conformance.mqtt import KEPT, SOON_S, Road, Suite, soon

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, DISCONNECT = 1, 3, 4, 8, 14
SUITE = Suite()
check = SUITE.check
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The broker's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        self._reader, self.writer, self._v5 = reader, writer, version == 5
        self.address = writer.get_extra_info("peername")[0]

    async def packet(self) -> tuple[int, int, bytes]:
        """Type, flags and body of the next packet."""
        first = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return first >> 4, first & 0x0F, await self._reader.readexactly(length)

    async def accept(self, *, resumed: bool = False, code: int = 0, properties: bytes = b"") -> None:
        """Answer its CONNECT."""
        kind, _, _ = await self.packet()
        assert kind == CONNECT
        more = bytes([len(properties)]) + properties if self._v5 else b""
        self.send(0x20, bytes([resumed, code]) + more)

    async def published(self) -> tuple[bool, int, bytes]:
        """DUP, packet id and payload of the QoS 1 PUBLISH that comes next."""
        kind, flags, body = await self.packet()
        assert (kind, flags & 0x06) == (PUBLISH, 0x02)
        at = 2 + struct.unpack("!H", body[:2])[0]
        payload = body[at + (3 if self._v5 else 2) :]  # no properties: a length of 0
        return bool(flags & 0x08), struct.unpack("!H", body[at : at + 2])[0], payload

    def send(self, first: int, body: bytes) -> None:
        """Any packet of up to 127 bytes."""
        self.writer.write(bytes([first, len(body)]) + body)

    def puback(self, packet_id: int) -> None:
        self.send(0x40, struct.pack("!H", packet_id))

    async def ended(self) -> bytes:
        """Everything until the client closes."""
        with contextlib.suppress(ConnectionError):
            return await self._reader.read()
        return b""


@contextlib.asynccontextmanager
async def scripted(version: int, *scripts: Script) -> AsyncIterator[int]:
    """A broker that plays one script per connection; its port. What a script asserts fails the test."""
    results: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future() for _ in scripts]
    waiting = list(zip(scripts, results, strict=True))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script, result = waiting.pop(0)
        try:
            await script(Peer(reader, writer, version))
            result.set_result(None)
        except Exception as error:
            result.set_exception(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
        await asyncio.wait_for(asyncio.gather(*results), SOON_S)
    finally:
        server.close()
        for result in results:
            result.cancel()


def towards(road: Road, port: int, **more: Any) -> MqttLink:
    """A link to a scripted broker, in plain TCP."""
    plain: dict[str, Any] = {"port": port, "scheme": "mqtt", "tls": None}
    return road.link("a", **(plain | more))


@check("scripted")
async def who_is_not_answered_says_whether_the_broker_was_reached(road: Road) -> None:
    async def closes(peer: Peer) -> None:
        await peer.packet()

    async with scripted(road.version, closes) as port:
        link = towards(road, port)
        with pytest.raises(LinkError) as error:
            await link.connect()
        assert error.value.reached
    with pytest.raises(LinkError) as error:
        await link.connect()
    assert not error.value.reached


@check("scripted")
async def unacknowledged_publishes_go_out_again_with_dup_if_the_session_was_kept(road: Road) -> None:
    first_ids: list[int] = []

    async def three_and_an_answer(peer: Peer) -> None:
        await peer.accept()
        for n in range(3):
            dup, packet_id, payload = await peer.published()
            assert (dup, payload) == (False, b"%d" % n)
            first_ids.append(packet_id)
        peer.puback(first_ids[1])

    async def two_again(peer: Peer) -> None:
        await peer.accept(resumed=True)
        assert [await peer.published() for _ in range(2)] == [
            (True, first_ids[0], b"0"),
            (True, first_ids[2], b"2"),
        ]
        assert (await peer.published())[2] == b"new"

    async def nothing_again(peer: Peer) -> None:
        await peer.accept(resumed=False)
        dup, _, payload = await peer.published()
        assert (dup, payload) == (False, b"newer")
        await peer.ended()

    async with scripted(road.version, three_and_an_answer, two_again, nothing_again) as port:
        link = towards(road, port, **KEPT)
        assert await link.connect() is False
        for n in range(3):
            await link.publish("t", b"%d" % n)
        with pytest.raises(LinkError):
            await link.receive()
        assert link.unacknowledged == 2
        assert await link.connect() is True
        await link.publish("t", b"new")
        with pytest.raises(LinkError):
            await link.receive()
        assert await link.connect() is False
        await link.publish("t", b"newer")
        await link.close()


@check("scripted")
async def a_puback_goes_out_when_the_message_is_acknowledged_not_before(road: Road) -> None:
    acked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        no_properties = b"\0" if road.version == 5 else b""
        for packet_id in (7, 8):
            peer.send(0x32, b"\0\1t" + struct.pack("!H", packet_id) + no_properties + b"x")
        kind, _, body = await peer.packet()
        assert acked.is_set()
        assert (kind, body[:2]) == (PUBACK, b"\0\x08")
        kind, _, _ = await peer.packet()
        assert kind == DISCONNECT
        assert not await peer.ended()

    async with scripted(road.version, script) as port:
        link = towards(road, port)
        await link.connect()
        _, second = await soon(link), await soon(link)
        assert second.packet_id == 8
        await asyncio.sleep(0.05)
        acked.set()
        second.ack()
        second.ack()
        await asyncio.sleep(0.02)
        await link.close()


@check("scripted", "stall")
async def what_a_stalled_link_would_say_is_said_once_when_it_comes_back(road: Road) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.send(0x32, b"\0\1t\0\7" + (b"\0" if road.version == 5 else b"") + b"x")
        assert [(await peer.published())[::2] for _ in range(2)] == [(False, b"before"), (False, b"while")]
        kind, _, body = await peer.packet()
        assert (kind, body[:2]) == (PUBACK, b"\0\7")
        assert (await peer.packet())[0] == DISCONNECT
        assert not await peer.ended()

    async with scripted(road.version, script) as port:
        link = towards(road, port)
        await link.connect()
        delivery = await soon(link)
        await link.publish("t", b"before")
        link.stall(True)
        await link.publish("t", b"while")
        delivery.ack()
        await asyncio.sleep(0.02)
        link.stall(False)
        await link.close()


@check("scripted")
async def an_abort_sends_no_disconnect(road: Road) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        assert not await peer.ended()

    async with scripted(road.version, script) as port:
        link = towards(road, port, source="127.0.0.9")
        await link.connect()
        link.abort()


@check("scripted")
async def a_link_comes_from_its_source_address(road: Road) -> None:
    async def script(peer: Peer) -> None:
        assert peer.address == "127.0.0.9"
        await peer.accept()
        await peer.ended()

    async with scripted(road.version, script) as port:
        link = towards(road, port, source="127.0.0.9")
        await link.connect()
        await link.close()


@check("scripted")
async def a_broker_that_goes_away_is_noticed_at_once(road: Road) -> None:
    async def before_the_connack(peer: Peer) -> None:
        await peer.packet()

    async def before_the_suback(peer: Peer) -> None:
        await peer.accept()
        await peer.packet()

    async with scripted(road.version, before_the_connack, before_the_suback) as port:
        link = towards(road, port)
        with pytest.raises(LinkError):
            await asyncio.wait_for(link.connect(), 1.0)
        await link.connect()
        with pytest.raises(LinkError):
            await asyncio.wait_for(link.subscribe(["t"]), 1.0)
        await link.close()


@check("scripted")
async def a_reset_is_noticed_though_data_came_with_it(road: Road) -> None:
    loop = asyncio.get_running_loop()
    v5 = road.version == 5
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        link = towards(road, server.getsockname()[1])
        connecting = asyncio.ensure_future(link.connect())
        peer, _ = await loop.sock_accept(server)
        await loop.sock_recv(peer, 1000)
        await loop.sock_sendall(peer, b"\x20\x03\0\0\0" if v5 else b"\x20\x02\0\0")
        await connecting
        body = b"\0\1t" + (b"\0" if v5 else b"") + b"last words"
        peer.send(bytes([0x30, len(body)]) + body)  # both before the client's loop looks
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    async def everything() -> None:
        while True:
            await link.receive()

    with pytest.raises(LinkError):
        await asyncio.wait_for(everything(), 1.0)
    await link.close()


@check("scripted")
async def a_broker_that_says_nothing_is_given_up_and_let_go(road: Road) -> None:
    async def silent(peer: Peer) -> None:
        await peer.packet()
        assert not await asyncio.wait_for(peer.ended(), 1.0)  # the socket is not left open

    async with scripted(road.version, silent, silent) as port:
        began = asyncio.get_running_loop().time()
        with pytest.raises(LinkError):
            await towards(road, port, connect_timeout_s=0.1).connect()
        assert asyncio.get_running_loop().time() - began < 0.5
        connecting = asyncio.ensure_future(towards(road, port).connect())
        await asyncio.sleep(0.05)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


@check("scripted")
async def a_refusal_carries_the_brokers_code(road: Road) -> None:
    told, expected = (0x89, 0x89) if road.version == 5 else (3, 0x88)  # busy; unavailable, in 5's words

    async def script(peer: Peer) -> None:
        await peer.accept(code=told)
        await peer.ended()

    async with scripted(road.version, script) as port:
        with pytest.raises(PeerError) as refused:
            await towards(road, port).connect()
        assert refused.value.code == expected


@check("scripted")
async def a_refused_filter_carries_the_brokers_code(road: Road) -> None:
    code = 0x87 if road.version == 5 else 0x80

    async def script(peer: Peer) -> None:
        await peer.accept()
        kind, _, body = await peer.packet()
        assert kind == SUBSCRIBE
        peer.send(0x90, body[:2] + (b"\0" if road.version == 5 else b"") + bytes([1, code]))
        await peer.ended()

    async with scripted(road.version, script) as port:
        link = towards(road, port)
        await link.connect()
        with pytest.raises(PeerError, match="not/mine") as refused:
            await link.subscribe(["mine", "not/mine"])
        assert refused.value.code == code
        await link.close()


@check("scripted")
async def what_the_broker_refuses_to_take_is_counted_and_not_said_again(road: Road) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for code in (0x00, 0x10, 0x97):  # success; nobody has subscribed; quota exceeded
            _, packet_id, _ = await peer.published()
            peer.send(0x40, struct.pack("!H", packet_id) + bytes([code] if road.version == 5 else []))

    async def again(peer: Peer) -> None:
        await peer.accept(resumed=True)
        assert (await peer.published())[::2] == (False, b"new")
        await peer.ended()

    async with scripted(road.version, script, again) as port:
        link = towards(road, port, **KEPT)
        await link.connect()
        for n in range(3):
            await link.publish("t", b"%d" % n)
        with pytest.raises(LinkError):
            await link.receive()
        assert link.unacknowledged == 0
        assert link.refused == (road.version == 5)  # 3.1.1 has no words for it
        assert await link.connect() is True
        await link.publish("t", b"new")
        await link.close()


@check("scripted", "receive-maximum")
async def publishing_waits_for_the_brokers_receive_maximum(road: Road) -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept(properties=b"\x21\0\2")  # MQTT 5 3.2.2.3.3: two at a time
        ids = [(await peer.published())[1] for _ in range(2)]
        await go.wait()
        peer.puback(ids[0])
        assert (await peer.published())[2] == b"2"
        await peer.ended()

    async with scripted(road.version, script) as port:
        link = towards(road, port)
        await link.connect()
        for n in range(2):
            await link.publish("t", b"%d" % n)
        third = asyncio.ensure_future(link.publish("t", b"2"))
        await asyncio.sleep(0.05)
        assert not third.done()
        go.set()
        await asyncio.wait_for(third, SOON_S)
        await asyncio.sleep(0.02)
        await link.close()


@check("scripted")
async def a_full_socket_makes_the_publisher_wait_and_the_loss_frees_it(road: Road) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await asyncio.sleep(0.2)  # reads nothing more, then cuts

    async with scripted(road.version, script) as port:
        link = towards(road, port)
        await link.connect()
        sent: list[bytes] = []

        async def flood() -> None:
            while True:
                await link.publish("t", bytes(65536), qos=0)
                sent.append(b"")

        with pytest.raises(LinkError):
            await asyncio.wait_for(flood(), SOON_S)
        assert len(sent) < 5000
        await link.close()
