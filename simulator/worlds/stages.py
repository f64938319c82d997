"""The stages of a run, the same in both worlds: start, ramp, roll out under faults, heal, settle, stop."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any, Protocol

import orjson

from simulator.faults.packages import rules_of
from simulator.faults.schedule import Timeline
from simulator.model.errors import PartDied
from simulator.model.events import Kind
from simulator.model.scenario import Scenario
from simulator.trace.recorder import Record

_LOOK_S = 0.5  # between two looks at the share that has succeeded


class World(Protocol):
    """Where a run takes place."""

    async def start(self) -> None:
        """Bring up broker, backend and application."""

    async def ramp(self) -> None:
        """Start the fleet; return when its last device is due."""

    async def roll_out(self) -> None:
        """Begin the rollout; return when it has ended."""

    async def harm(self, nth: int, on: bool) -> None:
        """A fault of the scenario begins or ends, on the devices or the server that it befalls."""

    def succeeded(self) -> float:
        """The share of the rollout's targets that has succeeded, as far as it is known."""

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
                if fault.from_the_start:
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
    """Faults begin and end when their time comes; at the end those that are left are healed, before liveness counts."""
    faults, loop = scenario.faults, asyncio.get_running_loop()
    there = {nth for nth, fault in enumerate(faults) if fault.from_the_start}
    servers = [rules_of(fault, nth).server for nth, fault in enumerate(faults)]

    async def turn(nth: int, on: bool) -> None:
        server = servers[nth]
        others = server and any(servers[other] == server for other in there - {nth})
        (there.add if on else there.discard)(nth)
        detail = orjson.dumps({"server": server}).decode() if server else None
        record(Kind.FAULT, status="begin" if on else "end", phase=faults[nth].fault, size=nth, detail=detail)
        if not others:  # who is down already, or kept down, is neither killed nor started
            await world.harm(nth, on)

    async def keep_time() -> None:
        began, timeline = loop.time(), Timeline(faults)
        while timeline.waits_for_share or timeline.next_s is not None:
            wait_s = math.inf if timeline.next_s is None else began + timeline.next_s - loop.time()
            await asyncio.sleep(min(wait_s, _LOOK_S) if timeline.waits_for_share else wait_s)
            for nth, on in timeline.turns(loop.time() - began, world.succeeded()):
                await turn(nth, on)

    clock = loop.create_task(keep_time(), name="nemesis")
    try:
        yield
    finally:
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        if faults:
            record(Kind.STAGE, phase="heal")
        for nth in [nth for nth, fault in enumerate(faults) if nth in there or fault.step is not None]:
            await turn(nth, False)
