"""Dialects of another kind take a device through a whole update: one polls over HTTP and has no MQTT road, one has its
artifacts in chunks over MQTT."""

import asyncio
import hashlib
from types import SimpleNamespace

import orjson
import pytest

from simulator.application.engine import Application
from simulator.broker.core import Broker
from simulator.device.agent import Software
from simulator.device.device import Device, DeviceSpec
from simulator.device.habits import device_with
from simulator.dialects.atlas.device import AtlasDevice
from simulator.dialects.atlas.replica import AtlasReplica
from simulator.links.base import MqttOptions, Wires
from simulator.links.clock import run_virtual
from simulator.links.memory import MemoryBroker, MemoryMqtt
from simulator.links.memory_http import MemoryHttp
from simulator.model.dice import Dice
from simulator.model.errors import LinkError, NotSimulated
from simulator.model.events import Kind
from simulator.model.io import NOTHING, Publish, Request, Step
from simulator.model.scenario import Profile
from simulator.replica.database import MemoryDatabase
from simulator.replica.service import BackendService
from tests.standins.chunks import ChunkDevice, ChunkServer
from tests.standins.polling import PollingDevice, PollingServer

CONTENT = bytes(range(250)) * 26
SHA = hashlib.sha256(CONTENT).hexdigest()
OLD = Software("1", "urn:1", "0" * 64)
STEADY = {"install": 5, "reboot": 3, "verify": 2, "reconnect": {"base": 1, "cap": 1, "jitter": 0}}
WHOLE = ["downloading", "verifying", "installing", "rebooting", "confirming", "reporting", "idle"]


def device_of(loop, dialect, wires, events, **profile):
    def record(kind, thing="", **columns):
        nothing = dict.fromkeys(("job", "status", "phase", "version", "digest", "size", "detail", "token"))
        events.append(SimpleNamespace(t=loop.time(), kind=kind, **{**nothing, **columns}))

    return Device(DeviceSpec("d", Profile(**{**STEADY, **profile}), OLD), dialect, wires, record, Dice(1, "d"))


def of(events, kind):
    return [e for e in events if e.kind == kind]


async def switched_off(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


def poll(story, *, dialect=PollingDevice, **profile):
    """What a polling device records while `story(server, device)` goes on, and its server."""
    events, server = [], PollingServer("d", CONTENT)

    async def main(loop):
        def serve(request):
            if server.down:
                server.refused_at.append(loop.time())
                raise LinkError("connection refused")
            return server.serve(request)

        device = device_of(loop, dialect("d"), Wires(None, MemoryHttp(serve)), events, **profile)
        task = asyncio.create_task(device.live(loop.time()))
        try:
            await story(server, device)
        finally:
            await switched_off(task)

    run_virtual(main, until_s=1e6)
    return events, server


async def deployed(server, device):
    await asyncio.sleep(10)
    server.open = True
    await asyncio.sleep(100)


def whole_update(events):
    """Each step of one update is on the record, once."""
    assert [e.status for e in of(events, Kind.PHASE)] == WHOLE
    assert [(e.version, e.digest, e.size) for e in of(events, Kind.COMMIT)] == [("2", SHA, len(CONTENT))]
    assert [(e.job, e.version, e.digest) for e in of(events, Kind.CONFIRM)] == [("7", "2", SHA)]
    assert [e.status for e in of(events, Kind.BOOT)] == ["cold", "reboot"]


# ---- over HTTP alone


def test_a_polling_device_goes_through_a_whole_update_without_an_mqtt_road():
    events, server = poll(deployed)
    whole_update(events)
    assert [(e.t, e.status) for e in of(events, Kind.DELTA)] == [(30.0, "start"), (40.0, "running")]
    assert [(e.status, e.size) for e in of(events, Kind.DOWNLOAD)] == [("200", len(CONTENT))]
    assert [(e.status, e.version) for e in of(events, Kind.REPORT)] == [
        ("initial", "1"), ("initial", "2"), ("SUCCESS", "2"),
    ]  # fmt: skip
    assert [e.status for e in of(events, Kind.ANSWER)] == ["accepted"]
    assert [r["status"] for r in server.reports] == ["SUCCESS"]


def test_a_device_without_a_broker_records_no_connection():
    events, _ = poll(deployed)
    assert of(events, Kind.CONNECT) == of(events, Kind.LOST) == []


def test_it_polls_as_often_as_it_is_told_and_asks_no_more_once_it_was_answered():
    async def story(server, device):
        await asyncio.sleep(100)

    _, server = poll(story, answer_timeout=5)
    assert server.seen == ["PUT d/attributes"] + ["GET d"] * 4


def test_a_report_that_is_refused_for_now_is_sent_again_and_its_answer_found_by_its_request():
    async def story(server, device):
        server.deaf = 2
        await deployed(server, device)

    events, _server = poll(story, resend={"base": 4, "cap": 4, "jitter": 0})
    reports = [e for e in of(events, Kind.REPORT) if e.status == "SUCCESS"]
    assert [e.size for e in reports] == [1, 2, 3]
    assert [e.status for e in of(events, Kind.ANSWER)] == ["rejected", "rejected", "accepted"]
    assert {e.token for e in of(events, Kind.ANSWER)} == {reports[0].token}


def test_while_nobody_can_be_reached_it_tries_again_after_pauses_and_goes_on():
    async def story(server, device):
        server.down = True
        await asyncio.sleep(10)
        server.down = False
        await deployed(server, device)

    events, _server = poll(story)
    whole_update(events)
    assert [e.t for e in of(events, Kind.REPORT) if e.version == "1"] == [10.0]


def test_its_pauses_grow_while_nobody_is_reached_and_are_short_again_after_an_answer():
    async def story(server, device):
        server.down = True
        await asyncio.sleep(20)
        server.down = False
        await asyncio.sleep(10)
        server.down = True
        await asyncio.sleep(30)

    _, server = poll(story, reconnect={"base": 1, "cap": 8, "jitter": 0})
    assert server.refused_at == [0, 1, 3, 7, 15, 53, 54, 56]


def test_a_refused_download_asks_by_request_and_goes_on_with_the_answer_at_once():
    async def story(server, device):
        server.refuses = 1
        await deployed(server, device)

    events, _ = poll(story, download_retry={"base": 2, "cap": 2, "jitter": 0})
    whole_update(events)
    assert [(e.t, e.status) for e in of(events, Kind.DOWNLOAD)] == [(30, "403"), (32, "200")]


def test_a_power_cut_while_it_installs_loses_nothing():
    async def story(server, device):
        await asyncio.sleep(10)
        server.open = True
        await asyncio.sleep(23)  # it installs
        device.power.off("power-cut")
        await asyncio.sleep(100)

    events, server = poll(story)
    assert [e.status for e in of(events, Kind.BOOT)] == ["cold", "power-cut", "reboot"]
    assert [(e.version, e.digest) for e in of(events, Kind.CONFIRM)] == [("2", SHA)]
    assert [r["status"] for r in server.reports] == ["SUCCESS"]


# ---- in chunks over MQTT


def chunked(story, *, made=ChunkServer, profile=None, **server):
    """What a device records that has its artifacts in chunks, and its server."""
    events, server = [], made("d", CONTENT, **server)

    async def main(loop):
        fabric = MemoryBroker(Broker())
        there = MemoryMqtt(fabric, MqttOptions("m", 0, "server"))
        serving = asyncio.create_task(server.serve(there, asyncio.sleep))
        await asyncio.sleep(0)
        wires = Wires(MemoryMqtt(fabric, MqttOptions("m", 0, "d")), MemoryHttp(no_storage))
        device = device_of(loop, ChunkDevice("d"), wires, events, **(profile or {}))
        task = asyncio.create_task(device.live(loop.time()))
        try:
            await asyncio.sleep(1)
            await story(server, there, device)
        finally:
            await switched_off(task, serving)

    run_virtual(main, until_s=1e6)
    return events, server


def no_storage(request):
    raise AssertionError("nothing is downloaded over HTTP")


async def desired(server, link, device):
    await server.desire(link)
    await asyncio.sleep(200)


@pytest.mark.parametrize("more", [{}, {"size": False}, {"chunk": 650}, {"chunk": 650, "size": False}])
def test_a_device_goes_through_a_whole_update_in_chunks(more):
    events, server = chunked(desired, **more)
    whole_update(events)
    assert [(e.status, e.size) for e in of(events, Kind.DOWNLOAD)] == [("200", len(CONTENT))]
    step = more.get("chunk", 1000)
    at_its_end = [len(CONTENT)] if more == {"chunk": 650, "size": False} else []  # which an empty chunk tells
    assert server.wanted == [*range(0, len(CONTENT), step), *at_its_end]
    assert [r["status"] for r in server.reports] == ["SUCCESS"]


def test_what_was_not_said_is_not_recorded():
    events, _server = chunked(desired)
    assert [(e.status, e.token) for e in of(events, Kind.REPORT)] == [("SUCCESS", None)]
    assert of(events, Kind.ANSWER) == []
    assert [e.status for e in of(events, Kind.CONNECT)] == ["new", "new"]
    assert [e.status for e in of(events, Kind.LOST)] == ["reboot"]


@pytest.mark.parametrize("size", [True, False])
def test_a_chunk_that_does_not_come_is_asked_for_again_from_there(size):
    events, server = chunked(desired, lost={4}, size=size, profile={"answer_timeout": 10})
    whole_update(events)
    assert server.wanted == [0, 1000, 2000, 3000, 3000, 4000, 5000, 6000]
    pieces = [(e.status, e.size, orjson.loads(e.detail)) for e in of(events, Kind.DOWNLOAD)]
    assert [(status, size) for status, size, _ in pieces] == [("200", 3000), ("206", 3500)]
    assert pieces[0][2]["error"] == "no chunk at 3000"


def test_after_a_power_cut_the_chunks_go_on_where_they_were():
    async def story(server, link, device):
        await server.desire(link)
        await asyncio.sleep(3.5)
        device.power.off("power-cut")
        await asyncio.sleep(200)

    events, server = chunked(story, takes=1.0)
    assert [e.status for e in of(events, Kind.BOOT)] == ["cold", "power-cut", "reboot"]
    assert server.wanted == [0, 1000, 2000, 3000, 3000, 4000, 5000, 6000]
    assert [(e.version, e.digest) for e in of(events, Kind.COMMIT)] == [("2", SHA)]


def test_more_than_was_announced_is_never_taken():
    class Swelling(ChunkServer):
        def order(self, source):
            return {**super().order(source), "size": 1500} if self.open else {}

    events, server = chunked(desired, made=Swelling, profile={"download_retry": {"attempts": 2, "base": 1}})
    assert [(e.size, orjson.loads(e.detail)["error"]) for e in of(events, Kind.DOWNLOAD)] == [
        (1000, "more than 1500 bytes"), (0, "more than 1500 bytes"),
    ]  # fmt: skip
    assert [(r["status"], r["reason"]) for r in server.reports] == [("FAILURE", "more than 1500 bytes")]


# ---- what there is no link for


@pytest.mark.parametrize(
    ("dialect", "refusal"), [(ChunkDevice("d"), "d without an MQTT link"), (AtlasDevice("d"), "d without an MQTT link")]
)
def test_a_dialect_over_mqtt_refuses_a_device_without_that_link(dialect, refusal):
    async def main(loop):
        device_of(loop, dialect, Wires(None, MemoryHttp(no_storage)), [])

    with pytest.raises(NotSimulated, match=refusal):
        run_virtual(main)


def test_a_habit_of_mqtt_connections_is_refused_where_there_is_none():
    async def main(loop):
        spec, wires = DeviceSpec("d", Profile(), OLD), Wires(None, MemoryHttp(no_storage))
        device_with({"single-gate"})(spec, PollingDevice("d"), wires, lambda *a, **k: None, Dice(1, "d"))

    with pytest.raises(NotSimulated, match="SingleGate of d"):
        run_virtual(main)


class Shouts(PollingDevice):
    """Polls, and wants to publish."""

    def open(self, initial, now):
        return Step((Publish("t", b""),))


def test_a_device_does_not_pass_over_what_it_has_no_link_for():
    async def story(server, device):
        await asyncio.sleep(1)

    with pytest.raises(NotSimulated, match="Publish"):
        poll(story, dialect=Shouts)


class Asks:
    """An application's or a replica's side that wants to send a request over HTTP."""

    def open(self, now=0.0):
        return Step((Request("GET", "http://s/"),))

    def receive(self, inbound, now):
        return NOTHING

    parse = AtlasReplica.parse


@pytest.mark.parametrize("party", ["application", "replica"])
def test_no_service_passes_over_what_it_has_no_link_for(party):
    async def main(loop):
        link, ready = MemoryMqtt(MemoryBroker(Broker()), MqttOptions("m", 0, party)), asyncio.Event()
        if party == "application":
            service = Application(link, Asks(), lambda *a, **k: None, seed=1)
        else:
            replica = SimpleNamespace(rows={}, loaded=list)
            service = BackendService(link, Asks(), replica, MemoryDatabase(lambda: 0.0), lambda *a, **k: None, 0.0)
        await asyncio.wait_for(service.run(ready), 10)

    with pytest.raises(NotSimulated, match="Request"):
        run_virtual(main)
