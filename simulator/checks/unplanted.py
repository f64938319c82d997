"""A check that whatever fails was made to fail: by a fault, by a mishap of the device's profile, or by a marker in the
software.

It collects everything that went wrong in the record: reports of failure, answers 5xx and bodies that broke off in
downloads, offers that were refused or never answered, and executions that timed out. Each is looked up among what was
planted on that device, and among the outages of servers. What is left, nobody planted: it is a finding about the backend,
the storage or the device, and the finding says which of them.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from simulator.checks.arrays import taken
from simulator.checks.base import Draft, link_events
from simulator.checks.device import details
from simulator.checks.outages import RETURN_US, outages
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.update import Phase, State, plain
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View, newest
from simulator.trace.targets import Mask, Targets

_SERVERS = ("broker", "replica", "storage")
_NAMED = 3
_AWAY = "offline"  # the device's own offline window ended the request


class _Failures(NamedTuple):
    """Events that tell of a failure: since when, in microseconds, something planted could have brought it about; and for
    each whose failure it is and what happened, as text."""

    events: View
    since_us: Codes
    causes: list[str]


def unplanted(trace: Trace, scenario: Scenario) -> Finding:
    """L11: each report of failure, each answer 5xx to a download and each body that breaks off, each refused or unanswered
    offer and each timeout is explained: by a fault that struck the device before, by a mishap or a marker in that job, or by
    an outage of a server. A timeout is explained, too, where the device was away, or still at work.

    Where the scenario has a threshold for `succeeded` or `failed`, that one judges how targets end, and this check judges
    the downloads and hashes alone.
    """
    draft = Draft(
        "L11-unplanted", "nothing fails but what a fault, a mishap or a marker of the run explains", trace, safety=False
    )
    targets = trace.once(Targets)
    if not len(targets):
        return draft.unknown("the trace names no targets")
    if not len(trace.kind(Kind.BOOT)):
        return draft.unknown("the trace holds nothing of the devices")
    judged_elsewhere = not {"succeeded", "failed"}.isdisjoint(scenario.thresholds)
    found = [_downloads(trace), _reports(trace, mismatches_alone=judged_elsewhere)]
    if not judged_elsewhere:
        found += [_offers(trace), _timeouts(trace)]
    causes: Counter[str] = Counter()
    planted = 0
    for failures in found:
        explained = _explained(trace, failures)
        planted += int(explained.sum())
        draft.offend(failures.events.rows[~explained])
        causes.update(failures.causes[at] for at in np.flatnonzero(~explained).tolist())
    told = "; ".join(f"{count:,} × {cause}" for cause, count in causes.most_common(_NAMED))
    return draft.decide(
        f"{many(len(targets), 'target')}, {many(planted, 'failure')}, each explained by what was planted",
        "failure",
        f"that nothing planted explains ({told})",
        seen=len(targets),
        unseen="",
    )


def _explained(trace: Trace, failures: _Failures) -> Mask:
    """Which failures something planted explains."""
    events, since_us, _ = failures
    struck = events.latest(trace.kind(Kind.FAULT).where("status", "did"), "thing") >= 0
    mishaps = trace.kind(Kind.MISHAP)
    of_no_job = mishaps.only(mishaps["job"] < 0)
    met = (events.latest(mishaps, "thing", "job") >= 0) | (events.latest(of_no_job, "thing") >= 0)
    explained = struck | met
    for begin, end in outages(trace, _SERVERS):
        explained |= (since_us <= end + RETURN_US) & (events["t_us"] >= begin)
    return np.asarray(explained)


# ---- what went wrong


def _downloads(trace: Trace) -> _Failures:
    """Answers 5xx, bodies that broke off, and requests without an answer."""
    pieces = trace.kind(Kind.DOWNLOAD)
    each, which = details(trace, pieces)
    errors = [detail.get("error", "") for detail in each]
    broken = np.array([error not in ("", _AWAY) and not error.startswith("206 ") for error in errors], bool)[which]
    codes = {code for code in pieces.distinct("status") if len(code) == 3 and code.startswith("5")}
    server_error = trace.among("status", pieces["status"], ("500", *codes))
    cut = broken & trace.among("status", pieces["status"], ("0", "200", "206"))
    bad = pieces.only(server_error | cut)
    said = [errors[at] for at in which[server_error | cut].tolist()]
    causes = [
        f"storage: download, {_text(error or status)}" for error, status in zip(said, bad.texts("status"), strict=True)
    ]
    return _Failures(bad, bad["t_us"] - np.maximum(bad["span_us"], 0), causes)


def _reports(trace: Trace, *, mismatches_alone: bool) -> _Failures:
    """Reports of failure, each when it was first sent; but for those of a device that another rollout took over, and of one
    whose URL had ended, which L6 judges."""
    reports = trace.kind(Kind.REPORT).where("status", "FAILURE")
    reports = reports.only((reports["job"] >= 0) & (reports.latest(reports, "thing", "job") < 0))
    heard = trace.kind(Kind.DELTA)
    known = reports.latest(heard, "thing", "job")
    ended = (taken(heard["span_us"], known) >= 0) & (
        taken(heard["t_us"], known) + taken(heard["span_us"], known) < reports["t_us"]
    )
    reasons = reports.texts("detail")
    mismatch = np.array([", announced " in reason for reason in reasons], bool)
    refused = np.array([reason in ("http 401", "http 403") for reason in reasons], bool)
    left_out = (refused & ended) | np.array([reason == "superseded" for reason in reasons], bool)
    judged = ~left_out & (mismatch | (not mismatches_alone))
    kept = reports.only(judged)
    first = kept.latest(heard.where("status", "start", "supersede"), "thing", "job")
    since_us = taken(heard.where("status", "start", "supersede")["t_us"], first, 0)
    causes = [_side(reason) for reason, take in zip(reasons, judged.tolist(), strict=True) if take]
    return _Failures(kept, since_us, causes)


def _text(reason: str) -> str:
    """The reason, so that those that differ in numbers alone are counted together; a status of HTTP stays."""
    return reason if reason.startswith("http ") else plain(reason)


def _side(reason: str) -> str:
    """Whose failure it is, by the reason that a device reports."""
    if ", announced " in reason:
        return f"storage: other bytes than announced ({reason.partition(' ')[0]})"
    if reason.startswith(("http ", "more than ", "ended after ", "cut after ")):
        return f"storage: {_text(reason)}"
    if reason.startswith("credential "):
        return f"replica: {plain(reason)}"
    return f"device: {plain(reason) or 'failed without a reason'}"


def _offers(trace: Trace) -> _Failures:
    """Offers that the replica refused for good, or never answered."""
    ends = trace.kind(Kind.EXECUTION).where("status", State.REJECTED, State.UNKNOWN)
    sent = trace.kind(Kind.OFFER).where("status", "sent")
    since_us = taken(sent["t_us"], ends.latest(sent, "thing", "job"), 0)
    causes = [f"replica: {plain(reason)}" for reason in ends.texts("detail")]
    return _Failures(ends, since_us, causes)


def _timeouts(trace: Trace) -> _Failures:
    """Executions that timed out though their device's report had been accepted; or though the device was connected all the
    time, from when it was offered or from its report, and had nothing left to do."""
    ends = trace.kind(Kind.EXECUTION).where("status", State.TIMED_OUT)
    sent, links, phases = (
        trace.kind(Kind.OFFER).where("status", "sent"),
        link_events(trace, Kind.BOOT),
        trace.kind(Kind.PHASE),
    )
    reports = trace.kind(Kind.REPORT).where("status", "SUCCESS", "FAILURE")
    answers = trace.kind(Kind.ANSWER).where("status", "accepted")
    offered = taken(sent.rows, ends.latest(sent, "thing", "job"), 0)
    reported = taken(reports.rows, ends.latest(reports, "thing", "job"))
    accepted = (reported >= 0) & (taken(answers.rows, ends.latest(answers, "thing", "job")) > reported)
    link = ends.latest(links, "thing")
    since = newest(ends["thing"], np.where(reported >= 0, reported, offered), links, links["thing"])
    stayed = (taken(links["kind"], link) == trace.code("kind", Kind.CONNECT)) & (link == since)
    at = ends.latest(phases, "thing", "job")
    busy = (at >= 0) & (taken(phases["status"], at) != trace.code("status", Phase.IDLE)) & (reported < 0)
    heard = ends.latest(trace.kind(Kind.DELTA), "thing", "job") >= 0
    causes = np.select(
        [accepted, reported >= 0, ~heard],
        [
            "backend: the application did not learn of a report that was accepted",
            "replica: did not answer the device's report",
            "replica: the device never heard of the job",
        ],
        "device: stopped without a report",
    )
    unexplained = accepted | (stayed & ~busy)
    kept = ends.only(unexplained)
    return _Failures(kept, trace.column("t_us")[offered][unexplained], causes[unexplained].tolist())
