"""The nemesis begins and ends the scenario's faults, by the clock and by the share that has succeeded; it kills and revives
servers. A fault with a `step` begins on each device by itself (faults/harm.py)."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from typing import Protocol

import orjson

from simulator.faults.catalogue import rule_of
from simulator.faults.rules import OnServer
from simulator.faults.schedule import Timeline
from simulator.model.events import KILLED, Kind
from simulator.model.scenario import Fault
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


class Nemesis:
    """Begins and ends the scenario's faults; when `over` is set, what is left is healed, and no more of them begin."""

    def __init__(self, world: World, faults: Sequence[Fault], record: Record) -> None:
        self._world, self._faults, self._record = world, faults, record
        rules = [rule_of(fault, nth) for nth, fault in enumerate(faults)]
        self._servers = [rule.server if isinstance(rule, OnServer) else "" for rule in rules]
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
