"""When a run's faults begin and end. Pure: the caller says how much time has passed and which share has converged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simulator.model.scenario import Fault

_LAST_BIT_S = 1e-6  # a difference of two clocks' times is not exact: who waits for its last bit waits for ever


class Turn(NamedTuple):
    """The fault's place in the scenario, and whether it begins or ends."""

    nth: int
    on: bool


class Timeline:
    """The turns of the faults that begin or end by the clock or at a share converged; a step is each device's own."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._due: list[tuple[float, int, bool]] = []
        self._shares = {nth: fault.converged for nth, fault in enumerate(faults) if fault.converged is not None}
        for nth, fault in enumerate(faults):
            if fault.at is not None:
                self._due.append((fault.at, nth, True))
            if fault.lasts is not None and (fault.at is not None or fault.from_the_start):
                self._due.append(((fault.at or 0.0) + fault.lasts, nth, False))
        self._due.sort()

    @property
    def waits_for_share(self) -> bool:
        """Whether a fault still waits for a share of the targets."""
        return bool(self._shares)

    @property
    def next_s(self) -> float | None:
        """When the next turn is due by the clock, in seconds since the rollout began; None for never."""
        return self._due[0][0] if self._due else None

    def turns(self, now_s: float, converged: float) -> list[Turn]:
        """The turns that have come, in order."""
        turns = []
        for nth, share in sorted(self._shares.items(), key=lambda item: (item[1], item[0])):
            if converged >= share:
                del self._shares[nth]
                turns.append(Turn(nth, True))
                lasts_s = self._faults[nth].lasts
                if lasts_s is not None:
                    self._due.append((now_s + lasts_s, nth, False))
                    self._due.sort()
        while self._due and self._due[0][0] <= now_s + _LAST_BIT_S:
            turns.append(Turn(*self._due.pop(0)[1:]))
        return turns
