"""When the lean MQTT link writes: seen at its transport, because a peer cannot tell two writes from one."""

import asyncio

from simulator.links import mqtt
from simulator.links.base import MqttOptions
from simulator.links.mqtt import LeanMqtt

CONNACK = b"\x20\x03\0\0\0"
MESSAGE = b"\x32\x07\0\1t\0\7\0x"  # QoS 1, packet id 7
PUBACK = b"\x40\x02\0\7"


class Transport(asyncio.Transport):
    """Answers the CONNECT and one message; keeps what is written after that."""

    def __init__(self, protocol):
        self.protocol, self.writes = protocol, []
        protocol.connection_made(self)

    def write(self, data):
        if data[0] == 0x10:
            self.protocol.data_received(CONNACK + MESSAGE)
        else:
            self.writes.append(data)

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def abort(self):
        self.writes.append("aborted")
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Loop(asyncio.SelectorEventLoop):
    async def create_connection(self, factory, *_, **__):
        protocol = factory()
        self.transport = Transport(protocol)
        return self.transport, protocol


def writes_of(act):
    """What is written when `act` is done with a link and its delivery, and one turn later."""

    async def main():
        link = LeanMqtt(MqttOptions("nowhere", 1, "a", keep_alive_s=0))
        await link.connect()
        await act(link, await link.receive())
        await asyncio.sleep(0)
        return asyncio.get_running_loop().transport.writes

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main())


def test_a_puback_and_the_report_that_follows_are_one_write():
    async def act(link, delivery):
        delivery.ack()
        await link.publish("t", b"report")

    (write,) = writes_of(act)
    assert write.startswith(PUBACK)
    assert write.endswith(b"report")


def test_a_puback_alone_does_not_wait_for_another_turn():
    async def act(_, delivery):
        delivery.ack()

    assert writes_of(act) == [PUBACK]


def test_a_puback_given_before_an_abort_is_sent():
    async def act(link, delivery):
        delivery.ack()
        link.abort()

    assert writes_of(act) == [PUBACK, "aborted"]


def test_reports_of_one_turn_are_one_write_and_those_of_the_next_another():
    async def act(link, _):
        for said in (b"first", b"second"):
            await link.publish("t", said)
        await asyncio.sleep(0)
        await link.publish("t", b"third")

    first, second = writes_of(act)
    assert first.index(b"first") < first.index(b"second")
    assert second.endswith(b"third")


def test_however_much_is_said_in_one_turn_little_is_held():
    async def act(link, _):
        for nth in range(200):
            await link.publish("t", b"nth%03d" % nth)

    writes = writes_of(act)
    assert [write.count(b"nth") for write in writes] == [64, 64, 64, 8]
    assert [nth for write in writes for nth in range(200) if b"nth%03d" % nth in write] == [*range(200)]


def test_what_was_said_leaves_before_the_goodbye_and_a_broker_that_does_not_close_is_left(monkeypatch):
    monkeypatch.setattr(mqtt, "_DRAIN_S", 0.01)

    async def act(link, _):
        await link.publish("t", b"report")
        await link.close()

    write, *ends = writes_of(act)
    assert write.endswith(b"report\xe0\0")
    assert ends
    assert set(ends) == {"aborted"}


def test_a_stalled_connection_holds_what_is_said_until_it_is_not():
    async def act(link, _):
        link.stall(True)
        await link.publish("t", b"held")
        await asyncio.sleep(0)
        assert not asyncio.get_running_loop().transport.writes
        link.stall(False)

    (write,) = writes_of(act)
    assert write.endswith(b"held")
