"""The null backend answers real devices in all that they say, and counts their updates as they do."""

import asyncio
import time

import orjson
import pytest

from simulator.broker.null import NullBackend
from simulator.device.agent import Software
from simulator.device.device import DeviceSpec, run_device
from simulator.dialects.atlas.device import AtlasDevice
from simulator.dialects.atlas.replica import AtlasReplica
from simulator.links.base import HttpOptions, MqttOptions, Wires
from simulator.links.http import LeanHttp
from simulator.links.loop import run_live
from simulator.links.mqtt import LeanMqtt
from simulator.model.dice import Dice
from simulator.model.events import Kind
from simulator.model.io import Message
from simulator.model.scenario import Profile
from simulator.model.update import Progress, Status
from simulator.trace.reader import Trace, encoded
from simulator.trace.recorder import Recorder

CONTENTS = (b"a" * 3000, b"b" * 3001)
EPOCH = time.time() - time.monotonic()


def driven(profile, *, variant="atlas", credential=False, pooled=False, rate=100, seconds=0.5, devices=4):
    """(the null backend, the trace) of devices that were offered updates for a while."""
    batches = []
    recorder = Recorder(time.monotonic_ns, batches.append, per_us=1000)

    async def run():
        server = NullBackend(AtlasReplica(variant=variant), CONTENTS, EPOCH)
        port, http = await server.start("127.0.0.1"), LeanHttp(HttpOptions(pooled=pooled))
        tasks = []
        for thing in (f"d{i}" for i in range(devices)):
            spec = DeviceSpec(thing, profile, Software("1", "urn:1", "0" * 64), 1 << 20, EPOCH)
            dialect = AtlasDevice(thing, variant=variant, credential=credential)
            wires = Wires(LeanMqtt(MqttOptions("127.0.0.1", port, thing, thing, "secret")), http)
            tasks.append(asyncio.ensure_future(run_device(spec, dialect, wires, recorder.record, Dice(1, thing))))
        await server.offer(rate, seconds)
        async with asyncio.timeout(20):
            while server.updates < server.sent:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.stop()
        return server

    server = run_live(run)
    recorder.flush()
    return server, Trace(encoded(batches))


def ends(trace):
    reports = trace.kind(Kind.REPORT).where("status", "SUCCESS", "FAILURE")
    return reports.only(reports["size"] == 1)


QUICK = Profile(install=0, reboot=0)


@pytest.mark.parametrize(
    "how",
    [{}, {"variant": "atlas-example"}, {"credential": True}, {"pooled": True}],
    ids=["atlas", "atlas-example", "credential", "pooled"],
)
def test_each_delta_becomes_an_update_from_one_content_to_the_other(how):
    server, trace = driven(QUICK, **how)
    assert len(ends(trace)) == server.updates == server.sent == len(trace.kind(Kind.COMMIT)) > 8
    deltas = trace.kind(Kind.DELTA)
    assert len(deltas.where("status", "start")) == server.sent
    assert set(deltas.texts("status")) <= {"start", *(("running", "duplicate") if "variant" in how else ())}
    by_thing = trace.kind(Kind.COMMIT)
    versions = [v for t, v in zip(by_thing.texts("thing"), by_thing.texts("version"), strict=True) if t == "d0"]
    assert versions == ["null-1", "null-0"] * (len(versions) // 2) + ["null-1"] * (len(versions) % 2)
    assert {*trace.kind(Kind.DOWNLOAD).texts("status")} == {"200"}


def test_a_device_that_is_not_done_is_offered_nothing_more():
    server, trace = driven(Profile(install=0.4, reboot=0), rate=100, seconds=0.3)
    assert len(trace.kind(Kind.DELTA)) == server.sent == 4
    assert server.due > 20


def test_an_update_that_fails_counts_and_the_next_is_of_the_same_content():
    server, trace = driven(Profile(install=0, reboot=0, mishaps={"install": {"error": 1.0}}))
    assert set(ends(trace).texts("status")) == {"FAILURE"}
    assert len(ends(trace)) == server.updates > 4
    assert set(trace.kind(Kind.DELTA).texts("version")) == {"null-1"}


class Heard(list):
    """A connection that keeps what is sent."""

    def packet(self, said):
        return said

    def send(self, packets):
        self.extend(packets)


def by_hand(talk):
    """What the null backend has counted when `talk(answer, heard)` is over, with one delta sent in its midst."""

    async def run():
        server, heard = NullBackend(AtlasReplica(), CONTENTS, EPOCH), Heard()
        server.connected("d0", heard)
        server.answer(Message("state/d0/get", b""))
        await server.offer(100, 0.03)
        talk(server.answer, heard)
        return server.sent, server.updates

    return run_live(run)


def test_a_report_that_is_said_again_is_answered_again_and_counts_once():
    def talk(answer, heard):
        report = AtlasDevice("d0").report(Progress("null-1", "u/1", "d0.1", Status.SUCCESS, token="t"), 0.0).outputs[0]
        answers = [answer(Message(report.topic, report.payload)) for _ in range(2)]
        assert [orjson.loads(said.payload)["jobID"] for said in answers] == ["d0.1", "d0.1"]

    assert by_hand(talk) == (1, 1)


def test_a_delta_that_was_lost_is_told_to_who_asks():
    def talk(answer, heard):
        delta = orjson.loads(heard[0].payload)
        current = orjson.loads(answer(Message("state/d0/get", b"")).payload)
        assert current["state"]["delta"] == delta["state"]
        assert (current["jobID"], current["download"]) == (delta["jobID"], delta["download"])

    assert by_hand(talk) == (1, 0)


def test_devices_that_come_and_go_are_offered_updates_all_the_same():
    server, trace = driven(Profile(install=0, reboot=0, online=0.05, offline=0.05), seconds=1.5)
    assert len(trace.kind(Kind.LOST).where("status", "offline")) > 1
    assert len(ends(trace)) == server.updates == server.sent > 8
