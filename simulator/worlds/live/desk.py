"""The desk: where a live run is watched and operated from. It is all that `fleetsim run` and Locust do differently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from simulator.application.operator import carry_out
from simulator.application.port import ArtifactFacts, RolloutRequest, TargetFacts
from simulator.application.remote import RemoteRollouts
from simulator.model.scenario import Deed, Scenario
from simulator.worlds import setup
from simulator.worlds.live.processes import Child
from simulator.worlds.live.protocol import Event, ProcessHealth, ProgressCounts
from simulator.worlds.live.servers import Stack
from simulator.worlds.progress import Line, Now
from simulator.worlds.stages import Stop


def take_note(now: Now, name: str, event: Event) -> None:
    """Keep what a part has told of its counts and its health."""
    if isinstance(event, ProgressCounts):
        now.totals.update(event.counts)
    elif isinstance(event, ProcessHealth):
        now.health[name] = event.facts()


class Desk(Protocol):
    """Watches a run, starts its shards, operates its rollouts."""

    steps: bool
    """Whether the parts count what each step took."""

    async def attend(self, stop: Stop, began: float) -> None:
        """While the run goes on, which began at this Unix time; sets `stop` when it shall end early."""

    def begin(self, scenario: Scenario, path: Path) -> None:
        """The run begins, and leaves its record there."""

    def shards(self, stack: Stack) -> list[Child]:
        """The shards of the fleet, not started yet."""

    def server(self, name: str, stack: Stack) -> Child:
        """A server of this name, not started yet."""

    def receive(self, name: str, event: Event) -> None:
        """The part of this name has told this event."""

    def stage(self, name: str) -> None:
        """The run has come to this stage."""

    def tick(self, at_s: float, states: dict[str, Any]) -> None:
        """A second is over; seconds of the run, and the rollouts' states as last asked."""

    async def operate(
        self, scenario: Scenario, artifact: ArtifactFacts, rollouts: RemoteRollouts, over: asyncio.Event
    ) -> None:
        """Have the rollout of this scenario begun and carried through; it is `over` when it has ended."""


class Terminal:
    """The desk of `fleetsim run`: a line on a terminal, shards beside the conductor, operators in it."""

    steps = False

    def __init__(self, line: Line, processes: int) -> None:
        self._line, self._processes = line, processes

    def begin(self, scenario: Scenario, path: Path) -> None:
        """Whoever started it has said so."""

    async def attend(self, stop: Stop, began: float) -> None:
        """Nothing to attend to: signals stop the run."""

    def shards(self, stack: Stack) -> list[Child]:
        """One each process."""
        return [stack.local(f"shard-{index}") for index in range(self._processes)]

    def server(self, name: str, stack: Stack) -> Child:
        """Beside the conductor."""
        return stack.local(name)

    def receive(self, name: str, event: Event) -> None:
        """ProgressCounts goes to the line."""
        take_note(self._line.now, name, event)

    def stage(self, name: str) -> None:
        """The line does not tell."""

    def tick(self, at_s: float, states: dict[str, Any]) -> None:
        """Draw the line."""
        halts = {"paused": "PAUSED", "aborting": "ABORTED"}
        stops = [
            f"{halts[state.status]}: {state.reason.removeprefix('aborted: ')}"
            for state in states.values()
            if state.status in halts
        ]
        self._line.now.stopped = "; ".join(stops)
        self._line.show(at_s)

    async def operate(
        self, scenario: Scenario, artifact: ArtifactFacts, rollouts: RemoteRollouts, over: asyncio.Event
    ) -> None:
        """As the scenario's operator does."""
        operator, spec = scenario.operator(), scenario.rollout
        await asyncio.sleep(operator.after)
        targets = [TargetFacts(thing=thing, cohort=cohort) for thing, cohort in setup.targets(scenario)]
        await rollouts.create(RolloutRequest(spec=spec, artifact=artifact, targets=targets))
        verbs: dict[Deed, Callable[[str], Awaitable[Any]]] = {
            "pause": rollouts.pause,
            "resume": rollouts.resume,
            "abort": rollouts.abort,
        }
        await carry_out(operator.deeds, over.wait(), lambda deed: verbs[deed](spec.name))
