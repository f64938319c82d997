"""When a run's faults begin and end, as a timeline. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simulator.model.scenario import Fault


class Turn(NamedTuple):
    """Seconds after the rollout began, the fault's place in the scenario, and whether it begins or ends."""

    at_s: float
    nth: int
    on: bool


def from_the_start(fault: Fault) -> bool:
    """Whether it is there before anything else is."""
    return fault.at is None and fault.step is None


def timeline(faults: Sequence[Fault]) -> list[Turn]:
    """The turns of the faults that have a time, in order; those of a step are each device's own."""
    turns = []
    for nth, fault in enumerate(faults):
        if fault.step is not None:
            continue
        if fault.at is not None:
            turns.append(Turn(fault.at, nth, True))
        if fault.lasts is not None:
            turns.append(Turn((fault.at or 0.0) + fault.lasts, nth, False))
    return sorted(turns)
