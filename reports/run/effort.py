"""What updates cost: where the time of one went, and how often devices and application had to do things again.

`waterfall` splits the time of two updates (the median and the 99th percentile) into steps, in seconds. `efforts` compares
how often something was done with how often it was needed, such as attempts to connect with connections made. `messages`
counts the devices' messages. All read a run's `Trace`; the summary, the page, the charts and comparisons use them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reports.run.times import PHASES, since_due
from simulator.model.events import Kind
from simulator.trace.reader import Trace, View


class Waterfall(NamedTuple):
    """Where the time of one update went: `total_s` is from when its offer was due until the application knew that it had
    succeeded; `parts_s` maps each step to its seconds. `thing` and `job` say which update it is."""

    thing: str
    job: str
    total_s: float
    parts_s: dict[str, float]


def waterfall(trace: Trace) -> dict[str, Waterfall]:
    """The updates of the median and of the 99th percentile of those that succeeded, in steps: until the device heard of
    it, each phase, and the rest until the application knew. Empty where none succeeded."""
    jobs, spans = since_due(trace, trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED"))
    if not len(jobs):
        return {}
    order = np.argsort(spans.took_s, kind="stable")
    picked = {name: order[int(share * (len(order) - 1))] for name, share in (("median", 0.5), ("p99", 0.99))}
    words = trace.words("job")
    return {name: _course(trace, words[jobs[at]], float(spans.took_s[at])) for name, at in picked.items()}


def _course(trace: Trace, job: str, total_s: float) -> Waterfall:
    events = trace.execution(job)
    kinds = {kind: events.where("kind", kind) for kind in (Kind.OFFER, Kind.DELTA, Kind.PHASE)}
    sent, heard, phases = (kinds[kind] for kind in (Kind.OFFER, Kind.DELTA, Kind.PHASE))
    due_us = int(sent["t_us"][0]) - max(0, int(sent["span_us"][0]))
    parts = {"until heard of": (int(heard["t_us"][0]) - due_us) / 1e6 if len(heard) else 0.0}
    for name in PHASES:
        spans = phases.where("phase", name)["span_us"]
        if len(spans):
            parts[name] = float(spans.clip(min=0).sum()) / 1e6
    parts = {name: seconds for name, seconds in parts.items() if seconds > 0}
    rest = total_s - sum(parts.values())
    if rest < 0 and "reporting" in parts:  # the application knew before the device heard the answer
        parts["reporting"] += rest
    elif rest > 0:
        parts["between phases"] = rest
    return Waterfall(next(iter(events.distinct("thing")), ""), job, total_s, parts)


class Effort(NamedTuple):
    """How often something was done, and how often it had to be."""

    done: int
    needed: int

    @property
    def times(self) -> float | None:
        """Done divided by needed; None where nothing was needed."""
        return self.done / self.needed if self.needed else None


def efforts(trace: Trace) -> dict[str, Effort]:
    """What was done -> how often, and how often it was needed; what was never done is left out. Attempts to connect are
    set against connections made, offers sent against first offers, reports of an end against updates that reported one,
    download requests against updates that downloaded, bytes downloaded against bytes installed."""
    connects, offers = trace.kind(Kind.CONNECT), trace.kind(Kind.OFFER)
    ends, pieces = trace.kind(Kind.REPORT).where("status", "SUCCESS", "FAILURE"), trace.kind(Kind.DOWNLOAD)
    counts = {
        "attempts to connect": Effort(len(connects), len(connects.where("status", "new", "resumed"))),
        "offers sent": Effort(len(offers.where("status", "sent", "resent")), len(offers.where("status", "sent"))),
        "ends reported": Effort(len(ends), _jobs(ends)),
        "download requests": Effort(len(pieces), _jobs(pieces)),
        "bytes downloaded": Effort(_bytes(pieces), _bytes(trace.kind(Kind.COMMIT))),
    }
    return {what: effort for what, effort in counts.items() if effort.done}


def messages(trace: Trace) -> dict[str, int]:
    """Meaning -> how many such messages the devices sent or received; meanings that never came are left out."""
    return {what: len(view) for what, view in messages_by_meaning(trace).items() if len(view)}


def messages_by_meaning(trace: Trace) -> dict[str, View]:
    """Meaning -> the events of the messages with this meaning that the devices sent or received."""
    reports, answers = trace.kind(Kind.REPORT), trace.kind(Kind.ANSWER)
    return {
        "deltas and answers to get": trace.kind(Kind.DELTA),
        "initial reports": reports.where("status", "initial"),
        "RUNNING": reports.where("status", "RUNNING"),
        "ends": reports.where("status", "SUCCESS", "FAILURE"),
        "answers to reports": answers.where("status", "accepted", "rejected"),
    }


def _jobs(view: View) -> int:
    return len(np.unique(view["job"][view["job"] >= 0]))


def _bytes(view: View) -> int:
    return int(view["size"].clip(min=0).sum())
