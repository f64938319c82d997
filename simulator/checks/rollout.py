"""Checks on how a rollout was carried through: its limits, its gates, its abort, its timeouts, and that it ends."""

from __future__ import annotations

import numpy as np

from simulator.checks.base import Draft
from simulator.checks.course import Course
from simulator.checks.criteria import gate_open, held_back, must_abort
from simulator.checks.offering import idle
from simulator.checks.outages import after, met
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.update import State
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View
from simulator.trace.targets import Mask

_SECOND_US = 1_000_000
_WINDOW_US = 59 * _SECOND_US  # a minute, less what the record's clock may be behind the application's
_ABORT_US = 1 * _SECOND_US
_CLOCK_US = 1 * _SECOND_US
_HEARD_US = 10 * _SECOND_US  # an accepted report has reached the application by then
_TIMEOUT_BOUND_US = 30 * _SECOND_US
_END_BOUND_US = 5 * _SECOND_US
OFFER_BOUND_S = 10


def limits(trace: Trace, scenario: Scenario) -> Finding:
    """S16: never are more executions under way than maximumConcurrent; and when an offer goes, the minute that ends
    with it holds no more of them than the rate of that moment, which grows as exponentialRate says.

    The minute is a second short, for the record's clock is not the application's.
    """
    draft = Draft(
        "S16-limits",
        "never more executions are under way than maximumConcurrent, and no minute has more offers than the rate allows",
        trace,
    )
    course, spec = trace.once(Course, scenario.rollout), scenario.rollout
    if why := course.lacks():
        return draft.unknown(why)
    offers = course.rows[course.offered]
    if spec.maximum_concurrent is None and spec.maximum_per_minute is None:
        return draft.no_occasion("the rollout sets neither maximumConcurrent nor a rate")
    if spec.maximum_concurrent is not None:
        draft.offend(offers[course.under_way()[course.offered] > spec.maximum_concurrent])
    draft.offend(offers[_hurried(course)])
    if why := course.broken_off():
        draft.doubt(why)
    return draft.decide(
        f"{many(len(offers), 'offer')}, each within the limits",
        "offer",
        "went beyond the rollout's limit of concurrency or rate",
        seen=len(offers),
        unseen="nothing was offered",
    )


def _hurried(course: Course) -> Mask:
    """Which offers come when their minute holds as many as the rate allows."""
    t_us = course.t_us[course.offered]
    within = np.arange(1, len(t_us) + 1) - np.searchsorted(t_us, t_us - _WINDOW_US, side="right")
    return np.asarray(within > np.ceil(course.rates()[course.offered] - 1e-9))


def abort(trace: Trace, scenario: Scenario) -> Finding:
    """S17: the rollout aborts at the first moment at which one of its criteria holds, and, unless an operator asks for
    it, never without one; from then on nothing is offered, and what waits is canceled.

    A criterion is one of abortConfig's; or, of a wave whose errorAction is abort, that its errors reach their
    threshold, or that it is over without success.
    """
    draft = Draft(
        "S17-abort",
        "the rollout aborts when a criterion holds or an operator asks for it, only then, and offers nothing afterwards",
        trace,
    )
    course = trace.once(Course, scenario.rollout)
    if why := course.lacks():
        return draft.unknown(why)
    due = must_abort(course)
    aborted = next(iter(course.moved("abort").tolist()), None)
    if aborted is not None and (due is None or aborted < due) and not course.by_operator(aborted):
        draft.offend(np.array([aborted]))
    if due is not None:
        _abort_in_time(draft, course, due, aborted)
    stops = [row for row in (due, aborted) if row is not None]
    if stops:
        _nothing_more(draft, course, min(stops), aborted)
    if why := course.broken_off():
        draft.doubt(why)
    spec = course.spec
    may = bool(spec.abort_config.criteria_list) or any(wave.error_action == "abort" for wave in spec.waves)
    return draft.decide(
        "no criterion held" if aborted is None else f"aborted: {course.reason(aborted)}",
        "event",
        "did not follow the abort criteria",
        seen=may or aborted is not None,
        unseen="the rollout has no criterion to abort, and nobody aborted it",
    )


def _abort_in_time(draft: Draft, course: Course, due: int, aborted: int | None) -> None:
    """The abort follows the moment at which it is due."""
    until_us = course.seen_us() if aborted is None else course.time_us(aborted)
    if until_us > course.time_us(due) + _ABORT_US:
        draft.offend(np.array([due]))
    elif aborted is None:
        draft.doubt("a criterion held when the record ends")


def _nothing_more(draft: Draft, course: Course, stop: int, aborted: int | None) -> None:
    """Nothing is offered after the stop, and what waited then is canceled."""
    late = course.offered & (course.rows > stop)
    draft.offend(course.rows[late], course.thing[course.of[late]])
    if aborted is None or course.broken_off():
        return
    left = course.waiting(len(course.trace))
    last = course.latest(len(course.trace))[left]
    draft.offend(np.where(last >= 0, np.append(course.rows, -1)[last], aborted), course.thing[left])


def gates(trace: Trace, scenario: Scenario) -> Finding:
    """S18: when a wave starts, and when the first of its targets is offered to, the success threshold of the wave
    before holds and its error threshold does not; or they held the rollout up, and an operator has resumed it.
    """
    draft = Draft(
        "S18-gate",
        "a wave starts only when the wave before has passed its gate, or when an operator has resumed the rollout",
        trace,
    )
    course = trace.once(Course, scenario.rollout)
    if why := course.lacks():
        return draft.unknown(why)
    if not scenario.rollout.waves:
        return draft.no_occasion("the rollout has no waves")
    for number in range(1, len(course.waves.specs)):
        start = _start(course, number)
        if start < len(trace) and not gate_open(course, number - 1, start) and not _excused(course, number - 1, start):
            draft.offend(np.array([start]))
    opened = int((course.waves.opened < len(trace)).sum())
    if opened < len(course.waves.specs) and (why := course.broken_off()):
        draft.doubt(why)
    return draft.decide(
        f"{opened} of {len(course.waves.specs)} waves started",
        "wave",
        "started before the gate of the wave before was open",
        seen=len(course.waves.specs) - 1,
        unseen="the rollout has one wave",
    )


def _start(course: Course, number: int) -> int:
    """The row in which a wave starts, or its first target is offered to; the trace's length for never."""
    offers = course.rows[course.offered & (course.waves.of_target[course.of] == number)]
    return min(int(row) for row in (course.waves.opened[number], *offers[:1]))


def _excused(course: Course, number: int, row: int) -> bool:
    """Whether this wave's own gate had paused the rollout before that row, and an operator resumed it."""
    pauses, resumes = (course.moved(status) for status in ("pause", "resume"))
    pauses = pauses[(pauses > course.waves.opened[number]) & (pauses < row)]
    return any(
        ((resumes > pause) & (resumes < row)).any()
        and not course.by_operator(pause)
        and held_back(course, number, pause)
        for pause in pauses.tolist()
    )


def timeout(trace: Trace, scenario: Scenario) -> Finding:
    """L4: an execution that the application hears nothing of for inProgressTimeout is TIMED_OUT, within 30 s more, and
    none is before that.

    Silence counts from the offer, or from the last report of RUNNING. For "within" it is the last that the device has
    sent or the replica accepted; for "before" the last that the replica had accepted 10 s earlier, whatever the backend,
    unless a server was down meanwhile: the word may be lost with it.
    """
    draft = Draft(
        "L4-timeout",
        "an execution without news for inProgressTimeout becomes TIMED_OUT: at most 30 s later, and not earlier",
        trace,
        safety=False,
    )
    course = trace.once(Course, scenario.rollout)
    if why := course.lacks():
        return draft.unknown(why)
    begun = course.offered
    silence_us = round(scenario.rollout.timeout_config.in_progress_timeout * _SECOND_US)
    end = _next(course)
    since_us = _last_word(course, end, _words(trace))
    seen_us = course.seen_us()
    end_us = np.append(course.t_us, seen_us)[end]
    late = begun & (end_us > after(trace, since_us + silence_us, _TIMEOUT_BOUND_US) + _TIMEOUT_BOUND_US)
    draft.offend(np.append(course.rows, 0)[np.where(end < 0, np.arange(len(end)), end)][late], _things(course, late))
    timed = course.moved_to(State.TIMED_OUT)
    ended_so = begun & np.append(timed, False)[end]
    heard_us = _last_word(course, end, _certain(trace), _HEARD_US)
    early = ended_so & (end_us < heard_us + silence_us - _CLOCK_US)
    draft.offend(course.rows[end[early]], _things(course, early))
    if why := course.broken_off():
        draft.doubt(why)
    good = f"{many(int(begun.sum()), 'execution')}, {many(int(timed.sum()), 'timeout')}"
    return draft.decide(
        good, "execution", "timed out too late or too early", seen=int(begun.sum()), unseen="nothing was offered"
    )


def _things(course: Course, which: Mask) -> Codes:
    return np.asarray(course.thing[course.of[which]])


def _next(course: Course) -> Codes:
    """For each event its target's next one; -1 for none."""
    following = np.full(len(course.rows), -1)
    later = course.prior >= 0
    following[course.prior[later]] = np.flatnonzero(later)
    return following


def _words(trace: Trace) -> View:
    """Whatever may have told the application that an update is under way."""
    sent = trace.kind(Kind.REPORT).where("status", "RUNNING").rows
    accepted = trace.kind(Kind.ACCEPTED).where("status", "reported", "both").rows
    return View(trace, np.sort(np.concatenate([sent, accepted])))


def _certain(trace: Trace) -> View:
    """The reports of RUNNING that the replica has accepted, and of which no outage kept the application."""
    accepted, reports = trace.kind(Kind.ACCEPTED).where("status", "reported", "both"), trace.kind(Kind.REPORT)
    claims = np.append(reports["status"], -1)[accepted.latest(reports, "thing", "job")]
    accepted = accepted.only(claims == trace.code("status", "RUNNING"))
    return accepted.only(~met(trace, accepted["t_us"], accepted["t_us"] + _HEARD_US))


def _last_word(course: Course, end: Codes, words: View, before_us: int = 0) -> Codes:
    """For each offer when the last of these words on its job came, this long before its end; else when it was made."""
    trace = course.trace
    job = trace.column("job")[course.rows]
    until, last = (np.full(len(trace.words("job")) + 1, -1) for _ in range(2))
    end_us = np.append(course.t_us, trace.column("t_us")[-1] + before_us)[end]
    until[job[course.offered]] = end_us[course.offered] - before_us
    heard = words.only((words["job"] >= 0) & (words["t_us"] <= until[words["job"]]))
    np.maximum.at(last, heard["job"], heard["t_us"])
    return np.asarray(np.maximum(course.t_us, last[job]))


def ends(trace: Trace, scenario: Scenario) -> Finding:
    """L7: the rollout ends once all of its targets have, and not before; or it is paused, and says why."""
    draft = Draft(
        "L7-rollout-ends",
        "the rollout ends when all of its targets have ended, or it is paused and says why",
        trace,
        safety=False,
    )
    course = trace.once(Course, scenario.rollout)
    if why := course.lacks():
        return draft.unknown(why)
    left, over = course.open_ends(), course.moved("end")
    if len(over):
        draft.offend(np.full(len(left), over[0]), course.thing[left])
        return draft.decide(
            course.reason(int(over[0])) or "it ended",
            "target",
            "had not ended when the rollout did",
            seen=1,
            unseen="",
        )
    if course.broken_off():
        return draft.unknown(course.broken_off())
    if course.paused_at(len(trace)):
        pause = course.moved("pause")[-1:]
        if why := course.reason(int(pause[0])):
            return draft.passed(f"paused: {why}")
        draft.offend(pause)
    return _unended(draft, course, left)


def _unended(draft: Draft, course: Course, left: Codes) -> Finding:
    """The record is whole, and the rollout did not end: it had to, if all had ended or the run is complete."""
    last = int(course.rows[-1]) if len(course.rows) else int(course.moves.rows[-1])
    idle_us = course.seen_us() - course.time_us(last)
    if (course.closing() or {}).get("complete") or (not len(left) and idle_us > _END_BOUND_US):
        draft.offend(np.array([last]))
    else:
        draft.doubt(f"{many(len(left), 'target')} had not ended when the run was over")
    return draft.decide("", "event", "after which the rollout should have ended, but did not", seen=1, unseen="")


def no_starvation(trace: Trace, scenario: Scenario) -> Finding:
    """L10: where a target waits in an open wave and a slot is free, the next offer goes within 10 s of when both became
    so, or of when the rate allows it; a rollout that is paused, aborted or over owes nobody an offer.
    """
    draft = Draft(
        "L10-no-starvation",
        "if a target waits, a slot is free and nothing forbids an offer, the next offer is made within 10 s",
        trace,
        safety=False,
    )
    course = trace.once(Course, scenario.rollout)
    if why := course.lacks():
        return draft.unknown(why)
    rows = idle(course, OFFER_BOUND_S * _SECOND_US)
    for row in rows.tolist():
        draft.offend(np.array([row]), _heads(course, row))
    if why := course.broken_off():
        draft.doubt(why)
    offers = int(course.offered.sum())
    return draft.decide(
        f"{many(offers, 'offer')}, none too late",
        "free slot",
        "stayed unused while a target waited",
        seen=offers,
        unseen="nothing was offered",
    )


def _heads(course: Course, row: int) -> Codes:
    """The first of those that waited after this row, in an open wave."""
    waiting = course.waiting(row + 1)
    return np.asarray(course.thing[waiting[course.waves.opened[course.waves.of_target[waiting]] <= row][:1]])
