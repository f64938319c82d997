"""Which updates are under way while a run goes on: how many devices are in each phase, and which have been offered
theirs for longest.

The application's process knows which updates are open and since when, each shard the phase of its devices. `Updates`
puts both together: it names the things whose updates have been open for longest, and their phases are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simulator.model.events import Kind
from simulator.model.update import Phase, State
from simulator.worlds.live.protocol import Phases, UpdatesOpen

_ASKED, _SHOWN = 20, 10  # some of those that are asked about end before the answer
_ENDED = pa.array([state for state in State if state.ended])


class Underway:
    """Follows a process's own batches."""

    def __init__(self) -> None:
        self._phases: dict[str, str] = {}  # of the things at work
        self._counts: Counter[str] = Counter()
        self._open: dict[str, tuple[str, int]] = {}  # job -> its thing, and when its offer was due

    def __call__(self, batch: pa.RecordBatch) -> None:
        """One more batch."""
        kinds = batch["kind"]
        self._move(batch.filter(pc.equal(kinds, Kind.PHASE)))
        self._offer(batch.filter(pc.and_(pc.equal(kinds, Kind.OFFER), pc.equal(batch["status"], "sent"))))
        self._end(batch.filter(pc.and_(pc.equal(kinds, Kind.EXECUTION), pc.is_in(batch["status"], _ENDED))))

    def _move(self, rows: pa.RecordBatch) -> None:
        for thing, phase in zip(rows["thing"].to_pylist(), rows["status"].to_pylist(), strict=True):
            if (left := self._phases.pop(thing, None)) is not None:
                self._counts[left] -= 1
            if phase != Phase.IDLE:
                self._phases[thing] = phase
                self._counts[phase] += 1

    def _offer(self, rows: pa.RecordBatch) -> None:
        for row in rows.select(["job", "thing", "t_us", "span_us"]).to_pylist():
            self._open[row["job"]] = (row["thing"], row["t_us"] - (row["span_us"] or 0))

    def _end(self, rows: pa.RecordBatch) -> None:
        for job in rows["job"].to_pylist():
            self._open.pop(job, None)

    def now(self) -> UpdatesOpen:
        """How many things are in each phase, and the oldest offers."""
        return UpdatesOpen(+self._counts, list(islice(self._open.values(), _ASKED)))

    def phases_of(self, things: Iterable[str]) -> dict[str, str]:
        """The phases of those that are at work."""
        return {thing: self._phases[thing] for thing in things if thing in self._phases}


class Updates:
    """What all parts of a run told of their updates last, put together."""

    def __init__(self) -> None:
        self._underway: dict[str, UpdatesOpen] = {}  # by part
        self._phases: dict[str, dict[str, str]] = {}  # by part: of the things that were asked about
        self._asked: frozenset[str] = frozenset()

    def receive(self, name: str, event: UpdatesOpen | Phases) -> None:
        """What a part told."""
        if isinstance(event, Phases):
            self._phases[name] = event.phases
        else:
            self._underway[name] = event

    def phases(self) -> dict[str, int]:
        """How many devices are in each phase; those that are in none are left out."""
        total: Counter[str] = Counter()
        for event in self._underway.values():
            total.update(event.phases)
        return total

    def slowest(self, at_us: int) -> list[dict[str, Any]]:
        """The things whose executions have been open for longest, of those asked about: `seconds` since their offers were
        due, and the `phase`, empty for those that are not at work."""
        phases = {thing: phase for part in self._phases.values() for thing, phase in part.items()}
        asked = [(thing, due_us) for due_us, thing in self._open() if thing in self._asked]
        return [
            {"thing": thing, "phase": phases.get(thing, ""), "seconds": (at_us - due_us) / 1e6}
            for thing, due_us in asked[:_SHOWN]
        ]

    def ask(self) -> list[str]:
        """The things whose phases to ask for now."""
        self._asked = frozenset(thing for _, thing in self._open())
        return sorted(self._asked)

    def _open(self) -> list[tuple[int, str]]:
        pairs = [(due_us, thing) for event in self._underway.values() for thing, due_us in event.open]
        return sorted(pairs)[:_ASKED]
