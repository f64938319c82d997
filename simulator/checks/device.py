"""Checks on what devices did: the device's own events are the ground truth, never what anybody reports."""

from __future__ import annotations

import json

import numpy as np

from simulator.checks.base import Draft
from simulator.model.events import Kind
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Trace, View


def true_success(trace: Trace, scenario: Scenario) -> Finding:
    """S11: whoever reports SUCCESS for a job runs the software of that job, and every report names what runs."""
    draft = Draft("S11-true-success", "a success report means that the device runs that software", trace)
    reports = trace.kind(Kind.REPORT)
    if not len(reports):
        return draft.unknown("no device reported anything")
    wanted = _wanted(trace)
    versions: dict[str, str] = {}  # digest -> version, as slots were written or first booted
    for view in (trace.kind(Kind.BOOT), trace.kind(Kind.COMMIT)):
        versions.update(zip(view.texts("digest"), view.texts("version"), strict=True))
    columns = zip(
        reports.rows.tolist(),
        reports.texts("thing"),
        reports.texts("job"),
        reports.texts("status"),
        reports.texts("version"),
        reports.texts("digest"),
        strict=True,
    )
    for row, thing, job, status, version, digest in columns:
        if (status == "SUCCESS" and job in wanted and digest != wanted[job]) or (
            digest in versions and version != versions[digest]
        ):
            draft.offend(row, thing)
    return draft.decide(f"{len(reports)} reports say what runs", "reports claim software that does not run")


def _wanted(trace: Trace) -> dict[str, str]:
    """job -> the digest announced to the device."""
    deltas = trace.kind(Kind.DELTA)
    pairs = zip(deltas.texts("job"), deltas.texts("digest"), strict=True)
    return {job: digest for job, digest in pairs if digest}


def integrity(trace: Trace, scenario: Scenario) -> Finding:
    """S10: what is installed is what was announced, and its bytes are one whole under one ETag."""
    draft = Draft("S10-integrity", "installed bytes are the announced bytes", trace)
    commits = trace.kind(Kind.COMMIT)
    if not len(commits):
        return draft.unknown("nothing was installed")
    announced = 0
    columns = zip(
        commits.rows.tolist(), commits.texts("thing"), commits.texts("digest"), commits.texts("detail"), strict=True
    )
    for row, thing, digest, said in columns:
        announced += bool(said)
        if said and digest != said:
            draft.offend(row, thing)
    pieces = _pieces(trace)
    sizes = zip(
        commits.rows.tolist(), commits.texts("thing"), commits.texts("job"), commits["size"].tolist(), strict=True
    )
    for row, thing, job, size in sizes:
        if job in pieces and size >= 0 and not _whole(pieces[job], size):
            draft.offend(row, thing)
    if not announced and not draft.rows:
        return draft.unknown("no hash was announced")
    return draft.decide(f"{len(commits)} installations, each of the announced bytes", "installations of other bytes")


def _pieces(trace: Trace) -> dict[str, list[tuple[int, int, str]]]:
    """job -> (offset, size, etag) of each response that brought bytes."""
    view = trace.kind(Kind.DOWNLOAD)
    pieces: dict[str, list[tuple[int, int, str]]] = {}
    for job, size, detail in zip(view.texts("job"), view["size"].tolist(), view.texts("detail"), strict=True):
        said = json.loads(detail) if detail else {}
        pieces.setdefault(job, []).append((said.get("offset", 0), size, said.get("etag", "")))
    return pieces


def _whole(pieces: list[tuple[int, int, str]], size: int) -> bool:
    """Whether the pieces since the last fresh start join without a gap, under one ETag, to `size` bytes."""
    reached, etag = 0, ""
    for offset, length, tag in pieces:
        if offset == 0:
            reached, etag = length, tag
        elif length:
            if offset != reached or tag != etag:
                return False
            reached += length
    return reached == size


def no_regress(trace: Trace, scenario: Scenario) -> Finding:
    """S12: no device starts on a document older than one it has acted upon."""
    draft = Draft("S12-no-regress", "no device acts on an older desired state", trace)
    deltas = trace.kind(Kind.DELTA)
    if not len(deltas):
        return draft.unknown("no device learned of a desired state")
    highest: dict[int, int] = {}
    acted = deltas.where("status", "start", "supersede")
    if len(acted) and bool(np.all(acted["doc"] < 0)):
        return draft.unknown("the backend's documents carry no version")
    for row, thing, doc in zip(acted.rows.tolist(), acted["thing"].tolist(), acted["doc"].tolist(), strict=True):
        if doc < highest.get(thing, -1):
            draft.offend(row, trace.words("thing")[thing])
        highest[thing] = max(doc, highest.get(thing, -1))
    return draft.decide(f"{len(acted)} updates begun, each on a newer document", "updates begun on an older document")


def at_most_once(trace: Trace, scenario: Scenario) -> Finding:
    """S13: a job is installed at most once on a thing."""
    draft = Draft("S13-at-most-once", "a job is installed at most once", trace)
    if not len(trace.kind(Kind.DELTA)):
        return draft.unknown("no device learned of a desired state")
    commits = trace.kind(Kind.COMMIT)
    for row in _repeated(commits):
        draft.offend(row, trace.words("thing")[int(trace.column("thing")[row])])
    return draft.decide(f"{len(commits)} installations, no job twice", "repeated installations")


def _repeated(view: View) -> list[int]:
    """Rows whose (thing, job) stood in an earlier row."""
    seen: set[tuple[int, int]] = set()
    repeated = []
    for row, *key in zip(view.rows.tolist(), view["thing"].tolist(), view["job"].tolist(), strict=True):
        pair = (key[0], key[1])
        if pair in seen:
            repeated.append(row)
        seen.add(pair)
    return repeated


def targeting(trace: Trace, scenario: Scenario) -> Finding:
    """S23: only a target acts, on its own job, and only a target gets the artifact."""
    draft = Draft("S23-targeting", "only the targeted devices get and apply the update", trace)
    targets = set(trace.kind(Kind.TARGET).texts("thing"))
    if not targets:
        return draft.unknown("the trace names no targets")
    offers = trace.kind(Kind.OFFER)
    owners = dict(zip(offers.texts("job"), offers.texts("thing"), strict=True))
    acting = trace.kind(Kind.DELTA, Kind.COMMIT, Kind.CONFIRM)
    for row, thing, job in zip(acting.rows.tolist(), acting.texts("thing"), acting.texts("job"), strict=True):
        if thing not in targets or owners.get(job, thing) != thing:
            draft.offend(row, thing)
    served = trace.kind(Kind.SERVED).where("status", "200", "206")
    for row, thing in zip(served.rows.tolist(), served.texts("thing"), strict=True):
        if thing not in targets:
            draft.offend(row, thing)
    return draft.decide(f"{len(targets)} targets, and nobody else", "acts outside the targets")
