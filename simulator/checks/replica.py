"""Checks on the device state replica: versions, deltas, what was accepted, and whether devices learn of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.checks import heard
from simulator.checks.arrays import carried, follows, grouped, shifted, taken
from simulator.checks.base import REPLICA, Draft, by_then, mentioned, reach
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View, newest
from simulator.trace.targets import Mask

_LACKS = "the trace holds nothing of the replica: no replica.accepted"


def version(trace: Trace, scenario: Scenario) -> Finding:
    """S1: each accepted update of a thing gets the next version of its document: none twice, none left out, and in the
    order of the record none goes back. A thing's first version in the trace may be any: a database may be older; so may
    be what a replica finds when it starts again, but not below what it had accepted."""
    draft = Draft("S1-version", "each accepted update gets the next version of its document", trace)
    accepted = trace.kind(Kind.ACCEPTED)
    if not len(accepted):
        return heard.version(draft, trace) if scenario.target.kind == "external" else draft.unknown(_LACKS)
    if unversioned := int((accepted["doc"] < 0).sum()):
        draft.doubt(f"{many(unversioned, 'accepted update')} without a version")
    known = trace.kind(Kind.ACCEPTED, Kind.LOADED)
    versions = grouped(known.only(known["doc"] >= 0), "thing")
    doc, before = versions["doc"], shifted(versions["doc"], 0)
    wrong = np.where(_loaded(versions), doc < before, doc != before + 1)
    draft.offend(versions.rows[follows(versions, "thing") & wrong])
    return draft.decide(
        f"{many(len(accepted), 'accepted update')}, each the next version",
        "accepted update",
        "did not get the document's next version",
        seen=len(accepted),
        unseen="nothing was accepted",
    )


def _loaded(view: View) -> Mask:
    """Which of these events are what a replica found when it started."""
    return np.asarray(view["kind"] == view.trace.code("kind", Kind.LOADED))


def _unrecorded(trace: Trace) -> Mask:
    """By the code of a thing: whether its replica was killed between a commit and the record of it."""
    known = grouped(trace.kind(Kind.ACCEPTED, Kind.LOADED), "thing")
    gap = _loaded(known) & follows(known, "thing") & (known["doc"] > shifted(known["doc"], 0))
    return mentioned(known.only(gap))


# ---- deltas


class _SectionSoftware(NamedTuple):
    """What one section of a document names, by accepted update: codes of version and URL (-1: none). `event` is the
    update that set it last, -1 where none did; `known`: whether the trace tells."""

    event: Codes
    version: Codes
    url: Codes
    known: Mask


def delta(trace: Trace, scenario: Scenario) -> Finding:
    """S3: after an accepted update a delta is published if and only if the desired software differs from the reported
    one; it carries that update's document version, and job and version of the thing's last desired state. A thing is
    not judged whose replica was killed between a commit and the record of it."""
    draft = Draft(
        "S3-delta",
        "a delta is published if and only if desired and reported software differ, and names the last desired state",
        trace,
    )
    accepted, deltas, hidden = trace.kind(Kind.ACCEPTED), trace.kind(Kind.SENT_DELTA), _unrecorded(trace)
    if not len(accepted):
        return heard.delta(draft, trace, scenario) if scenario.target.kind == "external" else draft.unknown(_LACKS)
    accepted = grouped(accepted.only(~hidden[accepted["thing"]]), "thing")
    deltas = deltas.only(~hidden[deltas["thing"]])
    desired, reported = (_software(accepted, section) for section in ("desired", "reported"))
    differs, agrees = _compared(desired, reported)
    cause = deltas.latest(accepted, "thing")
    caused = taken(accepted["doc"], cause, -2) == deltas["doc"]
    wrong = ~caused | taken(agrees, cause, 0).astype(bool)
    draft.offend(deltas.rows[wrong | _misnamed(accepted, desired, deltas, cause)])
    published = np.zeros(len(accepted), bool)
    published[cause[caused]] = True
    recorded = accepted.rows < reach(trace, *REPLICA)  # the record may break off between the two events
    draft.offend(accepted.rows[differs & ~published & recorded])
    if unsure := int((differs & ~published & ~recorded).sum() + (~differs & ~agrees).sum()):
        draft.doubt(f"the trace does not say whether a delta was due for {many(unsure, 'accepted update')}")
    good = f"{many(int(differs.sum()), 'difference')} among {many(len(accepted), 'accepted update')}, each published"
    return draft.decide(
        good,
        "delta",
        "missing though software differed, or published though it did not",
        seen=len(accepted),
        unseen="nothing was accepted",
    )


def _software(accepted: View, section: str) -> _SectionSoftware:
    """What the section names after each accepted update, grouped by thing."""
    status, joined = accepted["status"], follows(accepted, "thing")
    own, both = (status == accepted.trace.code("status", name) for name in (section, "both"))
    tells = own | both if section == "desired" else own  # of both the record holds what is desired
    event, last = carried(joined, tells), carried(joined, own | both)
    version = taken(accepted["version"], carried(joined, tells & (accepted["version"] >= 0)))
    begun = carried(joined, ~joined)
    whole = accepted["doc"][begun] == 1  # the trace holds the thing's document from its beginning
    known = np.where(last >= 0, event == last, whole)
    url = taken(accepted["detail"], event)
    known &= (url >= 0) | (taken(accepted["version"], event) < 0)  # without either no software is named
    return _SectionSoftware(event, np.where(url >= 0, version, -1), url, known)


def _compared(desired: _SectionSoftware, reported: _SectionSoftware) -> tuple[Mask, Mask]:
    """Whether desired differs from reported, and whether they agree, after each accepted update."""
    wanted = desired.url >= 0
    other = (desired.version != reported.version) | (desired.url != reported.url)
    known = desired.known & (reported.known | ~wanted)
    return known & wanted & other, known & ~(wanted & other)


def _misnamed(accepted: View, desired: _SectionSoftware, deltas: View, cause: Codes) -> Mask:
    """Which deltas name another job or version than the last desired state of their thing."""
    wanted = taken(desired.event, cause)
    job, version = taken(accepted["job"], wanted), taken(desired.version, cause)
    other_job = (job >= 0) & (deltas["job"] != job)
    return np.asarray(other_job | ((version >= 0) & (deltas["version"] != version)))


# ---- what was accepted stays accepted


def durability(trace: Trace, scenario: Scenario) -> Finding:
    """S5: whatever a device, the application or a probe was told to be accepted had been committed before, and no later
    accepted update of that thing gets a version as low as one that was told; nor is it found lower when the replica
    starts."""
    draft = Draft(
        "S5-durability",
        "an update that was answered as accepted had been committed before, and is never taken back",
        trace,
    )
    accepted = trace.kind(Kind.ACCEPTED)
    if not len(accepted):
        return heard.durability(draft, trace) if scenario.target.kind == "external" else draft.unknown(_LACKS)
    offers = trace.kind(Kind.OFFER).where("status", "accepted")
    answers = trace.kind(Kind.ANSWER, Kind.PROBE).where("status", "accepted")
    answers = answers.only(answers["doc"] >= 0)
    if not len(answers) and not len(offers):
        return draft.unknown("nobody was told that anything was accepted")
    loaded = trace.kind(Kind.LOADED)
    desires = View(trace, np.sort(np.concatenate([accepted.where("status", "desired", "both").rows, loaded.rows])))
    accepted = trace.kind(Kind.ACCEPTED, Kind.LOADED)
    basis = _before(offers, desires, "job")
    kept = _committed(accepted, answers)
    until = reach(trace, *REPLICA)
    for views, committed in ((answers, kept), (offers, basis >= 0)):
        draft.offend(views.rows[~committed & (views.rows < until)])
        if unsure := int((~committed & (views.rows >= until)).sum()):
            draft.doubt(f"{many(unsure, 'answer')} came after the replica's record ends")
    docs = np.concatenate([answers["doc"], taken(desires["doc"], basis)])
    draft.offend(_taken_back(accepted, View(trace, np.concatenate([answers.rows, offers.rows])), docs))
    good = f"{many(len(answers) + len(offers), 'answer')}, each agrees with what the replica keeps"
    return draft.decide(
        good, "event", "contradicted what the replica had accepted", seen=len(answers) + len(offers), unseen=""
    )


def _committed(accepted: View, answers: View) -> Mask:
    """Which answers name a version that their thing's document had got before: as was recorded, or as a replica that was
    killed before it could record that shows by what it finds when it starts again."""
    loaded = accepted.only(_loaded(accepted))
    versions = taken(loaded["doc"], answers.latest(loaded, "thing"))
    return np.asarray((_before(answers, accepted, "doc") >= 0) | (answers["doc"] <= versions))


def _before(events: View, past: View, column: str) -> Codes:
    """For each event which row of `past` (its position there) came last before it, as far as the clocks tell, of the same
    thing and with the same value in this column; -1 where none did."""
    groups = np.unique(
        np.concatenate([(view["thing"].astype(np.int64) << 32) + view[column] for view in (events, past)]),
        return_inverse=True,
    )[1]
    return newest(groups[: len(events)], by_then(events.trace, events.rows), past, groups[len(events) :])


def _taken_back(accepted: View, answers: View, docs: npt.NDArray[Any]) -> Codes:
    """Rows of accepted updates with a version not above one that was told before."""
    events = View(answers.trace, np.concatenate([answers.rows, accepted.rows]))
    known = np.concatenate([docs, np.full(len(accepted), -1)])
    at = np.concatenate([by_then(answers.trace, answers.rows), accepted.rows])
    order = np.lexsort((at, events["thing"]))
    span = np.int64(max(int(docs.max(initial=0)), int(accepted["doc"].max(initial=0))) + 2)
    base = events["thing"][order].astype(np.int64) * span
    highest = np.maximum.accumulate(base + known[order] + 1) - base - 1  # within one thing: each thing's begin above
    later = order >= len(answers)
    doc = events["doc"][order]
    least = highest + ~_loaded(events)[order]  # what is found may be what was told; what is accepted comes above it
    return np.sort(events.rows[order][later & (doc >= 0) & (doc < least)])
