"""Checks on requests and their answers: one answer for each request, and soon."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.checks.arrays import follows, rebound, taken
from simulator.checks.base import Draft, torn
from simulator.checks.learning import LEARN_S, connections, hearing_us
from simulator.checks.outages import RETURN_US, met, outages
from simulator.checks.profiles import Profiles
from simulator.checks.strikes import strikes
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View, newest
from simulator.trace.targets import Mask

_HEARD = (Kind.ANSWER, Kind.OFFER, Kind.PROBE)
_LOST = ("lost", "delay_s", "gathered_s")  # what keeps a message from whom it is for
_SAID = ("update", "accepted", "rejected")
_NEVER_US = np.iinfo(np.int64).max


def correlation(trace: Trace, scenario: Scenario) -> Finding:
    """S4: each request with a client token gets one answer, however often it is said and the answer comes: accepted as
    one version of the document, or refused with one code; by the replica's record, and by whoever heard an answer.

    A refusal that says nothing of the request (429, 5xx) is none: the request may be made again.
    """
    draft = Draft(
        "S4-correlation", "each request gets one answer, even if the request or the answer is sent several times", trace
    )
    answers = trace.kind(*_HEARD, Kind.ACCEPTED, Kind.REJECTED)
    answers = answers.only(answers["token"] >= 0)
    code = refusals(trace, answers)
    accepted = (code == 0) & (
        trace.among("kind", answers["kind"], (Kind.ACCEPTED,)) | trace.among("status", answers["status"], ("accepted",))
    )
    answered = accepted | tells(code)
    code, answers = code[answered], answers.only(answered)
    if not len(answers):
        return draft.unknown("the trace holds no answer to a request with a client token")
    order = np.lexsort((answers["token"], answers["thing"]))
    code, answers = code[order], View(trace, answers.rows[order])
    joined = follows(answers, "thing", "token")
    for column in (code, np.where(code == 0, answers["doc"], -1)):
        draft.offend(answers.rows[rebound(column, joined)])
    requests = int((~joined).sum())
    return draft.decide(
        f"{many(requests, 'request')} with one answer each",
        "answer",
        "differed from an earlier answer to the same request",
        seen=requests,
        unseen="no request with a client token was answered",
    )


def tells(code: Any) -> Any:
    """Whether a refusal's code, or which of many, tells something of the request."""
    return (code > 0) & (code != 429) & (code < 500)


def refusals(trace: Trace, events: View) -> Codes:
    """The code of each event that tells a refusal, 0 of any other; 1 for a refusal without a code."""
    status, detail = events["status"], events["detail"]
    heard, decided = (trace.code("status", "rejected"), trace.code("kind", Kind.REJECTED))
    same, refused = status == heard, events["kind"] == decided
    code = np.zeros(len(events), np.int64)
    for mask, codes, words in ((same, detail, trace.words("detail")), (refused, status, trace.words("status"))):
        known, which = np.unique(codes[mask], return_inverse=True)
        numbers = [_leading(words[token]) if token >= 0 else 1 for token in known.tolist()]
        code[mask] = np.array(numbers, np.int64)[which]
    return code


def _leading(text: str) -> int:
    head = text.partition(" ")[0]
    return int(head) if head.isdecimal() else 1


# ---- in time


def answered(trace: Trace, scenario: Scenario) -> Finding:
    """L5: each report that was sent on a connection that stayed up, and each offer, has its answer within LEARN_S and
    twice the longest latency of its device. Of what was said again the first time counts since the connection began, since
    the last outage ended and since a fault struck that device last; and any answer that it had.

    Not judged is what met an outage, and what a fault has kept from its device, or from the replica.
    """
    draft = Draft("L5-answered", "a request on a connection that stays up is answered soon", trace, safety=False)
    asked, answer_us = _asked(trace)
    if not len(asked):
        return draft.unknown("the trace holds no request with a client token")
    profiles = trace.once(Profiles, scenario)
    offers = asked["kind"] == trace.code("kind", Kind.OFFER)
    within_us = np.where(offers, LEARN_S * 1e6, profiles.numbers(asked["thing"], hearing_us))
    known = ~np.isnan(within_us)
    if strange := len(np.unique(asked["thing"][~known])):
        draft.doubt(f"the scenario names no profile of {many(strange, 'device')}")
    deadline_us = asked["t_us"] + np.where(known, within_us, 0).astype(np.int64)
    due = known & (deadline_us <= _until_us(trace, asked, offers))
    late = due & (answer_us > deadline_us)
    late &= ~met(trace, asked["t_us"], deadline_us)
    if late.any():
        late[late] = ~_kept_back(trace, asked.only(late), deadline_us[late])
    hidden = torn(trace)[asked["thing"]] & ~offers
    draft.offend(asked.rows[late & ~hidden])
    if unsure := int((late & hidden).sum()):
        draft.doubt(f"{many(unsure, 'report')} of devices whose record breaks off")
    return draft.decide(
        f"{many(len(asked), 'request')}, each answered where its connection stayed up",
        "request",
        "got no answer in time",
        seen=int((due | (known & (answer_us <= deadline_us))).sum()),
        unseen="no connection stayed up long enough for an answer to be due",
    )


def _asked(trace: Trace) -> tuple[View, Codes]:
    """The saying of each request from which its time counts, and when its first answer came."""
    events = trace.kind(Kind.REPORT, Kind.OFFER, Kind.ANSWER)
    events = events.only(events["token"] >= 0)
    request = np.unique((events["thing"].astype(np.int64) << 32) | events["token"], return_inverse=True)[1]
    heard = trace.among("status", events["status"], ("accepted", "rejected"))
    unheard = np.flatnonzero(~heard)
    first, answer_us = (np.full(len(events), missing) for missing in (-1, _NEVER_US))
    answer_us[request[heard][::-1]] = events["t_us"][heard][::-1]  # the earliest is written last
    said, turn = request[unheard], _turn(trace, events.only(~heard))
    last = np.full(len(events), -1)
    last[said] = turn
    counts = turn == last[said]
    first[said[counts][::-1]] = unheard[counts][::-1]
    at = np.sort(first[first >= 0])
    return View(trace, events.rows[at]), answer_us[request[at]]


def _turn(trace: Trace, sayings: View) -> Codes:
    """A number for each saying: another one after an outage, and a device's after a new connection and a fault's strike."""
    links = trace.once(connections).start
    ends_us = np.array([end + RETURN_US for _, end in outages(trace)], np.int64)
    struck = trace.kind(Kind.FAULT).where("status", "did")
    of_device = sayings["kind"] == trace.code("kind", Kind.REPORT)
    outage = np.searchsorted(np.sort(ends_us), sayings["t_us"])
    link = np.where(of_device, newest(sayings["thing"], sayings.rows, links, links["thing"]) + 1, 0)
    strike = np.where(of_device, sayings.latest(struck, "thing") + 1, 0)
    return (outage * np.int64(len(links) + 1) + link) * np.int64(len(struck) + 1) + strike


def _until_us(trace: Trace, asked: View, offers: Mask) -> Codes:
    """Until when whoever asked could hear: a device as long as it was connected, the application to the end of the
    record."""
    links = trace.once(connections)
    session = newest(asked["thing"], asked.rows, links.start, links.start["thing"])
    return np.where(offers, trace.column("t_us").max(initial=0), taken(links.end_us, session))


def _kept_back(trace: Trace, asked: View, deadline_us: Codes) -> Mask:
    """Which reports met a fault that loses messages or keeps them back; a dark road does until its connection ends."""
    loses = strikes(trace, lambda what: what.get("message") in _SAID and any(name in what for name in _LOST))
    darkens = strikes(trace, lambda what: what.get("act") == "dark")
    by = np.searchsorted(trace.column("t_us"), deadline_us, "right")
    since = np.searchsorted(trace.column("t_us"), asked["t_us"])
    links = trace.once(connections).start
    connected = taken(links.rows, newest(asked["thing"], asked.rows, links, links["thing"]))
    kept_back = np.zeros(len(asked), bool)
    for struck, first in ((loses, since), (darkens, connected)):
        last = newest(asked["thing"], by, struck, struck["thing"])
        kept_back |= (last >= 0) & (taken(struck.rows, last) >= first)
    return np.asarray(kept_back & (asked["kind"] == trace.code("kind", Kind.REPORT)))
