"""What every part of a live run is given: its configuration, its record, and the line to the conductor."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pyarrow as pa

from simulator.model.scenario import Scenario
from simulator.trace.recorder import Recorder
from simulator.worlds.live.health import Health
from simulator.worlds.live.steps import Steps
from simulator.worlds.live.underway import Underway

_FLUSH_S = 0.5


class Part:
    """What every role is given: its configuration, the scenario, the record, and the line to the conductor."""

    def __init__(
        self, config: dict[str, Any], recorder: Recorder, tally: Tally, watched: Watched | None = None
    ) -> None:
        self.config, self.recorder, self.record = config, recorder, recorder.record
        self._tally, self._watched = tally, watched
        self.scenario = Scenario.model_validate(config["scenario"])
        self.epoch: float = config["epoch"]
        self.health = Health(config["name"], self.record, self.tell)
        self.go = asyncio.Event()
        self.switch: Callable[[int, bool], None] = lambda nth, on: None  # hears of faults

    def tell(self, event: str, **facts: Any) -> None:
        """One line to the conductor."""
        tell(event, **facts)

    def flush(self) -> None:
        """Write what was recorded, and tell the conductor what it counts."""
        self.recorder.flush()
        self.tell("progress", **self._tally.take())
        if self._watched is not None:
            if took := self._watched.steps.take():
                self.tell("steps", **took)
            self.tell("underway", **self._watched.underway.now())

    def where(self, things: list[str]) -> None:
        """Tell the conductor in which phases these are."""
        if self._watched is not None:
            self.tell("where", phases=self._watched.underway.where(things))


def tell(event: str, **facts: Any) -> None:
    """One line to the conductor."""
    sys.stdout.buffer.write(orjson.dumps({"event": event, **facts}) + b"\n")
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


Role = Callable[[Part], Awaitable[None]]
"""What a part does until it is cancelled."""
