"""What every part of a live run is given: its configuration, its record, and the line to the conductor."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import pyarrow as pa

from simulator.model.scenario import Scenario
from simulator.trace.recorder import Recorder
from simulator.worlds.live import protocol
from simulator.worlds.live.health import Health
from simulator.worlds.live.protocol import Event, PartConfig, Phases, ProgressCounts, SwitchFault
from simulator.worlds.live.steps import Steps
from simulator.worlds.live.underway import Underway

C = TypeVar("C", bound=PartConfig, covariant=True)


class Part(Generic[C]):
    """What a role is given: its configuration, the scenario, the record, and what the conductor commands: `go` is set
    when the role's work may begin, and `faults` holds those faults that began or ended and have not been heeded yet."""

    def __init__(self, config: C, recorder: Recorder, tally: Tally, watched: Watched | None = None) -> None:
        self.config, self.recorder, self.record = config, recorder, recorder.record
        self._tally, self._watched = tally, watched
        self.scenario = Scenario.model_validate(config.scenario)
        self.health = Health(config.name, self.record, tell)
        self.go = asyncio.Event()
        self.faults: asyncio.Queue[SwitchFault] = asyncio.Queue()

    def flush(self) -> None:
        """Write what was recorded, and tell the conductor what it counts."""
        self.recorder.flush()
        tell(ProgressCounts(self._tally.take()))
        if self._watched is not None:
            if steps := self._watched.steps.take():
                tell(steps)
            tell(self._watched.underway.now())

    def tell_phases(self, things: list[str]) -> None:
        """Tell the conductor in which phases these are."""
        if self._watched is not None:
            tell(Phases(self._watched.underway.phases_of(things)))


def tell(event: Event) -> None:
    """One line to the conductor."""
    sys.stdout.buffer.write(protocol.line(event))
    sys.stdout.buffer.flush()


class Tally:
    """A sink that counts events since the last look."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __call__(self, batch: pa.RecordBatch) -> None:
        """More has happened."""
        from simulator.worlds.progress import count

        self._counts.update(count(batch))

    def take(self) -> dict[str, int]:
        """The counts, once."""
        counts, self._counts = self._counts, Counter()
        return counts


class Watched:
    """A sink that follows what somebody watches in detail; `began` is the Unix time at which the record's clock began."""

    def __init__(self, began: float) -> None:
        self.steps, self.underway = Steps(began), Underway()

    def __call__(self, batch: pa.RecordBatch) -> None:
        """More has happened."""
        self.steps(batch)
        self.underway(batch)


Role = Callable[[Part[C]], Awaitable[None]]
"""What a part does until it is cancelled."""
