"""Checks on what devices do in time: learning, and waiting. Traces they pass, fail and must call UNKNOWN."""

from simulator.model.scenario import Scenario
from tests.checks.tables import assert_fails, assert_passes, judged, proofs
from tests.checks.traces import NEW, OLD, backed, without

L3, L9 = "L3-learns", "L9-backoff"
JOB, RETRY = "r.d-0.0", "r.d-0.1"
S = 1_000_000
MINUTE = '{"offset":0,"etag":"","retry_after_s":60.0}'
FLEET = {"fleet": {"thing": "d-%i", "devices": 3}}
SLOW = {**FLEET, "profiles": {"perfect": {"latency": "10s"}}}
SOFT = {"version": "2", "digest": NEW}


def at(seconds, kind, thing="d-0", **fields):
    return (kind, thing, {"t_us": round(seconds * S), **fields})


def untold(*events, thing="d-0", job=JOB, until=100.0, retired=True):
    """A device with an offer, accepted at 10 s, and no word of it at the device; then these events."""
    first = [
        at(0, "boot", thing, status="cold", version="1", digest=OLD), at(1, "connect", thing, status="new"),
        at(1, "report", thing, status="initial", version="1", digest=OLD),
        at(9, "offer", thing, job=job, status="sent", **SOFT), at(10, "offer", thing, job=job, status="accepted", **SOFT),
    ]  # fmt: skip
    last = [at(until, "retired", thing, status="idle", version="1", digest=OLD)] if retired else []
    last = last or [at(until, "stage", "", phase="settle")]
    return sorted([*first, *events, *last], key=lambda event: event[2]["t_us"])


def delta(seconds, job=JOB, thing="d-0", status="start"):
    return at(seconds, "delta", thing, job=job, status=status, **SOFT)


def report(seconds, nth, job=JOB, thing="d-0", status="SUCCESS"):
    return at(seconds, "report", thing, job=job, status=status, size=nth, **SOFT)


def connect(seconds, status="failed", span=0.0, thing="d-0"):
    return at(seconds, "connect", thing, status=status, span_us=round(span * S))


def piece(seconds, status, span=0.0, detail=None):
    return at(seconds, "download", job=JOB, status=status, size=0, span_us=round(span * S), detail=detail)


def killed(begin, end):
    """An outage of the broker, from when to when."""
    return [
        at(t, "fault", "", status=status, size=0, detail='{"server":"broker"}')
        for status, t in (("begin", begin), ("end", end))
    ]


def doubling(first, count):
    """Moments that lie 0.5 × base × 2ⁿ apart: as close as the default jitter allows."""
    return [first + 2.5 * (2.0**n - 1) for n in range(count)]


PASSES = {
    L3: {
        "success": (backed(), FLEET),
        "heard in time": (untold(delta(39)), FLEET),
        "heard before the offer's answer": (untold(delta(9.5)), FLEET),
        "the connection did not last": (
            [*untold(at(39, "lost", status="lost")), delta(5, thing="d-1"), *backed("d-2")], FLEET),
        "another job took its place": (
            [*untold(at(39, "offer", job=RETRY, status="sent", **SOFT), delta(41, RETRY)), *backed("d-2")], FLEET),
        "it runs that already": (
            untold(at(5, "confirm", job="x", **SOFT), at(90, "rollback", job="x", version="1", digest=OLD)), FLEET),
        "it says that it runs that": (untold(at(39, "report", status="initial", version="2", digest=OLD)), FLEET),
        "a slow road": (untold(delta(59)), SLOW),
        "what it asked before the replica was found again is asked once more": (
            untold(at(12, "lost", status="lost"), *killed(12, 20), connect(20.1, "new"), delta(50.3)), FLEET),
    },
    L9: {
        "success": (backed(), FLEET),
        "reports with growing pauses": ([report(t, n) for n, t in enumerate(doubling(10, 10), 1)], FLEET),
        "at once after a fresh connection": ([report(10, 1), connect(11, "resumed"), report(11, 2)], FLEET),
        "as often again after a boot": (
            [report(t, n) for n, t in enumerate(doubling(10, 10), 1)] + [at(9000, "boot", status="power-cut")]
            + [report(9001, 1)], FLEET),
        "RUNNING as often as it likes": ([report(10 + n / 10, 1, status="RUNNING") for n in range(20)], FLEET),
        "connections with growing pauses": ([connect(0.5 * (2.0**n - 1)) for n in range(8)], FLEET),
        "a connection that takes its time": ([connect(1), connect(9, span=7)], FLEET),
        "connected at once after a boot": ([connect(1), at(1.1, "boot", status="power-cut"), connect(1.2)], FLEET),
        "busy, with pauses": ([piece(10, "503"), piece(11, "429", span=0.5), piece(12, "200")], FLEET),
        "asked again when the storage allows it": ([piece(10, "503", detail=MINUTE), piece(70, "200")], FLEET),
        "at once after an offline window": (
            [connect(1, "new"), at(9, "lost", status="offline"), piece(10, "503"), piece(10.1, "200")], FLEET),
        "at once for another job": (
            [piece(10, "503"), delta(10.1, RETRY, status="supersede"), piece(10.2, "200")], FLEET),
        "at once after another refusal": ([piece(10, "403"), piece(10.1, "200")], FLEET),
    },
}  # fmt: skip
FAILS = {
    L3: {
        "never heard": ((untold(), FLEET), ["d-0"], {"kind": "offer", "status": "accepted"}),
        "heard too late": ((untold(delta(41)), FLEET), ["d-0"], {"kind": "offer"}),
        "heard of another job": ((untold(delta(20, RETRY)), FLEET), ["d-0"], {"kind": "offer"}),
        "another heard of it": ((untold(delta(20, thing="d-1")), FLEET), ["d-0"], {"kind": "offer"}),
        "not heard after it came back": (
            (untold(at(20, "lost", status="offline"), connect(30, "resumed"), delta(61)), FLEET), ["d-0"],
            {"kind": "offer"}),
        "it had run it, and runs it no more": (
            (untold(at(5, "confirm", job="x", **SOFT), at(11, "rollback", job="x", version="1", digest=OLD)), FLEET),
            ["d-0"], {"kind": "offer"}),
        "a slow road": ((untold(delta(61)), SLOW), ["d-0"], {"kind": "offer"}),
        "though it could ask once more after an outage": (
            (untold(at(12, "lost", status="lost"), *killed(12, 20), connect(20.1, "new"), delta(81)), FLEET), ["d-0"],
            {"kind": "offer"}),
        "it came back when all had been found again": (
            (untold(at(12, "lost", status="lost"), *killed(12, 20), connect(31, "new"), delta(62)), FLEET), ["d-0"],
            {"kind": "offer"}),
    },
    L9: {
        "too soon": (([report(10, 1), report(11, 2)], FLEET), ["d-0"], {"size": 2}),
        "a pause that does not grow": (([report(10, 1), report(13, 2), report(16, 3)], FLEET), ["d-0"], {"size": 3}),
        "too often": (([report(10 + 400 * n, n) for n in range(1, 12)], FLEET), ["d-0"], {"size": 11}),
        "too often, and the count begun anew": (
            ([report(10 + 400 * n, 1) for n in range(1, 12)], FLEET), ["d-0"], {"t_us": 4410 * S}),
        "connected too soon": (([connect(1), connect(1.3)], FLEET), ["d-0"], {"kind": "connect"}),
        "connected too soon after the third time": (
            ([connect(1), connect(2), connect(4), connect(5, "new")], FLEET), ["d-0"], {"status": "new"}),
        "busy, and asked again at once": (([piece(10, "503"), piece(10.2, "200")], FLEET), ["d-0"], {"status": "200"}),
        "asked again before the storage allows it": (
            ([piece(10, "503", detail=MINUTE), piece(60, "200")], FLEET), ["d-0"], {"status": "200"}),
        "busy twice, and the pause does not grow": (
            ([piece(10, "429"), piece(10.6, "503"), piece(11.2, "503")], FLEET), ["d-0"], {"t_us": 11.2 * S}),
    },
}  # fmt: skip
LACKS = {
    L3: {
        "offers": (without(backed(), ("offer", "accepted")), FLEET),
        "connections": (backed(connect=None), FLEET),
        "the end of the device's record": (untold(retired=False), FLEET),
        "a connection that lasts": (untold(until=30), FLEET),
        "the device's profile": untold(),
    },
    L9: {
        "devices": ([at(9, "offer", job=JOB, status="sent", **SOFT)], FLEET),
        "the device's profile": [report(10, 1), report(11, 2)],
    },
}


NO_OCCASION = {
    "L9-backoff": {
        "success",
        "RUNNING as often as it likes",
        "connected at once after a boot",
        "at once after an offline window",
        "at once for another job",
        "at once after another refusal",
    },
}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS, NO_OCCASION)


def test_each_device_is_judged_by_the_profile_of_its_cohort():
    cohorts = [{"name": "hasty", "count": 1, "profile": "hasty"}, {"name": "rest"}]
    raw = {"fleet": {**FLEET["fleet"], "cohorts": cohorts}, "profiles": {"hasty": {"resend": {"base": "500ms"}}}}
    made = Scenario.model_validate(raw)
    hasty = f"d-{made.fleet.cohort_of(made.seed).index('hasty')}"
    calm = next(thing for thing in ("d-0", "d-1") if thing != hasty)
    assert_passes(L9, ([report(10, 1, thing=hasty), report(11, 2, thing=hasty)], raw))
    assert_fails(L9, (([report(10, 1, thing=calm), report(11, 2, thing=calm)], raw), [calm], {"size": 2}))


def test_an_offer_that_was_heard_of_counts_however_soon_the_device_reboots():
    assert judged(L3, (backed(), FLEET)).summary == "1 accepted offer, each known to its device"
    away = [*untold(at(39, "lost", status="lost")), *backed("d-2")]
    said = "1 accepted offer, each known to its device; 1 more to devices that were not connected long enough to hear"
    assert judged(L3, (away, FLEET)).summary == said


def test_they_are_matters_of_liveness():
    assert not judged(L3, (untold(), FLEET)).safety
    assert not judged(L9, ([report(10, 1), report(11, 2)], FLEET)).safety
