"""Checks on a broker's promises: traces they pass, traces they fail, and where; traces they must call UNKNOWN."""

import json

from tests.checks.tables import proofs
from tests.checks.traces import NEW, OLD, backed

S19, S20 = "S19-one-session", "S20-offline-queue"
JOB = "r.d-0.0"
S = 1_000_000
FLEET = {"fleet": {"thing": "d-%i", "devices": 3}}
SLOW = {**FLEET, "profiles": {"perfect": {"latency": "10s"}}}
KEPT = {**FLEET, "profiles": {"perfect": {"clean_start": False, "session_expiry": "10m", "keep_alive": "20s"}}}


def at(seconds, kind, thing="d-0", **fields):
    return (kind, thing, {"t_us": round(seconds * S), **fields})


def in_order(*events):
    return sorted(events, key=lambda event: event[2]["t_us"])


def fault(seconds, status, thing="d-0", nth=0, **said):
    return at(seconds, "fault", thing, status=status, size=nth, phase="F", detail=json.dumps(said) if said else None)


def connect(seconds, status="new", thing="d-0"):
    return at(seconds, "connect", thing, status=status)


def lost(seconds, status="lost", thing="d-0"):
    return at(seconds, "lost", thing, status=status)


def delta(seconds, doc=2, how="delta", thing="d-0"):
    return at(seconds, "delta", thing, job=JOB, status="running", doc=doc, detail=how, version="2", digest=NEW)


def retired(seconds=200, thing="d-0"):
    return at(seconds, "retired", thing, status="idle", version="1", digest=OLD)


# ---- one session


def rival(*events, taken=20.0, ends=True):
    """A connection from 1 s on, and a rival that sets out at 19 s and has its CONNACK a second later."""
    saw = [fault(taken, "saw", rival="connected"), fault(taken + 1, "saw", rival="gone")] if taken else []
    return in_order(connect(1), fault(19, "did", act="rival"), *saw, *events, *([retired()] if ends else []))


def left_open(*events, back=25.0, closed=None, ends=True):
    """A connection from 1 s on, left half open at 20 s by a device that comes back."""
    saw = [fault(closed, "saw", **{"half-open": "closed"})] if closed else []
    again = [connect(back)] if back else []
    return in_order(
        connect(1), fault(20, "did", act="half-open"), lost(20), *again, *saw, *events, *([retired()] if ends else [])
    )


def heard_over_the_old(seconds, nth=0):
    return fault(seconds, "saw", nth=nth, **{"half-open": "heard", "message": "delta"})


def answer(seconds, status="accepted"):
    return at(seconds, "answer", job=JOB, status=status)


# ---- what a session keeps


def kept(*events, status="resumed", sent=50, back=60, known=None, gone=40, until=200, retires=True, doc=2):
    """A session from 1 s on, its device gone from 40 s on, a delta sent at 50 s and acknowledged, and back at 60 s."""
    known = sent + 1 if known is None else known
    return in_order(
        connect(1), at(2, "report", status="initial", version="1", digest=OLD), lost(gone),
        at(sent, "replica.delta", job=JOB, version="2", doc=doc),
        *([at(known, "replica.acknowledged", "", status="all")] if known else []),
        *([connect(back, status)] if back else []), *events,
        retired(until) if retires else at(until, "stage", "", phase="settle"),
    )  # fmt: skip


def server(begin, end, which="broker"):
    said = {"server": which}
    return fault(begin, "begin", "", **said), fault(end, "end", "", **said)


PASSES = {
    S19: {
        "success": (backed(), FLEET),
        "ended at once": (rival(lost(20.1)), FLEET),
        "ended before the rival heard that it was there": (rival(lost(19.9)), FLEET),
        "ended in time, and heard what was under way": (rival(delta(21.9), lost(29), connect(31), delta(60)), FLEET),
        "a slow road": (rival(delta(41.9), lost(49.9)), SLOW),
        "the rival came to nothing": (rival(fault(20, "saw", rival="failed"), delta(60), taken=None), FLEET),
        "nobody was there": (in_order(lost(5), *rival()), FLEET),
        "the device came back before the rival did": (rival(lost(10), connect(19.5), delta(60)), FLEET),
        "the run was over": ([*rival(ends=False), retired(25)], FLEET),
        "given up, not heard": (rival(answer(25, "given-up"), lost(29)), FLEET),
        "a device whose road was dark": (rival(fault(15, "did", nth=1, act="dark"), lost(90)), FLEET),
        "a message that a fault held back": (
            rival(fault(15, "did", nth=1, message="delta", delay_s=9), delta(24), lost(29)), FLEET),
        "another device's": (rival(lost(20.1), connect(1, thing="d-1"), delta(60, thing="d-1")), FLEET),
        "a rival of one that set out when the run ended": ([*rival(taken=None, ends=False), retired(70)], FLEET),
        "left open, and closed": (left_open(heard_over_the_old(24), closed=25.1), FLEET),
        "closed before the device came back": (left_open(closed=22), FLEET),
        "what was under way came to the old one": (left_open(heard_over_the_old(26.9), closed=34.9), FLEET),
        "never came back": (left_open(back=None), FLEET),
        "back when the run was over": ([*left_open(back=195), retired(200)], FLEET),
        "left open twice": (
            left_open(fault(50, "did", act="half-open"), lost(50), heard_over_the_old(60), connect(70),
                      fault(71, "saw", **{"half-open": "closed"}), closed=25.1), FLEET),
    },
    S20: {
        "success": (backed(), FLEET),
        "a clean session": (kept(), FLEET),
        "delivered": (kept(delta(61)), KEPT),
        "delivered while it lasts": (kept(delta(89)), KEPT),
        "delivered before": (kept(delta(39.5), sent=39, gone=45), KEPT),
        "a later one in its place": (
            kept(at(55, "replica.delta", job=JOB, version="2", doc=3), delta(61, doc=3)), KEPT),
        "before the session had subscribed": (kept(sent=1.5), KEPT),
        "expired": (kept(status="new", sent=600, back=700, until=800), KEPT),
        "expired, for the broker had noticed sooner": (kept(status="new", sent=600, back=611, until=800), KEPT),
        "never acknowledged": (kept(at(51, "replica.acknowledged", "", status="lost"), known=70), KEPT),
        "the replica was started again": (kept(at(51, "replica.loaded", doc=2), known=70), KEPT),
        "known too late to be heard": (kept(known=195), KEPT),
        "not connected for long": (kept(lost(80, "offline"), until=85), KEPT),
        "the device did not come back": (kept(back=None), KEPT),
        "the broker was killed": (kept(*server(45, 48), status="new"), KEPT),
        "the broker was killed afterwards": (kept(*server(70, 75)), KEPT),
        "a dark road": (kept(fault(65, "did", act="dark")), KEPT),
        "held back on the road": (kept(fault(61, "did", message="delta", delay_s=60)), KEPT),
        "a delta of no software": (kept(at(55, "replica.delta", version=None, doc=3), delta(61)), KEPT),
        "a device that does not hear all": (kept(fault(0, "did", nature="F17-parks")), KEPT),
        "a fault that makes it clean": (kept(fault(0, "did", clean_start=True, session_expiry=0)), KEPT),
        "a fault that lets it expire": (
            kept(fault(0, "did", clean_start=False, session_expiry=1), status="new"), KEPT),
    },
}  # fmt: skip
BY, BACK = {"kind": "fault", "status": "saw"}, {"kind": "connect", "t_us": 25 * S}
SENT = {"kind": "replica.delta", "t_us": 50 * S}
FAILS = {
    S19: {
        "never ended": ((rival(), FLEET), ["d-0"], BY),
        "ended late": ((rival(lost(30.1)), FLEET), ["d-0"], BY),
        "ended late, and another's in time": ((rival(lost(25, thing="d-1")), FLEET), ["d-0"], BY),
        "heard what came later": ((rival(delta(22.1), lost(29)), FLEET), ["d-0"], {"kind": "delta"}),
        "heard an answer that came later": ((rival(answer(22.1), lost(29)), FLEET), ["d-0"], {"kind": "answer"}),
        "the second of two": (
            (rival(lost(20.1), connect(22), fault(40, "did", nth=1, act="rival"),
                   fault(41, "saw", nth=1, rival="connected")), FLEET), ["d-0"], {"t_us": 41 * S}),
        "a slow road": ((rival(delta(42.1), lost(49.9)), SLOW), ["d-0"], {"kind": "delta"}),
        "left open for ever": ((left_open(), FLEET), ["d-0"], BACK),
        "left open for long": ((left_open(closed=35.1), FLEET), ["d-0"], BACK),
        "what came later came to the old one": (
            (left_open(heard_over_the_old(27.1), closed=29), FLEET), ["d-0"], {"t_us": 27.1 * S}),
    },
    S20: {
        "never came": ((kept(), KEPT), ["d-0"], SENT),
        "asked for, and not sent": ((kept(delta(61, how="get")), KEPT), ["d-0"], SENT),
        "came too late": ((kept(delta(91)), KEPT), ["d-0"], SENT),
        "another got it": ((kept(delta(61, thing="d-1")), KEPT), ["d-0"], SENT),
        "an older one came": ((kept(delta(61, doc=1)), KEPT), ["d-0"], SENT),
        "a later one of after it was back": (
            (kept(at(62, "replica.delta", job=JOB, version="2", doc=3), delta(63, doc=3)), KEPT), ["d-0"], SENT),
        "the session was forgotten before its time": ((kept(status="new"), KEPT), ["d-0"], SENT),
        "the first connection did not last, and it came in none": (
            (kept(lost(70), connect(75, "resumed")), KEPT), ["d-0"], SENT),
        "connected all the time": ((kept(gone=150, back=None), KEPT), ["d-0"], SENT),
        "a fault that makes it persist": (
            (kept(fault(0, "did", clean_start=False, session_expiry=3600)), FLEET), ["d-0"], SENT),
        "a broker that was killed before": ((kept(*server(0.1, 0.5)), KEPT), ["d-0"], SENT),
        "a device of another nature": ((kept(fault(0, "did", nature="F15-boot-fails")), KEPT), ["d-0"], SENT),
        "a dark road before": ((kept(fault(30, "did", act="dark")), KEPT), ["d-0"], SENT),
    },
}  # fmt: skip
LACKS = {
    S19: {
        "connections": (backed(connect=None, boot=None, reboot=None, retired=None), FLEET),
        "the end of the device's record": (rival(ends=False), FLEET),
        "the end of the record of one that left open": (left_open(ends=False), FLEET),
        "what became of the rival": (rival(taken=None), FLEET),
        "the device's profile": rival(lost(20.1)),
    },
    S20: {
        "connections": (backed(connect=None), KEPT),
        "the backend": ([connect(1), retired()], KEPT),
        "what was acknowledged": (kept(delta(61), known=0), KEPT),
        "the end of the device's record": (kept(retires=False), KEPT),
        "the device's profile": kept(delta(61)),
    },
}  # fmt: skip


NO_OCCASION = {
    "S19-one-session": {
        "success",
        "the rival came to nothing",
        "nobody was there",
        "the device came back before the rival did",
        "a rival of one that set out when the run ended",
        "never came back",
    },
    "S20-offline-queue": {
        "success",
        "a clean session",
        "before the session had subscribed",
        "expired",
        "expired, for the broker had noticed sooner",
        "never acknowledged",
        "the replica was started again",
        "known too late to be heard",
        "not connected for long",
        "the device did not come back",
        "the broker was killed",
        "the broker was killed afterwards",
        "a dark road",
        "held back on the road",
        "a device that does not hear all",
        "a fault that makes it clean",
        "a fault that lets it expire",
    },
}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS, NO_OCCASION)
