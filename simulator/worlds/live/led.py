"""The desk of a run that another process leads, over this one's stdin and stdout: Locust, whose threads of its own kind
must not meet an event loop.

JSON lines go both ways. To it: how the run goes, what the steps took, each rollout that waits for its operator, and what
is to be done with the shards, and with the servers that its workers carry, which it starts wherever it likes. From it: what these said and how they ended, and
`stop`. The end of stdin stops the run too.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import orjson

from simulator.application.port import ArtifactFacts, RolloutRequest, TargetFacts
from simulator.application.remote import RemoteRollouts
from simulator.model.scenario import Scenario
from simulator.worlds import setup
from simulator.worlds.live.processes import Child, RemoteChild
from simulator.worlds.live.steps import Joined
from simulator.worlds.live.underway import Updates
from simulator.worlds.progress import Now
from simulator.worlds.stages import Stop


def tell(event: str, **facts: Any) -> None:
    """One line to who leads; nothing once they are gone, which the end of stdin tells."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(orjson.dumps({"event": event, **facts}) + b"\n")
        sys.stdout.buffer.flush()


class Led:
    """A desk whose `workers` each start one shard, and some of which carry the servers of these names."""

    steps = True

    def __init__(self, workers: int, carried: Container[str] = ()) -> None:
        self._workers, self._carried = workers, carried
        self._parts: dict[str, RemoteChild] = {}
        self._shards: list[Child] = []
        self._join = Joined(0.0)
        self._now, self._updates = Now(0), Updates()

    def begin(self, scenario: Scenario, path: Path) -> None:
        """The run begins."""
        facts = {"scenario": scenario.name, "devices": len(scenario.fleet.present), "seed": scenario.seed}
        (path / "parts").mkdir(exist_ok=True)
        self._now.targets = len(scenario.targets())
        lag_s = scenario.limits.loop_lag_p99
        tell("begun", path=str(path), targets=self._now.targets, loop_lag_s=lag_s, **facts)

    async def attend(self, stop: Stop, began: float) -> None:
        """Hear what comes, until it shall stop."""
        self._join = Joined(began)
        reader = asyncio.StreamReader(limit=1 << 26)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        try:
            while line := await reader.readline():
                self._attend(orjson.loads(line), stop)
        finally:  # whatever ends the hearing: nobody could stop the run any more
            stop.set()
            for part in self._parts.values():
                part.died(-9, "its road to the conductor is gone")

    def _attend(self, said: dict[str, Any], stop: Stop) -> None:
        if "stop" in said:
            stop.reason = said["stop"]
            stop.set()
        elif (part := self._parts.get(said["part"])) is None:
            return
        elif "clock" in said:
            part.told_clock(said["clock"])
        elif "died" in said:
            part.died(said["died"], said["words"])
        else:
            part.heard(said["said"])

    def shards(self, local: Callable[[str], Child], heard: Callable[[str, dict[str, Any]], None]) -> list[Child]:
        """One each worker."""
        self._shards = [self._remote(f"shard-{index}", heard) for index in range(self._workers)]
        return self._shards

    def server(self, name: str, local: Callable[[str], Child], heard: Callable[[str, dict[str, Any]], None]) -> Child:
        """Where it is carried; if nowhere, beside the conductor."""
        return self._remote(name, heard) if name in self._carried else local(name)

    def _remote(self, name: str, heard: Callable[[str, dict[str, Any]], None]) -> Child:
        self._parts[name] = RemoteChild(name, heard, self._post)
        return self._parts[name]

    @staticmethod
    def _post(name: str, what: dict[str, Any]) -> None:
        tell("part", part=name, **what)

    def heard(self, name: str, event: dict[str, Any]) -> None:
        """What a tick tells is kept, steps are passed on."""
        kind = event["event"]
        if kind in ("progress", "health"):
            self._now.heard(name, event)
        elif kind in ("underway", "where"):
            self._updates.heard(name, event)
        elif kind == "steps":
            bins = [*event.get("steps", ()), *self._join(event.get("offers", ()), event.get("heard", ()))]
            if bins:
                tell("steps", steps=bins)
        else:
            tell(of=name, **event)

    def stage(self, name: str) -> None:
        """The run has come to this stage."""
        tell("stage", stage=name)

    def tick(self, at_s: float, states: dict[str, Any]) -> None:
        """What a person wants to see of the second."""
        now, updates = self._now, self._updates
        tell(
            "tick",
            at_s=at_s,
            counts=now.totals,
            connected=now.connected,
            health=now.health,
            phases=updates.phases(),
            slowest=updates.slowest(round(at_s * 1e6)),
            rollouts={name: state.model_dump() for name, state in states.items()},
        )
        if things := updates.ask():
            for shard in self._shards:
                shard.send({"command": "where", "things": things})

    async def operate(
        self, one: Scenario, artifact: ArtifactFacts, rollouts: RemoteRollouts, over: asyncio.Event
    ) -> None:
        """It waits for an operator from now on."""
        operator = one.operator()
        targets = [TargetFacts(thing=thing, cohort=cohort) for thing, cohort in setup.targets(one)]
        request = RolloutRequest(spec=one.rollout, artifact=artifact, targets=targets)
        tell(
            "operate",
            url=rollouts.base,
            token=rollouts.token,
            name=one.rollout.name,
            after_s=operator.after,
            deeds=operator.deeds,
            request=request.model_dump(mode="json", by_alias=True),
        )
