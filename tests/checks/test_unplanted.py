"""Failures and what was planted: traces that L11 passes, fails and must call UNKNOWN."""

import json

from tests.checks.tables import judged, proofs
from tests.checks.traces import failure, update, with_after, without

L11 = "L11-unplanted"
JOB = "r.d-0.0"
THRESHOLD = {"thresholds": {"succeeded": ">= 50%"}}
MINUTE = 60_000_000


def failing(reason, *planted, **changed):
    """A device whose update fails for this reason, after what was planted on it."""
    report = {"status": "FAILURE", "version": "1", "digest": "o" * 64, "detail": reason}
    return with_after(failure(report=report, **changed), "delta", *planted)


def mishap(status="error", thing="d-0", **fields):
    return ("mishap", thing, {"job": JOB, "phase": "install", "status": status, **fields})


def struck(thing="d-0", **what):
    return ("fault", thing, {"status": "did", "phase": "F", "size": 0, "detail": json.dumps(what or {"act": "down"})})


def outage(begin_us, end_us, server="storage"):
    detail = json.dumps({"server": server})
    return [("fault", "", {"status": status, "size": 0, "t_us": t_us, "detail": detail})
            for status, t_us in (("begin", begin_us), ("end", end_us))]  # fmt: skip


def piece(status, error="", thing="d-0", **fields):
    """One more answer to a download, before the one that brings all."""
    detail = json.dumps({"offset": 0, "error": error} if error else {"offset": 0})
    return ("download", thing, {"job": JOB, "status": status, "size": 0, "span_us": 0, "detail": detail, **fields})


def answered(*pieces, before=()):
    return with_after(update(), "delta", *before, *pieces)


def timed_out(*more, heard=True, state="TIMED_OUT", **changed):
    """An execution that the application gives up, after these events of the device."""
    events = update(
        **dict.fromkeys(("commit", "reboot", "confirm", "report", "accepted", "answer", "download", "served")),
        ended={"status": state}, counters={"detail": f'{{"{state}":1}}'}, delta={} if heard else None, **changed,
    )  # fmt: skip
    return with_after(events, "delta" if heard else "sent", *more)


def phase(status, left="idle"):
    return ("phase", "d-0", {"job": JOB, "phase": left, "status": status})


def report(status="SUCCESS"):
    return ("report", "d-0", {"job": JOB, "status": status, "version": "2", "digest": "n" * 64})


PASSES = {
    L11: {
        "success": update(),
        "a mishap of that job": failing("install error", mishap()),
        "a mishap that has no job": failing("install error", mishap(phase="connect", job=None)),
        "a fault": failing("sha256 aa, announced bb", struck(request="GET")),
        "a later rollout took it over": failing("superseded"),
        "its URL had ended": failing("http 403", delta={"span_us": 0}),
        "an answer 503 of a fault": answered(piece("503", "http 503"), before=[struck(answer=503)]),
        "a storage that was killed": answered(
            *outage(1 * MINUTE, 2 * MINUTE), piece("0", "connection refused", t_us=2 * MINUTE + 5_000_000)
        ),
        "away by its own will": answered(piece("200", "offline"), piece("0", "offline")),
        "a range that S15 judges": answered(piece("206", "206 of another content")),
        "not found, and found later": answered(piece("404", "http 404")),
        "timed out while at work": timed_out(phase("downloading"), phase("installing", "downloading")),
        "timed out while away": timed_out(("lost", "d-0", {"status": "offline"})),
        "timed out, and came back meanwhile": timed_out(
            ("lost", "d-0", {"status": "lost"}), ("connect", "d-0", {"status": "new"})
        ),
        "timed out after it hung": timed_out(mishap("hang")),
        "a threshold judges how targets end": (failing("boot failed"), THRESHOLD),
        "a threshold judges what timed out": (timed_out(heard=False), THRESHOLD),
    }
}
FAILS = {
    L11: {
        "a failure of the device": (failing("boot failed"), ["d-0"], {"status": "FAILURE"}),
        "a mishap of another job": (failing("boot failed", mishap(job="r.d-0.9")), ["d-0"], {"status": "FAILURE"}),
        "a mishap of another device": (failing("boot failed", mishap(thing="d-1")), ["d-0"], {"status": "FAILURE"}),
        "a fault that came afterwards": (
            [*failing("boot failed"), struck()], ["d-0"], {"status": "FAILURE"},
        ),
        "other bytes": (failing("sha256 aa, announced bb"), ["d-0"], {"status": "FAILURE"}),
        "other bytes, whatever the threshold": (
            (failing("sha256 aa, announced bb"), THRESHOLD), ["d-0"], {"status": "FAILURE"},
        ),
        "another length": (failing("size 5, announced 9"), ["d-0"], {"status": "FAILURE"}),
        "refused while its URL was good": (
            failing("http 403", delta={"span_us": 60 * MINUTE}), ["d-0"], {"status": "FAILURE"},
        ),
        "not found": (failing("http 404"), ["d-0"], {"status": "FAILURE"}),
        "an answer 500": (answered(piece("500", "http 500")), ["d-0"], {"kind": "download", "status": "500"}),
        "a body that breaks off": (answered(piece("200", "ended after 3 of 9 bytes")), ["d-0"], {"kind": "download"}),
        "no answer": (answered(piece("0", "timed out")), ["d-0"], {"kind": "download", "status": "0"}),
        "long after an outage": (
            [*update(), *outage(100, MINUTE), piece("0", "refused", t_us=10 * MINUTE)], ["d-0"], {"kind": "download"},
        ),
        "an offer that was refused": (timed_out(state="REJECTED"), ["d-0"], {"status": "REJECTED"}),
        "an offer without an answer": (timed_out(state="UNKNOWN"), ["d-0"], {"status": "UNKNOWN"}),
        "a device that never heard": (timed_out(heard=False), ["d-0"], {"status": "TIMED_OUT"}),
        "a report that was accepted, whatever the connection": (
            timed_out(phase("rebooting"), ("lost", "d-0", {"status": "reboot"}), ("connect", "d-0", {"status": "new"}),
                      phase("idle", "rebooting"), report(), ("answer", "d-0", {"job": JOB, "status": "accepted"})),
            ["d-0"], {"status": "TIMED_OUT"},
        ),
        "a report without an answer": (
            timed_out(phase("downloading"), phase("idle", "downloading"), report()), ["d-0"], {"status": "TIMED_OUT"},
        ),
    }
}  # fmt: skip
LACKS = {
    L11: {
        "targets": without(update(), ("target", None)),
        "the devices": without(update(), ("boot", "cold"), ("boot", "reboot")),
    }
}

test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS)


def test_it_names_the_side():
    sides = {
        "boot failed": "device: boot failed",
        "sha256 aa, announced bb": "storage: other bytes than announced (sha256)",
        "http 404": "storage: http 404",
        "more than 1024 bytes": "storage: more than … bytes",
        "credential refused: 403 no": "replica: credential refused: … no",
    }
    for reason, side in sides.items():
        assert f"(1 × {side})" in judged(L11, failing(reason)).summary
    heard = timed_out(phase("downloading"), phase("idle", "downloading"), report())
    answer = ("answer", "d-0", {"job": JOB, "status": "accepted"})
    assert "replica: did not answer the device's report" in judged(L11, heard).summary
    assert "backend: the application did not learn of a report that was accepted" in judged(
        L11, with_after(heard, "SUCCESS", answer)
    ).summary  # fmt: skip
    assert "replica: the device never heard of the job" in judged(L11, timed_out(heard=False)).summary
    assert "device: stopped without a report" in judged(L11, timed_out()).summary


def test_it_counts_in_a_valid_and_complete_run_alone():
    assert not judged(L11, failing("boot failed")).safety
