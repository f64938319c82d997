"""A check on grants, the permissions to download: a device that is refused gets a new one, which works for its time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.checks.arrays import taken
from simulator.checks.base import Draft, link_events
from simulator.checks.outages import HEARING, outages
from simulator.checks.profiles import Numbers, Profiles, longest
from simulator.checks.storage import SKEW_US, refusals
from simulator.checks.strikes import strikes
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View
from simulator.trace.targets import Mask


def fresh(trace: Trace, scenario: Scenario) -> Finding:
    """L6: a device whose download was refused with 401 or 403 has a new grant before it asks again: good for the
    scenario's url_ttl from the refusal on (of another's backend: still good), as it is announced, or as long as a
    credential is that was granted; and it is not refused again before that is over.

    A device is judged that had been connected for twice its longest latency, and stayed so until it asked again; not
    while a server was killed on purpose, nor one on which a fault has struck anything but its downloads.
    """
    draft = Draft(
        "L6-fresh-leave",
        "a device whose download was refused gets a new grant before it asks again, valid for the announced time",
        trace,
        safety=False,
    )
    if not len(trace.kind(Kind.BOOT)):
        return draft.unknown("the trace holds nothing of the devices")
    retries = _retries(trace, refusals(trace, "401", "403"))
    if not len(retries.again):
        return draft.no_occasion("no device was refused a download")
    slack_us = (
        trace.once(Profiles, scenario).numbers(retries.again["thing"], lambda p: 2e6 * longest(p.latency)) + SKEW_US
    )
    if strange := int(np.isnan(slack_us).sum()):
        draft.doubt(f"the scenario names no profile of the devices of {many(strange, 'refusal')}")
    steady = _steady(trace, retries, slack_us)
    retries, slack_us = _Retries(retries.again.only(steady), retries.refused[steady]), slack_us[steady]
    grants, end_us = _grants(trace, scenario)
    if len(retries.again) and not len(grants) and scenario.target.access == "credential":
        return draft.unknown("the trace does not say when devices were granted their downloads")
    got = _first(retries, grants)
    draft.offend(retries.refused[got < 0])
    _judge(draft, scenario, retries, View(trace, taken(grants.rows, got)), taken(end_us, got), slack_us)
    return draft.decide(
        f"{many(len(retries.again), 'download')} refused, and each device got a new grant that worked",
        "refused download",
        f"got no new {'credential' if scenario.target.access == 'credential' else 'URL'} that worked",
        seen=len(retries.again),
        unseen="no device that was refused stayed connected until it asked again",
    )


class _Retries(NamedTuple):
    """Requests that follow on a refusal in the same download: each, and the row of the refusal."""

    again: View
    refused: Codes


def _retries(trace: Trace, refused: View) -> _Retries:
    pieces = trace.kind(Kind.DOWNLOAD)
    if not len(refused):
        return _Retries(View(trace, refused.rows), refused.rows)
    before = taken(pieces.rows, pieces.latest(pieces, "thing"))
    follow = np.isin(before, refused.rows)
    return _Retries(pieces.only(follow), before[follow])


def _steady(trace: Trace, retries: _Retries, settle_us: Numbers) -> Mask:
    """Which of them came over a connection that lasted, in the same update, with nothing in the way of an answer."""
    t_us, again = trace.column("t_us"), retries.again
    turns = trace.kind(Kind.DELTA, Kind.BOOT, Kind.CONNECT, Kind.LOST)
    turns = turns.only(~trace.among("status", turns["status"], ("running", "duplicate", "stale")))
    since = taken(turns.rows, again.latest(turns, "thing"))
    links = link_events(trace)
    link = again.latest(links, "thing")
    connected = taken(links["kind"], link) == trace.code("kind", Kind.CONNECT)
    connected &= t_us[retries.refused] - taken(links["t_us"], link) > settle_us
    harmed = again.latest(strikes(trace, lambda what: "request" not in what), "thing") >= 0
    steady = connected & (since < retries.refused) & ~harmed
    for begin, end in outages(trace, (*HEARING, "storage")):
        steady &= (again["t_us"] < begin) | (t_us[retries.refused] > end)
    return np.asarray(steady)


def _grants(trace: Trace, scenario: Scenario) -> tuple[View, Codes]:
    """When devices were granted a download that was under way, and the end of each grant in µs; -1 where nobody named it."""
    if scenario.target.access == "credential":
        granted = trace.kind(Kind.CREDENTIAL).where("status", "granted")
        return granted, granted["t_us"] + round(scenario.target.url_ttl * 1e6)
    heard = trace.kind(Kind.DELTA).where("status", "running")
    return heard, np.where(heard["span_us"] == -1, -1, np.maximum(heard["t_us"] + heard["span_us"], 0))


def _first(retries: _Retries, grants: View) -> Codes:
    """For each of them the first grant between the refusal and the next request (its position); -1 for none."""
    refused = View(grants.trace, retries.refused)
    of = grants.latest(refused, "thing", "job")
    first = np.full(len(refused), len(grants))
    np.minimum.at(first, of[of >= 0], np.flatnonzero(of >= 0))
    return np.where(np.append(grants.rows, len(grants.trace))[first] < retries.again.rows, first, -1)


def _judge(draft: Draft, scenario: Scenario, retries: _Retries, grants: View, end_us: Codes, slack_us: Numbers) -> None:
    """Whether the grant that each device got is good for long enough, and the storage honours it."""
    again, given = retries.again, grants.rows >= 0
    known, trace = given & (end_us >= 0), again.trace
    ttl_us = round(scenario.target.url_ttl * 1e6) if scenario.target.kind == "reference" else 0
    least_us = trace.column("t_us")[retries.refused] + ttl_us - slack_us - SKEW_US
    draft.offend(grants.rows[known & (end_us < np.maximum(least_us, grants["t_us"]))])
    if not scenario.target.bind_address:  # an address that has changed is another reason to refuse
        refused = np.isin(again.rows, refusals(trace, "401", "403").rows)
        draft.offend(again.rows[known & refused & (again["t_us"] < end_us - SKEW_US)])
    if untold := int((given & ~known).sum()):
        draft.doubt(f"the trace does not say when the new grant ends for {many(untold, 'refusal')}")
