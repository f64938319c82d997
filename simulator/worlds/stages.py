"""The stages of a run, the same in both worlds: start, ramp, roll out under faults, heal, settle, stop."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from simulator.faults.packages import rules_of
from simulator.faults.schedule import Timeline
from simulator.model.errors import PartDied
from simulator.model.events import KILLED, Kind
from simulator.model.scenario import Fault, Scenario
from simulator.trace.recorder import Record

_LOOK_S = 0.5  # between two looks at the share that has succeeded


class World(Protocol):
    """Where a run takes place."""

    async def start(self) -> None:
        """Bring up broker, storage, replica and application."""

    async def ramp(self) -> None:
        """Start the fleet; return when its last device is due."""

    async def roll_out(self) -> None:
        """Begin the rollout; return when it has ended."""

    def harm(self, nth: int, on: bool) -> None:
        """A fault of the scenario begins or ends, on the devices that it befalls."""

    async def kill(self, name: str) -> None:
        """The broker, the storage or the replica dies, with what it has not kept."""

    async def revive(self, name: str) -> None:
        """It is started again; return when it is ready. The broker is there before the replica."""

    async def cancel(self) -> None:
        """An operator aborts the rollout."""

    def succeeded(self) -> float:
        """The share of the rollout's targets that has succeeded, as far as it is known."""

    async def watch(self) -> None:
        """Return never; raise PartDied, or a part's own exception, when one ends unasked."""

    async def stop(self) -> None:
        """Bring everything down and gather the record."""


class Stop(asyncio.Event):
    """Set when a run shall end early."""

    reason = "interrupted"


class Outcome(dict[str, Any]):
    """How a run ended: `complete`, or `reason` why not; `died` names a part of ours that ended unasked."""


async def conduct(world: World, scenario: Scenario, record: Record, stop: Stop | None = None) -> Outcome:
    """Take a world through its stages; `stop` ends them early. What goes wrong before the ramp is raised."""
    loop = asyncio.get_running_loop()
    outcome = Outcome(complete=False, reason="")
    begin = {"seed": scenario.seed, "devices": len(scenario.fleet.present), "world": scenario.world}
    record(Kind.RUN, status="begin", detail=orjson.dumps(begin).decode())
    stages = loop.create_task(_stages(world, scenario, record), name="stages")
    racers: list[asyncio.Task[Any]] = [stages]
    if stop is not None:
        racers.append(loop.create_task(stop.wait(), name="interrupt"))
    try:
        racers.append(loop.create_task(world.watch(), name="watch"))
        await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        if stages.done():
            outcome["reason"] = stages.result()
            outcome["complete"] = not outcome["reason"]
        elif stop is not None and stop.is_set():
            outcome["reason"] = stop.reason
        else:
            racers[-1].result()
    except PartDied as error:
        outcome["reason"] = outcome["died"] = str(error)
    finally:
        for racer in racers:
            racer.cancel()
        await asyncio.gather(*racers, return_exceptions=True)
        await world.stop()
    record(Kind.RUN, status="end", detail=orjson.dumps(outcome).decode())
    return outcome


async def _stages(world: World, scenario: Scenario, record: Record) -> str:
    """Why the run is incomplete; empty when it is complete."""
    await world.start()
    nemesis = _Nemesis(world, scenario.faults, record)
    try:
        async with asyncio.timeout(scenario.run_time):
            record(Kind.STAGE, phase="ramp")
            nemesis.note_those_from_the_start()
            await world.ramp()
            await asyncio.sleep(scenario.rollout.start_after)
            record(Kind.STAGE, phase="rollout")
            await _rolled_out(world, nemesis, scenario.heal)
    except TimeoutError:
        return f"not finished within run_time {scenario.run_time:g} s{nemesis.advice()}"
    record(Kind.STAGE, phase="settle")
    await asyncio.sleep(scenario.settle)
    return ""


async def _rolled_out(world: World, nemesis: _Nemesis, heal_s: float | None) -> None:
    """The rollout, while faults come and go, until they are healed; what goes wrong with these is raised at once."""
    loop = asyncio.get_running_loop()
    clock = loop.create_task(nemesis.keep_time(), name="nemesis")
    rollout = loop.create_task(world.roll_out(), name="rollout")
    bell = None if heal_s is None else loop.call_later(heal_s, nemesis.over.set)
    try:
        await asyncio.wait([clock, rollout], return_when=asyncio.FIRST_COMPLETED)
        if clock.done():
            clock.result()
        await rollout
        nemesis.over.set()
        await clock
    finally:
        if bell is not None:
            bell.cancel()
        clock.cancel()
        rollout.cancel()
        await asyncio.gather(clock, rollout, return_exceptions=True)


class _Nemesis:
    """Begins and ends the scenario's faults; when `over` is set, what is left is healed, and no more of them begin."""

    def __init__(self, world: World, faults: Sequence[Fault], record: Record) -> None:
        self._world, self._faults, self._record = world, faults, record
        self._servers = [rules_of(fault, nth).server for nth, fault in enumerate(faults)]
        self._there = {nth for nth, fault in enumerate(faults) if fault.from_the_start}
        self._down: set[str] = set()
        self.over = asyncio.Event()

    def note_those_from_the_start(self) -> None:
        """They began before anything else."""
        for nth in sorted(self._there):
            self._note(nth, "begin")

    async def keep_time(self) -> None:
        """Let faults come and go until all is over, then heal."""
        await self._come_and_go()
        await self.over.wait()
        await self._heal()

    async def _come_and_go(self) -> None:
        """Until the last fault has had its turn, or all is over."""
        loop = asyncio.get_running_loop()
        began, timeline = loop.time(), Timeline(self._faults)
        while timeline.waits_for_share or timeline.next_s is not None:
            wait_s = math.inf if timeline.next_s is None else max(0.0, began + timeline.next_s - loop.time())
            if await self._is_over(min(wait_s, _LOOK_S) if timeline.waits_for_share else wait_s):
                return
            for nth, on in timeline.turns(loop.time() - began, self._world.succeeded()):
                await self._turn(nth, on)

    async def _is_over(self, wait_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.over.wait()
        return self.over.is_set()

    def advice(self) -> str:
        """What a run that did not finish may have lacked: an end of the faults that were there."""
        left = sorted({self._faults[nth].fault for nth in self._there})
        return f": {', '.join(left)} had not ended; give it `for`, or the scenario `heal`" if left else ""

    async def _heal(self) -> None:
        """End what is left, before liveness counts."""
        if self._faults:
            self._record(Kind.STAGE, phase="heal")
        for nth, fault in enumerate(self._faults):
            if nth in self._there or fault.step is not None:
                await self._turn(nth, False)

    async def _turn(self, nth: int, on: bool) -> None:
        """A fault that begins is noted before, one that ends afterwards: a server takes its time to be there again."""
        (self._there.add if on else self._there.discard)(nth)
        if on:
            self._note(nth, "begin")
        await self._act(nth, on)
        if not on:
            self._note(nth, "end")

    async def _act(self, nth: int, on: bool) -> None:
        server = self._servers[nth]
        if not server:
            self._world.harm(nth, on)
        elif server == "rollout":
            if on:
                await self._world.cancel()
        else:
            await self._attend()

    async def _attend(self) -> None:
        """Kill the servers that a fault wants down, start again those that none does; a replica waits for its broker."""
        wanted = {name for nth in self._there for name in KILLED.get(self._servers[nth], ())}
        for name, needs in (("broker", "broker"), ("storage", "storage"), ("replica", "broker")):
            if name in wanted and name not in self._down:
                self._down.add(name)
                await self._world.kill(name)
            elif name in self._down and not wanted & {name, needs}:
                await self._world.revive(name)
                self._down.discard(name)

    def _note(self, nth: int, status: str) -> None:
        server = self._servers[nth]
        detail = orjson.dumps({"server": server}).decode() if server else None
        self._record(Kind.FAULT, status=status, phase=self._faults[nth].fault, size=nth, detail=detail)
