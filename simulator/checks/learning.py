"""A check that devices learn what is desired of them: soon after they are connected, if they stay so."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.checks.arrays import follows, grouped, taken
from simulator.checks.base import Draft, link_events, torn
from simulator.checks.outages import after, met
from simulator.checks.profiles import Numbers, Profiles, longest
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Profile, Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View, newest
from simulator.trace.targets import Mask

LEARN_S = 30.0  # to subscribe, to ask and to be answered, beside the road's own delay: twice the profile's longest
_NEVER_US = np.iinfo(np.int64).max


def learns(trace: Trace, scenario: Scenario) -> Finding:
    """L3: a device that stays connected has heard of the job that is desired of it within LEARN_S and twice the longest
    latency of its profile, counted from when it connected or the offer was accepted, whichever is later, or from the
    end of an outage in between; or it runs, or says that it runs, that software already. What it asked before a server
    was found again nobody heard: then it has the time to ask once more."""
    draft = Draft(
        "L3-learns", "a device that stays connected soon hears which software is desired", trace, safety=False
    )
    offers = trace.kind(Kind.OFFER).where("status", "accepted")
    links = trace.once(connections)
    if not len(offers):
        return draft.unknown("no offer was accepted")
    if not len(links.start):
        return draft.unknown("no device was ever connected")
    profiles = trace.once(Profiles, scenario)
    waits = _waits(trace, offers, links)
    within_us = profiles.numbers(offers["thing"][waits.offer], hearing_us)
    since_us = after(trace, waits.since_us, within_us)
    since_us += unheard(trace, scenario, offers["thing"][waits.offer], since_us).astype(np.int64)
    lasts = since_us + within_us <= waits.until_us  # never for a stranger, whose bound nobody knows
    deadline_us = np.where(lasts, since_us + within_us, since_us)
    at = np.searchsorted(trace.column("t_us"), deadline_us, "right")
    meant = View(trace, offers.rows[waits.offer])
    ignorant = lasts & ~_heard(trace, meant, at) & ~_runs(trace, meant, at)
    hidden = torn(trace)[meant["thing"]]
    draft.offend(np.unique(meant.rows[ignorant & ~hidden]))
    if unsure := len(np.unique(meant.rows[ignorant & hidden])):
        draft.doubt(f"{many(unsure, 'offer')} to devices whose record breaks off")
    known = _heard(trace, offers, np.full(len(offers), len(trace)))
    known[waits.offer[lasts]] = True
    if not known.any():
        draft.doubt("nobody heard of an offer, and nobody was connected long enough")
    summary = f"{many(int(known.sum()), 'accepted offer')}, each known to its device"
    if short := int((~known).sum()):
        summary += f"; {short:,} more to devices that were not connected long enough to hear"
    return draft.decide(
        summary,
        "offer",
        "did not reach its device, though the device was connected",
        seen=int(known.sum()),
        unseen="no device was connected when something was offered to it",
    )


def hearing_us(profile: Profile) -> float:
    """How long a connected device may be without hearing what is desired of it."""
    return (LEARN_S + 2 * longest(profile.latency)) * 1e6


def unheard(trace: Trace, scenario: Scenario, things: Codes, asked_us: Codes) -> Numbers:
    """How much longer it takes those who asked when a server was down, or had yet to be found again: they ask anew."""
    again_us = trace.once(Profiles, scenario).numbers(things, lambda profile: profile.answer_timeout * 1e6)
    return np.where(met(trace, asked_us, asked_us), np.nan_to_num(again_us), 0.0)


class Connections(NamedTuple):
    """Connections: the events that begin them, in the order of the record, and when each ended."""

    start: View
    end_us: Codes


def connections(trace: Trace) -> Connections:
    """Each ends with the next event that says so, or with the record."""
    links = grouped(link_events(trace, Kind.BOOT, Kind.RETIRED), "thing")
    t_us = links["t_us"]
    last = np.append(~follows(links, "thing")[1:], True) if len(links) else np.zeros(0, bool)
    end_us = np.where(last, trace.column("t_us").max(initial=0), np.append(t_us[1:], 0)[: len(links)])
    connects = links["kind"] == trace.code("kind", Kind.CONNECT)
    order = np.argsort(links.rows[connects])
    return Connections(View(trace, links.rows[connects][order]), end_us[connects][order])


class _Waits(NamedTuple):
    """Spans of time in which a device was connected and an offer stood: which offer, and from when until when."""

    offer: Codes
    since_us: Codes
    until_us: Codes


def _waits(trace: Trace, offers: View, links: Connections) -> _Waits:
    """For each offer the connection in which it was accepted; for each connection the offer that stood when it began."""
    at_link = offers.latest(links.start, "thing")
    standing = links.start.latest(offers, "thing")
    joined, met = np.flatnonzero(at_link >= 0), np.flatnonzero(standing >= 0)
    offer = np.concatenate([joined, standing[met]])
    session = np.concatenate([at_link[joined], met])
    since_us = np.concatenate([offers["t_us"][joined], links.start["t_us"][met]])
    until_us = np.minimum(links.end_us[session], _replaced_us(trace, offers)[offer])
    return _Waits(offer, since_us, until_us)


def _replaced_us(trace: Trace, offers: View) -> Codes:
    """For each offer when another job was offered to its thing, after which it may be desired no more."""
    jobs = grouped(trace.kind(Kind.OFFER), "thing", "job")
    firsts = View(trace, np.sort(jobs.rows[~follows(jobs, "thing", "job")]))
    turns = grouped(firsts, "thing")
    joined = follows(turns, "thing")
    next_us = np.full(len(firsts), _NEVER_US)
    next_us[np.searchsorted(firsts.rows, turns.rows[:-1][joined[1:]])] = turns["t_us"][1:][joined[1:]]
    return taken(next_us, offers.latest(firsts, "thing", "job"), _NEVER_US)


def _heard(trace: Trace, meant: View, at: Codes) -> Mask:
    """Whether each offer's device had heard of its job before the row `at`."""
    deltas = trace.kind(Kind.DELTA)
    pairs = np.concatenate([pair(meant), pair(deltas)])
    groups = np.unique(pairs, return_inverse=True)[1]
    return np.asarray(newest(groups[: len(meant)], at, deltas, groups[len(meant) :]) >= 0)


def pair(view: View) -> Codes:
    """For each event a number for its thing and its job together."""
    return (view["thing"].astype(np.int64) << 32) | (view["job"].astype(np.int64) + 1)


def _runs(trace: Trace, meant: View, at: Codes) -> Mask:
    """Whether each offer's device ran that software before the row `at`, or had last said so."""
    facts, reports = trace.kind(Kind.BOOT, Kind.CONFIRM, Kind.ROLLBACK), trace.kind(Kind.REPORT)
    digest = taken(facts["digest"], newest(meant["thing"], at, facts, facts["thing"]))
    version = taken(reports["version"], newest(meant["thing"], at, reports, reports["thing"]))
    runs = (digest >= 0) & (digest == meant["digest"])
    return np.asarray(runs | ((version >= 0) & (version == meant["version"])))
