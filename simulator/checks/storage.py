"""Checks on the storage: whom it serves and until when, and whether ranges and sizes are right."""

from __future__ import annotations

import numpy as np

from simulator.checks.arrays import carried, follows, grouped, shifted, taken
from simulator.checks.base import Draft, by_then, torn
from simulator.checks.device import details, places
from simulator.checks.strikes import strikes
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View, newest
from simulator.trace.targets import Mask

SKEW_US = 1_000_000  # between two clocks; the end of a grant is given in whole seconds


def url(trace: Trace, scenario: Scenario) -> Finding:
    """S14: the storage serves only whom a signature or a credential names, and not past its end; and no device is
    refused with 403 as long as the grant that it heard of is good.

    A grant's end is at the latest the time it was heard (a credential's: granted) and the scenario's url_ttl. Refusals
    are judged where URLs are pre-signed and not bound to an address. A storage that is not ours, and records nothing, is
    judged by the answers that devices got to URLs that name their end.
    """
    draft = Draft("S14-url", "the storage serves whoever has a valid grant, and nobody else", trace)
    served, pieces = trace.kind(Kind.SERVED), trace.kind(Kind.DOWNLOAD)
    if not len(served) and not len(pieces):
        return draft.unknown("nothing was downloaded")
    given = served.where("status", "200", "206")
    if len(served) or scenario.target.artifact_url is None:
        _served(draft, trace, scenario, given)
    else:
        given = _taken(draft, trace, pieces.where("status", "200", "206"))
    if not len(served) and scenario.target.artifact_url is None:
        draft.doubt("whom the storage served is not in the trace")
    refused = pieces.where("status", "403")
    judged = len(refused)
    if scenario.target.access == "presigned" and not scenario.target.bind_address:
        judged = _refused(draft, trace, refused)
    return draft.decide(
        f"{many(len(given), 'answer')} to devices with a grant, {many(len(refused), 'refusal')} of devices without",
        "answer",
        "of the storage served a device without a grant, or refused one with a grant",
        seen=len(given) + judged,
        unseen="no URL that a device was given says when it ends",
    )


def _taken(draft: Draft, trace: Trace, got: View) -> View:
    """What devices got by URLs whose end they were told. It offends where each URL that the device knew had ended before it
    asked."""
    heard = trace.kind(Kind.DELTA)
    ending = heard.only(heard["span_us"] > 0)
    asked_us = got["t_us"] - np.maximum(got["span_us"], 0)
    asked = np.searchsorted(trace.column("t_us"), asked_us, "right")
    used = newest(got["thing"], asked, ending, ending["thing"])
    end_us = taken(ending["t_us"] + ending["span_us"], used)
    endless = heard.where("status", "start", "supersede", "running")
    endless = endless.only(endless["span_us"] == -1)
    known = (used >= 0) & (got.latest(endless, "thing", "job") < 0)
    draft.offend(got.rows[known & (asked_us > end_us + SKEW_US)])
    return got.only(known)


def _served(draft: Draft, trace: Trace, scenario: Scenario, given: View) -> None:
    """Served without a name, or later than the newest grant of that thing can have been good."""
    named = given["thing"] != trace.code("thing", "")
    draft.offend(given.rows[~named])
    given = given.only(named)
    by_url = scenario.target.access == "presigned"
    grants = trace.kind(Kind.DELTA) if by_url else trace.kind(Kind.CREDENTIAL).where("status", "granted")
    if not len(grants):
        if len(given):
            draft.doubt("the trace does not say when devices were granted their downloads")
        return
    last = newest(given["thing"], by_then(trace, given.rows), grants, grants["thing"])
    ttl_us = round(scenario.target.url_ttl * 1e6)
    late = (last < 0) | (given["t_us"] > taken(grants["t_us"], last) + ttl_us + SKEW_US)
    hidden = torn(trace)[given["thing"]] & by_url
    draft.offend(given.rows[late & ~hidden])
    if unsure := int((late & hidden).sum()):
        draft.doubt(f"{many(unsure, 'answer')} to devices whose record breaks off")


def _refused(draft: Draft, trace: Trace, refused: View) -> int:
    """Refused, and by the storage, before the end of a grant no newer than the one that the device used. How many refusals
    could be judged."""
    heard = trace.kind(Kind.DELTA)
    starts = heard.where("status", "start", "supersede")
    grants = heard.where("status", "start", "supersede", "running")
    start = taken(starts.rows, refused.latest(starts, "thing", "job"))
    again = refused.latest(refused, "thing", "job")
    fresh = taken(refused.rows, again) > start  # a refusal before: the device has asked anew since then
    asked = taken(refused.latest(grants, "thing", "job"), again)
    used = np.where(fresh, asked, np.searchsorted(grants.rows, start))
    used = np.where(start >= 0, used, -1)
    span = taken(grants["span_us"], used)
    end = taken(grants["t_us"], used) + span
    by_fault = _by_a_fault(trace, refused)
    draft.offend(refused.rows[(span > 0) & (refused["t_us"] < end - SKEW_US) & ~by_fault])
    if unsure := int(((span == -1) & ~by_fault).sum()):
        draft.doubt(f"the trace does not say when the grant ends for {many(unsure, 'refusal')}")
    return int(((span > 0) & ~by_fault).sum())


def refusals(trace: Trace, *statuses: str) -> View:
    """The downloads that the storage itself refused with one of these."""
    refused = trace.kind(Kind.DOWNLOAD).where("status", *statuses)
    return refused.only(~_by_a_fault(trace, refused))


def _by_a_fault(trace: Trace, answers: View) -> Mask:
    """Which of these a fault gave in the storage's place: it struck since the device's request before."""
    pieces, canned = trace.kind(Kind.DOWNLOAD), strikes(trace, lambda what: "answer" in what)
    struck = taken(canned.rows, answers.latest(canned, "thing"))
    return np.asarray(struck > taken(pieces.rows, answers.latest(pieces, "thing")))


# ---- ranges and sizes


def ranges(trace: Trace, scenario: Scenario) -> Finding:
    """S15: a 206 begins where the device's bytes end, a 416 comes only when nothing is left, no device gets more bytes
    than announced, and what the storage sends is the artifact or a part of it."""
    draft = Draft("S15-range", "the ranges and sizes of downloads are right", trace)
    served, pieces = trace.kind(Kind.SERVED), grouped(trace.kind(Kind.DOWNLOAD), "thing")
    if not len(served) and not len(pieces):
        return draft.unknown("nothing was downloaded")
    if len(pieces):
        _received(draft, trace, pieces)
    else:
        draft.doubt("the trace holds no downloads of devices")
    if len(served):
        _sent(draft, trace, served)
    elif scenario.target.artifact_url is None:
        draft.doubt("what the storage sent is not in the trace")
    return draft.decide(
        f"{many(len(pieces), 'download')}, each of the range asked for",
        "answer",
        "had the wrong range or size",
        seen=len(pieces) + len(served),
        unseen="nothing was downloaded",
    )


def _received(draft: Draft, trace: Trace, pieces: View) -> None:
    """What devices got, grouped by thing: is it what they asked for, and no more than there is?"""
    offset, _ = places(trace, pieces)
    brought = _is(pieces, "200", "206") & (pieces["size"] > 0)
    joined = follows(pieces, "thing")
    last = np.where(joined, shifted(carried(joined, brought), -1), -1)
    reached = taken(offset + pieces["size"], last, 0)
    partial, beyond = _is(pieces, "206"), _is(pieces, "416")
    announced = _announced(trace, pieces)
    draft.offend(pieces.rows[partial & brought & (offset != reached)])
    draft.offend(pieces.rows[partial & _refuted(trace, pieces)])
    draft.offend(pieces.rows[brought & (announced >= 0) & (offset + pieces["size"] > announced)])
    draft.offend(pieces.rows[beyond & (reached < announced)])
    if unknown := int(((brought | beyond) & (announced < 0)).sum()):
        draft.doubt(f"no size was announced for {many(unknown, 'download')}")


def _is(view: View, *statuses: str) -> Mask:
    return view.trace.among("status", view["status"], statuses)


def _announced(trace: Trace, pieces: View) -> Codes:
    """For each download the size that the device was told for its job; -1 where nobody told one."""
    deltas = trace.kind(Kind.DELTA)
    return taken(deltas["size"], pieces.latest(deltas, "thing", "job"))


def _refuted(trace: Trace, pieces: View) -> Mask:
    """Which 206 the device did not take: of another range, another content or another length."""
    each, which = details(trace, pieces)
    return np.array([detail.get("error", "").startswith("206 ") for detail in each], bool)[which]


def _sent(draft: Draft, trace: Trace, served: View) -> None:
    """What the storage says that it sent: the whole artifact (to a HEAD: nothing), or a part of it."""
    heard = trace.kind(Kind.DELTA)
    heard = heard.only((heard["digest"] >= 0) & (heard["size"] >= 0))
    totals = np.full(len(trace.words("digest")) + 1, -1)
    totals[heard["digest"]] = heard["size"]
    total, size = totals[served["digest"]], served["size"]
    whole, part, beyond = (_is(served, status) for status in ("200", "206", "416"))
    known = total >= 0
    draft.offend(served.rows[whole & known & (size != total) & (size != 0)])
    draft.offend(served.rows[part & ((size <= 0) | (known & (size > total)))])
    draft.offend(served.rows[beyond & (size != 0)])
    if unknown := int(((whole | part) & ~known).sum()):
        draft.doubt(f"the artifact's size is not in the trace for {many(unknown, 'answer')}")
