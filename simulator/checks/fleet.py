"""Checks on the fleet as a whole: does it converge, and do the application's counters add up?"""

from __future__ import annotations

import json
from collections import Counter

from simulator.checks.base import Draft
from simulator.model.events import Kind
from simulator.model.quantity import COMPARE
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Trace

_EXPLAINED = {"FAILED", "REJECTED", "CANCELED"}


def last_states(trace: Trace) -> dict[str, str]:
    """thing -> the state of its latest execution, as the application saw it."""
    executions = trace.kind(Kind.EXECUTION)
    return dict(zip(executions.texts("thing"), executions.texts("status"), strict=True))


def running(trace: Trace) -> dict[str, str]:
    """thing -> the digest of what it ran last, by its own events."""
    facts = trace.kind(Kind.BOOT, Kind.CONFIRM, Kind.ROLLBACK, Kind.RETIRED)
    return dict(zip(facts.texts("thing"), facts.texts("digest"), strict=True))


def convergence(trace: Trace, scenario: Scenario) -> Finding:
    """L2: every target runs what is desired and its success was accepted, or a terminal failure says why not.

    A target that the application lost sight of (TIMED_OUT, UNKNOWN, or no end) is UNKNOWN while the device does not
    run the new software, and a failure if the device is alive at the end of the run.
    """
    draft = Draft("L2-convergence", "every target runs the desired software, or says why not", trace, safety=False)
    targets = trace.kind(Kind.TARGET)
    if not len(targets):
        return draft.unknown("the trace names no targets")
    actual, states = running(trace), last_states(trace)
    unseen = 0
    for row, thing, digest in zip(targets.rows.tolist(), targets.texts("thing"), targets.texts("digest"), strict=True):
        state = states.get(thing, "")
        if state in _EXPLAINED or (state == "SUCCEEDED" and actual.get(thing, digest) == digest):
            continue
        if thing in actual:
            draft.offend(row, thing)
        else:
            unseen += 1
    if unseen and not draft.rows:
        return draft.unknown(f"nothing is known of {unseen} targets")
    return draft.decide(f"{len(targets)} targets, all accounted for", "targets did not converge")


def counters(trace: Trace, scenario: Scenario) -> Finding:
    """S8: the application's counters add up to its targets, and each is the number of things in that state."""
    draft = Draft("S8-counters", "counters add up", trace)
    final = trace.kind(Kind.COUNTERS).where("status", "final")
    if not len(final):
        return draft.unknown("the rollout did not end: there are no final counters")
    targets = set(trace.kind(Kind.TARGET).texts("thing"))
    seen = Counter(state for thing, state in last_states(trace).items() if thing in targets)
    reports = trace.kind(Kind.REPORT).where("status", "SUCCESS")
    succeeded = set(reports.texts("thing"))
    for row, size, detail in zip(final.rows.tolist(), final["size"].tolist(), final.texts("detail"), strict=True):
        counted = {state: n for state, n in json.loads(detail).items() if n}
        wrong = sum(counted.values()) != size or size != len(targets) or counted != dict(seen)
        if wrong or counted.get("SUCCEEDED", 0) > len(succeeded):
            draft.offend(row, "")
    return draft.decide(f"{len(targets)} targets, each counted once", "counters that do not add up")


def thresholds(trace: Trace, scenario: Scenario) -> list[Finding]:
    """The scenario's own thresholds: converged, succeeded and failed, each of the targets."""
    targets = trace.kind(Kind.TARGET)
    wanted = dict(zip(targets.texts("thing"), targets.texts("digest"), strict=True))
    states, actual = last_states(trace), running(trace)
    counts = {
        "converged": sum(actual.get(thing) == digest for thing, digest in wanted.items()),
        "succeeded": sum(states.get(thing) == "SUCCEEDED" for thing in wanted),
        "failed": sum(states.get(thing) in ("FAILED", "REJECTED", "TIMED_OUT") for thing in wanted),
    }
    findings = []
    for name, (compare, limit) in scenario.thresholds.items():
        draft = Draft(f"threshold-{name}", f"{name} {compare} {limit:.1%} of the targets", trace, safety=False)
        if not wanted:
            findings.append(draft.unknown("the trace names no targets"))
            continue
        share = counts[name] / len(wanted)
        if not COMPARE[compare](share, limit):
            draft.offend(int(targets.rows[0]), "")
        findings.append(draft.decide(f"{share:.1%} {name}", f"threshold missed: {share:.1%} {name}"))
    return findings
