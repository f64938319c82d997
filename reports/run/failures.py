"""Which targets did not succeed and why, and which took longest.

`failures` counts the targets that did not succeed, in groups of the same state, phase, reason and cohort. `slowest` picks
those that took longest to converge. Both read a run's `Trace` and its `Targets`; the summary and the run's page use them.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from reports.run.times import cohorts, converged_s
from simulator.model.events import Kind
from simulator.model.update import State, plain
from simulator.trace.reader import Codes, Trace
from simulator.trace.targets import Targets

_END_PHASES = ("reporting", "rolling-back", "idle")


class Failure(NamedTuple):
    """A group of targets that did not succeed: `targets` of one cohort are in this state, for this reason, and failed in
    this phase of the device (empty: not known). Numbers and hashes are cut out of the reason, so that targets that
    differ in nothing else are counted together."""

    state: str
    phase: str
    reason: str
    cohort: str
    targets: int


def failures(trace: Trace, targets: Targets) -> list[Failure]:
    """The targets that have not ended, or ended otherwise than SUCCEEDED, in groups; the largest group first."""
    failed = np.flatnonzero(~targets.ended_as(State.SUCCEEDED))
    of_cohort = np.empty(len(targets), object)
    for name, mask in cohorts(trace, targets).items():
        of_cohort[mask] = name
    words, details = trace.words("status"), trace.words("detail")
    last, phase = targets.last[failed], _phases(trace)
    reason = np.where(last >= 0, trace.column("detail")[last], -1)
    job = np.where(last >= 0, trace.column("job")[last], -1)
    why = {code: plain(details[code]) if code >= 0 else "" for code in np.unique(reason).tolist()}
    rows = zip(targets.state[failed].tolist(), phase[job].tolist(), reason.tolist(), of_cohort[failed], strict=True)
    counts = Counter(
        (
            words[state] if state >= 0 else State.QUEUED.value,
            words[at] if at >= 0 else "",
            why[code],
            cohort,
        )
        for state, at, code, cohort in rows
    )
    return [Failure(*what, count) for what, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _phases(trace: Trace) -> Codes:
    """By the code of a job: the code of the last phase of work that its device entered; -1 where none is recorded."""
    moves, last = trace.kind(Kind.PHASE), np.full(len(trace.words("job")) + 1, -1)
    work = moves.only(~trace.among("status", moves["status"], _END_PHASES) & (moves["job"] >= 0))
    last[work["job"]] = work["status"]  # the last is written last
    return last


def slowest(trace: Trace, targets: Targets, most: int) -> Codes:
    """The indices of the targets that took longest to converge, the slowest first, at most `most`; only of those that
    did."""
    took = trace.once(converged_s, targets)
    order = np.argsort(-took, kind="stable")
    return order[: min(most, int((~np.isnan(took)).sum()))]
