"""A virtual run once more, in memory: the same trace, and if not, the first event that differs."""

from __future__ import annotations

import traceback
from enum import StrEnum
from typing import NamedTuple

import pyarrow as pa

from simulator import __version__
from simulator.faults.swarm import with_swarm
from simulator.links.clock import TimeLimit
from simulator.model.errors import NotSimulated, ScenarioError
from simulator.model.events import Kind
from simulator.model.scenario import Scenario
from simulator.model.verdict import Judgement, Verdict
from simulator.trace.reader import Trace, first_difference, in_order
from simulator.trace.rundir import Run
from simulator.worlds import judgement as judging
from simulator.worlds import run as running
from simulator.worlds import virtual

Difference = tuple[int, str, str]  # row, and the event of either side


class Again(NamedTuple):
    """A run in memory. `crash` says which exception of this program's ended it, and where; empty where none did."""

    trace: Trace
    judgement: Judgement
    crash: str = ""


class Likeness(StrEnum):
    """What a replay comes to."""

    SAME = "SAME"
    DIFFERENT = "DIFFERENT"
    FIXED = "FIXED"


class Replay(NamedTuple):
    """A recorded run beside the new one; `compared` of its events, which is all of them if it was `whole`."""

    run: Run
    whole: bool
    compared: int
    difference: Difference | None
    recorded: Judgement
    new: Again

    @property
    def likeness(self) -> Likeness:
        """FIXED where what had failed passes, and nothing else fails."""
        if self.difference is None:
            return Likeness.SAME
        passed = {f.check for f in self.new.judgement.findings if f.verdict is Verdict.PASS}
        mended = passed >= {f.check for f in self.recorded.failed}
        ended = not (self.new.judgement.failed or self.new.judgement.incomplete or self.new.judgement.died)
        return Likeness.FIXED if self.recorded.failed and mended and ended else Likeness.DIFFERENT

    @property
    def exit_code(self) -> int:
        """The original's for the same trace, 0 for a failure that is gone, else 2."""
        return {Likeness.SAME: self.recorded.exit_code, Likeness.FIXED: 0}.get(self.likeness, 2)


def again(scenario: Scenario, until_s: float | None = None) -> Again:
    """Run a scenario in virtual time and judge it, without a file; no further than `until_s`. An exception of this program's ends
    the run, not the caller; raises ScenarioError and NotSimulated."""
    scenario = with_swarm(scenario)
    batches: list[pa.RecordBatch] = []
    incomplete: tuple[str, ...] = ()
    died: tuple[str, ...] = ()
    crash = ""
    try:
        outcome = virtual.run(scenario, batches.append, until_s=until_s)
        if "died" in outcome:
            died = (outcome["died"],)
        elif not outcome["complete"]:
            incomplete = (outcome["reason"],)
    except (ScenarioError, NotSimulated):
        raise
    except TimeLimit:
        incomplete = (f"stopped at {until_s:g} s",)
    except Exception as error:
        crash, message = crash_of(error)
        died = (f"{crash}: {message}",)
    trace = Trace(in_order(batches))
    return Again(trace, judging.judged(trace, scenario, incomplete, died), crash)


def crash_of(error: BaseException) -> tuple[str, str]:
    """Which exception it was and in which function, and what it says."""
    while isinstance(error, BaseExceptionGroup):  # of a task group: the first one
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].filename.rpartition('/')[2]} {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}{where}", str(error)


def trace_of(scenario: Scenario) -> pa.Table:
    """The trace of a virtual run, in memory. What a party raises is raised."""
    batches: list[pa.RecordBatch] = []
    virtual.run(with_swarm(scenario), batches.append)
    return in_order(batches)


def twice(scenario: Scenario) -> Difference | None:
    """The first event in which two runs of one scenario differ; None where they are the same."""
    running.sensible(scenario)
    running.sensible_in_virtual_time(scenario)
    return first_difference(trace_of(scenario), trace_of(scenario))


def replay(run: Run) -> Replay:
    """Run a recorded virtual run again and compare, as far as its record goes; the whole of it where something differs.
    Raises ScenarioError for a live run, and one without a record."""
    scenario, recorded = comparable(run)
    judgement = judging.judge_again(run, ())
    new = again(scenario, recorded.until_s)
    difference = recorded.first_difference(new.trace)
    if difference is not None and not recorded.whole:
        new = again(scenario)
    return Replay(run, recorded.whole, len(recorded.table), difference, judgement, new)


class Beginning(NamedTuple):
    """The events of a record that a second run repeats, whether these are all, and until when it must run for them."""

    table: pa.Table
    whole: bool
    until_s: float | None

    def first_difference(self, trace: Trace) -> Difference | None:
        """Where another run's trace differs first."""
        return first_difference(self.table, trace.table if self.whole else trace.table.slice(0, len(self.table)))


def comparable(run: Run) -> tuple[Scenario, Beginning]:
    """A recorded virtual run's scenario, and what of its record can be compared. Raises ScenarioError where it is a
    live run, or nothing can be."""
    scenario = judging.scenario_of(run)
    if scenario.world != "virtual":
        raise ScenarioError(
            f"{run.path}: a run of the {scenario.world} world, which no run repeats; "
            f"a device of it can be carried over: fleetsim replay --world virtual {run.path} --device NAME"
        )
    running.to_run_again(run)
    beginning = _beginning(run.trace)
    if not len(beginning.table):
        raise ScenarioError(f"{run.path}: its record holds nothing that could be compared")
    return scenario, beginning


def _beginning(trace: Trace) -> Beginning:
    """In a record that breaks off, the events of the last instant may come of its ending: an interrupt switches all
    devices off."""
    if not len(trace):
        return Beginning(trace.table, False, None)
    last = trace.row(len(trace) - 1)
    if (last["kind"], last.get("status")) == (Kind.RUN, "end"):
        return Beginning(trace.table, True, None)
    earlier = int(trace.column("t_us").searchsorted(last["t_us"]))
    return Beginning(trace.table.slice(0, earlier), False, last["t_us"] / 1e6)


def differing(difference: Difference, first: str, second: str) -> str:
    """The first event that differs, for a terminal."""
    row, *events = difference
    width = max(len(first), len(second)) + 1
    sides = [f"  {name + ':':<{width}} {event}" for name, event in zip((first, second), events, strict=True)]
    return "\n".join([f"the traces differ at event {row}:", *sides])


def as_text(replayed: Replay) -> str:
    """How a replay went, for a terminal."""
    lines = [
        f"{replayed.likeness}  {replayed.run.path}  seed {replayed.run.manifest.get('seed')}",
        *other_version(replayed.run),
    ]
    if not replayed.whole:
        lines.append(
            f"  the record breaks off ({_why(replayed)}): its first {replayed.compared:,} events were compared"
        )
    elif replayed.difference is None:
        lines.append(f"  all {replayed.compared:,} events are the same")
    if replayed.difference is not None:
        lines += [f"  {line}" for line in differing(replayed.difference, "recorded", "replayed").splitlines()]
    sides = {"recorded": replayed.recorded, "replayed": replayed.new.judgement}
    if replayed.difference is None:
        del sides["replayed"]  # the same trace, the same judgement
    for side, judgement in sides.items():
        lines += judged_as(side, judgement)
    return "\n".join(lines)


def other_version(run: Run) -> list[str]:
    """A line for a terminal where another version recorded the run."""
    recorded = run.manifest.get("version")
    return [] if recorded == __version__ else [f"  recorded by version {recorded}, replayed by {__version__}"]


def judged_as(side: str, judgement: Judgement) -> list[str]:
    """A judgement's verdict and what it comes from, for a terminal."""
    failed = [f"    ✗ {f.check:<20} {f.summary}" for f in judgement.failed]
    return [f"  {side}: {judgement.verdict}", *failed, *(f"    {r}" for r in (*judgement.died, *judgement.incomplete))]


def _why(replayed: Replay) -> str:
    return "; ".join([*replayed.recorded.died, *replayed.recorded.incomplete]) or "it did not end properly"
