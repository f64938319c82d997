"""The connection: outputs in their order, a deadline, being woken, back-off, and what goes on the record."""

import asyncio
from types import SimpleNamespace

import pytest

from simulator.device.agent import Flash, UpdateAgent
from simulator.device.connection import MqttConnection
from simulator.device.habits import TakesTcpForSuccess
from simulator.device.log import Log
from simulator.device.power import Power
from simulator.device.profile import Draws
from simulator.links.base import Wires
from simulator.links.clock import run_virtual
from simulator.model.dice import Dice
from simulator.model.errors import LinkError, PeerError
from simulator.model.io import NOTHING, Publish, Request, Response, Step, Subscribe
from simulator.model.scenario import Profile


class Road:
    """A link of both kinds that notes what it is asked, and fails as often as told."""

    def __init__(self, failures=()):
        self.asked, self.failures, self.inbox, self.waiter = [], list(failures), [], None

    async def connect(self):
        self.asked.append("connect")
        if self.failures and (error := self.failures.pop(0)):
            raise error
        return False

    async def publish(self, topic, payload, *, qos, retain):
        self.asked.append((topic, payload, qos))

    async def subscribe(self, filters, *, qos, no_local):
        self.asked.append(filters)

    async def request(self, request):
        self.asked.append(request.url)
        return Response(200, body=b"answer")

    async def receive(self, until):
        if self.inbox:
            return self.inbox.pop(0)
        if until is None:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(until - asyncio.get_running_loop().time())
        return None

    def abort(self):
        self.asked.append("abort")

    async def close(self):
        self.asked.append("close")

    def wake(self):
        self.asked.append("wake")


class Echo:
    """A dialect whose signal is the payload, and which answers a response by publishing its body."""

    def receive(self, inbound, now):
        if isinstance(inbound, Response):
            return Step((Publish("told", inbound.body),))
        return Step((), (inbound.payload,)) if inbound.payload else NOTHING


def connection(story, failures=(), hasty=False, **profile):
    """Run `story(connection, road)`; (what it returns, the road, the record as (time, kind, status, detail))."""
    record, road = [], Road(failures)

    async def main(loop):
        def note(kind, thing, **columns):
            record.append((loop.time(), kind, columns.get("status"), columns.get("detail")))

        draws = Draws(Profile(**{"reconnect": {"base": 1, "cap": 8, "jitter": 0}, **profile}), Dice(1, "d"))
        power = Power()
        kind = TakesTcpForSuccess if hasty else MqttConnection
        log = Log(note, "d", UpdateAgent(Flash(None)), 1000.0)
        return await story(kind(Echo(), Wires(road, road), power, log, draws, 1000.0), road)

    return run_virtual(main, until_s=1000), road, record


def message(road, payload=b"x"):
    acks = []
    road.inbox.append(SimpleNamespace(topic="t", payload=payload, qos=1, retain=False, ack=lambda: acks.append(1)))
    return acks


def test_a_steps_outputs_are_sent_in_order_and_a_response_is_followed():
    async def story(made, road):
        await made.perform((Subscribe(("a", "b")), Publish("t", b"1", 0), Request("GET", "u"), Publish("t", b"2")))

    _, road, _ = connection(story)
    assert road.asked == [("a", "b"), ("t", b"1", 0), "u", ("told", b"answer", 1), ("t", b"2", 1)]


def test_a_message_is_acknowledged_once_it_is_understood():
    async def story(made, road):
        acks = message(road, b"signal")
        return await made.hear(None), acks

    assert connection(story)[0] == ((b"signal",), [1])


def test_a_device_without_power_neither_understands_nor_acknowledges():
    async def story(made, road):
        acks = message(road, b"signal")
        made._power.off("power-cut")
        return await made.hear(None), acks

    assert connection(story)[0] == (None, [])


def test_hearing_ends_at_its_deadline():
    async def story(made, road):
        heard = await made.hear(5.0), await made.hear(7.0)
        return heard, made.wall()

    assert connection(story)[0] == ((None, None), 1007.0)


@pytest.mark.parametrize("error", [LinkError("refused"), PeerError("bad password", code=0x86)])
def test_connecting_is_tried_again_after_growing_pauses(error):
    async def story(made, road):
        return await made.connect(0.0), made.connected

    got, _, record = connection(story, [error] * 5)
    assert got == (None, True)
    assert record == [(t, "connect", "failed", str(error)) for t in (0, 1, 3, 7, 15)] + [(23, "connect", "new", None)]


@pytest.mark.parametrize(
    ("errors", "times"),
    [
        ([LinkError("refused")] * 4, [0, 1, 3, 7, 15]),
        ([LinkError("no CONNACK", reached=True)] * 4, [0, 1, 2, 3, 4]),
        ([PeerError("busy", code=0x89)] * 4, [0, 1, 2, 3, 4]),
        ([LinkError("refused"), LinkError("refused"), PeerError("busy"), LinkError("refused")], [0, 1, 3, 4, 6]),
    ],
)
def test_a_hasty_back_off_begins_anew_with_each_tcp_connection(errors, times):
    async def story(made, road):
        await made.connect(0.0)
        await made.back_off()
        return made.wall() - 1000

    back, _, record = connection(story, errors, hasty=True)
    assert [at for at, *_ in record] == times
    assert back == times[-1] + 1  # once connected, it begins anew too


def test_a_pause_is_short_again_once_something_was_heard():
    async def story(made, road):
        times = []
        for heard in (False, False, True, False):
            if heard:
                message(road)
                await made.hear(None)
            await made.back_off()
            times.append(made.wall() - 1000)
        return times

    assert connection(story)[0] == [1, 3, 4, 6]


@pytest.mark.parametrize(
    ("way", "record"),
    [
        ("error", [(0, "failed")]),
        ("hang", [(30, "failed")]),
        ("slow", [(7, "new")]),
        ("crash", []),
        ("lie", [(0, "new")]),
    ],
)
def test_how_connecting_goes_wrong(way, record):
    async def story(made, road):
        trying = asyncio.create_task(made.connect(0.0))
        await asyncio.sleep(30.5)
        if not trying.done():
            return None
        return trying.result()

    got, road, events = connection(story, mishaps={"connect": {way: 1}}, slow_factor=7)
    assert [(t, status) for t, kind, status, _ in events if kind == "connect"][:1] == record
    assert got == {"slow": "slow", "crash": "crash", "lie": "lie"}.get(way)
    assert ("connect" in road.asked) == (way in ("slow", "lie"))


def test_the_end_of_a_connection_is_recorded_once():
    async def story(made, road):
        await made.connect(0.0)
        made.drop("lost", "why")
        made.drop("power-cut")
        await made.connect(0.0)
        await made.close("reboot")
        await made.close("reboot")

    _, road, record = connection(story)
    assert [(status, detail) for _, kind, status, detail in record if kind == "lost"] == [
        ("lost", "why"), ("reboot", None),
    ]  # fmt: skip
    assert road.asked == ["connect", "abort", "abort", "connect", "close", "abort"]
