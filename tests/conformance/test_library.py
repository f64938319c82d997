"""What is the library links' own: WebSocket frames larger than a socket's buffer, and what MQTT 3.1.1 cannot say."""

from __future__ import annotations

import asyncio

import mqtt5
import pytest
from aiohttp import WSMsgType, web

from simulator.links.base import MqttOptions
from simulator.links.library import LibraryMqtt
from simulator.model.errors import NotSimulated, ScenarioError
from tests.conformance.mqtt import soon

COUNT, SIZE = 10, 2_000_000


class Broker:
    """Speaks MQTT 5 over WebSocket: hears `COUNT` messages, slowly, and says them again."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("mqtt",), max_msg_size=0)
        await socket.prepare(request)
        data = b""
        async for message in socket:
            assert message.type is WSMsgType.BINARY
            data += message.data
            while data:
                try:
                    packet, length = mqtt5.read(memoryview(data))
                except IndexError:
                    break
                data = data[length:]
                await self.answer(socket, packet)
        return socket

    async def answer(self, socket: web.WebSocketResponse, packet: object) -> None:
        if isinstance(packet, mqtt5.ConnectPacket):
            await socket.send_bytes(mqtt5.ConnAckPacket().write())
        elif isinstance(packet, mqtt5.PublishPacket):
            self.heard.append(packet.payload)
            await asyncio.sleep(0.01)
            if len(self.heard) == COUNT:
                for payload in self.heard:
                    await socket.send_bytes(mqtt5.PublishPacket("t", payload).write())


def test_frames_larger_than_the_sockets_buffer_go_and_come_whole() -> None:
    async def main() -> None:
        broker, app = Broker(), web.Application()
        app.router.add_get("/some/where", broker.serve)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        link = LibraryMqtt(MqttOptions("127.0.0.1", port, "a", scheme="ws", path="/some/where"))
        await link.connect()
        sent = [bytes([n]) * SIZE for n in range(COUNT)]
        for payload in sent:
            await link.publish("t", payload, qos=0)
        assert [(await soon(link)).payload for _ in range(COUNT)] == sent
        assert broker.heard == sent
        await link.close()
        await runner.cleanup()

    asyncio.run(main())


def test_mqtt_3_1_1_refuses_what_it_cannot_say() -> None:
    for clean_start, expiry_s in ((True, 60), (False, 0)):
        options = MqttOptions("h", 1, "a", clean_start=clean_start, session_expiry_s=expiry_s)
        LibraryMqtt(options)
        with pytest.raises(ScenarioError, match=r"3\.1\.1"):
            LibraryMqtt(options, version=4)


def test_a_stall_is_refused_as_the_link_says() -> None:
    link = LibraryMqtt(MqttOptions("h", 1, "a"))
    assert not link.stalls
    with pytest.raises(NotSimulated):
        link.stall(True)
