"""A shard of the fleet: makes its devices from the scenario, each with its links, its faults and its dialect, and starts
each when it is due."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from simulator.device.agent import Software
from simulator.device.device import DeviceSpec, run_device
from simulator.device.habits import device_with
from simulator.device.profile import Draws
from simulator.device.ramp import Shard, due
from simulator.dialects.meanings import Meaning
from simulator.dialects.registry import dialect_of
from simulator.faults.harm import Harm, Harms
from simulator.faults.wires import FaultyHttp, FaultyMqtt
from simulator.links.base import MqttLink, Wires
from simulator.links.latency import LatentHttp, LatentMqtt
from simulator.model.dice import Dice
from simulator.model.scenario import Profile, Scenario
from simulator.model.update import Artifact
from simulator.trace.recorder import Record

Road = Callable[[str, Profile], Wires]
"""Makes a thing's two links."""


def factory_software(version: str) -> Software:
    """What devices run at the start."""
    return Software(
        version, f"urn:fleetsim:factory:{version}", hashlib.sha256(f"factory {version}".encode()).hexdigest()
    )


def specs(scenario: Scenario, shard: Shard, epoch: float) -> Iterable[tuple[int, DeviceSpec]]:
    """(ordinal, spec) of this shard's devices, by ordinal."""
    fleet = scenario.fleet
    cohorts = fleet.cohort_of(scenario.seed)
    profiles = {c: scenario.profile(fleet.profile_of(c)) for c in fleet.cohort_counts()}
    software = factory_software(fleet.version)
    for ordinal in filter(shard.owns, fleet.present):
        profile = profiles[cohorts[ordinal]]
        yield ordinal, DeviceSpec(fleet.name(ordinal), profile, software, scenario.target.artifact_bound, epoch)


def with_latency(wires: Wires, profile: Profile, dice: Dice) -> Wires:
    """The wires, with the profile's latency if it has one."""
    latency = profile.latency
    if latency.fixed == 0:
        return wires
    delay = partial(Draws(profile, dice).value, "latency", latency)
    mqtt = wires.mqtt and LatentMqtt(wires.mqtt, delay)
    return wires._replace(mqtt=mqtt, http=LatentHttp(wires.http, delay))


def harmed(
    spec: DeviceSpec, harm: Harm, road: Road, bare: Wires, dice: Dice, meaning: Callable[[str, bytes], Meaning]
) -> Wires:
    """The device's wires, as the faults that befall it make them of the bare ones. `road` makes another connection of
    the same id, `meaning` is the dialect's."""
    profile = spec.profile
    wires = with_latency(bare, profile, dice)
    mqtt = wires.mqtt
    if mqtt is not None:

        def rival() -> MqttLink:
            link = road(spec.thing, profile).mqtt
            assert link is not None
            return link

        def onto_road(link: MqttLink) -> MqttLink:
            return with_latency(bare._replace(mqtt=link), profile, dice).mqtt or link

        patience_s = 1.5 * profile.keep_alive  # MQTT 5 3.1.2-22
        mqtt = FaultyMqtt(mqtt, harm, meaning, rival, patience_s, onto_road)
    return wires._replace(mqtt=mqtt, http=FaultyHttp(wires.http, harm))


async def run_fleet(
    scenario: Scenario, shard: Shard, road: Road, record: Record, harms: Harms, *, epoch: float
) -> None:
    """Run this shard's devices until cancelled; an exception of a device ends the run, for it is ours."""
    loop, target = asyncio.get_running_loop(), scenario.target
    began = loop.time()
    spoken = dialect_of(target.dialect)
    topics = spoken.topics(**target.topics)
    known = None
    if target.artifact_url is not None and target.artifact_sha256 is not None:
        known = Artifact(scenario.rollout.version, target.artifact_url, sha256=target.artifact_sha256)
    async with asyncio.TaskGroup() as devices:
        for ordinal, spec in specs(scenario, shard, epoch):
            at = began + due(scenario.fleet.ramp, scenario.fleet.devices, ordinal)
            if at > loop.time():
                await asyncio.sleep(at - loop.time())
            at = min(at, loop.time())  # a live loop's timer may ring half a millisecond early
            dice = Dice(scenario.seed, spec.thing)
            if (harm := harms.harm(ordinal, spec.thing)) is not None:
                profile, skewed = harm.profile(spec.profile), spec.epoch + harm.skew_s
                spec = replace(spec, profile=profile, epoch=skewed, harm=harm)
            bare = road(spec.thing, spec.profile)
            dialect = spoken.device(
                spec.thing,
                topics=topics,
                credential=target.access == "credential",
                address=bare.address if target.bind_address else "",
                known=known,
            )
            if harm is None:
                wires = with_latency(bare, spec.profile, dice)
            else:
                wires = harmed(spec, harm, road, bare, dice, dialect.meaning)
            made = device_with(harm.habits if harm is not None else ())
            devices.create_task(run_device(spec, dialect, wires, record, dice, at, made), name=spec.thing)
        await loop.create_future()
