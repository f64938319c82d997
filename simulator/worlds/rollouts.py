"""Who carries out the rollouts of a virtual run: fleetsim's own engine, or the dialect's own service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from simulator.application.delegated import DelegatedRollouts
from simulator.application.engine import Application
from simulator.application.operator import carry_out
from simulator.application.port import ArtifactFacts, RolloutRequest, TargetFacts
from simulator.application.rollout import Rollout, WrongState
from simulator.model.scenario import Deed, Scenario
from simulator.model.update import Artifact, State
from simulator.worlds import setup


class VirtualRollouts(Protocol):
    """The rollouts of a run. `begun` is set once there is one."""

    begun: asyncio.Event

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled; `ready` is set once rollouts can begin."""

    async def operate(self, alone: Scenario, artifact: Artifact) -> None:
        """Carry out what an operator does with the rollout of this scenario, which has one, until it has ended, or is paused
        with nobody to resume it."""

    async def cancel(self) -> None:
        """Abort all, as an operator does."""

    def succeeded(self) -> float:
        """The share of all targets that has succeeded, as far as it is known."""


class OwnRollouts:
    """Rollouts of fleetsim's own engine; `make` makes one."""

    def __init__(self, engine: Application, make: Callable[..., Rollout]) -> None:
        self._engine, self._make = engine, make
        self._rollouts: list[Rollout] = []
        self.begun, self.run = engine.begun, engine.run

    async def operate(self, alone: Scenario, artifact: Artifact) -> None:
        """Begin it, and do what the operator does."""
        rollout = self._make(alone.rollout, artifact, setup.targets(alone), begin_at=self._engine.clock())
        self._rollouts.append(rollout)

        async def act(deed: Deed) -> None:
            getattr(rollout, deed)()
            self._engine.stir()

        ended = self._engine.add(rollout).wait()
        await carry_out(alone.operator().deeds, ended, act, self._engine.halted(rollout.spec.name))

    async def cancel(self) -> None:
        """Abort all that have not ended."""
        for rollout in self._rollouts:
            with contextlib.suppress(WrongState):
                rollout.abort()
        self._engine.stir()

    def succeeded(self) -> float:
        """As the engine counts."""
        done = sum(rollout.counts_by_state()[State.SUCCEEDED] for rollout in self._rollouts)
        return done / max(1, sum(rollout.size for rollout in self._rollouts))


class OrderedRollouts:
    """Rollouts that are ordered as jobs from a dialect's own service."""

    def __init__(self, port: DelegatedRollouts) -> None:
        self._port = port
        self.begun, self.run = port.begun, port.run

    async def operate(self, alone: Scenario, artifact: Artifact) -> None:
        """Order the job, and do what the operator does."""
        name = alone.rollout.name
        facts = ArtifactFacts(
            version=artifact.version, url=artifact.url, size=artifact.size_bytes, sha256=artifact.sha256
        )
        targets = [TargetFacts(thing=thing, cohort=cohort) for thing, cohort in setup.targets(alone)]
        await self._port.create(RolloutRequest(spec=alone.rollout, artifact=facts, targets=targets))

        async def act(deed: Deed) -> None:
            await getattr(self._port, deed)(name)

        await carry_out(alone.operator().deeds, self._port.ended(name), act)

    async def cancel(self) -> None:
        """Abort all that have not ended, where the service can."""
        for name in await self._port.names():
            with contextlib.suppress(WrongState):
                await self._port.abort(name)

    def succeeded(self) -> float:
        """As the last poll of the service told."""
        counts = self._port.counts()
        return counts.get(State.SUCCEEDED, 0) / max(1, sum(counts.values()))
