"""Checks on executions: legal moves, repetition that changes nothing, and one job id for one thing and one artifact."""

from __future__ import annotations

import numpy as np

from simulator.checks.arrays import follows, grouped, nth, rebound, shifted, taken
from simulator.checks.base import Draft
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.update import State
from simulator.model.verdict import Finding
from simulator.trace.reader import Trace, View
from simulator.trace.targets import Mask

_ENDS = tuple(state for state in State if state.ended)
# from -> to. Each execution begins QUEUED, which nobody records. An end is final, TIMED_OUT too: what comes late for
# it changes nothing.
_MOVES: dict[State, tuple[State, ...]] = {
    State.QUEUED: (State.IN_PROGRESS, State.CANCELED),
    State.IN_PROGRESS: _ENDS,
}
_NO_EXECUTIONS = "the trace holds no executions"


def states(trace: Trace, scenario: Scenario) -> Finding:
    """S6: an execution goes from QUEUED to IN_PROGRESS to one end, or is CANCELED while it waits; an end is final."""
    draft = Draft(
        "S6-states", "an execution makes only allowed moves between its states, and its end state is final", trace
    )
    moves = grouped(trace.kind(Kind.EXECUTION), "job")
    if not len(moves):
        return draft.unknown(_NO_EXECUTIONS)
    to = moves["status"]
    queued = trace.code("status", State.QUEUED)
    before = np.where(follows(moves, "job"), shifted(to, queued), queued)
    legal = np.zeros(len(moves), bool)
    for state, onward in _MOVES.items():
        legal |= (before == trace.code("status", state)) & trace.among("status", to, onward)
    legal |= (to == queued) & ~follows(moves, "job")
    named = moves["job"] >= 0
    if unnamed := int((~named).sum()):
        draft.doubt(f"{many(unnamed, 'state change')} without a job's name")
    draft.offend(moves.rows[~legal & named])
    return draft.decide(
        f"{many(len(moves), 'state change')}, all of them allowed",
        "state change",
        "broke the rules of executions",
        seen=len(moves),
        unseen=_NO_EXECUTIONS,
    )


# ---- idempotence


def idempotence(trace: Trace, scenario: Scenario) -> Finding:
    """S7: what is said again changes nothing. No execution ends twice, however often its end was reported, and no device
    starts a job again that it has been told already: once more only after a power cut, before the job was reported."""
    draft = Draft("S7-idempotence", "a repeated report or delta changes nothing", trace)
    deltas, ends = trace.kind(Kind.DELTA), trace.kind(Kind.EXECUTION).where("status", *_ENDS)
    if not len(deltas) and not len(ends):
        return draft.unknown("the trace holds neither deltas nor ends of executions")
    if not len(deltas):
        draft.doubt("the trace holds nothing of what devices made of a delta")
    if not len(ends):
        draft.doubt("the trace holds no ends of executions")
    ends = ends.only(ends["job"] >= 0)
    draft.offend(ends.rows[nth(ends["job"]) > 0])
    starts = deltas.where("status", "start", "supersede", "installed")
    starts = starts.only(starts["job"] >= 0)
    draft.offend(starts.rows[_again(trace, starts)])
    again = _repeated(trace, deltas)
    return draft.decide(
        f"{many(again, 'repetition')} of a report or delta, and nothing happened twice",
        "event",
        "happened a second time, after a repeated report or delta",
        seen=again,
        unseen="no report or delta came twice",
    )


def _repeated(trace: Trace, deltas: View) -> int:
    """How many deltas told a device of a job that it knew, and how many reports of an end were sent again."""
    reports = trace.kind(Kind.REPORT).where("status", "SUCCESS", "FAILURE")
    return sum(int(((view["job"] >= 0) & (view.latest(view, "thing", "job") >= 0)).sum()) for view in (deltas, reports))


def _again(trace: Trace, starts: View) -> Mask:
    """Which starts repeat one of the same job on the same thing, though no power cut made the device forget it, or
    though its report was answered or given up."""
    before = starts.latest(starts, "thing", "job")
    begun = taken(starts.rows, before)
    cuts = trace.kind(Kind.BOOT).where("status", "power-cut")
    cut = taken(cuts.rows, starts.latest(cuts, "thing"))
    answers = trace.kind(Kind.ANSWER).where("status", "accepted", "given-up")
    carried_through = starts.latest(answers, "thing", "job") >= 0
    return np.asarray((before >= 0) & ((cut < begun) | carried_through))


def no_replay(trace: Trace, scenario: Scenario) -> Finding:
    """S21: a command that comes again, retained or replayed, is not obeyed once its job has ended on that device: no
    update begins, and nothing is installed, for a job whose end the device has reported."""
    draft = Draft("S21-no-replay", "a device does not act again on a command whose job has ended on it", trace)
    deltas, reports = trace.kind(Kind.DELTA), trace.kind(Kind.REPORT)
    if not len(deltas) or not len(reports):
        return draft.unknown(f"no device {'reported anything' if len(deltas) else 'learned of a desired state'}")
    began = deltas.where("status", "start", "supersede")
    acts = View(trace, np.sort(np.concatenate([began.rows, trace.kind(Kind.COMMIT).rows])))
    acts, ends = acts.only(acts["job"] >= 0), reports.where("status", "SUCCESS", "FAILURE")
    draft.offend(acts.rows[acts.latest(ends, "thing", "job") >= 0])
    again = deltas.latest(ends, "thing", "job") >= 0
    came = int(again.sum())
    return draft.decide(
        f"{many(came, 'command')} of a job that had ended, none obeyed",
        "command",
        "made a device act on a job that had already ended",
        seen=came,
        unseen="no job came again after its end",
    )


# ---- binding


def binding(trace: Trace, scenario: Scenario) -> Finding:
    """S9: each job id that the application gave means one thing and one artifact, whoever names it and for ever."""
    draft = Draft("S9-binding", "a job id always stands for the same device and the same artifact", trace)
    given = trace.kind(Kind.OFFER, Kind.EXECUTION)
    uses = trace.kind(Kind.OFFER, Kind.DELTA, Kind.COMMIT, Kind.EXECUTION)
    if not len(given):
        return draft.unknown("the application named no jobs")
    uses = uses.only(np.isin(uses["job"], np.unique(given["job"])) & (uses["job"] >= 0))
    named = grouped(uses, "job")
    joined = follows(named, "job")
    for column in ("thing", "digest"):
        draft.offend(named.rows[rebound(named[column], joined)])
    if not (uses["digest"] >= 0).any():
        draft.doubt("no hash of an artifact is in the trace")
    jobs = len(np.unique(uses["job"]))
    return draft.decide(
        f"{many(jobs, 'job')}, each of one thing and one artifact",
        "event",
        "used a job id for another thing or artifact",
        seen=jobs,
        unseen="the application named no jobs",
    )
