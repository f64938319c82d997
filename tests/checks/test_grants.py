"""Whoever is refused gets fresh leave: traces that L6 passes, fails and must call UNKNOWN."""

import json

from tests.checks.tables import judged, proofs
from tests.checks.traces import NEW, OLD, backed

L6 = "L6-fresh-leave"
JOB = "r.d-0.0"
FLEET = {"fleet": {"thing": "d-%i", "devices": 2}}
MINUTE = {**FLEET, "target": {"url_ttl": "1m"}}
CREDENTIAL = {**FLEET, "target": {"url_ttl": "1m", "access": "credential"}}
EXTERNAL = {**FLEET, "target": {"kind": "external", "artifact_url": "http://cdn/a"}}
BOUND = {**FLEET, "target": {"url_ttl": "1m", "bind_address": True}}


def at(seconds, kind, thing="d-0", **fields):
    return (kind, thing, {"t_us": round(seconds * 1e6), **fields})


def heard(seconds, status="running", lasts=60.0, how="get", job=JOB):
    span_us = None if lasts is None else round(lasts * 1e6)
    return at(seconds, "delta", job=job, status=status, span_us=span_us, detail=how, digest=NEW)


def granted(seconds):
    return at(seconds, "replica.credential", job=JOB, status="granted")


def piece(seconds, status="403", thing="d-0"):
    detail = json.dumps({"offset": 0, "etag": ""})
    return at(seconds, "download", thing, job=JOB, status=status, size=0, detail=detail)


def struck(seconds, **what):
    return at(seconds, "fault", status="did", phase="F", size=0, detail=json.dumps(what))


def refused(*events, connected=1.0):
    """A device that begins a download at 10 s, with leave for a minute, and is refused at 100 s; then these events."""
    return [
        at(0, "boot", status="cold", version="1", digest=OLD), at(connected, "connect", status="new"),
        heard(10, "start", how="delta"), piece(100), *events, at(1000, "retired"),
    ]  # fmt: skip


def killed(begin, end, server="backend"):
    detail = f'{{"server":"{server}"}}'
    return [
        at(begin, "fault", "", status="begin", size=0, detail=detail),
        at(end, "fault", "", status="end", size=0, detail=detail),
    ]


PASSES = {
    L6: {
        "nobody was refused": (backed(), FLEET),
        "fresh leave, and served": (refused(heard(101), piece(102, "206")), MINUTE),
        "a delta brings it": (refused(heard(101, how="delta"), piece(102, "206")), MINUTE),
        "refused again, past the end of that": (
            refused(heard(101), piece(162), heard(163), piece(164, "206")), MINUTE),
        "it asked no more": (refused(), MINUTE),
        "told in whole seconds, by another clock": (refused(heard(101, lasts=57.1), piece(102, "206")), MINUTE),
        "another download": (refused(heard(101, "supersede", job="x"), piece(102, "206")), MINUTE),
        "its connection was lost meanwhile": (
            refused(at(101, "lost", status="lost"), at(102, "connect", status="new"), piece(103)), MINUTE),
        "it was not connected": (refused(piece(102), connected=200.0), MINUTE),
        "it had only just connected": (refused(piece(102), connected=99.5), MINUTE),
        "replica and storage were killed": ([*killed(99, 101), *refused(piece(102))], MINUTE),
        "the replica was killed": ([*killed(99, 101, "replica"), *refused(piece(102))], MINUTE),
        "the storage was killed": ([*killed(99, 101, "storage"), *refused(piece(102))], MINUTE),
        "a fault keeps messages back": (refused(struck(101, message="get_accepted", delay_s=60), piece(102)), MINUTE),
        "a fault refused in the storage's stead": (
            [*refused()[:3], struck(99, request="GET", answer=403), *refused(piece(102, "206"))[3:]], MINUTE),
        "its clock is wrong": ([struck(0, nature="F7"), *refused(heard(101, lasts=-800), piece(102, "206"))], MINUTE),
        "a credential": (refused(granted(101), piece(102, "206")), CREDENTIAL),
        "refused past the end of a credential": (refused(granted(101), piece(170), granted(171), piece(172, "206")), CREDENTIAL),
        "another's backend gives it for as long as it likes": (refused(heard(101, lasts=5), piece(102, "206")), EXTERNAL),
        "refused for its address": (refused(heard(101), piece(102), heard(103), piece(104, "206")), BOUND),
    }
}  # fmt: skip
FAILS = {
    L6: {
        "it is not answered": ((refused(piece(102)), MINUTE), ["d-0"], {"kind": "download", "t_us": 100_000_000}),
        "the same leave again": (
            (refused(heard(101, lasts=-31), piece(102)), MINUTE), ["d-0"], {"kind": "delta", "status": "running"}),
        "leave for too short a time": (
            (refused(heard(101, lasts=20), piece(102, "206")), MINUTE), ["d-0"], {"kind": "delta", "status": "running"}),
        "another's backend, and expired": ((refused(heard(101, lasts=-1), piece(102, "206")), EXTERNAL), ["d-0"], {"kind": "delta"}),
        "refused all the same": (
            (refused(heard(101), piece(102)), MINUTE), ["d-0"], {"kind": "download", "t_us": 102_000_000}),
        "of another job": ((refused(heard(101, job="x"), piece(102, "206")), MINUTE), ["d-0"], {"t_us": 100_000_000}),
        "no credential": (([granted(10), *refused(piece(102, "401"))], CREDENTIAL), ["d-0"], {"t_us": 100_000_000}),
        "refused though a credential was granted": (
            (refused(granted(101), piece(110, "401")), CREDENTIAL), ["d-0"], {"kind": "download", "status": "401"}),
        "a fault on the download alone": (
            (refused(struck(101, request="GET", wait_s=1.0), piece(102)), MINUTE), ["d-0"], {"t_us": 100_000_000}),
    }
}  # fmt: skip
LACKS = {
    L6: {
        "devices": ([at(9, "offer", job=JOB, status="sent")], FLEET),
        "the device's profile": refused(heard(101), piece(102, "206")),
        "the end of the leave": (refused(heard(101, lasts=None), piece(102, "206")), MINUTE),
        "credentials": (refused(piece(102, "206")), CREDENTIAL),
    }
}


NO_OCCASION = {
    "L6-fresh-leave": {
        "nobody was refused",
        "it asked no more",
        "another download",
        "its connection was lost meanwhile",
        "it was not connected",
        "it had only just connected",
        "replica and storage were killed",
        "the replica was killed",
        "the storage was killed",
        "a fault keeps messages back",
        "a fault refused in the storage's stead",
        "its clock is wrong",
    },
}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS, NO_OCCASION)


def test_it_is_a_matter_of_liveness():
    assert not judged(L6, (refused(), MINUTE)).safety
