"""Convergence in time: what a fault, or an unanswered offer, left undecided, and what it did not."""

from tests.checks.tables import proofs
from tests.checks.traces import NEW, OLD, failure, update, with_after

L2 = "L2-convergence"
JOB, RETRY = "r.d-0.0", "r.d-0.1"
SOFT = {"version": "2", "digest": NEW}
FLEET = {"fleet": {"thing": "d-%i", "devices": 1}}
LONG_US = 90_000_000
TIMED_OUT = {"ended": {"status": "TIMED_OUT"}, "counters": {"detail": '{"TIMED_OUT":1}'}}
UNANSWERED = {"ended": {"status": "UNKNOWN"}, "counters": {"detail": '{"UNKNOWN":1}'}}
INSTALLS = ("phase", "d-0", {"job": JOB, "phase": "verifying", "status": "installing"})
OUTAGE = [("fault", "", {"status": s, "size": 0, "detail": '{"server":"backend"}'}) for s in ("begin", "end")]
TAKEN = ("replica.accepted", "d-0", {"job": JOB, "status": "desired"})


def old(how, *more, after="sent", heard=True, **retired):
    """A target that ended so, and runs the old software; `more` stands after the first event of this kind or status."""
    gone = dict.fromkeys(("reboot", "confirm", "report", "accepted", "answer", *(() if heard else ("delta",))))
    events = update(**how, **gone, retired={"version": "1", "digest": OLD, **retired})
    return with_after(events, after, *more)


def lost_offer(*more):
    """A target that was offered in an outage alone, and timed out; it retires when it would have heard of it."""
    return with_after(old(TIMED_OUT, OUTAGE[1], *more, heard=False, t_us=LONG_US), "IN_PROGRESS", OUTAGE[0])


PASSES = {
    L2: {
        "timed out, and its failure was told later": (failure(**TIMED_OUT), FLEET),
        "given up, and the device came through": (update(**UNANSWERED), FLEET),
        "given up, and the device failed": (failure(**UNANSWERED), FLEET),
    }
}
FAILS = {
    L2: {
        "the try before had failed": (
            ([*failure(), ("execution", "d-0", {"job": RETRY, "status": "IN_PROGRESS", **SOFT}),
              ("execution", "d-0", {"job": RETRY, "status": "TIMED_OUT", **SOFT})], FLEET), ["d-0"], {"job": RETRY}),
        "its failure was never answered": ((failure(**TIMED_OUT, answer={"status": "given-up"}), FLEET), ["d-0"], {"status": "TIMED_OUT"}),
        "it hangs for longer than an install takes": (
            (old(TIMED_OUT, INSTALLS, after="start", status="installing", t_us=LONG_US), FLEET), ["d-0"],
            {"status": "TIMED_OUT"}),
        "it has not begun": ((old(TIMED_OUT, *OUTAGE), FLEET), ["d-0"], {"status": "TIMED_OUT"}),
        "it had time to hear of it, after an outage": (
            (old(TIMED_OUT, *OUTAGE, heard=False, t_us=LONG_US), FLEET), ["d-0"], {"status": "TIMED_OUT"}),
        "it did not hear of it, and there was no fault": ((old(TIMED_OUT, heard=False), FLEET), ["d-0"], {"status": "TIMED_OUT"}),
        "its offer was said in an outage, and taken all the same": (
            (lost_offer(TAKEN), FLEET), ["d-0"], {"status": "TIMED_OUT"}),
        "given up, though the replica took it": (
            (old(UNANSWERED, TAKEN, heard=False), FLEET), ["d-0"], {"status": "UNKNOWN"}),
        "given up, though the device heard of it": ((old(UNANSWERED), FLEET), ["d-0"], {"status": "UNKNOWN"}),
        "succeeded, and it runs the old one, whatever healed": (
            ([*update(retired={"version": "1", "digest": OLD}), *OUTAGE], FLEET), ["d-0"], {"status": "SUCCEEDED"}),
    }
}  # fmt: skip
LACKS = {
    L2: {
        "the end of an update that may last longer": (
            old(TIMED_OUT, INSTALLS, after="start", status="installing"), FLEET),
        "time to hear of it after an outage": (old(TIMED_OUT, *OUTAGE, heard=False), FLEET),
        "an answer to the offer": (old(UNANSWERED, heard=False), FLEET),
        "an offer that was said but in an outage": (
            lost_offer(), FLEET),
    }
}  # fmt: skip


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS)
