"""Checks on executions: traces they pass, traces they fail, and where; traces they must call UNKNOWN."""

from tests.checks.tables import proofs
from tests.checks.traces import NEW, OLD, altered, backed, failure, update, with_after

S6, S7, S9, S21 = "S6-states", "S7-idempotence", "S9-binding", "S21-no-replay"
JOB, RETRY = "r.d-0.0", "r.d-0.1"
SOFT = {"version": "2", "digest": NEW}


def moved(status, job=JOB, thing="d-0", **fields):
    return ("execution", thing, {"job": job, "status": status, **SOFT, **fields})


def started(status="start", job=JOB, thing="d-0", **fields):
    return ("delta", thing, {"job": job, "status": status, "doc": 2, **SOFT, **fields})


def installed(job=JOB, thing="d-0"):
    return ("commit", thing, {"job": job, "size": 9, "detail": NEW, **SOFT})


CUT = ("boot", "d-0", {"status": "power-cut", "version": "1", "digest": OLD})
PASSES = {
    S6: {
        "success": backed(),
        "failure, and tried again": [*failure(), moved("IN_PROGRESS", RETRY), moved("TIMED_OUT", RETRY)],
        "canceled while it waited": [*failure(), moved("CANCELED", RETRY)],
        "canceled under way": update(ended={"status": "CANCELED"}),
        "somebody records QUEUED": [moved("QUEUED"), moved("IN_PROGRESS"), moved("REJECTED")],
    },
    S7: {
        "success": backed(),
        "a delta again, and left": [*update(), started("duplicate"), started("running")],
        "a report again": with_after(update(), "SUCCESS", ("report", "d-0", {"job": JOB, "status": "SUCCESS", "size":
                                                                             2, **SOFT})),
        "begun again after a power cut": with_after(update(), "start", CUT, started()),
        "one job on two things": [*update(), started(thing="d-1")],
        "jobs without a name": [*update(), started(job=None), started(job=None)],
    },
    S9: {
        "success": backed(),
        "two things": [*update(), *update("d-1", "r.d-1.0")],
        "a job that the application never gave": [
            *update(), started(job="http://a"), started(job="http://a", thing="d-1", digest=OLD)],
        "no hash told by the application": update(offer={"digest": None}, begun={"digest": None},
                                                  ended={"digest": None}),
    },
    S21: {
        "success": backed(),
        "the command again, and left": [*update(), started("duplicate"), started("running"), started("stale")],
        "it runs that already": [*update(), started("installed")],
        "another job": [*failure(), started(job=RETRY), installed(RETRY)],
        "another device's": [*update(), started(thing="d-1"), installed(thing="d-1")],
        "begun again before its end was reported": with_after(update(), "start", CUT, started()),
        "no end, for it goes on": [*update(report={"status": "RUNNING"}), started("supersede")],
        "jobs without a name": [*update(report={"job": None}), started(job=None), installed(None)],
    },
}  # fmt: skip
FAILS = {
    S6: {
        "an end after the end": ([*update(), moved("FAILED")], ["d-0"], {"status": "FAILED"}),
        "a late end after TIMED_OUT": ([*update(ended={"status": "TIMED_OUT"}), moved("SUCCEEDED")], ["d-0"],
                                       {"status": "SUCCEEDED"}),
        "under way again": ([*update(), moved("IN_PROGRESS")], ["d-0"], {"status": "IN_PROGRESS"}),
        "begun twice": (with_after(update(), "IN_PROGRESS", moved("IN_PROGRESS")), ["d-0"], {"kind": "execution"}),
        "ended before it began": ([*update(begun=None), *update("d-1", "r.d-1.0")], ["d-0"], {"status": "SUCCEEDED"}),
        "back to QUEUED": ([*update(), moved("QUEUED")], ["d-0"], {"status": "QUEUED"}),
    },
    S7: {
        "ended twice": ([*update(), moved("SUCCEEDED")], ["d-0"], {"kind": "execution"}),
        "begun twice": (with_after(update(), "start", started("supersede")), ["d-0"], {"status": "supersede"}),
        "begun again after it was reported": ([*update(), CUT, started()], ["d-0"], {"kind": "delta"}),
        "begun again after another's power cut": (
            with_after(update(), "start", ("boot", "d-1", CUT[2]), started()), ["d-0"], {"kind": "delta"}),
        "begun again after a reboot": (
            with_after(update(answer=None), "SUCCESS", started()), ["d-0"], {"kind": "delta"}),
    },
    S9: {
        "another thing": ([*update(), started("duplicate", thing="d-7")], ["d-7"], {"kind": "delta"}),
        "another artifact": ([*update(), ("offer", "d-0", {"job": JOB, "digest": OLD})], ["d-0"], {"digest": OLD}),
        "another artifact heard": (altered(update(), "delta", "start", digest=OLD), ["d-0"], {"kind": "delta"}),
        "another artifact installed": (update(commit={"digest": OLD}), ["d-0"], {"kind": "commit"}),
        "another after one that tells no hash": (
            update(begun={"digest": None}, ended={"digest": OLD}), ["d-0"], {"kind": "execution", "digest": OLD}),
    },
    S21: {
        "begun again": ([*update(), started()], ["d-0"], {"kind": "delta", "status": "start"}),
        "begun again after a power cut": ([*update(answer=None), CUT, started()], ["d-0"], {"kind": "delta"}),
        "begun in another's place": ([*failure(), started("supersede")], ["d-0"], {"status": "supersede"}),
        "installed without a word": ([*failure(), installed()], ["d-0"], {"kind": "commit"}),
    },
}  # fmt: skip
NO_APPLICATION = dict.fromkeys(("begun", "ended", "offer"))
LACKS = {
    S6: {"executions": update(begun=None, ended=None), "the job's name": [*update(), moved("FAILED", None)]},
    S7: {
        "everything": update(delta=None, ended=None),
        "what devices did": update(delta=None),
        "ends": update(ended=None),
    },
    S9: {
        "the application": update(**NO_APPLICATION),
        "hashes": update(**{name: {"digest": None} for name in ("begun", "ended", "offer", "delta", "commit")}),
    },
    S21: {
        "what devices did": update(delta=None),
        "reports": update(initial=None, report=None),
    },
}


NO_OCCASION = {
    "S7-idempotence": {"success", "one job on two things", "jobs without a name"},
    "S21-no-replay": {
        "success",
        "another job",
        "another device's",
        "begun again before its end was reported",
        "no end, for it goes on",
    },
}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS, NO_OCCASION)
