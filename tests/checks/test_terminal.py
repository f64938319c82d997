"""Devices bring their updates to an end: traces that L1 passes, fails and must call UNKNOWN."""

import pytest

from simulator.model.scenario import PROFILES
from tests.checks.tables import assert_fails, assert_passes, judged, proofs
from tests.checks.traces import NEW, OLD, backed, failure

L1 = "L1-terminal"
JOB = "r.d-0.0"
SOFT = {"version": "2", "digest": NEW}
FLEET = {"fleet": {"thing": "d-%i", "devices": 2}}
REPORT_S = 5 + 10 + 20 + 40 + 80 + 160 + 4 * 300 + 10 + 30  # all pauses, a slow mishap's, and the leeway
REQUEST_S = 600 + 60 + 30 + 30  # its timeout, the pause before it, leave asked for, and the leeway


def at(seconds, kind, thing="d-0", **fields):
    return (kind, thing, {"t_us": round(seconds * 1e6), **fields})


def phase(seconds, left, entered, **fields):
    return at(seconds, "phase", job=JOB, phase=left, status=entered, **fields)


def piece(seconds, status="503", size=0, offset=0, more=""):
    return at(seconds, "download", job=JOB, status=status, size=size, detail=f'{{"offset":{offset},"etag":"e"{more}}}')


def told(*events, until=10_000.0, retired=True):
    """A device that is connected at 1 s and learns of a job at 10 s; then these events."""
    first = [
        at(0, "boot", status="cold", version="1", digest=OLD), at(1, "connect", status="new"),
        at(10, "delta", job=JOB, status="start", size=9, **SOFT),
    ]  # fmt: skip
    return [*first, *events, *([at(until, "retired")] if retired else [])]


HOUR = ',"retry_after_s":3600.0'
DOWNLOADS = phase(10, "idle", "downloading")
REPORTS = [DOWNLOADS, phase(11, "downloading", "reporting")]


def reporting(until, *events):
    return told(*REPORTS, *events, phase(until, "reporting", "idle"))


PASSES = {
    L1: {
        "success": (backed(), FLEET),
        "failure": (failure(), FLEET),
        "nobody learned of anything": (told()[:2], FLEET),
        "a report that is given up after all its pauses": (reporting(11 + REPORT_S), FLEET),
        "a phase that is still allowed to last": (told(*REPORTS, until=11 + REPORT_S), FLEET),
        "a long request": (told(DOWNLOADS, piece(10 + REQUEST_S), phase(800, "downloading", "idle")), FLEET),
        "as many failures as a download may have": (
            told(DOWNLOADS, *[piece(11 + n) for n in range(8)], phase(30, "downloading", "idle")), FLEET),
        "failures that each bring something": (
            told(DOWNLOADS, *[piece(11 + n, "206", 1, n) for n in range(20)], phase(40, "downloading", "idle")), FLEET),
        "failures while it is away": (
            told(DOWNLOADS, at(11, "lost", status="offline"), *[piece(12 + n) for n in range(20)]), FLEET),
        "the count begins anew after a power cut": (
            told(DOWNLOADS, *[piece(11 + n) for n in range(8)], at(20, "lost", status="power-cut"),
                 at(25, "boot", status="power-cut"), at(26, "connect", status="new"),
                 at(27, "delta", job=JOB, status="start"), phase(27, "idle", "downloading"),
                 *[piece(28 + n) for n in range(8)], phase(40, "downloading", "idle")), FLEET),
        "it is not connected": (reporting(9999, at(12, "lost", status="lost")), FLEET),
        "it forgot the job with its power": (told(DOWNLOADS, at(12, "boot", status="power-cut"), at(13, "connect", status="new")), FLEET),
        "a mishap makes it hang": (told(*REPORTS, at(12, "mishap", status="hang", phase="report")), FLEET),
        "a fault makes it wait": (
            told(DOWNLOADS, at(12, "fault", status="did", detail='{"request":"GET","wait_s":7200.0}'),
                 piece(7300, "403"), phase(7301, "downloading", "idle")), FLEET),
        "the storage asked it to wait": (
            told(DOWNLOADS, piece(12, more=HOUR), piece(3612, "200", 9), phase(3613, "downloading", "idle")), FLEET),
        "it says so for ever, as its profile does": (
            told(*REPORTS), {**FLEET, "profiles": {"perfect": {"resend": {}}}}),
        "a slow install": (
            told(phase(10, "idle", "downloading"), phase(10, "downloading", "verifying"),
                 phase(10, "verifying", "installing"), phase(230, "installing", "idle")),
            {**FLEET, "profiles": {"perfect": {"install": "20s", "mishaps": {"install": {"slow": "1%"}}}}}),
    }
}  # fmt: skip
FAILS = {
    L1: {
        "a report that is parked": ((told(*REPORTS), FLEET), ["d-0"], {"kind": "phase", "status": "reporting"}),
        "a report that takes too long": ((reporting(12 + REPORT_S), FLEET), ["d-0"], {"status": "reporting"}),
        "a report whose device is away for a while": (
            (reporting(9000, at(100, "lost", status="lost"), at(200, "connect", status="new")), FLEET), ["d-0"],
            {"status": "reporting"}),
        "parked after a power cut": (
            (told(*REPORTS, at(12, "boot", status="power-cut"), at(13, "connect", status="new")), FLEET), ["d-0"],
            {"kind": "boot"}),
        "learned, and never begun": ((told(), FLEET), ["d-0"], {"kind": "delta", "status": "start"}),
        "an order that replaced another, and was never begun": (
            (told(DOWNLOADS, at(11, "delta", job="r.d-0.1", status="supersede"), phase(11, "downloading", "idle")), FLEET),
            ["d-0"], {"kind": "phase", "status": "idle"}),
        "a request that never ends": (
            (told(DOWNLOADS, piece(12), phase(13 + REQUEST_S, "downloading", "idle")), FLEET), ["d-0"],
            {"kind": "download"}),
        "it waits for longer than the storage asked": (
            (told(DOWNLOADS, piece(12, more=HOUR), piece(3614 + REQUEST_S, "200", 9), phase(9000, "downloading", "idle")),
             FLEET), ["d-0"], {"kind": "download", "status": "503"}),
        "a download that is tried too often": (
            (told(DOWNLOADS, *[piece(11 + n) for n in range(9)], phase(30, "downloading", "idle")), FLEET), ["d-0"],
            {"kind": "download", "t_us": 19_000_000}),
        "a download that starts over and over": (
            (told(DOWNLOADS, *[piece(11 + n, "200", 5) for n in range(9)], phase(30, "downloading", "idle")), FLEET),
            ["d-0"], {"kind": "download", "t_us": 19_000_000}),
        "an install that hangs": (
            (told(DOWNLOADS, phase(11, "downloading", "installing"), phase(42, "installing", "idle")), FLEET), ["d-0"],
            {"status": "installing"}),
        "it had hung before, in another phase": (
            (told(DOWNLOADS, at(10.5, "mishap", status="hang"), phase(11, "downloading", "reporting")), FLEET), ["d-0"],
            {"status": "reporting"}),
    }
}  # fmt: skip
LACKS = {
    L1: {
        "devices": ([at(9, "offer", job=JOB, status="sent", **SOFT)], FLEET),
        "the end of the device's record": (told(*REPORTS, retired=False), FLEET),
        "the device's profile": told(*REPORTS),
    }
}


NO_OCCASION = {
    "L1-terminal": {"nobody learned of anything"},
}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS, NO_OCCASION)


def test_it_is_a_matter_of_liveness():
    assert not judged(L1, (told(), FLEET)).safety


@pytest.mark.parametrize("profile", PROFILES)
def test_each_device_has_the_time_of_its_own_profile(profile):
    made = {"fleet": {**FLEET["fleet"], "profile": profile}}
    assert_passes(L1, (reporting(1500), made))
    assert_fails(L1, ((told(*REPORTS, until=1e6), made), ["d-0"], {"status": "reporting"}))
