"""The stages of a run, the same in both worlds: start, ramp, roll out under faults, heal, settle, stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

import orjson

from simulator.faults.schedule import from_the_start, timeline
from simulator.model.errors import PartDied
from simulator.model.events import Kind
from simulator.model.scenario import Scenario
from simulator.trace.recorder import Record


class World(Protocol):
    """Where a run takes place."""

    async def start(self) -> None:
        """Bring up broker, backend and application."""

    async def ramp(self) -> None:
        """Start the fleet; return when its last device is due."""

    async def roll_out(self) -> None:
        """Begin the rollout; return when it has ended."""

    def harm(self, nth: int, on: bool) -> None:
        """A fault of the scenario begins or ends, on the devices that it befalls."""

    async def watch(self) -> None:
        """Return never; raise PartDied, or a part's own exception, when one ends unasked."""

    async def stop(self) -> None:
        """Bring everything down and gather the record."""


class Outcome(dict[str, Any]):
    """How a run ended: `complete`, or `reason` why not; `died` names a part of ours that ended unasked."""


async def conduct(world: World, scenario: Scenario, record: Record, stop: asyncio.Event | None = None) -> Outcome:
    """Take a world through its stages; `stop` ends them early. What goes wrong before the ramp is raised."""
    loop = asyncio.get_running_loop()
    outcome = Outcome(complete=False, reason="")
    begin = {"seed": scenario.seed, "devices": scenario.fleet.devices, "world": scenario.world}
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
            outcome["reason"] = "interrupted"
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
    try:
        async with asyncio.timeout(scenario.run_time):
            record(Kind.STAGE, phase="ramp")
            for nth, fault in enumerate(scenario.faults):
                if from_the_start(fault):
                    record(Kind.FAULT, status="begin", phase=fault.fault, size=nth)
            await world.ramp()
            await asyncio.sleep(scenario.rollout.start_after)
            record(Kind.STAGE, phase="rollout")
            async with _nemesis(world, scenario, record):
                await world.roll_out()
    except TimeoutError:
        return f"not finished within run_time {scenario.run_time:g} s"
    record(Kind.STAGE, phase="settle")
    await asyncio.sleep(scenario.settle)
    return ""


@contextlib.asynccontextmanager
async def _nemesis(world: World, scenario: Scenario, record: Record) -> AsyncIterator[None]:
    """Faults begin and end by their times; at the end those that are left are healed, before liveness counts."""
    faults, loop = scenario.faults, asyncio.get_running_loop()
    there = {nth for nth, fault in enumerate(faults) if from_the_start(fault)}

    def turn(nth: int, on: bool) -> None:
        (there.add if on else there.discard)(nth)
        record(Kind.FAULT, status="begin" if on else "end", phase=faults[nth].fault, size=nth)
        world.harm(nth, on)

    async def by_the_clock() -> None:
        began = loop.time()
        for at_s, nth, on in timeline(faults):
            await asyncio.sleep(began + at_s - loop.time())
            turn(nth, on)

    clock = loop.create_task(by_the_clock(), name="nemesis")
    try:
        yield
    finally:
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        if faults:
            record(Kind.STAGE, phase="heal")
        for nth in [nth for nth, fault in enumerate(faults) if nth in there or fault.step is not None]:
            turn(nth, False)
