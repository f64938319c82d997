"""The whole system in one process and in virtual time: same scenario and seed, same trace.

All parties are the ones of a live run, but for what they stand on: their links are in memory, and the loop's clock moves to
the next timer as soon as nobody has anything to do (`links.clock`). What is random is drawn from the seed.
"""

from __future__ import annotations

import asyncio

from simulator.application.delegated import DelegatedRollouts
from simulator.application.probe import Probe
from simulator.device.fleet import run_fleet
from simulator.device.ramp import Shard, length
from simulator.dialects.base import ProbeDialect
from simulator.links.base import Wires
from simulator.links.clock import VirtualLoop, run_virtual
from simulator.model.scenario import Profile, Scenario
from simulator.trace.recorder import Record, Recorder, Sink
from simulator.worlds import setup
from simulator.worlds.parties import EPOCH
from simulator.worlds.parties import Parties as Parties  # whoever runs one says who takes part
from simulator.worlds.rollouts import OrderedRollouts, OwnRollouts, VirtualRollouts
from simulator.worlds.servers import Servers
from simulator.worlds.stages import Ending, conduct
from simulator.worlds.tasks import Tasks


def run(scenario: Scenario, sink: Sink, parties: Parties | None = None, *, until_s: float | None = None) -> Ending:
    """Run a scenario to its end in virtual time, handing the trace to `sink` in batches. Raises TimeLimit where it goes
    on after `until_s`."""

    recorders: list[Recorder] = []

    async def main(loop: VirtualLoop) -> Ending:
        chosen = parties or Parties()
        recorder = chosen.recorder(lambda: loop.now_us, sink)
        recorders.append(recorder)
        return await conduct(VirtualWorld(scenario, recorder.record, chosen), scenario, recorder.record)

    try:
        return run_virtual(main, until_s=until_s)
    finally:
        for recorder in recorders:
            recorder.flush()


class VirtualWorld:
    """Where a virtual run takes place; implements `nemesis.World`."""

    def __init__(self, scenario: Scenario, record: Record, parties: Parties) -> None:
        self._scenario, self._record, self._parties = scenario, record, parties
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._nemesis = parties.nemesis(scenario, record)
        self._servers = Servers(scenario, record, parties, self._tasks)
        self._http = self._servers.http()
        self._rollouts = self._made_rollouts(parties)

    def _made_rollouts(self, parties: Parties) -> VirtualRollouts:
        target, seed = self._scenario.target, self._scenario.seed
        if (own := setup.dialect_of(target).own) is not None:
            return OrderedRollouts(DelegatedRollouts(self._http, own.jobs(), self._record, seed=seed))
        link, dialect = self._servers.service(setup.APPLICATION), setup.application_dialect(target)
        engine = parties.application(link, dialect, self._record, seed=seed, epoch=EPOCH)
        return OwnRollouts(engine, parties.rollout)

    async def start(self) -> None:
        """Replica and application, each until it is subscribed."""
        ready = asyncio.Event()
        await self._servers.start_replica()
        self._tasks.keep(self._rollouts.run(ready), "application")
        await ready.wait()
        if (probe := setup.probe_dialect(self._scenario)) is not None:
            self._tasks.keep(self._probe(probe), "probe")

    async def _probe(self, dialect: ProbeDialect) -> None:
        """Once the rollout begins, beside it; it may end before all else does."""
        link = self._servers.service(setup.APPLICATION, f"{setup.APPLICATION}-probe")
        await Probe(link, dialect, self._record, self._scenario.target, epoch=EPOCH).run(self._rollouts.begun)
        await self._loop.create_future()

    async def ramp(self) -> None:
        """The whole fleet, as one shard."""
        scenario = self._scenario
        road = self._parties.road(self._road)
        fleet = run_fleet(scenario, Shard(), road, self._record, self._nemesis, epoch=EPOCH)
        self._tasks.keep(fleet, "fleet")
        await asyncio.sleep(length(scenario.fleet.ramp, scenario.fleet.devices))

    def _road(self, thing: str, profile: Profile) -> Wires:
        client_id, _, _ = self._scenario.fleet.login(thing)
        options = setup.session_options(self._servers.thing(thing, client_id), profile)
        mqtt = self._servers.mqtt(options)
        if self._scenario.target.bind_address:  # here a thing's address is its name
            return Wires(mqtt, self._servers.http(thing), thing)
        return Wires(mqtt, self._http)

    async def roll_out(self) -> None:
        """What the operators do, at the same time; the first begins in this very turn."""
        first, *others = self._scenario.rollouts
        async with asyncio.TaskGroup() as operators:
            for other in others:
                operators.create_task(self._operate(other), name=f"operator of {other.rollout.name}")
            await self._operate(first)

    async def _operate(self, alone: Scenario) -> None:
        if alone.operator().after:
            await asyncio.sleep(alone.operator().after)
        spec, content = alone.rollout, setup.artifact_bytes(alone)
        artifact = await self._servers.store.put(self._scenario.rollout.name, spec.version, content)
        await self._rollouts.operate(alone, artifact)

    def harm(self, nth: int, on: bool) -> None:
        """On the whole fleet."""
        self._nemesis.switch(nth, on)

    async def kill(self, name: str) -> None:
        """Nothing of it is told goodbye."""
        self._servers.kill(name)

    async def revive(self, name: str) -> None:
        """It begins again with what it has kept."""
        await self._servers.revive(name)

    async def cancel(self) -> None:
        """As an operator does."""
        await self._rollouts.cancel()

    def succeeded(self) -> float:
        """As the application counts."""
        return self._rollouts.succeeded()

    async def watch(self) -> None:
        """All parties run until they are cancelled; one that ends before has failed."""
        await self._tasks.watch()

    async def stop(self) -> None:
        """Switch everything off."""
        await self._tasks.stop()
        self._servers.describe()
