"""The embedded broker's sockets: whatever a client does, it alone has to bear it."""

import asyncio
import contextlib
import logging
import random
import resource

import mqtt5
import pytest

from simulator.broker import server as module
from simulator.broker.core import Broker
from simulator.broker.packets import Disconnect, Publish
from simulator.broker.server import BrokerServer
from simulator.links.loop import LiveLoop
from simulator.model.errors import ScenarioError
from tests.conformance.broker import Place, SocketClient, closed, heard, nothing_more, subscribed, told

# the codec's panic leaves one behind
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CONNECT_311 = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"
CONNECT_31 = b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a"


def connect(client_id="a", **options):
    return mqtt5.ConnectPacket(client_id, clean_start=True, **options).write()


class Running:
    """A broker that serves."""

    def __init__(self, server, port):
        self.server, self.port = server, port
        self.place = Place(self._reach)

    async def _reach(self):
        return SocketClient(*await self.open())

    async def open(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, *pieces):
        """What comes back, up to the end, when these bytes are sent one after the other."""
        reader, writer = await self.open()
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.001 if len(pieces) > 1 else 0)
        try:
            return await asyncio.wait_for(reader.read(), 2.0)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def later(self, seconds):
        """It is as if so much time had passed."""
        before = self.server.now
        self.server.now = lambda: before() + seconds
        self.server._tick()

    async def works(self):
        """Somebody who behaves is served."""
        one, other = await self.place.enter("well-behaved"), await self.place.enter("other")
        await subscribed(one, "works")
        await told(other, "works", b"yes")
        assert (await heard(one, 1))[0].payload == b"yes"
        for client in (one, other):
            client.send(Disconnect())
            await closed(client)


def with_broker(test):
    """Run a coroutine test with a broker on the live world's loop; nothing may be left unsaid to the loop."""

    def run():
        complaints = []

        async def main():
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            server = BrokerServer(Broker())
            running = Running(server, await server.start("127.0.0.1", 0))
            await asyncio.wait_for(test(running), 20.0)
            await running.works()
            await server.stop()

        with asyncio.Runner(loop_factory=LiveLoop) as runner:
            runner.run(main())
        assert not complaints

    run.__name__ = test.__name__
    return run


@with_broker
async def test_garbage_ends_the_connection_that_sent_it(running):
    chance = random.Random(1)
    whole = connect("g", username="user") + mqtt5.PublishPacket("t", bytes(30)).write()
    for n in range(300):
        data = bytearray(whole if n % 2 else chance.randbytes(60))
        for _ in range(n % 5):
            data[chance.randrange(len(data))] = chance.randrange(256)
        reader, writer = await running.open()
        writer.write(data)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 2.0)
        writer.close()
    await until(lambda: not running.server.clients)


async def until(condition):
    async with asyncio.timeout(5.0):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@with_broker
async def test_packets_may_come_byte_by_byte(running):
    data = connect() + mqtt5.PublishPacket("t", b"x", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7).write()
    data += mqtt5.DisconnectPacket().write()
    answer = await running.answer(*(bytes([byte]) for byte in data))
    assert answer.endswith(mqtt5.PubAckPacket(7).write())


@with_broker
async def test_a_packet_beyond_the_bound_is_refused_by_its_head(running):
    head = b"\x30\xff\xff\xff\x7f"  # 256 MiB
    assert await running.answer(connect(), head) == await only_connack(running) + b"\xe0\x01\x95"
    assert await running.answer(b"\x10\xff\xff\xff\x7f") == b""
    connack, _ = mqtt5.read(memoryview(await only_connack(running)))
    assert connack.max_packet_size == 16 << 20
    client = await running.place.enter("large")
    await subscribed(client, "t")
    client.send(Publish("t", bytes(8 << 20)))
    assert len((await heard(client, 1))[0].payload) == 8 << 20


async def only_connack(running):
    return await running.answer(connect() + mqtt5.DisconnectPacket().write())


@with_broker
async def test_a_whole_packet_that_lacks_what_it_promises_is_not_waited_for(running):
    assert await running.answer(connect(), b"\x32\x04\x00\x01t\x00") == await only_connack(running) + b"\xe0\x01\x81"


@with_broker
async def test_text_that_is_no_utf_8_ends_the_connection(running):
    assert await running.answer(connect(username="abc").replace(b"abc", b"a\xffc")) == b""
    assert (
        await running.answer(connect(), b"\x30\x05\x00\x01\xff\x00x") == await only_connack(running) + b"\xe0\x01\x81"
    )


@pytest.mark.parametrize("older", [CONNECT_311, CONNECT_31])
def test_an_older_client_is_told_and_the_log_points_to_mosquitto(older, caplog):
    async def test(running):
        assert await running.answer(older) == b"\x20\x02\x00\x01"
        assert await running.answer(*(bytes([byte]) for byte in older)) == b"\x20\x02\x00\x01"

    with_broker(test)()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "use --broker mosquitto for 3.1.1" in warnings[0]


@with_broker
async def test_whoever_does_not_connect_in_time_is_closed_though_it_dribbles(running):
    reader, writer = await running.open()
    writer.write(connect()[:5])
    await until(lambda: running.server.clients)
    running.later(9)
    writer.write(connect()[5:7])
    await asyncio.sleep(0.02)
    assert len(running.server.clients) == 1
    running.later(2)
    assert await asyncio.wait_for(reader.read(), 2.0) == b""
    assert await running.answer(b"\xc0\x00") == b"\xe0\x01\x82"  # a ping is no CONNECT


@with_broker
async def test_silence_beyond_one_and_a_half_keep_alives_is_the_end_and_pings_are_not_silence(running):
    silent, pings, eternal = [await running.place.enter(n, keep_alive_s=k) for n, k in (("a", 60), ("b", 60), ("c", 0))]
    for _ in range(2):
        running.later(46)
        await nothing_more(pings)
    await closed(silent)
    running.later(1e6)
    await nothing_more(eternal)


def test_whoever_does_not_read_is_cut_and_holds_up_nobody(monkeypatch):
    monkeypatch.setattr(module, "_BUFFER_MAX", 1 << 20)

    async def test(running):
        heir = await running.place.enter("heir")
        await subscribed(heir, "will", "t")
        deaf = await running.place.enter("deaf", will=Publish("will", b"deaf"))
        await subscribed(deaf, "t")
        sender = await running.place.enter("sender")
        sent = 0
        deaf._reader._transport.pause_reading()
        while True:
            await told(sender, "t", bytes(100_000))
            sent += 1
            (message,) = await heard(heir, 1)
            if message.topic == "will":
                break
        assert sent < 200  # what the sockets hold, and what the broker keeps
        deaf.cut()

    with_broker(test)()


def test_whoever_does_not_read_its_dismissal_is_let_go(monkeypatch):
    monkeypatch.setattr(module, "_BUFFER_MAX", 64 << 20)

    async def test(running):
        deaf = await running.place.enter("deaf")
        await subscribed(deaf, "t")
        deaf._reader._transport.pause_reading()
        sender = await running.place.enter("sender")
        await told(sender, "t", *[bytes(100_000)] * 100)
        heir = await running.place.enter("deaf")
        assert len(running.server.clients) == 3
        running.later(6)
        await until(lambda: len(running.server.clients) == 2)
        await nothing_more(heir)
        deaf.cut()

    with_broker(test)()


@with_broker
async def test_a_thousand_connect_at_once(running):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))

    async def one(n):
        client = await running.place.enter(f"c{n}")
        await nothing_more(client)
        return client

    clients = await asyncio.gather(*(one(n) for n in range(1000)))
    assert len(running.server.clients) == 1000
    for client in clients:
        client.cut()
    await until(lambda: not running.server.clients)


@with_broker
async def test_a_client_without_an_id_is_given_one(running):
    given = set()
    for _ in range(2):
        packet, _ = mqtt5.read(memoryview(await running.answer(connect("") + mqtt5.DisconnectPacket().write())))
        given.add(packet.assigned_client_id)
    assert len(given) == 2
    assert all(given)


@with_broker
async def test_what_it_does_not_do_is_announced_and_refused(running):
    connack, _ = mqtt5.read(memoryview(await only_connack(running)))
    assert (int(connack.max_qos), connack.subscription_id_available) == (1, False)
    identified = mqtt5.SubscribePacket(1, [mqtt5.TopicFilter("t")], subscription_id=3).write()
    twice = mqtt5.PublishPacket("t", b"", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=1).write()
    assert (await running.answer(connect(), identified)).endswith(b"\xe0\x01\xa1")
    assert (await running.answer(connect(), twice)).endswith(b"\xe0\x01\x9b")


def test_an_error_of_our_own_is_logged_and_ends_one_connection(caplog):
    class Faulty(Broker):
        def receive(self, conn, packet, now):
            if isinstance(packet, Publish) and packet.topic == "trap":
                raise IndexError("ours")
            return super().receive(conn, packet, now)

    async def test(running):
        running.server._core = Faulty()
        client = await running.place.enter("a")
        client.send(Publish("trap", b""))
        await closed(client)

    with_broker(test)()
    assert [r.exc_info[1].args for r in caplog.records if r.levelno == logging.ERROR] == [("ours",)]


def test_a_port_in_use_is_said():
    async def main():
        server, second = BrokerServer(Broker()), BrokerServer(Broker())
        port = await server.start("127.0.0.1", 0)
        with pytest.raises(ScenarioError, match=f"the broker cannot listen on 127.0.0.1:{port}"):
            await second.start("127.0.0.1", port)
        await server.stop()

    asyncio.run(main())
