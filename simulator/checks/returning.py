"""A check that devices come back after an outage: all of them, soon, and not all at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.checks.arrays import taken
from simulator.checks.base import Draft, torn
from simulator.checks.outages import outages
from simulator.checks.profiles import Profiles, longest
from simulator.checks.strikes import strikes
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Profile, Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View, newest
from simulator.trace.targets import Mask

RETURN_S = 60.0  # beside the device's pause: for an attempt begun too early to fail, and for the one that succeeds
_SECOND_US = 1_000_000
_NEVER_US = 1 << 61


def returns(trace: Trace, scenario: Scenario) -> Finding:
    """L8: when a killed broker is there again, or a device's road, each device that had been trying to connect does so
    within RETURN_S, four times the longest latency and the cap of its back-off; and from then on, for as long, no
    second sees more attempts to connect than `target.connects_per_second`, if the scenario sets it.

    A device is not judged that was switched off, rebooting or away by its own will, that a mishap or another fault
    kept from connecting meanwhile, or that retired before its time was over.
    """
    draft = Draft(
        "L8-return",
        "after an outage all devices connect again in time, with at most target.connects_per_second attempts a second",
        trace,
        safety=False,
    )
    if not len(trace.kind(Kind.BOOT)):
        return draft.unknown("the trace holds nothing of the devices")
    troubles = _troubles(trace, scenario)
    if not len(troubles.thing):
        return draft.no_occasion("no fault took a connection away")
    if not len(trace.kind(Kind.CONNECT)):
        return draft.unknown("the trace does not hold who was connected")
    patience_us = trace.once(Profiles, scenario).numbers(troubles.thing, _patience_us)
    strange = np.isnan(patience_us)
    if strange.any():
        draft.doubt(f"the scenario names no profile of {many(len(np.unique(troubles.thing[strange])), 'device')}")
    judged = int(_come_back(draft, trace, troubles, np.where(strange, _NEVER_US, patience_us).astype(np.int64)).sum())
    if scenario.target.connects_per_second is not None and not strange.all():
        _crowds(draft, trace, troubles, int(np.nanmax(patience_us)), scenario.target.connects_per_second)
    return draft.decide(
        f"{many(judged, 'return')} after an outage, all in time",
        "connection attempt",
        "came too late, or with too many others in one second",
        seen=judged,
        unseen="no device was trying to connect when an outage ended",
    )


def _patience_us(profile: Profile) -> float:
    return (profile.reconnect.cap + profile.slow_factor + 4 * longest(profile.latency) + RETURN_S) * 1e6


class _Troubles(NamedTuple):
    """What took devices' connections away: whose, from when, and until when."""

    thing: Codes
    begin_us: Codes
    end_us: Codes


def _troubles(trace: Trace, scenario: Scenario) -> _Troubles:
    """Kills of the broker befall all devices, faults of the road those that they struck."""
    things = np.unique(trace.kind(Kind.BOOT)["thing"])
    struck = _acts(trace, "down", "dark")
    kills = outages(trace, ("broker",))
    begins, ends = (np.array([kill[n] for kill in kills], np.int64) for n in range(2))
    return _Troubles(
        np.concatenate([np.tile(things, len(kills)), struck["thing"]]),
        np.concatenate([np.repeat(begins, len(things)), struck["t_us"]]),
        np.concatenate([np.repeat(ends, len(things)), _over_us(trace, scenario, struck)]),
    )


def _acts(trace: Trace, *acts: str) -> View:
    """The strikes of faults that do this to a device or to its road."""
    return strikes(trace, lambda what: what.get("act") in acts)


def _over_us(trace: Trace, scenario: Scenario, struck: View) -> Codes:
    """When each strike was over: with its fault, or, of one that comes at a step, after its own time."""
    ends = trace.kind(Kind.FAULT).where("status", "end")
    over_us = np.full(len(struck), _NEVER_US)
    for nth in np.unique(struck["size"]).tolist():
        own = struck["size"] == nth
        t_us = np.append(ends["t_us"][ends["size"] == nth], _NEVER_US)
        over_us[own] = t_us[np.searchsorted(t_us, struck["t_us"][own])]
        fault = scenario.faults[nth] if nth < len(scenario.faults) else None
        if fault is not None and fault.step is not None and fault.lasts is not None:
            over_us[own] = np.minimum(over_us[own], struck["t_us"][own] + round(fault.lasts * 1e6))
    return over_us


# ---- they come back


def _come_back(draft: Draft, trace: Trace, troubles: _Troubles, patience_us: Codes) -> Mask:
    """Offend with those that do not; which troubles were judged."""
    thing, end_us = troubles.thing, troubles.end_us
    t_us = trace.column("t_us")
    since, until = (np.searchsorted(t_us, moment, "right") for moment in (end_us, end_us + patience_us))
    efforts, others = _efforts(trace), _others(trace)
    latest = newest(thing, since, efforts, efforts["thing"])
    other = newest(thing, since, others, others["thing"])
    gone = _gone(trace)
    trying = (latest >= 0) & (_rows(efforts, latest) >= _rows(others, other))
    trying &= newest(thing, until, gone, gone["thing"]) < 0
    meanwhile = newest(thing, until, others, others["thing"])
    spared = _rows(others, meanwhile) >= since
    judged = trying & (spared | (until < len(trace))) & ~_overlapped(trace, troubles, patience_us)
    missing = judged & ~spared
    last = newest(thing, until, efforts, efforts["thing"])
    hidden = torn(trace)[thing]
    draft.offend(np.unique(_rows(efforts, last)[missing & ~hidden]))
    if unsure := len(np.unique(thing[missing & hidden])):
        draft.doubt(f"the records of {many(unsure, 'device')} break off in an outage")
    return judged


def _rows(view: View, places: Codes) -> Codes:
    return np.append(view.rows, -1)[places]


def _efforts(trace: Trace) -> View:
    """The events after which a device is out to connect."""
    boots = trace.kind(Kind.BOOT).rows
    links = trace.kind(Kind.CONNECT, Kind.LOST).where("status", "failed", "lost")
    return View(trace, np.sort(np.concatenate([boots, links.rows])))


def _others(trace: Trace) -> View:
    """The events after which it is connected, or is not out to connect; and what gives it its time anew."""
    links = trace.kind(Kind.CONNECT, Kind.LOST)
    links = links.only(~trace.among("status", links["status"], ("failed", "lost")))
    mishaps = trace.kind(Kind.MISHAP)
    mishaps = mishaps.only(
        trace.among("phase", mishaps["phase"], ("connect", "reboot"))
        | (mishaps["status"] == trace.code("status", "crash"))
    )
    rebooting = trace.kind(Kind.PHASE).where("status", "rebooting")
    acts = _acts(trace, "power-cut", "vanish", "rival")
    views = (links, mishaps, rebooting, acts, trace.kind(Kind.BOOT, Kind.RETIRED))
    return View(trace, np.sort(np.concatenate([view.rows for view in views])))


def _gone(trace: Trace) -> View:
    """The events that switch a device off for good, even one that is about to boot."""
    mishaps = trace.kind(Kind.MISHAP).where("status", "vanish")
    return View(trace, np.sort(np.concatenate([_acts(trace, "vanish").rows, mishaps.rows])))


def _overlapped(trace: Trace, troubles: _Troubles, patience_us: Codes) -> Mask:
    """Which troubles are followed by another of the same device before it must be back, and lasts on."""
    span = trace.column("t_us")[-1] + np.int64(2)
    base = np.unique(troubles.thing, return_inverse=True)[1] * span
    order = np.lexsort((troubles.begin_us, base))
    begins = (base + troubles.begin_us)[order]
    latest = np.maximum.accumulate((base + np.minimum(troubles.end_us, span - 1))[order])
    before = np.searchsorted(begins, base + np.minimum(troubles.end_us + patience_us, span - 1)) - 1
    return np.asarray(latest[before] > base + troubles.end_us)


# ---- not all at once


def _crowds(draft: Draft, trace: Trace, troubles: _Troubles, patience_us: int, most: int) -> None:
    """Offend with the attempts that find their second full, in the time that devices have to come back."""
    attempts = trace.kind(Kind.CONNECT)
    ends = np.unique(troubles.end_us)
    since_us = taken(ends, np.searchsorted(ends, attempts["t_us"], "right") - 1, -_NEVER_US)
    attempts = attempts.only(attempts["t_us"] - since_us <= patience_us)
    t_us = attempts["t_us"]
    within = np.arange(1, len(t_us) + 1) - np.searchsorted(t_us, t_us - _SECOND_US, "right")
    draft.offend(attempts.rows[within > most])
