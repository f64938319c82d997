"""The desk of a run that another process leads, over this one's stdin and stdout, by the lines of `leading`.

The leader is Locust's master, which runs on gevent and so cannot have the conductor's event loop in its own process. It
shows how the run goes, has its users operate the rollouts, and has its workers start the shards, and the servers that
they carry, on whatever hosts they are. The run stops when the leader says `stop`, and when stdin ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

from simulator.application.port import ArtifactFacts, RolloutRequest, TargetFacts
from simulator.application.remote import RemoteRollouts
from simulator.model.scenario import Scenario
from simulator.worlds import setup
from simulator.worlds.live import leading, protocol
from simulator.worlds.live.desk import take_note
from simulator.worlds.live.processes import Child, RemoteChild
from simulator.worlds.live.protocol import AskPhases, Event, NotUnderstood, Phases, StepsTaken, UpdatesOpen, Warned
from simulator.worlds.live.servers import Stack
from simulator.worlds.live.steps import Joiner
from simulator.worlds.live.underway import Updates
from simulator.worlds.progress import Now
from simulator.worlds.stages import Stop


def tell(event: leading.ToLeader) -> None:
    """One line to the leader; nothing once it is gone, which the end of stdin tells."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(protocol.line(event))
        sys.stdout.buffer.flush()


class Led:
    """A desk whose `workers` each start one shard, and some of which carry the servers of these names."""

    steps = True

    def __init__(self, workers: int, carried: Container[str] = ()) -> None:
        self._workers, self._carried = workers, carried
        self._parts: dict[str, RemoteChild] = {}
        self._shards: list[Child] = []
        self._joiner = Joiner(0.0)
        self._now, self._updates = Now(0), Updates()

    def begin(self, scenario: Scenario, path: Path) -> None:
        """The run begins."""
        (path / "parts").mkdir(exist_ok=True)
        targets, devices = len(scenario.targets()), len(scenario.fleet.present)
        lag_s = scenario.limits.loop_lag_p99
        tell(leading.Begun(str(path), targets, lag_s, scenario.name, devices, scenario.seed))

    async def attend(self, stop: Stop, began: float) -> None:
        """Read the leader's lines until the run shall stop."""
        self._joiner = Joiner(began)
        reader = asyncio.StreamReader(limit=1 << 26)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        try:
            while protocol.whole(line := await reader.readline()):
                self._attend(leading.leader_line_of(line), stop)
        except NotUnderstood as error:
            print(f"fleetsim: {error}", file=sys.stderr, flush=True)
        finally:  # whatever ends the reading: nobody could stop the run any more
            stop.set()
            for part in self._parts.values():
                part.died(-9, "its road to the conductor is gone")

    def _attend(self, line: leading.LeaderLine, stop: Stop) -> None:
        if line.stop is not None:
            stop.reason = line.stop
            stop.set()
        elif (part := self._parts.get(line.part)) is None:
            return
        elif line.clock is not None:
            part.receive_clock(line.clock)
        elif line.died is not None:
            part.died(line.died, line.words)
        else:
            part.receive_line(line.said)

    def shards(self, stack: Stack) -> list[Child]:
        """One each worker."""
        self._shards = [self._remote(f"shard-{index}", stack) for index in range(self._workers)]
        return self._shards

    def server(self, name: str, stack: Stack) -> Child:
        """Where it is carried; if nowhere, beside the conductor."""
        return self._remote(name, stack) if name in self._carried else stack.local(name)

    def _remote(self, name: str, stack: Stack) -> Child:
        self._parts[name] = RemoteChild(name, stack.receive, tell)
        return self._parts[name]

    def receive(self, name: str, event: Event) -> None:
        """What a tick tells is kept; steps and warnings are passed on."""
        take_note(self._now, name, event)
        if isinstance(event, UpdatesOpen | Phases):
            self._updates.receive(name, event)
        elif isinstance(event, StepsTaken):
            bins = [*event.steps, *self._joiner(event.offers, event.heard)]
            if bins:
                tell(leading.StepsCounted(bins))
        elif isinstance(event, Warned):
            tell(leading.PartWarned(name, event.text))

    def stage(self, name: str) -> None:
        """The run has come to this stage."""
        tell(leading.StageBegun(name))

    def tick(self, at_s: float, states: dict[str, Any]) -> None:
        """What a person wants to see of the second."""
        now, updates = self._now, self._updates
        rollouts = {name: state.model_dump(mode="json") for name, state in states.items()}
        slowest = updates.slowest(round(at_s * 1e6))
        tell(leading.Tick(at_s, now.totals, now.connected, now.health, updates.phases(), slowest, rollouts))
        if things := updates.ask():
            for shard in self._shards:
                shard.send(AskPhases(things))

    async def operate(
        self, scenario: Scenario, artifact: ArtifactFacts, rollouts: RemoteRollouts, over: asyncio.Event
    ) -> None:
        """It waits for an operator from now on."""
        operator = scenario.operator()
        targets = [TargetFacts(thing=thing, cohort=cohort) for thing, cohort in setup.targets(scenario)]
        request = RolloutRequest(spec=scenario.rollout, artifact=artifact, targets=targets)
        body = request.model_dump(mode="json", by_alias=True)
        name, deeds = scenario.rollout.name, operator.deeds
        tell(leading.Operate(rollouts.base, rollouts.token, name, operator.after, deeds, body))
