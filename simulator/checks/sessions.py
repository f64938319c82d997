"""Checks on the broker's promises: a client id has one connection, and what its session keeps is delivered."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from simulator.checks.arrays import follows, grouped, shifted, taken
from simulator.checks.base import REPLICA, Draft, link_events, mentioned, torn
from simulator.checks.learning import connections, hearing_us
from simulator.checks.outages import outages
from simulator.checks.profiles import Numbers, Profiles, longest
from simulator.checks.strikes import sights, strikes
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Profile, Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View, newest
from simulator.trace.targets import Mask

CLOSED_S = 10.0  # an old connection may take so long to end, beside twice the profile's longest latency
LATE_S = 2.0  # what was under way may take so long to be heard over it, beside the same
CONNECTING_S = 60.0  # no attempt to connect takes longer
DEAF = ("F2-single-gate", "F17-parks")  # natures of devices that do not hear of every delta that comes
SKEW_S = 1.0  # between what a device and its broker take for the end of a connection


def one_session(trace: Trace, scenario: Scenario) -> Finding:
    """S19: once the broker has answered another connection of a client id, the old one ends within CLOSED_S, and nothing
    is heard over it LATE_S later. The other connection is that of a fault: a rival's, or the device's own, that has come
    back while its old one was half open. A device whose road was dark in the run is not judged: it could not be told."""
    draft = Draft(
        "S19-one-session",
        "a client id has one connection: when a new one takes over, the old one ends and delivers nothing more",
        trace,
    )
    links = link_events(trace, Kind.BOOT, Kind.RETIRED)
    if not len(links):
        return draft.unknown("the trace holds nothing of the devices' connections")
    acts = strikes(trace, lambda detail: detail.get("act") in ("rival", "half-open"))
    if not len(acts):
        return draft.no_occasion("no connection was taken over")
    profiles, concerned = trace.once(Profiles, scenario), mentioned(acts)
    links = links.only(concerned[links["thing"]])
    count = sum(_judge(draft, profiles, takeovers) for takeovers in (_rivals(draft, links), _half_open(links)))
    return draft.decide(
        f"{many(count, 'connection')} taken over, each ended",
        "event",
        "of a connection that had been taken over",
        seen=count,
        unseen="no connection was taken over",
    )


class _Takeovers(NamedTuple):
    """`by`: the events by which the new connections were there; `ended_us`: when the old ones had ended, -1 where nobody
    says; `heard`, `of`: what came over which of these afterwards; `others`: how many had ended before."""

    by: View
    ended_us: Codes
    heard: View
    of: Codes
    others: int


def _judge(draft: Draft, profiles: Profiles, takeovers: _Takeovers) -> int:
    """Offend with what broke the promise; how many connections were taken over."""
    by, heard, trace = takeovers.by, takeovers.heard, takeovers.by.trace
    dark = mentioned(strikes(trace, lambda detail: detail.get("act") == "dark"))
    delayed = dark | mentioned(strikes(trace, lambda detail: "delay_s" in detail or "again_s" in detail))
    road_us = profiles.numbers(by["thing"], lambda profile: 2 * longest(profile.latency) * 1e6)
    late = (takeovers.ended_us < 0) | (takeovers.ended_us > by["t_us"] + CLOSED_S * 1e6 + road_us)
    hidden = torn(trace)[by["thing"]] & (takeovers.ended_us < 0)
    draft.offend(by.rows[late & ~dark[by["thing"]] & ~hidden])
    since_us = taken(by["t_us"] + LATE_S * 1e6 + road_us, takeovers.of)
    draft.offend(heard.rows[(takeovers.of >= 0) & (heard["t_us"] > since_us) & ~delayed[heard["thing"]]])
    if hidden.any():
        draft.doubt(f"{many(int(hidden.sum()), 'connection')} of devices whose record breaks off")
    _know(draft, profiles, by["thing"])
    return len(by) + takeovers.others


def _know(draft: Draft, profiles: Profiles, things: Codes) -> None:
    """Doubt where the scenario tells nothing of these."""
    if strangers := int((~profiles.known(things)).sum()):
        draft.doubt(f"the scenario names no profile of {many(strangers, 'device')}")


def _rivals(draft: Draft, links: View) -> _Takeovers:
    """Connections that a rival took: those that had begun before it set out."""
    trace = links.trace
    acts = strikes(trace, lambda detail: detail.get("act") == "rival")
    _unanswered(draft, acts, sights(trace, lambda detail: "rival" in detail))
    connected = sights(trace, lambda detail: detail.get("rival") == "connected")
    set_out = taken(acts.rows, connected.latest(acts, "thing", "size"))
    at = connected.latest(links, "thing")
    up = taken(links["kind"], at) == trace.code("kind", Kind.CONNECT)
    still = up & (taken(links.rows, at) < set_out)
    begun = View(trace, set_out[set_out >= 0])
    was_up = taken(links["kind"], begun.latest(links, "thing")) == trace.code("kind", Kind.CONNECT)
    by = connected.only(still)
    ended_us = taken(links["t_us"], by.soonest(links, "thing"))
    heard = trace.kind(Kind.DELTA, Kind.ANSWER)
    heard = heard.only(mentioned(by)[heard["thing"]] & (heard["status"] != trace.code("status", "given-up")))
    of = heard.latest(by, "thing")
    same = heard.latest(links, "thing") == taken(at[still], of, -2)
    return _Takeovers(by, ended_us, heard, np.where(same, of, -1), int(was_up.sum()) - len(by))


def _unanswered(draft: Draft, acts: View, saw: View) -> None:
    """Doubt where the record does not tell what became of a rival."""
    trace = acts.trace
    last_us = np.full(len(trace.words("thing")), trace.column("t_us").max(initial=0))
    retired = trace.kind(Kind.RETIRED)
    last_us[retired["thing"]] = retired["t_us"]
    silent = (acts.soonest(saw, "thing", "size") < 0) & (last_us[acts["thing"]] > acts["t_us"] + CONNECTING_S * 1e6)
    if silent.any():
        draft.doubt(f"the trace does not say what became of {many(int(silent.sum()), 'rival connection')}")


def _half_open(links: View) -> _Takeovers:
    """Connections that a device left open, by the connection with which it came back."""
    trace = links.trace
    acts = strikes(trace, lambda detail: detail.get("act") == "half-open")
    acts = acts.only(taken(links["kind"], acts.latest(links, "thing")) == trace.code("kind", Kind.CONNECT))
    connects = links.where("kind", Kind.CONNECT)
    back = acts.soonest(connects, "thing")
    acts, back = acts.only(back >= 0), back[back >= 0]
    by = View(trace, connects.rows[back])
    closed = sights(trace, lambda detail: detail.get("half-open") == "closed")
    retired = trace.kind(Kind.RETIRED)
    ended_us = taken(closed["t_us"], acts.soonest(closed, "thing", "size"))
    ended_us = np.where(ended_us >= 0, ended_us, taken(retired["t_us"], by.soonest(retired, "thing")))
    heard = sights(trace, lambda detail: detail.get("half-open") == "heard")
    of = heard.latest(acts, "thing", "size")
    return _Takeovers(by, ended_us, heard, np.where(taken(by.rows, of) < heard.rows, of, -1), 0)


# ---- what a session keeps


def offline_queue(trace: Trace, scenario: Scenario) -> Finding:
    """S20: a delta that the broker acknowledged to the replica, while a session of the device persisted that had
    subscribed, comes to the device before the first connection of that session that lasts has lasted long enough; or a
    later one does that was published before the device came back.

    A session persists as the profile asks, or as a fault said that the device asks instead. One that the broker has
    forgotten before its time goes on, as far as its promises are concerned. Nothing was promised across an outage, nor
    where a fault kept the delta on the device's own road, or made a device that does not hear all.
    """
    draft = Draft(
        "S20-offline-queue",
        "a delta that the broker acknowledged while a device's session persisted is delivered to the device",
        trace,
    )
    clients, profiles = np.unique(trace.kind(Kind.CONNECT)["thing"]), trace.once(Profiles, scenario)
    if not len(clients):
        return draft.unknown("no device was ever connected")
    _know(draft, profiles, clients)
    expiry_us = _expiry_us(trace, profiles)
    deltas = trace.kind(Kind.SENT_DELTA)
    if not (expiry_us[clients] > 0).any():
        return draft.decide("", "", "", seen=0, unseen="no session persisted")
    if not len(trace.kind(*REPLICA)):
        return draft.unknown("the trace holds nothing of the replica")
    deaf = mentioned(strikes(trace, lambda detail: detail.get("nature") in DEAF))
    deltas = deltas.only(~deaf[deltas["thing"]])
    deltas = deltas.only((expiry_us[deltas["thing"]] > 0) & (deltas["version"] >= 0) & (deltas["doc"] >= 0))
    deltas = grouped(deltas, "thing")
    if len(deltas) and not len(trace.kind(Kind.ACKNOWLEDGED)):
        return draft.unknown("the trace does not tell what the broker acknowledged")
    due = _due(profiles, _sessions(trace, profiles, expiry_us), deltas)
    lost = due.judged & ~_delivered(deltas, due)
    hidden = torn(trace)[deltas["thing"]]
    draft.offend(deltas.rows[lost & ~hidden])
    if unsure := int((lost & hidden).sum()):
        draft.doubt(f"{many(unsure, 'delta')} to devices whose record breaks off")
    judged = int(due.judged.sum())
    return draft.decide(
        f"{many(judged, 'acknowledged delta')} to sessions that persisted, each delivered",
        "acknowledged delta",
        "never reached its device",
        seen=judged,
        unseen="no delta was kept for a session",
    )


def _expiry_us(trace: Trace, profiles: Profiles) -> Numbers:
    """By the code of a thing: how long its session is kept, as its device asks; 0 where it ends with the connection."""
    expiry_us = profiles.numbers(np.arange(len(trace.words("thing"))), _kept_us)
    asked = strikes(trace, lambda terms: "session_expiry" in terms)
    for thing, detail in zip(asked["thing"].tolist(), asked.texts("detail"), strict=True):
        terms = json.loads(detail)
        expiry_us[thing] = 0.0 if terms["clean_start"] else int(terms["session_expiry"]) * 1e6
    return np.nan_to_num(expiry_us)


def _kept_us(profile: Profile) -> float:
    return 0.0 if profile.clean_start else int(profile.session_expiry) * 1e6


class _Sessions(NamedTuple):
    """Connections by thing, in the order of the record: the events that begin them, when each ended, the number of the
    session that each belongs to, and the row from which on that one had subscribed (by number)."""

    start: View
    end_us: Codes
    number: Codes
    subscribed: Codes


def _sessions(trace: Trace, profiles: Profiles, expiry_us: Numbers) -> _Sessions:
    """A connection goes on with the session before, unless it is new and that one had expired or died with its broker."""
    links = trace.once(connections)
    order = np.lexsort((links.start.rows, links.start["thing"]))
    start, end_us = View(trace, links.start.rows[order]), links.end_us[order]
    thing, t_us = start["thing"], start["t_us"]
    patience_us = profiles.numbers(thing, lambda profile: profile.keep_alive * 1.5e6)
    expired = t_us > shifted(end_us, 0) + expiry_us[thing] - patience_us - SKEW_S * 1e6
    for begin, end in outages(trace):
        expired |= (shifted(t_us, 0) <= end) & (t_us >= begin)
    fresh = start["status"] == trace.code("status", "new")
    number = np.cumsum(~follows(start, "thing") | (fresh & expired)) - 1
    initial = trace.kind(Kind.REPORT).where("status", "initial")
    of = initial.latest(start, "thing")
    subscribed = np.full(len(start), len(trace))
    np.minimum.at(subscribed, number[of[of >= 0]], initial.rows[of >= 0])
    return _Sessions(start, end_us, number, subscribed)


class _Due(NamedTuple):
    """By delta: whether it must have come; the row before which, and before which row a later one that came instead
    must have been published."""

    judged: Mask
    before: Codes
    until: Codes


def _due(profiles: Profiles, sessions: _Sessions, deltas: View) -> _Due:
    """The deltas that were acknowledged to a session that had subscribed, and whose device then stayed connected."""
    start, end_us, number, _ = sessions
    trace, thing = deltas.trace, deltas["thing"]
    t_us = trace.column("t_us")
    bound_us = profiles.numbers(start["thing"], hearing_us)
    acknowledged = _acknowledged(trace, deltas)
    sent, kept = deltas.latest(start, "thing"), newest(thing, acknowledged, start, start["thing"])
    session = taken(number, sent)
    owed = (acknowledged >= 0) & (sent >= 0) & (session == taken(number, kept))
    owed &= taken(sessions.subscribed, session, len(trace)) < deltas.rows
    heard_us = taken(t_us, acknowledged)
    here = taken(end_us, kept) - heard_us >= taken(bound_us, kept)
    later = _next(end_us - start["t_us"] >= bound_us)[kept + 1]
    lasts = here | (taken(number, later, -2) == session)
    within = np.where(here, kept, later)
    due_us = np.where(here, heard_us, taken(start["t_us"], within)) + taken(bound_us, within, 0)
    for begin, end in outages(trace):
        owed &= (begin > due_us) | (end < deltas["t_us"])
    before = np.searchsorted(t_us, due_us, "right")
    hindered = newest(thing, before, hindrances := _hindrances(trace), hindrances["thing"])
    owed &= taken(hindrances.rows, hindered) <= taken(start.rows, within)
    back = np.append(start.rows, len(trace))[kept + 1]
    return _Due(owed & lasts, before, np.where(here, len(trace), back))


def _acknowledged(trace: Trace, deltas: View) -> Codes:
    """For each delta the row of the event by which the broker had acknowledged it; -1 where none tells."""
    marks = trace.kind(Kind.ACKNOWLEDGED, Kind.LOADED)
    good = marks["status"] == trace.code("status", "all")
    at = np.searchsorted(marks.rows, deltas.rows, "right")
    return np.append(np.where(good, marks.rows, -1), -1)[at]


def _next(given: Mask) -> Codes:
    """For each place, and the one behind the last, the first one from it on where something is given; -1 for none."""
    none = len(given)
    following = np.minimum.accumulate(np.append(np.where(given, np.arange(none), none), none)[::-1])[::-1]
    return np.where(following < none, following, -1)


def _hindrances(trace: Trace) -> View:
    """What faults did to a device's road so that a delta could not come, or came late."""

    def hinders(what: dict[str, Any]) -> bool:
        return what.get("act") == "dark" or (what.get("message") == "delta" and ("delay_s" in what or "lost" in what))

    return strikes(trace, hinders)


def _delivered(deltas: View, due: _Due) -> Mask:
    """Which of the deltas, grouped by thing, or a later one in its place, came in time."""
    trace = deltas.trace
    heard = trace.kind(Kind.DELTA).where("detail", "delta")
    came = taken(heard.rows, deltas.soonest(heard, "thing", "doc"), len(trace))
    first = _next(came < len(trace))[: len(deltas)]  # of it and those after it
    same = taken(deltas["thing"], first, -2) == deltas["thing"]
    return np.asarray(same & (taken(deltas.rows, first) < due.until) & (taken(came, first) < due.before))
