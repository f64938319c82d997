"""One device of a live run carried over into virtual time: does what it did there make a check fail again?"""

from __future__ import annotations

import hashlib
import itertools
import shlex
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from simulator.checks.judge import CHECKS, judge
from simulator.faults.catalogue import rule_of
from simulator.faults.rules import Nature
from simulator.model.errors import ScenarioError
from simulator.model.events import KINDS, Kind
from simulator.model.scenario import Distribution, Scenario
from simulator.model.verdict import Finding, Verdict
from simulator.trace.reader import Trace, describe, merged
from simulator.trace.rundir import Run
from simulator.worlds import judgement as judging
from simulator.worlds import run as running
from simulator.worlds import setup
from simulator.worlds.reproduce import replay
from simulator.worlds.reproduce.actor import Actor, Circumstances
from simulator.worlds.reproduce.one_device import DEVICE_KINDS, alone_in, ordinal_of, own_events, perform
from simulator.worlds.reproduce.script import Script, must_be_spoken, script_of

_LEFT_OUT = (*DEVICE_KINDS, *(kind for kind, meaning in KINDS.items() if meaning.by in ("replica", "storage")))
_SHARD = 10  # of the fleet's first recorder
_COURSE = ("kind", "job", "status", "phase", "version", "digest")


class PlayedBack(NamedTuple):
    """How far a device's events are the recorded ones, apart from when they came: `alike` of its `events` are, at most
    `apart_us` apart; `parts` shows the first that is not, and what stands there instead."""

    events: int
    alike: int
    apart_us: int
    parts: tuple[str, str] | None


class Carried(NamedTuple):
    """A device of a live run in virtual time. `again` are the failures that came again, `not_again` those that did not,
    each with the reason; `course` is None where nothing was played."""

    run: Run
    thing: str
    again: tuple[Finding, ...]
    not_again: tuple[tuple[Finding, str], ...]
    course: PlayedBack | None
    recorded_exit_code: int

    @property
    def exit_code(self) -> int:
        """The recorded run's where a failure came again, else 2."""
        return self.recorded_exit_code if self.again else 2


def carry(run: Run, device: str | None) -> Carried:
    """Play one device of a failed live run in virtual time: the one named, else the first that a failed check names.
    Raises ScenarioError where there is nothing to carry over."""
    scenario = running.to_run_again(run)
    must_be_spoken(scenario.target.dialect)
    judgement = judging.judge_again(run, ())
    if not judgement.failed:
        raise ScenarioError(f"{run.path}: no check failed in it: there is nothing to carry over")
    if device is None:
        fleet = {
            scenario.fleet.name(at) for at in scenario.fleet.present
        }  # a probe asks about a thing that is no device
        device = next((thing for finding in judgement.failed for thing in finding.things if thing in fleet), None)
    if device is None:
        failed = ", ".join(finding.check for finding in judgement.failed)
        raise ScenarioError(f"{run.path}: what failed ({failed}) names no device; name one with --device")
    ordinal = ordinal_of(scenario, device)
    carrying = Carrying(run, scenario, ordinal)
    decided, not_decided = carrying.decided_by_the_device(judgement.failed)
    if not decided:
        return Carried(run, carrying.thing, (), tuple(not_decided), None, judgement.exit_code)
    if lacking := carrying.lacking():
        reasons = [(finding, lacking) for finding in decided]
        return Carried(run, carrying.thing, (), (*reasons, *not_decided), None, judgement.exit_code)
    again, not_again, course = carrying.play(decided)
    return Carried(run, carrying.thing, again, (*not_again, *not_decided), course, judgement.exit_code)


class Carrying:
    """One device, its record, and what else the record tells of it but for the backend's part."""

    def __init__(self, run: Run, scenario: Scenario, ordinal: int) -> None:
        self._scenario, self._ordinal = scenario, ordinal
        self.thing = scenario.fleet.name(ordinal)
        self._trace = run.trace
        self._own = own_events(run.trace, self.thing)
        if not len(self._own):
            raise ScenarioError(f"{run.path}: no event of {self.thing} in its record")
        self._context = self._trace.table.take(pa.array(np.flatnonzero(self._around())))

    def _around(self) -> Any:
        """What the conductor and the application recorded of it, or of the whole run."""
        trace = self._trace
        of_it = trace.among("thing", trace.column("thing"), (self.thing, ""))
        kinds = trace.column("kind")
        did = trace.among("kind", kinds, (Kind.FAULT,)) & trace.among("status", trace.column("status"), ("did",))
        return of_it & ~did & ~trace.among("kind", kinds, _LEFT_OUT)

    def _failing(self, checks: list[str], own: pa.Table) -> dict[str, Finding]:
        """The findings of these checks that fail this device, if these are its events."""
        shard = pa.array(np.full(len(own), _SHARD, np.int16))
        events = own.set_column(own.schema.get_field_index("shard"), own.schema.field("shard"), shard)
        trace = Trace(merged([self._context, events]))
        alone = alone_in(self._scenario, self._ordinal).model_copy(update={"checks": tuple(checks), "thresholds": {}})
        return {f.check: f for f in judge(trace, alone) if f.verdict is Verdict.FAIL and self.thing in f.things}

    def decided_by_the_device(self, failed: tuple[Finding, ...]) -> tuple[list[Finding], list[tuple[Finding, str]]]:
        """The failures that the recorded events of this device alone show, and the others, each with the reason."""
        checks = [finding.check for finding in failed if finding.check in CHECKS]
        shown = self._failing(checks, self._own) if checks else {}
        anyway = self._failing(checks, self._own.slice(0, 0)) if checks else {}
        decided, not_decided = [], []
        for finding in failed:
            if finding.check not in CHECKS:
                not_decided.append((finding, "it is about the whole fleet"))
            elif finding.check in anyway:
                not_decided.append((finding, "the application's own events fail it, whatever the device does"))
            elif finding.check in shown:
                decided.append(shown[finding.check])
            elif finding.things and self.thing not in finding.things:
                not_decided.append((finding, f"it names other devices: {', '.join(finding.things[:3])}"))
            else:
                why = "the device's own events do not show it: it takes those of the backend or of other devices"
                not_decided.append((finding, why))
        return decided, not_decided

    def lacking(self) -> str:
        """What the record lacks for the device to be played; empty where it lacks nothing."""
        own = Trace(self._own)
        boots = own.kind(Kind.BOOT)
        if not len(boots) or boots.rows[0] != self._first(own) or boots.texts("status")[0] != "cold":
            return "the record lacks the device's start"
        if self._scenario.target.artifact_url is not None:
            return f"the record lacks the artifact's bytes, which came from {self._scenario.target.artifact_url}"
        digest = hashlib.sha256(setup.artifact_bytes(self._scenario)).hexdigest()
        announced = {digest for digest in own.kind(Kind.DELTA).distinct("digest") if digest}
        if announced - {digest}:
            return "the record lacks the artifact's bytes: their hash is not that of the scenario's artifact"
        return ""

    @staticmethod
    def _first(own: Trace) -> int:
        """The first event that is not of a fault that it was born with."""
        others = np.flatnonzero(own.column("kind") != own.code("kind", Kind.FAULT))
        return int(others[0]) if len(others) else 0

    def play(self, decided: list[Finding]) -> tuple[tuple[Finding, ...], list[tuple[Finding, str]], PlayedBack]:
        """Which failures come again in virtual time, which not and why, and how the device fared."""
        script = self._script()
        others = partial(self._actor, script)
        played = perform(self._still(), self._ordinal, script.began_us, others)
        course = _course(self._own, played.events)
        failing = self._failing([finding.check for finding in decided], played.events)
        again = tuple(failing[finding.check] for finding in decided if finding.check in failing)
        why = played.departs or (
            "the same course does not fail it" if course.parts is None else "its course parts from the recorded one"
        )
        return again, [(finding, why) for finding in decided if finding.check not in failing], course

    def _script(self) -> Script:
        events = Trace(self._own)
        first = self._first(events)
        turns = self._trace.kind(Kind.FAULT).where("status", "begin", "end")
        return script_of(
            self._scenario,
            self._ordinal,
            (events.row(n) for n in range(first, len(events))),
            (self._trace.row(n) for n in turns.rows.tolist()),
        )

    def _actor(self, script: Script, turned: Any) -> Actor:
        scenario, ordinal = self._scenario, self._ordinal
        rules = [rule_of(fault, n) for n, fault in enumerate(scenario.faults) if ordinal in scenario.harmed(n)]
        skew_s = sum(rule.skew_s for rule in rules if isinstance(rule, Nature))
        content = setup.artifact_bytes(scenario)
        circumstances = Circumstances(self.thing, self._url(), content, skew_s)
        return Actor(script, setup.replica_dialect(scenario.target), circumstances, turned)

    def _url(self) -> str:
        """Where the software was said to be, if the backend recorded it."""
        wanted = self._trace.kind(Kind.ACCEPTED).where("thing", self.thing).where("status", "desired", "both")
        return next(
            (url for url in wanted.texts("detail") if url), f"http://storage.test/{self._scenario.rollout.name}"
        )

    def _still(self) -> Scenario:
        """The scenario on roads that take no time: the recorded times hold it."""
        fleet = self._scenario.fleet
        name = fleet.profile_of(fleet.cohort_of(self._scenario.seed)[self._ordinal])
        still = self._scenario.profile(name).model_copy(update={"latency": Distribution(fixed=0.0)})
        return self._scenario.model_copy(update={"profiles": {**self._scenario.profiles, name: still}})


def _course(recorded: pa.Table, played: pa.Table) -> PlayedBack:
    """How far two courses are the same: in what the device heard, in what befell it, and in what it did, each by itself,
    for one overtakes another by less than a live run's timers can tell."""
    alike, apart_us, partings = 0, 0, []
    recorded_strands, played_strands = (_strands(Trace(table)) for table in (recorded, played))
    for one, other in zip(recorded_strands, played_strands, strict=True):
        pairs = list(itertools.takewhile(lambda pair: _same(*pair), zip(one, other, strict=False)))
        at = len(pairs)
        alike += at
        apart_us = max([apart_us, *(abs(a["t_us"] - b["t_us"]) for a, b in pairs)])
        if there := [strand[at] for strand in (one, other) if len(strand) > at]:
            partings.append((min(event["t_us"] for event in there), (_said(one, at), _said(other, at))))
    return PlayedBack(sum(map(len, recorded_strands)), alike, apart_us, min(partings)[1] if partings else None)


def _strands(trace: Trace) -> list[list[dict[str, Any]]]:
    """What the device heard, what befell it, and what it did; without answers that nobody waited for."""
    strands: list[list[dict[str, Any]]] = [[], [], []]
    for n in range(len(trace)):
        event = trace.row(n)
        kind = event["kind"]
        if kind == Kind.ANSWER and "job" not in event:
            continue
        strands[0 if kind in (Kind.DELTA, Kind.ANSWER) else 1 if kind == Kind.FAULT else 2].append(event)
    return strands


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in _COURSE)


def _said(events: list[dict[str, Any]], n: int) -> str:
    return describe(events[n], named=False).strip() if n < len(events) else "(no further event of this sort)"


def as_text(carried: Carried) -> str:
    """How carrying a device over went, for a terminal."""
    verdict = "REPRODUCED" if carried.again else "NOT REPRODUCED"
    lines = [
        f"{verdict}  {carried.run.path}  {carried.thing} in virtual time  seed {carried.run.manifest.get('seed')}",
        *replay.other_version(carried.run),
        *(f"  ✗ {finding.check:<20} {finding.summary}" for finding in carried.again),
        *(f"  ? {finding.check:<20} not reproduced: {why}" for finding, why in carried.not_again),
    ]
    if (course := carried.course) is not None:
        apart = f"at most {course.apart_us / 1e3:.1f} ms apart"
        if course.parts is None:
            lines.append(f"  its course is the recorded one: {course.events:,} events, {apart}")
        else:
            lines.append(
                f"  its course is the recorded one in {course.alike:,} of {course.events:,} events, {apart}, until"
            )
            lines += [
                f"    {side + ':':<9} {event}"
                for side, event in zip(("recorded", "replayed"), course.parts, strict=True)
            ]
    lines.append(f"  timeline  {shlex.join(['fleetsim', 'trace', str(carried.run.path), carried.thing])}")
    return "\n".join(lines)
