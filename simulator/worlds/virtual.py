"""The whole system in one process and in virtual time: same scenario and seed, same trace."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from simulator.application.drivers import Application
from simulator.application.rollout import Rollout
from simulator.backend.database import MemoryDatabase
from simulator.backend.replica import Limits, Replica
from simulator.backend.service import BackendService, Leaves, recording
from simulator.backend.storage import Storage
from simulator.broker.access import Access, thing_password
from simulator.broker.core import Broker
from simulator.dialects.atlas import AtlasApplication, AtlasReplica, Topics
from simulator.fleet.fleet import Road, run_fleet
from simulator.fleet.pacer import length
from simulator.fleet.shard import Shard
from simulator.links.base import HttpLink, MqttLink, MqttOptions, Wires
from simulator.links.clock import VirtualLoop, run_virtual
from simulator.links.memory import MemoryBroker, MemoryHttp, MemoryMqtt
from simulator.model.dice import draw
from simulator.model.events import Kind
from simulator.model.scenario import Profile, Scenario
from simulator.model.update import Artifact
from simulator.trace.recorder import Recorder, Sink

EPOCH = 1_700_000_000.0  # Unix time at the virtual clock's zero
_SERVICES = {"backend": "backend", "application": "application"}


@dataclass(slots=True)
class Parts:
    """The parties of a virtual run; tests replace one to plant a bug in it."""

    broker: Callable[..., Broker] = Broker
    storage: Callable[..., Storage] = Storage
    replica: Callable[..., Replica] = Replica
    rollout: Callable[..., Rollout] = Rollout
    application: Callable[..., Application] = Application
    road: Callable[[Road], Road] = field(default=lambda road: road)


class Outcome(dict[str, Any]):
    """How a run ended: `complete`, or `reason` why not; `virtual_s` of fleet time."""


def run(scenario: Scenario, sink: Sink, parts: Parts | None = None) -> Outcome:
    """Run a scenario to its end in virtual time, handing the trace to `sink` in batches."""

    recorders: list[Recorder] = []

    async def main(loop: VirtualLoop) -> Outcome:
        recorders.append(Recorder(lambda: loop.now_us, sink))
        return await _World(scenario, recorders[0], parts or Parts()).run()

    try:
        return run_virtual(main)
    finally:
        for recorder in recorders:
            recorder.flush()


def artifact_bytes(scenario: Scenario) -> bytes:
    """The new software's bytes: the same for the same seed, version and size."""
    spec = scenario.rollout
    if spec.file is not None:
        return Path(spec.file).read_bytes()
    return random.Random(f"{scenario.seed} {spec.version}").randbytes(spec.size)


class _World:
    def __init__(self, scenario: Scenario, record: Recorder, parts: Parts) -> None:
        self._scenario, self._record, self._parts = scenario, record, parts
        self._loop = asyncio.get_running_loop()
        target, seed = scenario.target, scenario.seed
        self._run_key = hashlib.sha256(f"run key {seed}".encode()).hexdigest()
        topics = Topics(**target.topics)
        root = topics.update.partition("/")[0]
        access = Access(self._run_key, _SERVICES, root)
        self._fabric = MemoryBroker(parts.broker(access.login, access.may))
        self._storage = parts.storage("http://storage.test", hashlib.sha256(f"storage {seed}".encode()).digest())
        leaves = Leaves(self._storage, ttl_s=target.url_ttl, credential=target.access == "credential")
        replica_dialect = AtlasReplica(topics=topics, variant=target.dialect)
        replica = parts.replica(
            replica_dialect,
            mint=leaves.mint,
            grant=leaves.grant,
            limits=Limits(target.document_max, target.depth_max),
        )
        commits = iter(range(1 << 62))
        database = MemoryDatabase(lambda: target.commit_latency.at(draw(seed, "backend", "commit", next(commits))))
        self._backend = BackendService(self._service("backend"), replica_dialect, replica, database, record, EPOCH)
        self._application = parts.application(
            self._service("application"),
            AtlasApplication(topics=topics, variant=target.dialect),
            record,
            seed=seed,
            epoch=EPOCH,
        )
        self._http = MemoryHttp(recording(self._storage, record, lambda: self._loop.time() + EPOCH))

    def _service(self, name: str) -> MqttLink:
        return MemoryMqtt(
            self._fabric,
            MqttOptions("memory", 0, name, name, _SERVICES[name], clean_start=False, session_expiry_s=3600),
        )

    def _road(self, thing: str, profile: Profile) -> Wires:
        options = MqttOptions(
            "memory",
            0,
            thing,
            thing,
            thing_password(self._run_key, thing),
            keep_alive_s=int(profile.keep_alive),
            clean_start=profile.clean_start,
            session_expiry_s=int(profile.session_expiry),
        )
        http: HttpLink = self._http
        return Wires(MemoryMqtt(self._fabric, options), http)

    async def run(self) -> Outcome:
        """start -> ramp -> roll out -> settle"""
        scenario, record = self._scenario, self._record
        begin = {"seed": scenario.seed, "devices": scenario.fleet.devices, "world": "virtual"}
        record(Kind.RUN, status="begin", detail=orjson.dumps(begin).decode())
        outcome = Outcome(complete=False, reason="")
        ready = [asyncio.Event(), asyncio.Event()]
        services = [
            self._loop.create_task(self._backend.run(ready[0]), name="backend"),
            self._loop.create_task(self._application.run(ready[1]), name="application"),
        ]
        for event in ready:
            await event.wait()
        record(Kind.STAGE, phase="ramp")
        fleet = self._loop.create_task(
            run_fleet(scenario, Shard(), self._parts.road(self._road), record, epoch=EPOCH), name="fleet"
        )
        ended = asyncio.Event()
        try:
            async with asyncio.timeout(scenario.run_time):
                await asyncio.sleep(length(scenario.fleet.ramp, scenario.fleet.devices) + scenario.rollout.start_after)
                record(Kind.STAGE, phase="rollout")
                ended = self._application.add(self._make_rollout())
                await _first(ended, [*services, fleet])
            outcome["complete"] = True
            record(Kind.STAGE, phase="settle")
            await asyncio.sleep(scenario.settle)
        except TimeoutError:
            outcome["reason"] = f"not finished within run_time {scenario.run_time:g} s"
        for task in (fleet, *services):
            task.cancel()
        await asyncio.gather(fleet, *services, return_exceptions=True)
        for task in (fleet, *services):
            if not task.cancelled() and task.exception() is not None:
                raise task.exception() or AssertionError
        outcome["virtual_s"] = self._loop.time()
        record(Kind.BROKER, detail=orjson.dumps({"name": "memory", **self._fabric.core.counts}).decode())
        record(Kind.RUN, status="end", detail=orjson.dumps(outcome).decode())
        return outcome

    def _make_rollout(self) -> Rollout:
        scenario = self._scenario
        spec = scenario.rollout
        artifact: Artifact = self._storage.put(spec.name, spec.version, artifact_bytes(scenario))
        cohorts = scenario.fleet.cohort_of(scenario.seed)
        targets = [(scenario.fleet.name(o), cohorts[o]) for o in scenario.targets()]
        return self._parts.rollout(spec, artifact, targets, begin_at=self._loop.time())


async def _first(event: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the event; a task that ends before it has failed, and its exception is raised."""
    waiter = asyncio.get_running_loop().create_task(event.wait())
    try:
        await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        waiter.cancel()
