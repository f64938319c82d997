"""The stages of a run, the same in both worlds: start, ramp, roll out under faults, heal, settle, stop.

    start     broker, storage, replica and application are brought up
    ramp      the devices connect, one after the other; faults that are there from the start have begun
    rollout   the rollouts run, while the nemesis begins and ends the other faults by the clock and by the share that has
              succeeded; it is over when each rollout has ended, or is paused with nobody to resume it
    heal      all faults that are still there are ended: only after that can be asked whether the whole fleet converges
    settle    the fleet is left alone for as long as the scenario says; checks of liveness count from here
    stop      everything is brought down, and the record is whole

`run_time` bounds ramp, rollout and heal together. A run ends early when it is exceeded, when somebody interrupts it, or
when a part dies; it is then incomplete, and what was not seen to happen is UNKNOWN and no failure. A world is whatever can
do the single acts (`nemesis.World`): the virtual one does them in this process, the live one in others.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from simulator.model.errors import PartDied
from simulator.model.events import Kind
from simulator.model.scenario import Scenario
from simulator.trace.recorder import Record
from simulator.worlds.nemesis import Nemesis, World


class Stop(asyncio.Event):
    """Set when a run shall end early."""

    reason = "interrupted"


class Ending(dict[str, Any]):
    """How a run ended: `complete`, or `reason` why not; `died` names a process or party that ended unasked."""


async def conduct(world: World, scenario: Scenario, record: Record, stop: Stop | None = None) -> Ending:
    """Take a world through its stages; `stop` ends them early. What goes wrong before the ramp is raised."""
    loop = asyncio.get_running_loop()
    ending = Ending(complete=False, reason="")
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
            ending["reason"] = stages.result()
            ending["complete"] = not ending["reason"]
        elif stop is not None and stop.is_set():
            ending["reason"] = stop.reason
        else:
            racers[-1].result()
    except PartDied as error:
        ending["reason"] = ending["died"] = str(error)
    finally:
        for racer in racers:
            racer.cancel()
        await asyncio.gather(*racers, return_exceptions=True)
        await world.stop()
    record(Kind.RUN, status="end", detail=orjson.dumps(ending).decode())
    return ending


async def _stages(world: World, scenario: Scenario, record: Record) -> str:
    """Why the run is incomplete; empty when it is complete."""
    await world.start()
    nemesis = Nemesis(world, scenario.faults, record)
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


async def _rolled_out(world: World, nemesis: Nemesis, heal_s: float | None) -> None:
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
