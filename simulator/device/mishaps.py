"""What goes wrong on a device itself. Each stage of an update may go wrong in one of these ways, as the profile's shares
or a marker in the software say:

error    the stage fails after its time, and the device reports so
crash    the power goes somewhere within the stage
hang     the stage never ends
slow     it takes longer, by the profile's factor
lie      it is only pretended, and the update goes on
vanish   the device goes off and does not come back

A fault of the scenario that waits for a phase strikes here too, when the phase is entered."""

from __future__ import annotations

import asyncio

from simulator.device.agent import UpdateAgent
from simulator.device.log import Log
from simulator.device.power import Power
from simulator.device.profile import Draws
from simulator.faults.harm import Harm
from simulator.model.marker import Marker
from simulator.model.scenario import Stage
from simulator.model.update import Phase


class StageFailed(Exception):
    """A stage of the update failed; the text is the reason that the device reports."""


class Mishaps:
    """One device's: drawn from its profile, noted in its log, carried out on its power."""

    __slots__ = ("_agent", "_loop", "draws", "harm", "log", "power")

    def __init__(self, power: Power, log: Log, agent: UpdateAgent, draws: Draws, harm: Harm | None) -> None:
        self.power, self.log, self._agent, self.draws, self.harm = power, log, agent, draws, harm
        self._loop = asyncio.get_running_loop()

    def enter(self, phase: Phase) -> None:
        """Move the update to this phase. Faults that begin with it strike."""
        self.log.phase(self._agent.move(phase))
        if self.harm is not None and (act := self.harm.at_phase(phase)):
            self.power.off(act)

    def heed(self, markers: list[Marker]) -> None:
        """What markers in the software make go wrong on this device."""
        meant = []
        for marker in markers:
            if not marker.stage:
                self.log.mishap("download", "ignored", marker.text, job=self._agent.flash.job)
            elif marker.share == 1 or self.draws.dice.roll(f"marker {marker.stage} {marker.way}") < marker.share:
                meant.append(marker)
        self._agent.flash.marks = tuple(meant)

    def draw(self, stage: Stage) -> str | None:
        """How this stage goes wrong, by the profile or by a marker in the software; None where it does not."""
        way: str | None = self.draws.mishap(stage)
        cause = None
        for mark in self._agent.flash.marks:
            if way is None and mark.stage == stage:
                way, cause = mark.way, mark.text
        if way is not None:
            self.log.mishap(stage, way, cause, job=self._agent.flash.job)
        return way

    async def suffer(self, stage: Stage, way: str, seconds: float) -> None:
        """Let a stage of so many seconds go wrong in this way: an error, a crash, or for ever. Raises StageFailed."""
        if way == "error":
            await asyncio.sleep(seconds)
            raise StageFailed(f"{stage} error")
        if way == "crash":
            await asyncio.sleep(seconds * self.draws.dice.roll(f"crash {stage}"))
            await self.power.cut()
        elif way == "hang":
            await self._loop.create_future()
        elif way == "vanish":
            self.power.off("vanish")
            await self._loop.create_future()
