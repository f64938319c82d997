"""The whole system in one process and in virtual time: same scenario and seed, same trace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import orjson

from simulator import __version__
from simulator.application.engine import Application
from simulator.application.operator import carry_out
from simulator.application.probe import Probe
from simulator.application.rollout import Rollout, WrongState
from simulator.broker.access import Access, thing_password
from simulator.broker.core import Broker
from simulator.device.fleet import Road, run_fleet
from simulator.device.ramp import Shard, length
from simulator.dialects.base import ProbeDialect
from simulator.faults.harm import Nemesis
from simulator.links.base import MqttLink, MqttOptions, Wires
from simulator.links.clock import VirtualLoop, run_virtual
from simulator.links.memory import MemoryBroker, MemoryHttp, MemoryMqtt
from simulator.model.dice import draw
from simulator.model.errors import LinkError, NotSimulated
from simulator.model.events import Kind
from simulator.model.io import Request, Response
from simulator.model.scenario import Deed, Profile, Scenario
from simulator.model.update import State
from simulator.replica import database as databases
from simulator.replica.core import Replica
from simulator.replica.database import Database
from simulator.replica.service import BackendService
from simulator.storage import store as stores
from simulator.storage.core import Storage
from simulator.storage.service import recording
from simulator.storage.store import ArtifactStore, Serve
from simulator.trace.recorder import Record, Recorder, Sink
from simulator.worlds import setup
from simulator.worlds.stages import Outcome, conduct

_STORAGE = "http://storage.test"
EPOCH = 1_700_000_000.0  # Unix time at the virtual clock's zero


@dataclass(slots=True)
class Parts:
    """The parties of a virtual run; tests replace one to plant a bug in it."""

    broker: Callable[..., Broker] = Broker
    storage: Callable[..., Storage] | None = None  # else the one that the scenario names
    database: Callable[[Callable[[], float]], Database] | None = None  # else the one that the scenario names
    replica: Callable[..., Replica] = Replica
    rollout: Callable[..., Rollout] = Rollout
    application: Callable[..., Application] = Application
    nemesis: Callable[..., Nemesis] = Nemesis
    road: Callable[[Road], Road] = field(default=lambda road: road)
    recorder: Callable[..., Recorder] = Recorder


def run(scenario: Scenario, sink: Sink, parts: Parts | None = None, *, until_s: float | None = None) -> Outcome:
    """Run a scenario to its end in virtual time, handing the trace to `sink` in batches. Raises TimeLimit where it goes
    on after `until_s`."""

    recorders: list[Recorder] = []

    async def main(loop: VirtualLoop) -> Outcome:
        made = parts or Parts()
        recorder = made.recorder(lambda: loop.now_us, sink)
        recorders.append(recorder)
        return await conduct(_World(scenario, recorder.record, made), scenario, recorder.record)

    try:
        return run_virtual(main, until_s=until_s)
    finally:
        for recorder in recorders:
            recorder.flush()


def _store(scenario: Scenario, parts: Parts) -> ArtifactStore:
    place = stores.Place(_STORAGE, setup.storage_key(scenario))
    if parts.storage is not None:
        return stores.InProcessStore(parts.storage(place.base, place.key))
    return stores.kind_of(scenario.target.storage).open(place)


def _serving(store: ArtifactStore) -> Serve:
    """How it answers downloads. Raises NotSimulated for one that leaves them to others."""
    if store.serve is None:
        raise NotSimulated("a storage whose downloads somebody else answers, in virtual time")
    return store.serve


class _World:
    def __init__(self, scenario: Scenario, record: Record, parts: Parts) -> None:
        self._scenario, self._record, self._parts = scenario, record, parts
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._nemesis = parts.nemesis(scenario, record)
        self._key = setup.run_key(scenario)
        self._services = setup.services(scenario)
        access = Access(self._key, self._services, setup.topics(scenario.target).rights())
        self._fabric = MemoryBroker(parts.broker(access.login, access.may))
        self._store = _store(scenario, parts)
        self._serve = recording(_serving(self._store), record, lambda: self._loop.time() + EPOCH)
        self._http = MemoryHttp(lambda request: self._ask(request, ""))
        commits = iter(range(1 << 62))
        delay, seed = scenario.target.commit_latency, scenario.seed
        database = parts.database or databases.in_virtual_time(databases.named(scenario.target.database)).open
        self._database = database(lambda: delay.at(draw(seed, "backend", "commit", next(commits))))
        self._replica: asyncio.Task[None] | None = None
        self._stored = True  # the storage is up
        self._rollouts: list[Rollout] = []
        self._application = parts.application(
            self._service(setup.APPLICATION),
            setup.application_dialect(scenario.target),
            record,
            seed=scenario.seed,
            epoch=EPOCH,
        )

    def _service(self, name: str) -> MqttLink:
        options = MqttOptions("memory", 0, name, name, self._services[name], clean_start=False, session_expiry_s=3600)
        return MemoryMqtt(self._fabric, options)

    async def _probe(self, dialect: ProbeDialect) -> None:
        """Once the rollout begins, beside it; it may end before all else does."""
        name, scenario = setup.APPLICATION, self._scenario
        link = MemoryMqtt(self._fabric, MqttOptions("memory", 0, f"{name}-probe", name, self._services[name]))
        await Probe(link, dialect, self._record, scenario.target, epoch=EPOCH).run(self._application.begun)
        await self._loop.create_future()

    async def start(self) -> None:
        """Replica and application, each until it is subscribed."""
        ready = asyncio.Event()
        await self._start_replica()
        self._keep(self._application.run(ready), "application")
        await ready.wait()
        if (probe := setup.probe_dialect(self._scenario)) is not None:
            self._keep(self._probe(probe), "probe")

    async def _start_replica(self) -> None:
        """A replica over what the database holds."""
        link, ready = self._service(setup.BACKEND), asyncio.Event()
        dialect, replica = setup.replica_of(self._scenario.target, self._store, self._parts.replica)
        service = BackendService(link, dialect, replica, self._database, self._record, EPOCH)
        await service.load()
        self._replica = self._keep(service.run(ready), "replica")
        self._replica.add_done_callback(lambda task: link.abort())
        await ready.wait()

    def _ask(self, request: Request, address: str) -> Response:
        if not self._stored:
            raise LinkError("connection refused")
        return self._serve(request, address)

    async def ramp(self) -> None:
        """The whole fleet, as one shard."""
        scenario = self._scenario
        road = self._parts.road(self._road)
        fleet = run_fleet(scenario, Shard(), road, self._record, self._nemesis, epoch=EPOCH)
        self._keep(fleet, "fleet")
        await asyncio.sleep(length(scenario.fleet.ramp, scenario.fleet.devices))

    def _road(self, thing: str, profile: Profile) -> Wires:
        client_id, _, _ = self._scenario.fleet.login(thing)
        options = MqttOptions("memory", 0, client_id, thing, thing_password(self._key, thing))
        mqtt = MemoryMqtt(self._fabric, setup.session_options(options, profile))
        if self._scenario.target.bind_address:  # here a thing's address is its name
            return Wires(mqtt, MemoryHttp(lambda request: self._ask(request, thing)), thing)
        return Wires(mqtt, self._http)

    async def roll_out(self) -> None:
        """What the operators do, at the same time; the first begins in this very turn."""
        first, *others = self._scenario.rollouts
        async with asyncio.TaskGroup() as operators:
            for one in others:
                operators.create_task(self._operate(one), name=f"operator of {one.rollout.name}")
            await self._operate(first)

    async def _operate(self, one: Scenario) -> None:
        if one.operator().after:
            await asyncio.sleep(one.operator().after)
        spec, content = one.rollout, setup.artifact_bytes(one)
        artifact = await self._store.put(self._scenario.rollout.name, spec.version, content)
        rollout = self._parts.rollout(spec, artifact, setup.targets(one), begin_at=self._loop.time())
        self._rollouts.append(rollout)

        async def act(deed: Deed) -> None:
            getattr(rollout, deed)()
            self._application.stir()

        await carry_out(one.operator().deeds, self._application.add(rollout).wait(), act)

    def harm(self, nth: int, on: bool) -> None:
        """On the whole fleet."""
        self._nemesis.switch(nth, on)

    async def kill(self, name: str) -> None:
        """Nothing of it is told goodbye."""
        if name == "broker":
            self._fabric.kill()
        elif name == "storage":
            self._stored = False
        elif self._replica is not None:
            self._replica.cancel()
            self._replica = None

    async def revive(self, name: str) -> None:
        """The broker with nothing; the storage with its artifacts; the replica with what the database holds."""
        if name == "broker":
            self._fabric.revive()
        elif name == "storage":
            self._stored = True
        else:
            await self._start_replica()

    async def cancel(self) -> None:
        """As an operator does."""
        for rollout in self._rollouts:
            with contextlib.suppress(WrongState):
                rollout.abort()
        self._application.stir()

    def succeeded(self) -> float:
        """As the application counts."""
        done = sum(rollout.counts_by_state()[State.SUCCEEDED] for rollout in self._rollouts)
        return done / max(1, sum(rollout.size for rollout in self._rollouts))

    async def watch(self) -> None:
        """All parts run until they are cancelled; one that ends before has failed."""
        await self._broken

    def _keep(self, part: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(part, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and not self._broken.done():
            self._broken.set_exception(task.exception() or AssertionError(f"{task.get_name()} ended"))

    async def stop(self) -> None:
        """Switch everything off."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._record(
            Kind.BROKER,
            detail=orjson.dumps(
                {"name": "embedded core, in memory", "version": __version__, **self._fabric.core.counts}
            ).decode(),
        )
