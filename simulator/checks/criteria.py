"""When a rollout's criteria hold: the scenario's thresholds, computed anew from how its targets ended."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulator.checks.course import CODE, FAILURES, Course
from simulator.model.quantity import COMPARE
from simulator.model.scenario import AbortCriterion, Wave
from simulator.model.update import State
from simulator.trace.reader import Codes
from simulator.trace.targets import Mask


class Ends:
    """Targets that ended for good, in order: `rows`, and how many of each state there were up to each."""

    def __init__(self, rows: Codes, state: Codes) -> None:
        self.rows, self._state = rows, state
        self.count = np.arange(1, len(rows) + 1)
        self.canceled = self.of(State.CANCELED)

    def of(self, *states: State) -> Codes:
        """How many ended in one of these states, up to each end."""
        return np.cumsum(np.isin(self._state, [CODE[state] for state in states]))

    def before(self, row: int) -> Ends:
        """Those that ended before this row."""
        upto = np.searchsorted(self.rows, row)
        return Ends(self.rows[:upto], self._state[:upto])


def ends_of(course: Course, wave: int | None = None) -> Ends:
    """The rollout's ends, or one wave's."""
    which = course.settled if wave is None else course.settled & (course.waves.of_target[course.of] == wave)
    return Ends(course.rows[which], course.state[which])


def criterion_holds(criterion: AbortCriterion, ends: Ends, size: int) -> Mask:
    """At which ends an abort criterion holds."""
    executed = ends.count - ends.canceled
    failed = ends.of(*(FAILURES if criterion.failure_type == "ALL" else (State(criterion.failure_type),)))
    whole = executed if criterion.of == "executed" else size - ends.canceled
    reached = COMPARE[criterion.compare](failed * 100, criterion.threshold_percentage * whole)
    return np.asarray(reached & (executed >= criterion.min_number_of_executed_things) & (whole > 0) & (failed > 0))


def _shares(wave: Wave, ends: Ends, size: int, *states: State) -> npt.NDArray[np.float64]:
    whole = (ends.count if wave.of == "executed" else size) - ends.canceled
    return np.where(whole > 0, ends.of(*states) / np.maximum(whole, 1), 0.0)


def errors_hold(wave: Wave, ends: Ends, size: int) -> Mask:
    """At which of a wave's ends its error threshold holds."""
    compare, limit = wave.error
    return np.asarray(COMPARE[compare](_shares(wave, ends, size, *FAILURES), limit))


def success_holds(wave: Wave, ends: Ends, size: int) -> bool:
    """Whether a wave's success threshold holds after all these ends; a wave of whom nobody is left holds."""
    compare, limit = wave.success
    if size == (ends.canceled[-1] if len(ends.rows) else 0):
        return True
    return len(ends.rows) > 0 and bool(COMPARE[compare](_shares(wave, ends, size, State.SUCCEEDED)[-1], limit))


def must_abort(course: Course) -> int | None:
    """The first row after which the rollout has to abort; None where no criterion ever held."""
    ends, rows = ends_of(course), []
    for criterion in course.spec.abort_config.criteria_list:
        rows += ends.rows[criterion_holds(criterion, ends, course.size)][:1].tolist()
    for number, wave in enumerate(course.waves.specs):
        if wave.error_action == "abort":
            rows += _wave_aborts(course, number, wave)
    return min(rows, default=None)


def _wave_aborts(course: Course, number: int, wave: Wave) -> list[int]:
    """The rows at which a wave's errors reach their threshold, or the wave is over without success."""
    ends, size = ends_of(course, number), int(course.waves.sizes[number])
    all_rows = ends_of(course).rows
    last = int(all_rows[course.size - 1]) if len(all_rows) >= course.size else len(course.trace)  # then it ends
    rows: list[int] = ends.rows[errors_hold(wave, ends, size) & (ends.rows < last)][:1].tolist()
    if size and len(ends.rows) >= size and number + 1 < len(course.waves.specs):
        over = int(ends.rows[size - 1])
        if over < min(last, course.waves.opened[number + 1]) and not success_holds(wave, ends, size):
            rows += _once_running(course, over)
    return rows


def _once_running(course: Course, row: int) -> list[int]:
    """The row, or the one in which the rollout was resumed where it was paused; none where it never was."""
    if not course.paused_at(row):
        return [row]
    resumed = course.moved("resume")
    return [int(after) for after in resumed[resumed > row][:1]]


def held_back(course: Course, number: int, row: int) -> bool:
    """Whether at this row a wave's errors hold, or it is over without success."""
    wave, size = course.waves.specs[number], int(course.waves.sizes[number])
    ends = ends_of(course, number).before(row)
    errors = errors_hold(wave, ends, size)
    return bool(errors[-1:].any()) or (len(ends.rows) >= size and not success_holds(wave, ends, size))


def gate_open(course: Course, number: int, row: int) -> bool:
    """Whether at this row a wave's success threshold holds and its error threshold does not."""
    wave, size = course.waves.specs[number], int(course.waves.sizes[number])
    ends = ends_of(course, number).before(row)
    return success_holds(wave, ends, size) and not errors_hold(wave, ends, size)[-1:].any()
