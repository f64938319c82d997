"""Checks on what devices did: the device's own events are the ground truth, never what anybody reports."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from simulator.checks.arrays import nth
from simulator.checks.base import STORAGE, Draft, by_then, reach, torn
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View
from simulator.trace.targets import Mask, Targets

_AGES_S = 1e9  # whatever a storage asks for, the arithmetic can hold it


def _announced(trace: Trace) -> Codes:
    """By the code of a job: the digest that the application offered, else the one that the device heard; -1 for none."""
    digests = np.full(len(trace.words("job")), -1)
    for view in (trace.kind(Kind.DELTA), trace.kind(Kind.OFFER)):
        known = view.only((view["job"] >= 0) & (view["digest"] >= 0))
        digests[known["job"]] = known["digest"]
    return digests


def true_success(trace: Trace, scenario: Scenario) -> Finding:
    """S11: whoever reports SUCCESS for a job has confirmed the software of that job, or ran it when it heard of it, and
    runs it; and every report names the version that runs."""
    draft = Draft("S11-true-success", "a device that reports success runs the software of that job", trace)
    reports = trace.kind(Kind.REPORT)
    if not len(reports):
        return draft.unknown("no device reported anything")
    facts = trace.kind(Kind.BOOT, Kind.CONFIRM, Kind.ROLLBACK)
    fact = reports.latest(facts, "thing")
    if (fact < 0).any():
        draft.doubt(f"the trace does not say what ran at {many(int((fact < 0).sum()), 'report')}")
    wrong = reports["version"] != np.append(facts["version"], -1)[fact]
    draft.offend(reports.rows[wrong & (fact >= 0)])
    successes = reports.where("status", "SUCCESS")
    draft.offend(successes.rows[_untrue(trace, successes)])
    return draft.decide(
        f"{many(len(reports), 'report')}, each names what the device runs",
        "report",
        "named software that the device did not run",
        seen=len(reports),
        unseen="no device reported anything",
    )


def _untrue(trace: Trace, successes: View) -> Mask:
    """Which reports of success come from a slot that holds other software, or without the job being carried through."""
    digest, wanted = successes["digest"], _announced(trace)[successes["job"]]
    confirms, deltas = trace.kind(Kind.CONFIRM), trace.kind(Kind.DELTA)
    confirm = successes.latest(confirms, "thing", "job")
    confirmed = (confirm >= 0) & (np.append(confirms["digest"], -1)[confirm] == digest)
    ran = successes.latest(deltas.where("status", "installed"), "thing", "job") >= 0
    return np.asarray(((wanted >= 0) & (digest != wanted)) | ~(confirmed | ran))


def integrity(trace: Trace, scenario: Scenario) -> Finding:
    """S10: what is installed has the announced hash, and its bytes are one whole under one ETag."""
    draft = Draft("S10-integrity", "the installed bytes have the announced hash", trace)
    commits = trace.kind(Kind.COMMIT)
    if not len(commits):
        return _nothing_installed(draft, trace)
    offered, heard, digest = _announced(trace)[commits["job"]], _heard(trace, commits), commits["digest"]
    draft.offend(commits.rows[((offered != -1) & (digest != offered)) | ((heard != -1) & (digest != heard))])
    if unknown := int(((offered == -1) & (heard == -1)).sum()):
        draft.doubt(f"no hash was announced for {unknown:,} of {len(commits):,} installations")
    pieces = trace.kind(Kind.DOWNLOAD).where("status", "200", "206")
    if len(pieces):
        draft.offend(commits.rows[~_whole(trace, pieces, commits)])
    else:
        draft.doubt("the trace holds no downloads")
    return draft.decide(
        f"{many(len(commits), 'installation')}, each wrote the announced bytes",
        "installation",
        "wrote other bytes than the announced ones",
        seen=len(commits),
        unseen="nothing was installed",
    )


def _nothing_installed(draft: Draft, trace: Trace) -> Finding:
    """A promise that was never put to the test, where the devices' records are whole."""
    boots = trace.kind(Kind.BOOT)
    if not len(boots):
        return draft.unknown("the trace holds nothing of the devices")
    if confirmed := len(trace.kind(Kind.CONFIRM)):
        draft.doubt(f"{many(confirmed, 'confirmed update')}, and no installation is in the trace")
    if hidden := int(torn(trace)[np.unique(boots["thing"])].sum()):
        draft.doubt(f"nothing was installed, and the records of {many(hidden, 'device')} break off")
    return draft.decide("", "", "", seen=0, unseen="nothing was installed")


def _heard(trace: Trace, commits: View) -> Codes:
    """For each installation the code of the hash that the device was told; -1 for none, -2 for one never seen."""
    words = trace.words("detail")
    digests = np.full(len(words) + 1, -1)
    for code in np.unique(commits["detail"]).tolist():
        if code >= 0:
            digests[code] = trace.code("digest", words[code])
    return np.asarray(digests[commits["detail"]])


def _whole(trace: Trace, pieces: View, commits: View) -> Mask:
    """Which installations' bytes are the pieces since the last fresh start, joined without a gap under one ETag.

    Pieces and installations of each thing are laid in one line, `end` being how far the pieces reach; what seems to
    join over the border of two things does no harm, since an installation's start must be its own thing's.
    """
    pieces = pieces.only(pieces["size"] > 0)
    order = np.lexsort(
        (np.concatenate([pieces.rows, commits.rows]), np.concatenate([pieces["thing"], commits["thing"]]))
    )
    installs = order >= len(pieces)

    def line(values: Codes, others: Codes) -> Codes:
        return np.concatenate([values, others])[order]

    thing, nothing = line(pieces["thing"], commits["thing"]), np.zeros(len(commits), np.int64)
    offset, etag = (line(values, nothing) for values in places(trace, pieces))
    end = offset + line(pieces["size"], nothing)
    fresh = ~installs & (offset == 0)
    joins = np.zeros(len(order), bool)
    joins[1:] = (offset[1:] == end[:-1]) & (etag[1:] == etag[:-1])
    gaps = np.cumsum(~installs & ~joins)
    start = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), -1))
    at = np.flatnonzero(installs)
    begun, which = start[at], order[at] - len(pieces)
    own = (begun >= 0) & (thing[begun] == thing[at]) & (gaps[at] == gaps[begun])
    size = commits["size"][which]
    whole = np.empty(len(commits), bool)
    whole[which] = (own & (end[at - 1] == size)) | (size == 0)
    return whole


def places(trace: Trace, pieces: View) -> tuple[Codes, Codes]:
    """Offset and number of the ETag of each piece."""
    each, which = details(trace, pieces)
    etags: dict[str, int] = {"": 0}
    offsets = np.array([detail.get("offset", 0) for detail in each], np.int64)
    numbers = np.array([etags.setdefault(detail.get("etag", ""), len(etags)) for detail in each], np.int64)
    return offsets[which], numbers[which]


def asked_us(trace: Trace, pieces: View) -> Codes:
    """How long the storage asked to be left alone after each piece."""
    each, which = details(trace, pieces)
    waits_s = [min(detail.get("retry_after_s", 0.0), _AGES_S) for detail in each]
    return np.array([round(wait_s * 1e6) for wait_s in waits_s], np.int64)[which]


def details(trace: Trace, pieces: View) -> tuple[list[dict[str, Any]], Codes]:
    """What the pieces' details say, each distinct text parsed once, and which of them each piece has."""
    codes, which = np.unique(pieces["detail"], return_inverse=True)
    words = trace.words("detail")
    return [json.loads(words[code]) if code >= 0 else {} for code in codes.tolist()], which


def no_regress(trace: Trace, scenario: Scenario) -> Finding:
    """S12: no device starts on a document older than one that it knows."""
    draft = Draft("S12-no-regress", "no device starts an update from an older document than one that it knows", trace)
    deltas = trace.kind(Kind.DELTA)
    if not len(deltas):
        return draft.unknown("no device learned of a desired state")
    acted = deltas.where("status", "start", "supersede", "installed")
    if unversioned := int((acted["doc"] < 0).sum()):
        draft.doubt(f"{unversioned:,} of {len(acted):,} documents carry no version")
    known = deltas.only(deltas["doc"] >= 0)
    order = np.argsort(known["thing"], kind="stable")
    thing, doc = known["thing"][order], known["doc"][order]
    span = int(doc.max(initial=0)) + 1
    highest = np.maximum.accumulate(thing * np.int64(span) + doc)  # within one thing: each thing's begin above
    older = np.zeros(len(known), bool)
    older[order[1:]] = highest[:-1] > thing[1:] * np.int64(span) + doc[1:]
    draft.offend(np.intersect1d(known.rows[older], acted.rows))
    return draft.decide(
        f"{many(len(acted), 'update')} began, each on a newer document",
        "update",
        "began on an older document than the device had seen",
        seen=len(acted),
        unseen="no update began",
    )


def at_most_once(trace: Trace, scenario: Scenario) -> Finding:
    """S13: a job is installed at most once on a thing, and over its retries as often as the rollout may try."""
    draft = Draft("S13-at-most-once", "no device installs the same job twice", trace)
    if not len(trace.kind(Kind.DELTA)):
        return draft.unknown("no device learned of a desired state")
    commits, targets = trace.kind(Kind.COMMIT), trace.once(Targets)
    if unnamed := int((commits["job"] < 0).sum()):
        draft.doubt(f"{many(unnamed, 'installation')} without a job's name")
    pairs = (commits["thing"].astype(np.int64) << 32) | commits["job"]
    draft.offend(commits.rows[(nth(pairs) > 0) & (commits["job"] >= 0)])
    retry = scenario.rollout.retry_config
    of = targets.of_jobs(commits)
    names = [trace.code("job", rollout_of.rollout.name) for rollout_of in scenario.rollouts]
    mine = (of >= 0) & np.isin(targets.rollout[of], names) if len(targets) else of >= 0
    draft.offend(commits.rows[mine & (nth(of) > retry.failed + retry.timed_out)])
    return draft.decide(
        f"{many(len(commits), 'installation')}, no job was installed twice",
        "installation",
        "repeated a job that the device had already installed",
        seen=len(commits),
        unseen="nothing was installed",
    )


def targeting(trace: Trace, scenario: Scenario) -> Finding:
    """S23: only a target acts, each on its own job, and only a target gets the artifact, each in its own name.

    A device that downloaded more often than the storage served in its name used another's grant.
    """
    draft = Draft("S23-targeting", "only the targets get and apply the update", trace)
    targets = trace.once(Targets)
    if not len(targets):
        return draft.unknown("the trace names no targets")
    if not len(trace.kind(Kind.BOOT)):
        return draft.unknown("the trace holds nothing of the devices")
    acts = trace.kind(Kind.DELTA, Kind.COMMIT, Kind.CONFIRM)
    draft.offend(acts.rows[~np.isin(acts["thing"], targets.thing)])
    _own_jobs(draft, trace, targets, acts)
    draft.offend(_foreign(trace, targets))
    served = trace.kind(Kind.SERVED).where("status", "200", "206")
    draft.offend(served.rows[_untargeted(targets, served)])
    pieces = trace.kind(Kind.DOWNLOAD).where("status", "200", "206")
    if len(served):
        _own_grant(draft, trace, pieces, served)
    elif len(pieces) and scenario.target.artifact_url is None:
        draft.doubt("whom the storage served is not in the trace")
    return draft.decide(
        f"{many(len(targets), 'target')}, and no other device got the update",
        "event",
        "concerned a device that is no target, or the job or download of another device",
        seen=len(acts) + len(trace.kind(Kind.OFFER)),
        unseen="nothing was offered, and no device learned of an update",
    )


def _own_jobs(draft: Draft, trace: Trace, targets: Targets, acts: View) -> None:
    """What speaks of a job is its owner's: at the device, at the replica, and in what it granted or accepted."""
    accepted = trace.kind(Kind.SENT_DELTA, Kind.ACCEPTED)
    granted = trace.kind(Kind.CREDENTIAL).where("status", "granted")
    for events in (acts, accepted, granted):
        owner = targets.owner(events)
        draft.offend(events.rows[(owner >= 0) & (owner != events["thing"])])
    if unknown := int((targets.owner(acts) < 0).sum()):
        draft.doubt(f"{many(unknown, 'event')} of devices on jobs that the application never offered")


def _foreign(trace: Trace, targets: Targets) -> Codes:
    """Rows of offers to things that are no targets of that software."""
    offers = trace.kind(Kind.OFFER)
    return offers.rows[targets.of(offers) < 0]


def _untargeted(targets: Targets, served: View) -> Mask:
    """Which answers of the storage went to a thing that is no target of that artifact."""
    unhashed = targets.thing[targets.view["digest"] < 0]  # of these nobody told which artifact is meant
    return np.asarray((targets.of(served) < 0) & ~np.isin(served["thing"], unhashed))


def _own_grant(draft: Draft, trace: Trace, pieces: View, served: View) -> None:
    """Each response that a device got was served before in its own name, as far as the storage's record reaches."""
    span = np.int64(len(trace))
    order = np.sort(served["thing"] * span + served.rows)
    base = pieces["thing"] * span
    before = np.searchsorted(order, base + by_then(trace, pieces.rows)) - np.searchsorted(order, base)
    lent = nth(pieces["thing"]) >= before
    covered = pieces.rows < reach(trace, *STORAGE)
    draft.offend(pieces.rows[lent & covered])
    if (lent & ~covered).any():
        draft.doubt(f"{many(int((lent & ~covered).sum()), 'download')} came after the storage's record ends")
