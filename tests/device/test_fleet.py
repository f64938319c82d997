"""A shard's devices in virtual time: which they are, when they start, and what ends them."""

import asyncio

import pytest

from simulator.broker.core import Broker
from simulator.device.fleet import factory_software, run_fleet, specs, with_latency
from simulator.device.ramp import Shard
from simulator.faults.harm import Harms
from simulator.links.base import MqttOptions, Wires
from simulator.links.clock import run_virtual
from simulator.links.latency import LatentHttp, LatentMqtt
from simulator.links.memory import MemoryBroker, MemoryMqtt
from simulator.links.memory_http import MemoryHttp
from simulator.model.dice import Dice
from simulator.model.errors import LinkError
from simulator.model.events import Kind
from simulator.model.io import Response
from simulator.model.scenario import PROFILES, Profile, Scenario


def fleet(**blocks):
    return Scenario.model_validate({"world": "virtual", **blocks})


def played(scenario, seconds, *, shard=Shard(), mqtt=MemoryMqtt):
    """(time, kind, thing, columns) of what a shard's devices record within so many seconds, from second 5 on."""
    events = []

    async def main(loop):
        fabric = MemoryBroker(Broker())

        def road(thing, profile):
            return Wires(mqtt(fabric, MqttOptions("memory", 0, thing)), MemoryHttp(lambda request: Response(404)))

        def record(kind, thing="", **columns):
            events.append((round(loop.time() - 5, 6), kind, thing, columns))

        await asyncio.sleep(5)
        running = asyncio.create_task(run_fleet(scenario, shard, road, record, Harms(scenario, record), epoch=0.0))
        await asyncio.wait([running], timeout=seconds)
        running.cancel()
        await running

    try:
        run_virtual(main)
    except asyncio.CancelledError:
        return events
    raise AssertionError("the fleet ended by itself")


def starts(events):
    return {thing: t for t, kind, thing, _ in events if kind == Kind.BOOT}


def test_devices_start_when_they_are_due_and_no_sooner():
    scenario = fleet(fleet={"devices": 5, "ramp": "2/s", "first_index": 7})
    assert starts(played(scenario, 1.2)) == {"device-7": 0, "device-8": 0.5, "device-9": 1}
    events = played(scenario, 60)
    assert list(starts(events).values()) == [0, 0.5, 1, 1.5, 2]
    assert all(columns["span_us"] == 0 for _, kind, _, columns in events if kind == Kind.BOOT)


def test_each_shard_starts_its_own_devices_at_the_fleets_pace():
    scenario = fleet(fleet={"devices": 7, "ramp": "7s"})
    mine = [starts(played(scenario, 60, shard=Shard(index, 3))) for index in range(3)]
    assert mine[1] == {"device-1": 1, "device-4": 4}
    assert {thing: t for part in mine for thing, t in part.items()} == {f"device-{n}": n for n in range(7)}


def test_all_devices_retire_when_the_fleet_is_cancelled():
    events = played(fleet(fleet={"devices": 4, "ramp": "0s"}), 10)
    assert sorted(thing for _, kind, thing, _ in events if kind == Kind.RETIRED) == [f"device-{n}" for n in range(4)]
    assert {t for t, kind, _, _ in events if kind == Kind.RETIRED} == {10}


def test_a_shard_without_devices_waits_as_the_others_do():
    assert played(fleet(fleet={"devices": 1}), 10, shard=Shard(1, 2)) == []


class Broken(MemoryMqtt):
    """A link with a bug of its own, in one device's hands."""

    __slots__ = ()
    fault = ZeroDivisionError("ours")

    async def connect(self):
        if self._options.client_id == "device-2":
            raise self.fault
        return await super().connect()


def test_an_exception_of_ours_in_one_device_ends_the_whole_fleet_loudly():
    with pytest.raises(ExceptionGroup) as ended:
        played(fleet(fleet={"devices": 5, "ramp": "1/s"}), 60, mqtt=Broken)
    assert ended.group_contains(ZeroDivisionError, match="ours")


def test_a_failing_road_is_not_an_exception_of_ours():
    class Unreachable(Broken):
        __slots__ = ()
        fault = LinkError("refused")

    events = played(fleet(fleet={"devices": 3, "ramp": "0s"}), 60, mqtt=Unreachable)
    failed = [thing for _, kind, thing, columns in events if kind == Kind.CONNECT and columns["status"] == "failed"]
    assert set(failed) == {"device-2"}
    assert len(failed) > 2


def test_each_device_is_as_its_cohort():
    scenario = fleet(
        fleet={"devices": 20, "version": "1.5", "cohorts": [{"name": "a", "share": "30%", "profile": "wifi"}, {"name": "b"}]}
    )  # fmt: skip
    made = list(specs(scenario, Shard(), 7.0))
    cohorts = scenario.fleet.cohort_of(scenario.seed)
    assert [ordinal for ordinal, _ in made] == list(range(20))
    assert [spec.profile is PROFILES["wifi"] for _, spec in made] == [cohort == "a" for cohort in cohorts]
    assert {(spec.software, spec.epoch, spec.bound) for _, spec in made} == {(factory_software("1.5"), 7.0, 1 << 30)}
    assert [spec.thing for _, spec in made] == list(scenario.fleet.names())


def test_a_shards_devices_are_the_same_as_the_whole_fleets():
    scenario = fleet(fleet={"devices": 50, "cohorts": [{"name": "a", "count": 9, "profile": "wifi"}, {"name": "b"}]})
    whole = dict(specs(scenario, Shard(), 0.0))
    for index in range(4):
        mine = dict(specs(scenario, Shard(index, 4), 0.0))
        assert mine == {ordinal: spec for ordinal, spec in whole.items() if Shard(index, 4).owns(ordinal)}


def test_only_a_profile_with_latency_has_a_latent_road():
    wires = Wires(MemoryMqtt, MemoryHttp, "10.0.0.1")

    async def main(loop):
        return [with_latency(wires, profile, Dice(1, "d")) for profile in (Profile(), Profile(latency="50ms"))]

    direct, latent = run_virtual(main)
    assert direct is wires
    assert isinstance(latent.mqtt, LatentMqtt)
    assert isinstance(latent.http, LatentHttp)
    assert latent.address == "10.0.0.1"


@pytest.mark.parametrize(("latency", "least", "most"), [("50ms", 0.05, 0.05), ({"uniform": ["1s", "3s"]}, 1, 3)])
def test_a_message_takes_as_long_as_the_profile_says(latency, least, most):
    async def main(loop):
        fabric = MemoryBroker(Broker())
        here, there = (MemoryMqtt(fabric, MqttOptions("memory", 0, name)) for name in ("here", "there"))
        for link in (here, there):
            await link.connect()
        await there.subscribe(["t"])
        latent = with_latency(Wires(here, MemoryHttp), Profile(latency=latency), Dice(1, "d")).mqtt
        took = []
        for _ in range(50):
            began = loop.time()
            await latent.publish("t", b"")
            await there.receive()
            took.append(loop.time() - began)
        return took

    took = run_virtual(main)
    assert all(least - 1e-6 <= seconds <= most + 1e-6 for seconds in took)
    assert least == most or len(set(took)) == 50
