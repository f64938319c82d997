"""The replica's promises by what others heard of it: for a backend that is not ours, and records nothing itself.

Each accepted answer names the version of the document that an update made. Devices, the application and the probe record
their requests and the answers, and devices the deltas and the answers to `get` that tell of a difference. That is enough to
see versions that are given twice or go back, deltas that are missing, and deltas that should not be there. Where a fault
has struck a device, what it heard, and when, is not judged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.checks.arrays import follows, grouped, shifted, taken
from simulator.checks.base import Draft, mentioned, torn
from simulator.checks.learning import connections, hearing_us, pair
from simulator.checks.outages import met
from simulator.checks.profiles import Profiles
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View, newest
from simulator.trace.targets import Mask


class _Updates(NamedTuple):
    """Updates that were accepted, as their senders know: the thing, the row in which each was first sent (-1 where that is
    not recorded), the row of its first answer, and the version of the document that this names."""

    thing: Codes
    sent: Codes
    answered: Codes
    doc: Codes


def _updates(trace: Trace) -> _Updates:
    """By their client tokens. A probe's `get` is no update."""
    events = trace.kind(Kind.REPORT, Kind.OFFER, Kind.ANSWER, Kind.PROBE)
    get = (events["kind"] == trace.code("kind", Kind.PROBE)) & (events["phase"] == trace.code("phase", "get"))
    gets = np.unique(_request(events.only(get)))
    events = events.only((events["token"] >= 0) & ~np.isin(_request(events), gets))
    _, request = np.unique(_request(events), return_inverse=True)
    accepted = trace.among("status", events["status"], ("accepted",)) & (events["doc"] >= 0)
    refused = trace.among("status", events["status"], ("rejected",))
    size = int(request.max(initial=-1)) + 1
    sent, answered = np.full(size, -1), np.full(size, -1)
    asks = ~accepted & ~refused
    sent[request[asks][::-1]] = events.rows[asks][::-1]  # the first is written last
    answered[request[accepted][::-1]] = events.rows[accepted][::-1]
    done = answered >= 0
    rows = answered[done]
    return _Updates(trace.column("thing")[rows], sent[done], rows, trace.column("doc")[rows])


def _request(events: View) -> Codes:
    return np.asarray((events["thing"].astype(np.int64) << 32) | events["token"])


class _Told(NamedTuple):
    """The highest version that had been told of each thing, by the answers in the order of the record."""

    answers: View
    doc: Codes

    def before(self, thing: Codes, rows: Codes) -> Codes:
        """For each thing the highest version that had been told before this row; -1 for none."""
        return taken(self.doc, newest(thing, rows, self.answers, self.answers["thing"]))


def _told(trace: Trace, updates: _Updates) -> _Told:
    order = np.lexsort((updates.answered, updates.thing))
    span = np.int64(int(updates.doc.max(initial=0)) + 1)
    base = updates.thing[order].astype(np.int64) * span
    highest = np.maximum.accumulate(base + updates.doc[order]) - base  # within one thing: each thing's begin above
    rows = updates.answered[order]
    by_row = np.argsort(rows)
    return _Told(View(trace, rows[by_row]), highest[by_row])


def _struck(trace: Trace) -> Mask:
    """By the code of a thing: whether a fault did anything to its device."""
    return mentioned(trace.kind(Kind.FAULT).where("status", "did"))


def version(draft: Draft, trace: Trace) -> Finding:
    """S1: no two updates of a thing are told the same version; an update that was sent after another's answer had been heard is
    told a higher one; and the versions of the deltas that a device hears over one connection do not go back."""
    updates = _updates(trace)
    if not len(updates.doc):
        return draft.unknown("the trace holds no accepted answer that names a version")
    order = np.lexsort((updates.answered, updates.doc, updates.thing))
    thing, doc = updates.thing[order], updates.doc[order]
    twice = np.zeros(len(order), bool)
    twice[1:] = (thing[1:] == thing[:-1]) & (doc[1:] == doc[:-1])
    draft.offend(updates.answered[order][twice])
    known = _told(trace, updates).before(updates.thing, updates.sent)
    back = (updates.sent >= 0) & (updates.doc <= known)
    draft.offend(updates.answered[back])
    draft.offend(_older_deltas(trace))
    return draft.decide(
        f"{many(len(doc), 'accepted update')}, by their answers: each with a version of its own, none of which went back",
        "accepted update",
        "was told a version that another had, or an older one",
        seen=len(doc),
        unseen="",
    )


def _older_deltas(trace: Trace) -> Codes:
    """The rows of deltas that came over one connection after a delta of a later version."""
    links = trace.once(connections).start
    deltas = trace.kind(Kind.DELTA).where("detail", "delta")
    deltas = grouped(deltas.only((deltas["doc"] >= 0) & ~_struck(trace)[deltas["thing"]]), "thing")
    link = newest(deltas["thing"], deltas.rows, links, links["thing"])
    same = follows(deltas, "thing") & (link == shifted(link, -2))
    return np.asarray(deltas.rows[same & (deltas["doc"] < shifted(deltas["doc"], 0))])


def durability(draft: Draft, trace: Trace) -> Finding:
    """S5: a document that a device asks for over a new connection is none older than what had been told before it connected;
    and it asks for no update whose success had been accepted."""
    updates, links = _updates(trace), trace.once(connections).start
    gets = trace.kind(Kind.DELTA).where("detail", "get")
    gets = gets.only((gets["doc"] >= 0) & ~_struck(trace)[gets["thing"]])
    connected = taken(links.rows, newest(gets["thing"], gets.rows, links, links["thing"]))
    known = _told(trace, updates).before(gets["thing"], connected)
    answers = trace.kind(Kind.ANSWER).where("status", "accepted")
    answers = answers.only((answers["job"] >= 0) & (answers.latest(_successes(trace), "thing", "job") >= 0))
    accepted = gets.latest(answers, "thing", "job")
    forgot = (accepted >= 0) & (taken(answers.rows, accepted) < connected)
    draft.offend(gets.rows[(gets["doc"] < known) | forgot])
    judged = int(((known >= 0) | forgot).sum())
    return draft.decide(
        f"{many(judged, 'document')} that devices asked for again, none older than what they had been told",
        "document",
        "lacked an update that had been accepted before",
        seen=judged,
        unseen="no device that had been told a version asked again and heard of a difference",
    )


def _successes(trace: Trace) -> View:
    return trace.kind(Kind.REPORT).where("status", "SUCCESS")


def delta(draft: Draft, trace: Trace, scenario: Scenario) -> Finding:
    """S3: a device that was connected before an update was offered, and stays so for as long as it may take to hear, gets a
    delta on that job; none has a lower version than the job's accepted offer; and none comes on a job whose success was
    accepted as that version or an earlier one."""
    offers = trace.kind(Kind.OFFER).where("status", "accepted")
    deltas = trace.kind(Kind.DELTA).where("detail", "delta")
    struck, links = _struck(trace), trace.once(connections)
    sent = trace.kind(Kind.OFFER).where("status", "sent")
    first = taken(sent.rows, offers.latest(sent, "thing", "job"))
    link = newest(offers["thing"], first, links.start, links.start["thing"])
    within_us = trace.once(Profiles, scenario).numbers(offers["thing"], hearing_us)
    until_us = taken(links.end_us, link)
    due_us = offers["t_us"] + np.nan_to_num(within_us).astype(np.int64)
    owed = (first >= 0) & (link >= 0) & ~struck[offers["thing"]] & ~torn(trace)[offers["thing"]]
    owed &= _subscribed(trace, offers, links.start, link) & _alone(offers) & ~met(trace, offers["t_us"], due_us)
    came = np.isin(pair(offers), pair(deltas))
    draft.offend(offers.rows[owed & ~came & ~np.isnan(within_us) & (due_us <= until_us)])
    answers = trace.kind(Kind.ANSWER).where("status", "accepted")
    answers = answers.only((answers["job"] >= 0) & (answers.latest(_successes(trace), "thing", "job") >= 0))
    after = deltas.latest(answers, "thing", "job")
    late = (after >= 0) & (deltas["doc"] >= taken(answers["doc"], after)) & (taken(answers["doc"], after) >= 0)
    draft.offend(deltas.rows[late & ~struck[deltas["thing"]]])
    order = np.full(len(trace.words("job")) + 1, -1)
    order[offers["job"]] = offers["doc"]
    draft.offend(deltas.rows[(deltas["doc"] >= 0) & (deltas["doc"] < order[deltas["job"]])])
    told = int((owed & came).sum())
    return draft.decide(
        f"{many(told, 'update')} offered to connected devices, each with its delta; {many(len(deltas), 'delta')} heard in all",
        "delta",
        "missing though software differed, or heard though it did not",
        seen=told + len(deltas),
        unseen="no update was offered to a device that stayed connected, and no delta came",
    )


def _alone(offers: View) -> Mask:
    """Which offers are the only job that was offered to their thing: another one may have taken the delta's place."""
    order = np.lexsort((offers["job"], offers["thing"]))
    ordered = View(offers.trace, offers.rows[order])
    several = np.bincount(
        ordered["thing"][~follows(ordered, "thing", "job")], minlength=int(offers["thing"].max(initial=0)) + 1
    )
    return np.asarray(several[offers["thing"]] == 1)


def _subscribed(trace: Trace, offers: View, links: View, link: Codes) -> Mask:
    """Which offers were sent to a device that had sent its first report over that connection: then it had subscribed."""
    initial = trace.kind(Kind.REPORT).where("status", "initial")
    sent = trace.kind(Kind.OFFER).where("status", "sent")
    first = View(trace, taken(sent.rows, offers.latest(sent, "thing", "job"), 0))
    said = taken(initial.rows, first.latest(initial, "thing"))
    return np.asarray(said > taken(links.rows, link))
