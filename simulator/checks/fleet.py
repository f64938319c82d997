"""Checks on the fleet as a whole: does it converge, and do the application's counters add up?"""

from __future__ import annotations

import json

import numpy as np

from simulator.checks.arrays import taken
from simulator.checks.base import Draft, by_then, link_events, torn
from simulator.checks.learning import hearing_us, unheard
from simulator.checks.outages import met, outages
from simulator.checks.profiles import Profiles
from simulator.checks.terminal import Stays
from simulator.model.events import Kind
from simulator.model.quantity import COMPARE, many
from simulator.model.scenario import SHARES, Scenario
from simulator.model.update import State
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace
from simulator.trace.targets import Mask, Targets

_LONG_US = 1 << 60
_EXPLAINED = (State.FAILED, State.REJECTED, State.CANCELED)
_FAILED = (State.FAILED, State.REJECTED, State.TIMED_OUT)


def convergence(trace: Trace, scenario: Scenario) -> Finding:
    """L2: every target runs what is desired and the backend knows it, or a terminal failure says why not.

    A target that the application lost sight of (TIMED_OUT, UNKNOWN, or no end) converged all the same where it runs
    the new software and a report of it was accepted; and is explained where one of its failure was. Else it failed to
    converge, if its rollout ended and it was connected from then on. What was out of reach is UNKNOWN, and so is a
    device whose own record breaks off; one that is still updating and has time left, by its profile (L1), or that was
    still to hear of it after the last outage (L3); and one whose offer nobody took: it was given up unanswered, or timed
    out though it was never said but in outages.
    """
    draft = Draft(
        "L2-convergence",
        "every target runs the desired software, or a recorded failure explains why it does not",
        trace,
        safety=False,
    )
    targets = trace.once(Targets)
    if not len(targets):
        return draft.unknown("the trace names no targets")
    claimed = targets.ended_as(State.SUCCEEDED)
    explained = targets.ended_as(*_EXPLAINED) | (~claimed & _failed(trace, targets))
    held_back = (targets.state < 0) & targets.halted
    explained |= held_back
    astray = ~targets.replaced & ~explained & (targets.converged_us < 0)
    for why, what in (
        (torn(trace)[targets.thing], "the records of {} of {} targets break off"),
        (~claimed & ~_ended(trace, targets), "{} of {} targets had not ended when the record does"),
        (~claimed & ~_reachable(trace)[targets.thing], "{} of {} targets were out of reach at the end"),
        (
            ~claimed & _hurried(trace, scenario, targets),
            f"{{}} of {{}} targets had no time to end: settle longer than {scenario.settle:g} s",
        ),
        (
            (targets.ended_as(State.UNKNOWN) | _lost(trace, targets)) & ~_taken(trace, targets),
            "{} of {} targets were given up, for their offers were never answered",
        ),
    ):
        if count := int((astray & why).sum()):
            draft.doubt(what.format(count, len(targets)))
        astray &= ~why
    draft.offend(_evidence(targets)[astray])
    judged, waiting = int((~held_back).sum()), int(held_back.sum())
    more = f"; {waiting:,} more wait, for the rollout is paused" if waiting else ""
    return draft.decide(
        f"{many(judged, 'target')}, each runs the desired software or gave a reason{more}",
        "target",
        "did not come to run the desired software, and gave no reason",
        seen=int((~targets.replaced & ~held_back).sum()),
        unseen="a later rollout took each target over, or a pause holds it back",
    )


def _ended(trace: Trace, targets: Targets) -> Mask:
    """Which targets' rollouts have ended, or are paused with nobody to resume them."""
    return targets.halted | np.isin(targets.rollout, trace.kind(Kind.ROLLOUT).where("status", "end")["job"])


def _reachable(trace: Trace) -> Mask:
    """By the code of a thing: whether it was connected from before the settling to the end."""
    links = link_events(trace)
    since = np.full(len(trace.words("thing")), -1)
    up = links["kind"] == trace.code("kind", Kind.CONNECT)
    since[links["thing"]] = np.where(up, links["t_us"], -1)
    settling = trace.kind(Kind.STAGE).where("phase", "settle")["t_us"]
    return np.asarray((since >= 0) & (since <= (settling[0] if len(settling) else since.max(initial=0))))


def _failed(trace: Trace, targets: Targets) -> Mask:
    """Of which targets' last jobs a report of failure was accepted, however late."""
    answers = trace.kind(Kind.ANSWER).where("status", "accepted")
    reports = trace.kind(Kind.REPORT).where("status", "SUCCESS", "FAILURE")
    claims = taken(reports["status"], answers.latest(reports, "thing", "job"))
    answers = answers.only(claims == trace.code("status", "FAILURE"))
    of = targets.of_jobs(answers)
    last = taken(trace.column("job"), taken(targets.last, of))
    return targets.marked(of[last == answers["job"]])


def _taken(trace: Trace, targets: Targets) -> Mask:
    """Of which targets the backend took the desired state, or the device heard of it."""
    accepted = trace.kind(Kind.ACCEPTED).where("status", "desired", "both")
    return targets.marked(targets.of_jobs(trace.kind(Kind.DELTA))) | targets.marked(targets.of_jobs(accepted))


def _lost(trace: Trace, targets: Targets) -> Mask:
    """Which targets timed out whose every offer was said when a server was down, or had yet to be found again."""
    sent = trace.kind(Kind.OFFER).where("status", "sent", "resent")
    heard = sent.only(~met(trace, sent["t_us"], sent["t_us"]))
    offered, reached = (targets.marked(targets.of(offers)) for offers in (sent, heard))
    return targets.ended_as(State.TIMED_OUT) & offered & ~reached


def _hurried(trace: Trace, scenario: Scenario, targets: Targets) -> Mask:
    """Which targets were still busy with their last job at the end, and may be; or have not heard anything since they
    connected, and the last outage ended only just now."""
    heard, links = (np.full(len(trace.words("thing")), -1) for _ in range(2))
    deltas, connects = trace.kind(Kind.DELTA), trace.kind(Kind.CONNECT)
    heard[deltas["thing"]], links[connects["thing"]] = deltas.rows, connects.rows
    left_us = trace.column("t_us")[-1] - max((end for _, end in outages(trace)), default=-_LONG_US)
    bound_us = trace.once(Profiles, scenario).numbers(targets.thing, hearing_us)
    busy = trace.once(Stays, scenario).busy()[targets.thing] == taken(trace.column("job"), targets.last)
    bound_us += unheard(trace, scenario, targets.thing, taken(trace.column("t_us"), links[targets.thing]))
    return np.asarray(busy | ((heard < links)[targets.thing] & (left_us < bound_us)))


def _evidence(targets: Targets) -> Codes:
    """For each target its execution's last event, or the event that names it."""
    return np.where(targets.last >= 0, targets.last, targets.view.rows)


def counters(trace: Trace, scenario: Scenario) -> Finding:
    """S8: each rollout's final counters add up to its targets, and each is the number of its targets in that state, of
    whom those that ended by a report have sent it; at no time are more counted than had sent a report."""
    draft = Draft("S8-counters", "the application's counters add up to its targets and agree with the reports", trace)
    targets = trace.once(Targets)
    if not len(targets):
        return draft.unknown("the trace names no targets")
    hidden = torn(trace)[targets.thing]
    for state, status in ((State.SUCCEEDED, "SUCCESS"), (State.FAILED, "FAILURE")):
        unsaid = targets.ended_as(state) & (_first_reports(trace, targets, status) > by_then(trace, targets.last))
        draft.offend(targets.last[unsaid & ~hidden])
        if (unsaid & hidden).any():
            draft.doubt(
                f"{many(int((unsaid & hidden).sum()), 'target')} counted as {state} may have reported after their record ends"
            )
    sent = _first_reports(trace, targets, "SUCCESS", "FAILURE")
    for name, mask in targets.rollouts().items():
        _count(draft, trace, targets, name, mask, sent, hidden)
    return draft.decide(
        f"{many(len(targets), 'target')}, each counted once",
        "count",
        "did not add up",
        seen=len(trace.kind(Kind.COUNTERS)),
        unseen="nothing was counted",
    )


def _first_reports(trace: Trace, targets: Targets, *statuses: str) -> Codes:
    """For each target the row of the first such report on one of its jobs; the trace's length where there is none."""
    reports = trace.kind(Kind.REPORT).where("status", *statuses)
    of = targets.of_jobs(reports)
    first = np.full(len(targets), len(trace))
    np.minimum.at(first, of[of >= 0], reports.rows[of >= 0])
    return first


def _count(draft: Draft, trace: Trace, targets: Targets, name: str, mask: Mask, sent: Codes, hidden: Mask) -> None:
    """Compare one rollout's counters with what its targets sent, and the final ones with their states."""
    counters = trace.kind(Kind.COUNTERS).where("job", name)
    counts = [json.loads(detail) for detail in counters.texts("detail")]
    ended = np.array([c.get(State.SUCCEEDED, 0) + c.get(State.FAILED, 0) for c in counts], int)
    had_sent = np.searchsorted(np.sort(sent[mask]), by_then(trace, counters.rows))
    unseen = int((mask & hidden & (sent == len(trace))).sum())
    nobody = np.full(len(counters), -1)
    draft.offend(counters.rows[over := ended > had_sent + unseen], nobody[over])
    if (ended > had_sent).any() and not over.any():
        draft.doubt(f"{many(unseen, 'target')} of {name} may have reported after their record ends")
    final = np.flatnonzero(counters["status"] == trace.code("status", "final")).tolist()
    if not final and not targets.halted[mask].any():
        draft.doubt(f"{name} did not end: there are no final counters")
    outcomes, size = targets.outcomes(mask), int(mask.sum())
    for at in final:
        counted = {state: count for state, count in sorted(counts[at].items()) if count}
        if counted != outcomes or sum(counted.values()) != size or counters["size"][at] != size:
            draft.offend(counters.rows[at : at + 1], nobody[:1])


def thresholds(trace: Trace, scenario: Scenario) -> list[Finding]:
    """The scenario's own thresholds: converged, succeeded and failed, each of the targets still desired to change. They
    are judged where the rollout has ended, or is paused with nobody to resume it."""
    if not any(name in SHARES for name in scenario.thresholds):
        return []
    targets = trace.once(Targets)
    current = ~targets.replaced
    met = {
        "converged": targets.converged_us >= 0,
        "succeeded": targets.ended_as(State.SUCCEEDED),
        "failed": targets.ended_as(*_FAILED),
    }
    ended = bool(_ended(trace, targets)[current].all())
    return [
        _threshold(trace, targets, name, met[name][current], current, compare, limit, ended)
        for name, (compare, _, limit) in scenario.thresholds.items()
        if name in SHARES
    ]


def _threshold(
    trace: Trace, targets: Targets, name: str, met: Mask, current: Mask, compare: str, limit: float, ended: bool
) -> Finding:
    draft = Draft(f"threshold-{name}", f"{name} {compare} {limit:.1%} of the targets", trace, safety=False)
    if not len(met):
        return draft.unknown("the trace names no targets")
    share = float(met.mean())
    text = f"{share:.1%} {name}, {met.sum():,} of {len(met):,}"
    if not ended:
        return draft.unknown(f"{text}, when the record ends; the rollout had not ended")
    if COMPARE[compare](share, limit):
        return draft.passed(text)
    blamed = met if compare.startswith("<") else ~met
    return draft.failed(text, targets.thing[current][blamed])
