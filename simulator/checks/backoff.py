"""A check on devices' patience: what is said or tried again comes no sooner than the profile allows, nor more often."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulator.checks.arrays import follows, grouped, nth, shifted, streak, taken
from simulator.checks.base import Draft
from simulator.checks.device import asked_us
from simulator.checks.profiles import Profiles
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Backoff, Profile, Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View
from simulator.trace.targets import Mask

SLACK_US = 100_000  # a busy process notes what it does a little later than it did it


def patience(trace: Trace, scenario: Scenario) -> Finding:
    """L9: a report is said again, a connection tried again and a download that was answered 429 or 503 asked for again
    no sooner than the device's back-off, nor than its Retry-After; and a report at most `resend.attempts` times in one
    boot.

    A fresh connection, a boot, and a desired state that was carried through already are reasons to say a report at
    once, and the last two to count anew; so is the end of an offline window to download.
    """
    draft = Draft(
        "L9-backoff",
        "a device repeats reports, connections and downloads no sooner and no more often than its profile allows",
        trace,
        safety=False,
    )
    attempts = trace.kind(Kind.REPORT, Kind.CONNECT, Kind.DOWNLOAD)
    if not len(attempts):
        return draft.unknown("the trace holds nothing of the devices")
    profiles = trace.once(Profiles, scenario)
    strange = np.unique(attempts["thing"][~profiles.known(attempts["thing"])])
    if len(strange):
        draft.doubt(f"the scenario names no profile of {many(len(strange), 'device')}")
    again = _resends(draft, trace, profiles) + _connects(draft, trace, profiles) + _downloads(draft, trace, profiles)
    return draft.decide(
        f"{many(again, 'repetition')}, each after its wait",
        "repeated attempt",
        "came too soon or too often",
        seen=again,
        unseen="nothing was repeated",
    )


def _resends(draft: Draft, trace: Trace, profiles: Profiles) -> int:
    """Reports of an end that were said again on the same connection, and how often."""
    reports = trace.kind(Kind.REPORT).where("status", "SUCCESS", "FAILURE")
    reports = reports.only(reports["job"] >= 0)
    thing = reports["thing"]
    last = reports.latest(reports, "thing", "job")
    asked = np.concatenate(
        [trace.kind(Kind.BOOT).rows, trace.kind(Kind.DELTA).where("status", "installed", "again").rows]
    )
    begins = View(trace, np.sort(asked))
    fresh = View(trace, np.sort(np.concatenate([asked, trace.kind(Kind.CONNECT).rows])))
    steady = (last >= 0) & (taken(fresh.rows, reports.latest(fresh, "thing")) < taken(reports.rows, last))
    gap_us = reports["t_us"] - taken(reports["t_us"], last)
    least_us = profiles.least_us(thing, lambda profile: profile.resend, taken(reports["size"], last) - 1)
    soon = steady & (gap_us < least_us - SLACK_US)
    most = profiles.numbers(thing, lambda profile: profile.resend.attempts or np.inf)
    begin = reports.latest(begins, "thing")
    times = np.maximum(nth(((begin + 1) << 32) | reports["job"]) + 1, reports["size"])
    draft.offend(reports.rows[soon | (times > most)])
    return int((last >= 0).sum())


def _connects(draft: Draft, trace: Trace, profiles: Profiles) -> int:
    """Attempts to connect after one that failed, and no boot between them."""
    links = grouped(trace.kind(Kind.CONNECT, Kind.BOOT), "thing")
    failed = links["status"] == trace.code("status", "failed")
    return _repeated(draft, profiles, links, failed, lambda profile: profile.reconnect)


def _downloads(draft: Draft, trace: Trace, profiles: Profiles) -> int:
    """Requests after one that the storage was too busy for, in the same download."""
    pieces = trace.kind(Kind.DOWNLOAD)
    begins = trace.kind(Kind.DELTA).where("status", "start", "supersede")
    rows = np.sort(np.concatenate([pieces.rows, begins.rows, trace.kind(Kind.BOOT).rows]))
    story = grouped(View(trace, rows), "thing")
    links = trace.kind(Kind.CONNECT, Kind.LOST)
    away = taken(links["kind"], story.latest(links, "thing")) == trace.code("kind", Kind.LOST)
    busy = trace.among("status", story["status"], ("429", "503"))
    busy &= (story["kind"] == trace.code("kind", Kind.DOWNLOAD)) & ~away
    wait_us = np.zeros(len(story), np.int64)
    wait_us[busy] = asked_us(trace, story.only(busy))
    return _repeated(draft, profiles, story, busy, lambda profile: profile.download_retry, wait_us)


def _repeated(
    draft: Draft,
    profiles: Profiles,
    story: View,
    failed: Mask,
    backoff: Callable[[Profile], Backoff],
    asked: Codes | None = None,
) -> int:
    """Judge what follows right after something that failed: it is of the same kind, and begins after the back-off, and
    after the time that it was asked to wait."""
    kind, t_us = story["kind"], story["t_us"]
    again = follows(story, "thing") & shifted(failed, False) & (kind == shifted(kind, -1))
    begun_us = t_us - np.maximum(story["span_us"], 0)
    failures = streak(again)
    least_us = profiles.least_us(story["thing"], backoff, failures - 1)
    if asked is not None:
        least_us = np.maximum(least_us, shifted(asked, 0))
    draft.offend(story.rows[again & (begun_us - shifted(t_us, 0) < least_us - SLACK_US)])
    return int(again.sum())
