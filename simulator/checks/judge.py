"""The judge: runs over a trace the checks that the run has left evidence for. A check that crashes is UNKNOWN, never a
pass. CHECKS lists all checks; a new one is entered there, with what it needs: an own backend, a probe, a capability."""

from __future__ import annotations

import difflib
from dataclasses import replace

from simulator.checks import (
    backoff,
    device,
    executions,
    fleet,
    grants,
    learning,
    probing,
    replica,
    requests,
    returning,
    rollout,
    sessions,
    storage,
    terminal,
    unplanted,
)
from simulator.checks.base import Check
from simulator.model.capabilities import ALL, Capabilities
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding, Verdict
from simulator.trace.reader import Trace

CHECKS: dict[str, Check] = {
    "L1-terminal": terminal.terminal,
    "L2-convergence": fleet.convergence,
    "L3-learns": learning.learns,
    "L4-timeout": rollout.timeout,
    "L5-answered": requests.answered,
    "L6-fresh-leave": grants.fresh,
    "L7-rollout-ends": rollout.ends,
    "L8-return": returning.returns,
    "L9-backoff": backoff.patience,
    "L10-no-starvation": rollout.no_starvation,
    "L11-unplanted": unplanted.unplanted,
    "S1-version": replica.version,
    "S2-conditional": probing.conditional,
    "S3-delta": replica.delta,
    "S4-correlation": requests.correlation,
    "S5-durability": replica.durability,
    "S6-states": executions.states,
    "S7-idempotence": executions.idempotence,
    "S8-counters": fleet.counters,
    "S9-binding": executions.binding,
    "S10-integrity": device.integrity,
    "S11-true-success": device.true_success,
    "S12-no-regress": device.no_regress,
    "S13-at-most-once": device.at_most_once,
    "S14-url": storage.url,
    "S15-range": storage.ranges,
    "S16-limits": rollout.limits,
    "S17-abort": rollout.abort,
    "S18-gate": rollout.gates,
    "S19-one-session": sessions.one_session,
    "S20-offline-queue": sessions.offline_queue,
    "S21-no-replay": executions.no_replay,
    "S22-validation": probing.validation,
    "S23-targeting": device.targeting,
}
_OF_THE_BACKEND = ("S20-offline-queue",)
"""What only the backend's own events tell: one that is already there records none."""
_OF_A_PROBE = ("S2-conditional", "S22-validation")
"""What, without these, only a probe finds out."""
_OF_A_CAPABILITY = {
    "versions": ("S1-version", "S2-conditional", "S12-no-regress"),
    "deltas": ("S3-delta",),
    "replica": ("S5-durability", "S22-validation"),
    "sessions": ("L3-learns", "L8-return", "S19-one-session", "S20-offline-queue"),
}
"""capability -> the checks that look at nothing without it."""


def named(names: tuple[str, ...], key: str = "checks") -> tuple[str, ...]:
    """The checks of these names, or numbers such as S19; all for none. Raises ScenarioError, with the scenario's `key`, for
    a name that is none."""
    numbers = {name.partition("-")[0]: name for name in CHECKS}
    for name in names:
        if name not in CHECKS and name not in numbers:
            near = difflib.get_close_matches(name, CHECKS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(CHECKS)}"
            raise ScenarioError(f"{key}: no such check: {name!r}; {hint}")
    return tuple(dict.fromkeys(numbers.get(name, name) for name in names or CHECKS))


def sensible(scenario: Scenario) -> None:
    """Raises ScenarioError where the scenario names a check that there is not, or requires one that it leaves out."""
    checks = named(scenario.checks)
    left_out = [name for name in named(scenario.require, "require") if name not in checks]
    if scenario.require and left_out:
        raise ScenarioError(f"require: {left_out[0]} is not among the scenario's checks")


def not_judged(scenario: Scenario, can: Capabilities = ALL) -> dict[str, str]:
    """The checks for which a run of this scenario leaves no evidence: check -> why. `can` is what its dialect can do."""
    why = {
        name: f"dialect {scenario.target.dialect} does nothing that this check could look at"
        for capability, names in _OF_A_CAPABILITY.items()
        if not getattr(can, capability)
        for name in names
    }
    if scenario.target.kind == "external":
        why |= dict.fromkeys(
            _OF_THE_BACKEND, "it needs the replica's own record, which an external backend does not give"
        )
        if not scenario.target.probes:
            why |= dict.fromkeys(_OF_A_PROBE, "it needs a probe: set target.probe to true")
    return why


_OF_A_ROLLOUT = ("L4-timeout", "L7-rollout-ends", "L10-no-starvation", "S16-limits", "S17-abort", "S18-gate")
"""What is asked of each rollout by itself."""
_GRAVITY = (Verdict.NO_OCCASION, Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL)


def judge(trace: Trace, scenario: Scenario, can: Capabilities = ALL) -> tuple[Finding, ...]:
    """The findings of the scenario's checks and thresholds. `can` is what its dialect can do."""
    lacks = {} if scenario.checks else not_judged(scenario, can)
    needed = named(scenario.require) if scenario.require else ()
    findings = [_judged(name, CHECKS[name], trace, scenario) for name in named(scenario.checks)]
    findings = [_unproven(finding, lacks.get(finding.check, "")) for finding in findings]
    findings = [_needed(finding) if finding.check in needed else finding for finding in findings]
    return (*findings, *fleet.thresholds(trace, scenario))


def _unproven(finding: Finding, lacks: str) -> Finding:
    """A finding that says nothing, where the run leaves no evidence."""
    return replace(finding, verdict=Verdict.NOT_JUDGED, summary=lacks, things=(), events=()) if lacks else finding


def _needed(finding: Finding) -> Finding:
    """UNKNOWN, where a check that the scenario requires says nothing."""
    if not finding.verdict.silent:
        return finding
    return replace(finding, verdict=Verdict.UNKNOWN, summary=f"required, but {finding.summary}")


def _judged(name: str, check: Check, trace: Trace, scenario: Scenario) -> Finding:
    """Of several rollouts the gravest finding tells, with its rollout's name."""
    alone = trace.once(_alone, scenario) if name in _OF_A_ROLLOUT else (scenario,)
    if len(alone) == 1:
        return _run(name, check, trace, alone[0])
    each = [(single.rollout.name, _run(name, check, trace, single)) for single in alone]
    rollout, gravest = max(each, key=lambda pair: _GRAVITY.index(pair[1].verdict))
    if gravest.verdict in (Verdict.PASS, Verdict.NO_OCCASION):
        return replace(gravest, summary=f"{len(each)} rollouts; {rollout}: {gravest.summary}")
    return replace(gravest, summary=f"{rollout}: {gravest.summary}")


def _alone(trace: Trace, scenario: Scenario) -> tuple[Scenario, ...]:
    """Made once: what checks share of a rollout is known by its scenario's very objects."""
    return scenario.rollouts


def _run(name: str, check: Check, trace: Trace, scenario: Scenario) -> Finding:
    try:
        return check(trace, scenario)
    except Exception as error:
        return Finding(name, name, Verdict.UNKNOWN, f"the check itself crashed: {type(error).__name__}: {error}")
