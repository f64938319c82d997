"""The thresholds of a rollout: what opens the next wave, what holds it, what aborts the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator.model.quantity import COMPARE
from simulator.model.scenario import AbortConfig, Wave
from simulator.model.update import State

_EXECUTED = tuple(s for s in State if s.ended and s is not State.CANCELED)
_FAILURES = (State.FAILED, State.TIMED_OUT, State.REJECTED, State.UNKNOWN)


@dataclass(slots=True)
class Gate:
    """One wave's counts; `end` is the index behind its last target. `excused`: somebody let it pass."""

    spec: Wave
    size: int
    end: int
    excused: bool = False
    counts: dict[State, int] = field(default_factory=dict)

    def count(self, state: State) -> None:
        """One of the wave's targets has ended so."""
        self.counts[state] = self.counts.get(state, 0) + 1

    def over(self) -> bool:
        """Whether all of the wave's targets have ended."""
        return sum(self.counts.values()) >= self.size

    def _share(self, *states: State) -> float:
        whole = self.size if self.spec.of == "targets" else sum(self.counts.values())
        whole -= self.counts.get(State.CANCELED, 0)
        return sum(self.counts.get(s, 0) for s in states) / whole if whole else 0.0

    def passed(self) -> bool:
        """Whether the success threshold holds."""
        compare, threshold = self.spec.success
        if self.size == self.counts.get(State.CANCELED, 0):
            return True
        return bool(self.counts) and COMPARE[compare](self._share(State.SUCCEEDED), threshold)

    def too_many_errors(self) -> str:
        """Why the error threshold is reached, or nothing."""
        compare, threshold = self.spec.error
        errors = self._share(*_FAILURES)
        if not self.excused and self.counts and COMPARE[compare](errors, threshold):
            return f"errors {errors:.1%} {compare} {threshold:.1%} of the wave's {self.spec.of}"
        return ""

    def shortfall(self) -> str:
        """Why a wave that is over did not pass."""
        compare, threshold = self.spec.success
        return f"the wave ended with success {self._share(State.SUCCEEDED):.1%}, not {compare} {threshold:.1%}"


def gates(waves: Sequence[Wave], size: int) -> list[Gate]:
    """The gates of these waves over `size` targets; without waves, one for all."""
    made: list[Gate] = []
    share, begin = 0.0, 0
    for wave in waves or (Wave(share=1.0),):
        share += wave.share
        end = size if share > 1 - 1e-9 else round(share * size)
        made.append(Gate(wave, end - begin, end))
        begin = end
    return made


def aborting(config: AbortConfig, counts: Mapping[State, int], size: int) -> str:
    """Why the rollout must abort, or nothing.

    The default is AWS's: at least the threshold's share of the executions that have ended, after a minimum of them.
    """
    executed = sum(counts.get(s, 0) for s in _EXECUTED)
    for criterion in config.criteria_list:
        states = _FAILURES if criterion.failure_type == "ALL" else (State(criterion.failure_type),)
        failed = sum(counts.get(s, 0) for s in states)
        whole = executed if criterion.of == "executed" else size - counts.get(State.CANCELED, 0)
        if executed < criterion.min_number_of_executed_things or not whole or not failed:
            continue
        if COMPARE[criterion.compare](failed * 100, criterion.threshold_percentage * whole):
            return (
                f"{failed} of {whole} {criterion.of} {criterion.failure_type.lower()}, "
                f"{criterion.compare} {criterion.threshold_percentage:g}%"
            )
    return ""
