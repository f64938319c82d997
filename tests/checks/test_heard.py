"""The replica's promises by what others heard: traces without a record of the backend's that S1, S3 and S5 pass, fail and must
call UNKNOWN."""

import json

from tests.checks.tables import proofs
from tests.checks.traces import NEW, OLD, update, without

S1, S3, S5 = "S1-version", "S3-delta", "S5-durability"
EXTERNAL = {"target": {"kind": "external", "artifact_url": "http://cdn/a"}, "fleet": {"thing": "d-%i", "devices": 2}}
JOB = "r.d-0.0"


def at(seconds, kind, thing="d-0", **fields):
    return (kind, thing, {"t_us": round(seconds * 1e6), **fields})


def asked(seconds, token, thing="d-0", **fields):
    return at(seconds, "report", thing, status="initial", version="1", digest=OLD, token=token, **fields)


def told(seconds, token, doc, thing="d-0", kind="answer", **fields):
    return at(seconds, kind, thing, status="accepted", token=token, doc=doc, **fields)


def offered(sent, accepted, doc=2, job=JOB):
    soft = {"version": "2", "digest": NEW, "token": f"offer:{job}"}
    return [at(sent, "offer", job=job, status="sent", **soft),
            at(accepted, "offer", job=job, status="accepted", doc=doc, **soft)]  # fmt: skip


def delta(seconds, doc, how="delta", status="start", job=JOB):
    return at(seconds, "delta", job=job, status=status, doc=doc, detail=how, version="2", digest=NEW)


def connected(*events, at_s=1.0, until=200.0):
    """A device that is connected from 1 s on, has subscribed at 2 s, and these events."""
    begin = [at(0, "boot", status="cold", version="1", digest=OLD), at(at_s, "connect", status="new"), asked(2, "r1")]
    return sorted([*begin, *events, at(until, "retired")], key=lambda event: event[2]["t_us"])


def struck(seconds):
    return at(seconds, "fault", status="did", size=0, phase="F", detail=json.dumps({"message": "delta", "lost": True}))


def again(seconds):
    return [at(seconds, "lost", status="lost"), at(seconds + 1, "connect", status="new")]


DONE = [at(30, "report", job=JOB, status="SUCCESS", version="2", digest=NEW, token="r2"), told(31, "r2", 5, job=JOB)]
PASSES = {
    S1: {
        "one after the other": ([asked(1, "a"), told(2, "a", 1), asked(3, "b"), told(4, "b", 2)], EXTERNAL),
        "two things": ([asked(1, "a"), told(2, "a", 1), asked(3, "b", "d-1"), told(4, "b", 1, "d-1")], EXTERNAL),
        "said again, and answered as before": (
            [asked(1, "a"), told(2, "a", 1), asked(3, "b"), told(4, "b", 2), asked(5, "a"), told(6, "a", 1)], EXTERNAL),
        "at the same time, in any order": (
            [asked(1, "a"), *offered(1, 3, doc=1), told(4, "a", 2)], EXTERNAL),
        "an old delta over a new connection": (
            connected(told(3, "r1", 1), delta(5, 4), *again(10), delta(12, 3, job="r.d-0.1")), EXTERNAL),
        "an old delta that a fault held back": (
            connected(told(3, "r1", 1), struck(4), delta(5, 4), delta(6, 3, job="r.d-0.1")), EXTERNAL),
        "a get is no update": (
            [asked(1, "a"), told(2, "a", 7), at(3, "probe", phase="get", status="sent", token="g", size=1),
             told(4, "g", 7, kind="probe", phase="get", size=1)], EXTERNAL),
    },
    S3: {
        "a delta": (connected(*offered(5, 6), delta(7, 2)), EXTERNAL),
        "it heard by get, and was not connected before": (
            connected(*offered(0.2, 0.5), delta(3, 2, "get")), EXTERNAL),
        "the connection did not last": (connected(*offered(5, 6), at(20, "lost", status="lost")), EXTERNAL),
        "a fault kept it back": (connected(*offered(5, 6), struck(7)), EXTERNAL),
        "an old one, late": (connected(*offered(5, 6), delta(7, 2), *DONE, delta(40, 3, status="again")), EXTERNAL),
        "another job took its place": (
            connected(*offered(5, 6), *offered(6, 7, doc=3, job="r.d-0.1"), delta(8, 3, job="r.d-0.1")), EXTERNAL),
    },
    S5: {
        "asked again": (connected(told(3, "r1", 1), *offered(5, 6), *again(10), delta(12, 2, "get")), EXTERNAL),
        "a delta may be old": (connected(told(3, "r1", 4), *again(10), delta(12, 2)), EXTERNAL),
        "asked before it was told": (connected(delta(2.5, 0, "get"), told(3, "r1", 1)), EXTERNAL),
        "a fault struck it": (connected(told(3, "r1", 4), *again(10), struck(11), delta(12, 2, "get")), EXTERNAL),
    },
}  # fmt: skip
FAILS = {
    S1: {
        "one version for two": (
            ([asked(1, "a"), *offered(1, 3, doc=1), told(4, "a", 1)], EXTERNAL), ["d-0"], {"kind": "answer", "doc": 1}),
        "it goes back": (
            ([asked(1, "a"), told(2, "a", 5), asked(3, "b"), told(4, "b", 4)], EXTERNAL), ["d-0"], {"doc": 4}),
        "an old delta": (
            (connected(told(3, "r1", 1), delta(5, 4), delta(6, 3, job="r.d-0.1")), EXTERNAL), ["d-0"],
            {"kind": "delta", "doc": 3}),
        "to the probe": (
            ([at(1, "probe", "p", phase="update", status="sent", token="a", size=1), told(2, "a", 5, "p", "probe", size=1),
              at(3, "probe", "p", phase="update", status="sent", token="b", size=2), told(4, "b", 5, "p", "probe", size=2)],
             EXTERNAL), ["p"], {"doc": 5}),
    },
    S3: {
        "missing": ((connected(*offered(5, 6)), EXTERNAL), ["d-0"], {"kind": "offer", "status": "accepted"}),
        "it heard by get alone": (
            (connected(*offered(5, 6), delta(20, 2, "get")), EXTERNAL), ["d-0"], {"kind": "offer", "status": "accepted"}),
        "older than its offer": (
            (connected(*offered(5, 6, doc=4), delta(7, 3)), EXTERNAL), ["d-0"], {"kind": "delta", "doc": 3}),
        "after its end": (
            (connected(*offered(5, 6), delta(7, 2), *DONE, delta(40, 6, status="again")), EXTERNAL), ["d-0"],
            {"kind": "delta", "doc": 6}),
    },
    S5: {
        "an older document": (
            (connected(told(3, "r1", 4), *again(10), delta(12, 3, "get")), EXTERNAL), ["d-0"], {"kind": "delta", "doc": 3}),
        "an update that had been accepted": (
            (connected(delta(7, 2), *DONE, *again(40), delta(42, 9, "get", "again")), EXTERNAL), ["d-0"], {"doc": 9}),
    },
}  # fmt: skip
LACKS = {S1: {"answers": (without(update(), ("replica.accepted", "reported"), ("answer", "accepted")), EXTERNAL)}}
NO_OCCASION = {
    S3: {"it heard by get, and was not connected before", "the connection did not last", "a fault kept it back"},
    S5: {"a delta may be old", "asked before it was told", "a fault struck it"},
}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""

test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS, NO_OCCASION)
