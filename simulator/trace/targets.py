"""What became of each target: one row for each thing of each rollout.

`Targets` joins a trace's events into arrays with one value for each target: its state, its latest execution, whether a
later rollout replaced it, and when it converged. Text stands as codes, as in `reader.py`; times are microseconds since
the run began; -1 means none. Checks and reports ask for it by `trace.once(Targets)`, so that it is made once for a trace.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.model.events import Kind
from simulator.model.update import State
from simulator.trace.reader import Codes, Trace, View

Mask = npt.NDArray[np.bool_]
Seconds = npt.NDArray[np.float64]


class Targets:
    """Arrays with one value for each target, in the order in which they were named.

    `view` holds the events that name them; `thing`, `rollout`, `cohort` are codes of thing, job and detail.
    `state` is the code of the status of its latest execution, -1 while it waits; `last` that event's row, else -1.
    `replaced`: a later rollout has offered to the same thing, so that this one's software is desired no more.
    `of_job` gives, by the code of a job, the index of the target whose execution it is; -1 where that is not known.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.view = view = trace.kind(Kind.TARGET)
        self.thing, self.rollout, self.cohort = view["thing"], view["job"], view["detail"]
        executions = trace.kind(Kind.EXECUTION)
        self.of_execution = self.of(executions)
        known = self.of_execution >= 0
        self.state, self.last = np.full(len(view), -1), np.full(len(view), -1)
        self.state[self.of_execution[known]] = executions["status"][known]  # later rows overwrite earlier ones
        self.last[self.of_execution[known]] = executions.rows[known]
        self.of_job = np.full(len(trace.words("job")), -1)
        for events, of in ((executions, self.of_execution), (offers := trace.kind(Kind.OFFER), self.of(offers))):
            named = events["job"] >= 0
            self.of_job[events["job"][named]] = of[named]
        self.replaced = self._replaced(executions)

    def __len__(self) -> int:
        return len(self.view)

    def of(self, events: View) -> Codes:
        """For each event the index of its target, found by thing and digest; -1 where there is none."""
        return events.latest(self.view, "thing", "digest")

    def of_jobs(self, events: View) -> Codes:
        """For each event the index of its target, found by its job; -1 where the job is of no target, or of another
        thing."""
        targets = self._by_job(events["job"])
        return np.where(self._at(self.thing, targets) == events["thing"], targets, -1)

    def owner(self, events: View) -> Codes:
        """For each event the code of the thing to which its job belongs; -1 where the job is of no target."""
        return self._at(self.thing, self._by_job(events["job"]))

    def _by_job(self, jobs: Codes) -> Codes:
        return self._at(self.of_job, jobs)

    @staticmethod
    def _at(values: npt.NDArray[Any], places: Codes) -> Codes:
        return np.append(values, -1)[places]

    def _replaced(self, executions: View) -> Mask:
        offered = self.of_execution[(self.of_execution >= 0) & self._is(executions, State.IN_PROGRESS)]
        newest = np.full(len(self._trace.words("thing")), -1)
        newest[self.thing[np.sort(offered)]] = np.sort(offered)
        return np.asarray(newest[self.thing] > np.arange(len(self)))

    def _is(self, events: View, status: str) -> Mask:
        return np.asarray(events["status"] == self._trace.code("status", status))

    @cached_property
    def halted(self) -> Mask:
        """Which targets' rollouts are paused when the record ends, while none of their targets is under way."""
        moves = self._trace.kind(Kind.ROLLOUT).where("status", "pause", "resume", "abort", "end")
        last = dict(zip(moves["job"].tolist(), moves.texts("status"), strict=True))
        busy = set(self.rollout[self.ended_as(State.IN_PROGRESS)].tolist())
        halted = [job for job, status in last.items() if status == "pause" and job not in busy]
        return np.isin(self.rollout, halted)

    @cached_property
    def converged_us(self) -> Codes:
        """For each target when it had converged, in microseconds since the run began: when the application or the backend
        knew that its device runs the desired software. -1 if neither ever did, or if the device, by its own record, ran
        other software in the end.

        A replaced target's device may run other software later, so there the success of the execution counts alone.
        """
        trace, executions = self._trace, self._trace.kind(Kind.EXECUTION)
        known = self._acknowledged_us()
        done = (self.of_execution >= 0) & self._is(executions, State.SUCCEEDED)
        succeeded = np.full(len(self), -1)
        succeeded[self.of_execution[done]] = executions["t_us"][done]
        succeeded[~self.ended_as(State.SUCCEEDED)] = -1
        known = np.where(succeeded >= 0, succeeded, known)
        digests, versions = running(trace)
        wanted, unhashed = self.view["digest"], self.view["digest"] == -1
        runs = digests[self.thing] == wanted
        runs[unhashed] = (versions[self.thing] == self.view["version"])[unhashed]  # nobody told the hash
        return np.where(self.replaced, succeeded, np.where(runs, known, -1))

    def _acknowledged_us(self) -> Codes:
        """For each target when its report of success was accepted, or else when the replica last accepted a report of the
        new version; -1 if neither happened."""
        trace = self._trace
        accepted = trace.kind(Kind.ACCEPTED).where("status", "reported", "both")
        reported, at = (np.full(len(trace.words("thing")), -1) for _ in range(2))
        reported[accepted["thing"]], at[accepted["thing"]] = accepted["version"], accepted["t_us"]
        known = np.where(reported[self.thing] == self.view["version"], at[self.thing], -1)
        answers = trace.kind(Kind.ANSWER).where("status", "accepted")
        answers = answers.only(answers.latest(trace.kind(Kind.REPORT).where("status", "SUCCESS"), "thing", "job") >= 0)
        of = self.of_jobs(answers)
        known[of[of >= 0]] = answers["t_us"][of >= 0]
        return known

    def marked(self, places: Codes) -> Mask:
        """Mask of the targets with these indices; an index of -1 is ignored."""
        marks = np.zeros(len(self), bool)
        marks[places[places >= 0]] = True
        return marks

    def ended_as(self, *states: str) -> Mask:
        """Mask of the targets whose latest execution is in one of these states."""
        return self._trace.among("status", self.state, states)

    def rollouts(self) -> dict[str, Mask]:
        """Rollout's name -> mask of its targets, in the order in which the names first appear."""
        codes, first = np.unique(self.rollout, return_index=True)
        words = self._trace.words("job")
        return {words[code]: self.rollout == code for code in codes[np.argsort(first)].tolist()}

    def outcomes(self, which: Mask | None = None) -> dict[str, int]:
        """State -> how many targets are in it, sorted by the state's name; those never offered are QUEUED. `which` is
        a mask of the targets to count; None: all."""
        codes, counts = np.unique(self.state if which is None else self.state[which], return_counts=True)
        words = self._trace.words("status")
        outcomes: dict[str, int] = {}
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            state = words[code] if code >= 0 else State.QUEUED.value
            outcomes[state] = outcomes.get(state, 0) + count
        return dict(sorted(outcomes.items()))


def running(trace: Trace) -> tuple[Codes, Codes]:
    """(digests, versions), each by the code of a thing: what its device ran last, by its own events; -1 where it has
    none."""
    facts = trace.kind(Kind.BOOT, Kind.CONFIRM, Kind.ROLLBACK, Kind.RETIRED)
    digests, versions = (np.full(len(trace.words("thing")), -1) for _ in range(2))
    digests[facts["thing"]], versions[facts["thing"]] = facts["digest"], facts["version"]
    return digests, versions
