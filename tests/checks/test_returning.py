"""Devices come back after an outage: traces that L8 passes, fails and must call UNKNOWN."""

import json

from tests.checks.tables import judged, proofs
from tests.checks.traces import OLD, update

L8 = "L8-return"
FLEET = {"fleet": {"thing": "d-%i", "devices": 3}}
PATIENCE_S = 60 + 10 + 60  # the back-off's cap, a slow connection, and RETURN_S
CAPPED = {**FLEET, "target": {"connects_per_second": 2}}
STEPPED = {**FLEET, "faults": [{"fault": "F3-offline", "step": "installing", "for": "20s"}]}


def at(seconds, kind, thing="d-0", **fields):
    return (kind, thing, {"t_us": round(seconds * 1e6), **fields})


def killed(begin, end=None, server="broker", nth=0):
    detail = json.dumps({"server": server})
    turns = [("begin", begin), *([("end", end)] if end is not None else [])]
    return [at(t, "fault", "", status=status, phase="F", size=nth, detail=detail) for status, t in turns]


def struck(seconds, act, thing="d-0", nth=0):
    return at(seconds, "fault", thing, status="did", phase="F", size=nth, detail=json.dumps({"act": act}))


def ended(seconds, nth=0):
    return at(seconds, "fault", "", status="end", phase="F", size=nth)


def connect(seconds, status="new", thing="d-0"):
    return at(seconds, "connect", thing, status=status)


def lost(seconds, status="lost", thing="d-0"):
    return at(seconds, "lost", thing, status=status)


def lived(*events, until=1000.0, things=("d-0",), retired=True):
    """Devices that are connected from 1 s to the end; and these events."""
    first = [e for d in things for e in (at(0, "boot", d, status="cold", version="1", digest=OLD), connect(1, thing=d))]
    last = (
        [at(until, "retired", d, status="idle") for d in things] if retired else [at(until, "stage", "", phase="judge")]
    )
    return sorted([*first, *events, *last], key=lambda event: event[2]["t_us"])


OUTAGE = [*killed(10, 50), lost(10.1), connect(12, "failed")]
LATE_S = 50 + PATIENCE_S + 1
CROWD = ("d-0", "d-1", "d-2")


def crowd(*seconds):
    """Three devices lose their broker from 10 s to 50 s, and come back at these seconds."""
    back = [e for d, t in zip(CROWD, seconds, strict=True) for e in (lost(10, thing=d), connect(t, thing=d))]
    return lived(*killed(10, 50), *back, things=CROWD)


PASSES = {
    L8: {
        "nothing happened": (update(), FLEET),
        "they are back in time": (lived(*OUTAGE, connect(LATE_S - 2)), FLEET),
        "it never lost its connection": (lived(*killed(10, 50)), FLEET),
        "the replica was killed": (lived(*killed(10, 50, "backend"), lost(10.1)), FLEET),
        "the broker was killed again": (
            lived(*OUTAGE, *killed(60, 400, nth=1), connect(500)), FLEET),
        "its own road was taken meanwhile": (
            lived(*OUTAGE, struck(60, "down", nth=1), ended(400, 1), connect(500)), FLEET),
        "a road that is never given back": (lived(struck(10, "down"), lost(10)), FLEET),
        "it rebooted meanwhile": (lived(*OUTAGE, at(60, "boot", status="power-cut"), connect(300)), FLEET),
        "it was rebooting": (lived(*OUTAGE, at(13, "phase", status="rebooting"), connect(300)), FLEET),
        "it was away by its own will": (lived(*killed(10, 50), lost(9, "offline"), connect(300)), FLEET),
        "it was switched off": (lived(*OUTAGE, struck(20, "vanish", nth=1)), FLEET),
        "it was switched off while it rebooted": (
            lived(*killed(10, 50), lost(8, "reboot"), struck(8.5, "vanish", nth=1), at(9, "boot", status="reboot")), FLEET),
        "a marker switched it off": (
            lived(*OUTAGE, at(13, "mishap", phase="install", status="vanish")), FLEET),
        "a mishap kept it from connecting": (
            lived(*OUTAGE, at(60, "mishap", phase="connect", status="error"), connect(300)), FLEET),
        "it retired before its time": (lived(*OUTAGE, until=LATE_S - 2), FLEET),
        "the outage never ended": (lived(*killed(10), lost(10.1)), FLEET),
        "no more at once than the broker takes": (crowd(51, 51.5, 52.1), CAPPED),
        "all at once, and nobody minds": (crowd(51, 51, 51), FLEET),
        "many at once before there was an outage": (
            lived(*killed(10, 50), things=CROWD), CAPPED),
    }
}  # fmt: skip
FAILS = {
    L8: {
        "it comes back too late": ((lived(*OUTAGE, connect(LATE_S)), FLEET), ["d-0"], {"kind": "connect", "status": "failed"}),
        "it tries no more": ((lived(*killed(10, 50), lost(10.1)), FLEET), ["d-0"], {"kind": "lost"}),
        "it is refused": (
            (lived(*OUTAGE, *[connect(t, "failed") for t in range(60, 900, 30)]), FLEET), ["d-0"],
            {"kind": "connect", "status": "failed", "t_us": 180_000_000}),
        "it never connected since it booted": (
            (lived(*killed(10, 50), lost(9, "power-cut"), at(20, "boot", status="power-cut")), FLEET), ["d-0"],
            {"kind": "boot"}),
        "its road": ((lived(struck(10, "down"), lost(10), ended(50)), FLEET), ["d-0"], {"kind": "lost"}),
        "its road, at a step": ((lived(struck(10, "dark"), lost(10), ended(999)), STEPPED), ["d-0"], {"kind": "lost"}),
        "after the second outage": (
            (lived(*OUTAGE, *killed(60, 400, nth=1), connect(999)), FLEET), ["d-0"], {"status": "failed"}),
        "one of three": (
            (lived(*killed(10, 50), lost(10, thing="d-1"), lost(10, thing="d-2"), connect(60, thing="d-2"), things=CROWD),
             FLEET), ["d-1"], {"kind": "lost"}),
        "more at once than the broker takes": (
            (crowd(51, 51.5, 51.9), CAPPED), ["d-2"], {"kind": "connect", "t_us": 51_900_000}),
    }
}  # fmt: skip
LACKS = {
    L8: {
        "devices": (killed(10, 50), FLEET),
        "who was connected": ([*killed(10, 50), at(1, "boot", status="cold")], FLEET),
        "the end of the device's record": (lived(*OUTAGE, retired=False), FLEET),
        "the device's profile": lived(*OUTAGE, connect(60)),
    }
}


NO_OCCASION = {
    "L8-return": {
        "nothing happened",
        "it never lost its connection",
        "the replica was killed",
        "a road that is never given back",
        "it was rebooting",
        "it was away by its own will",
        "it was switched off",
        "it was switched off while it rebooted",
        "a marker switched it off",
        "the outage never ended",
        "many at once before there was an outage",
    },
}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS, NO_OCCASION)


def test_it_is_a_matter_of_liveness():
    assert not judged(L8, (lived(), FLEET)).safety
