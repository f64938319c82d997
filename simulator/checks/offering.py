"""Where a rollout could have offered and did not: somebody waits, a slot is free, nothing holds it back."""

from __future__ import annotations

import numpy as np

from simulator.checks.course import Course
from simulator.checks.outages import after
from simulator.trace.reader import Codes
from simulator.trace.targets import Mask

_MINUTE_US = 60_000_000


def idle(course: Course, bound_us: int) -> Codes:
    """The rows since which an offer was due for longer than the bound, and none went."""
    rows, free, offers = _slots(course)
    if not len(rows):
        return rows
    begins = np.flatnonzero(free & (offers | ~np.append(False, free[:-1])))
    breaks = np.flatnonzero(offers | ~free)
    t_us = course.trace.column("t_us")[rows]
    until_us = np.append(t_us[breaks], course.seen_us())[np.searchsorted(breaks, begins, side="right")]
    due_us = after(course.trace, np.maximum(t_us[begins], _paced_us(course, rows[begins])), bound_us)
    return np.asarray(rows[begins[until_us - due_us > bound_us]])


def _slots(course: Course) -> tuple[Codes, Mask, Mask]:
    """The rows in which something changes; whether after each a target waits that may be offered; which are offers."""
    under_way, waiting = course.under_way(), course.was_waiting()
    opening = course.waves.opened < len(course.trace)
    moves, running = _running(course)
    joined = np.maximum(
        course.rows, course.waves.opened[course.waves.of_target[course.of]]
    )  # none counts before its wave is open
    rows = np.concatenate([course.rows, joined, course.waves.opened[opening], moves])
    busy = np.diff(under_way, prepend=0)
    queue = course.retried.astype(np.int64) - waiting
    none = np.zeros(len(rows), np.int64)
    used, line, going = none.copy(), none.copy(), none.copy()
    count = len(course.rows)
    used[:count] = busy
    line[count : 2 * count] = queue
    line[2 * count : 2 * count + int(opening.sum())] = course.waves.sizes[opening]
    going[len(rows) - len(moves) :] = running
    order = np.argsort(rows, kind="stable")
    order = order[rows[order] < len(course.trace)]
    most = course.spec.maximum_concurrent
    slot = np.cumsum(used[order]) < (np.inf if most is None else most)
    free = slot & (np.cumsum(line[order]) > 0) & (np.cumsum(going[order]) > 0)
    last = np.append(np.diff(rows[order]) > 0, True)[: len(order)]
    at = rows[order][last]
    return at, free[last], np.isin(at, course.rows[course.offered])


def _running(course: Course) -> tuple[Codes, Codes]:
    """The rows in which the rollout begins or ceases to run: 1 or -1."""
    status = course.moves["status"]
    going = course.trace.among("status", status, ("begin", "resume"))
    halted = course.trace.among("status", status, ("pause", "abort", "end"))
    kept = course.moves.only(going | halted)
    runs = going[going | halted].astype(np.int64)
    return kept.rows, np.diff(runs, prepend=0)


def _paced_us(course: Course, rows: Codes) -> Codes:
    """For each row when the rate allows the next offer after it."""
    if course.spec.maximum_per_minute is None:
        return np.zeros(len(rows), np.int64)
    t_us = course.t_us[course.offered]
    made = np.searchsorted(course.rows[course.offered], rows, side="right")
    rates = np.append(course.rates(), course.rates()[-1:] if len(course.rows) else [])
    rate = rates[np.maximum(np.searchsorted(course.rows, rows, side="right") - 1, 0)] if len(rates) else np.ones(0)
    past = np.append(t_us, -(1 << 62))  # before the first there was none
    spaced = past[made - 1] + _MINUTE_US / rate
    most = np.ceil(rate - 1e-9).astype(np.int64)
    full = np.where(made >= most, past[np.maximum(made - most, 0)] + _MINUTE_US, 0)
    return np.asarray(np.maximum(np.where(made > 0, spaced, 0), full).astype(np.int64))
