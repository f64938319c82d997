"""Checks on the replica: traces they pass, traces they fail, and where; traces they must call UNKNOWN."""

import pytest

from simulator.checks.judge import CHECKS, judge, not_judged
from simulator.dialects.registry import DIALECTS
from simulator.model.capabilities import Capabilities
from simulator.model.scenario import Scenario
from tests.checks.tables import proofs
from tests.checks.traces import altered, apart, backed, failure, trace, update, with_after, without

S1, S3, S5 = "S1-version", "S3-delta", "S5-durability"
JOB, RETRY = "r.d-0.0", "r.d-0.1"
ACCEPTED, DELTA = "replica.accepted", "replica.delta"


def failed():
    """An update that failed, after which the replica says the delta again."""
    events = altered(backed(made=failure), ACCEPTED, "reported", version="1", detail="u1")
    at = max(n for n, event in enumerate(events) if event[0] == ACCEPTED) + 1
    return [*events[:at], (DELTA, "d-0", {"doc": 3, "job": JOB, "version": "2"}), *events[at:]]


def accepted(doc, status="reported", thing="d-0", **fields):
    return (ACCEPTED, thing, {"doc": doc, "status": status, **fields})


def loaded(doc, thing="d-0", **fields):
    return ("replica.loaded", thing, {"doc": doc, **fields})


PASSES = {
    S1: {
        "found again, and the next": [*backed(), loaded(3, job=JOB), accepted(4)],
        "a commit that nobody recorded": [*backed(), loaded(5, job=JOB), accepted(6)],
        "success": backed(),
        "two things": [*backed(), *backed("d-1", "r.d-1.0")],
        "a database that is older": [accepted(7), accepted(8), accepted(9)],
    },
    S3: {
        "success": backed(),
        "the delta again, from what was found": [
            *failed(), loaded(3, job=JOB), (DELTA, "d-0", {"doc": 3, "job": JOB, "version": "2"})],
        "of a commit that nobody recorded": [
            *backed(), *backed("d-1", "r.d-1.0"), loaded(4, job=RETRY),
            (DELTA, "d-0", {"doc": 4, "job": RETRY, "version": "2"})],
        "failure, and the delta again": failed(),
        "desired by another URL alone": altered(
            altered(altered(backed(), ACCEPTED, "desired", version="1"), DELTA, None, version="1"),
            ACCEPTED, "reported", version="1"
        )[:7],
        "what runs is desired": [
            accepted(1, version="1", detail="u1"), accepted(2, "desired", job=JOB, version="1", detail="u1")],
        "nothing is desired any more": [*failed(), accepted(4, "desired"), accepted(5, version="1", detail="u1")],
        "nothing was ever reported": [
            accepted(1, "desired", job=JOB, version="2", detail="u2"), (DELTA, "d-0", {"doc": 1, "job": JOB, "version":
            "2"}), accepted(2, "none"), (DELTA, "d-0", {"doc": 2, "job": JOB, "version": "2"})],
    },
    S5: {
        "an answer of two commits that nobody recorded": [
            *backed(), loaded(5, job=JOB), ("answer", "d-0", {"status": "accepted", "doc": 4}), accepted(6)],
        "success": backed(),
        "the same answer again": with_after(backed(), "answer", ("answer", "d-0", {"status": "accepted", "doc": 3})),
        "told of what was found": [*without(backed(), (ACCEPTED, "desired")), ("offer", "d-0", {"job": RETRY}),
            loaded(4, job=RETRY), ("offer", "d-0", {"job": RETRY, "status": "accepted"})][-3:] + backed("d-1", "r.d-1.0"),
        "an offer's alone": without(backed(), ("answer", "accepted")),
    },
}  # fmt: skip
FAILS = {
    S1: {
        "found older than it was": ([*backed(), loaded(2)], ["d-0"], {"kind": "replica.loaded"}),
        "not above what was found": ([*backed(), loaded(5), accepted(5)], ["d-0"], {"doc": 5}),
        "a version twice": ([*backed(), accepted(3)], ["d-0"], {"kind": ACCEPTED, "doc": 3}),
        "a version left out": ([*backed(), accepted(5)], ["d-0"], {"doc": 5}),
        "a version that goes back": ([*backed(), *backed("d-1", "r.d-1.0"), accepted(2, thing="d-1"), accepted(4)],
                                     ["d-1"], {"doc": 2}),
    },
    S3: {
        "no delta": (without(backed(), (DELTA, None)), ["d-0"], {"kind": ACCEPTED, "status": "desired"}),
        "no delta for another URL": (
            [accepted(1, version="1", detail="u1"), accepted(2, "desired", job=JOB, version="1", detail="u2"),
             *backed("d-1", "r.d-1.0")], ["d-0"], {"status": "desired"}),
        "a delta where they agree": ([*backed(), (DELTA, "d-0", {"doc": 3, "job": JOB, "version": "2"})], ["d-0"],
                                     {"kind": DELTA, "doc": 3}),
        "of another document": (altered(backed(), DELTA, None, doc=1), ["d-0"], {"status": "desired"}),
        "under another job": (altered(backed(), DELTA, None, job=RETRY), ["d-0"], {"kind": DELTA}),
        "of another version": (altered(backed(), DELTA, None, version="3"), ["d-0"], {"kind": DELTA}),
        "to a thing of which nothing was accepted": ([*backed(), (DELTA, "d-7", {"doc": 2, "job": JOB})], ["d-7"],
                                                     {"kind": DELTA}),
    },
    S5: {
        "answered, above what was found": ([*backed(), loaded(5, job=JOB), ("answer", "d-0", {"status": "accepted", "doc": 6}),
            accepted(6)], ["d-0"], {"kind": "answer", "doc": 6}),
        "found older than was told": ([*backed(), loaded(2, job=JOB)], ["d-0"], {"kind": "replica.loaded"}),
        "a version that was told, again": ([*backed(), accepted(3)], ["d-0"], {"kind": ACCEPTED, "doc": 3}),
        "back to before an offer": ([*without(backed(), ("answer", "accepted")), accepted(1)], ["d-0"], {"doc": 1}),
        "told, and never committed": ([*backed(answer={"doc": 9}), accepted(4)], ["d-0"], {"kind": "answer"}),
        "an offer that was never committed": (without(backed(), (ACCEPTED, "desired")), ["d-0"],
                                              {"kind": "offer", "status": "accepted"}),
        "told before it was committed": (
            with_after(backed(), "SUCCESS", ("answer", "d-0", {"status": "accepted", "doc": 3})), ["d-0"],
            {"kind": "answer"}),
    },
}  # fmt: skip
SERVED = ("storage.served", "d-0", {"status": "200", "size": 9, "digest": "n" * 64})
BACKENDLESS = without(update(), (ACCEPTED, "reported"), ("storage.served", "200"))
LACKS = {
    S1: {"the backend": BACKENDLESS, "versions": [*backed(), accepted(None)]},
    S3: {
        "the backend": BACKENDLESS,
        "the delta of the last update": [*backed(), accepted(4, "desired", job=RETRY, version="3", detail="u3")],
        "the delta of the last update, though the storage goes on": apart(
            *backed(), accepted(4, "desired", job=RETRY, version="3", detail="u3"), SERVED),
        "what an older database desires": [accepted(7, version="1", detail="u1")],
        "what both sections hold": [*backed(), accepted(4, "both", version="2", detail="u2")],
        "URLs": altered(backed(accepted={"detail": None}), ACCEPTED, "desired", detail=None),
    },
    S5: {
        "the backend": BACKENDLESS,
        "answers": without(backed(answer=None), ("offer", "accepted")),
        "the end of the backend's record": backed(accepted={"doc": 0, "thing": "d-9", "detail": None}),
        "the end of the replica's record alone": apart(
            *backed(accepted={"doc": 0, "thing": "d-9", "detail": None}), SERVED),
    },
}  # fmt: skip


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS)


def test_of_a_backend_that_is_already_there_is_judged_what_others_heard_and_the_rest_is_listed():
    external = Scenario.model_validate({"target": {"kind": "external"}})
    by_default = {f.check: f for f in judge(trace(*update()), external)}
    assert list(by_default) == list(CHECKS)
    assert by_default["S11-true-success"].verdict == "PASS"
    lacks = [name for name, finding in by_default.items() if finding.verdict == "NOT JUDGED"]
    assert lacks == ["S2-conditional", "S20-offline-queue", "S22-validation"]
    lacking = by_default["S20-offline-queue"].summary
    assert lacking == "it needs the replica's own record, which an external backend does not give"
    named = judge(trace(*BACKENDLESS), external.model_copy(update={"checks": (S1,)}))
    assert [(f.check, f.verdict) for f in named] == [(S1, "UNKNOWN")]
    assert list(CHECKS) == [f.check for f in judge(trace(), Scenario())]


def test_what_a_dialect_cannot_do_is_not_judged_unless_it_is_named():
    def left_out(scenario, **lacks):
        return set(not_judged(scenario, Capabilities(**lacks)))

    assert left_out(Scenario()) == set()
    assert left_out(Scenario(), versions=False) == {"S1-version", "S2-conditional", "S12-no-regress"}
    assert left_out(Scenario(), deltas=False) == {"S3-delta"}
    assert left_out(Scenario(), replica=False) == {"S5-durability", "S22-validation"}
    assert left_out(Scenario(), sessions=False) == {"L3-learns", "L8-return", "S19-one-session", "S20-offline-queue"}
    named = Scenario(checks=("S3-delta",))
    (finding,) = judge(trace(*update()), named, Capabilities(deltas=False))
    assert finding.verdict != "NOT JUDGED"
    everything = judge(trace(*update()), Scenario(), Capabilities(deltas=False))
    assert [f.check for f in everything if f.verdict == "NOT JUDGED"] == ["S3-delta"]


@pytest.mark.parametrize("name", DIALECTS)
def test_all_is_judged_in_the_dialects_of_the_pattern(name):
    assert not_judged(Scenario(), DIALECTS[name].can) == {}


def test_what_two_clocks_may_have_put_in_the_wrong_order_is_no_offence():
    """The devices' host is behind: an answer stands before the commit. Or it is ahead: bytes are
    served before the grant was heard."""
    ahead = {"report", "answer", "delta", "download", "connect", "boot", "commit", "confirm", "retired"}
    events = [(kind, thing, {**had, "t_us": 10_000 * nth}) for nth, (kind, thing, had) in enumerate(backed(), 1)]
    slow = [(k, at, {**had, "t_us": had["t_us"] - 15_000 * (k in ahead)}) for k, at, had in events]
    clock = ("clock", "", {"t_us": 0, "span_us": 8_000, "detail": '{"process":"shard-0","host":"h","offset_us":0}'})
    failing = {f.check for f in judge(trace(*slow), Scenario()) if f.verdict == "FAIL"}
    assert "S5-durability" in failing
    assert {f.check: f.summary for f in judge(trace(clock, *slow), Scenario()) if f.verdict == "FAIL"} == {}
    late = [(k, at, {**had, "t_us": had["t_us"] + 15_000 * (k in ahead)}) for k, at, had in events]
    assert {f.check for f in judge(trace(*late), Scenario()) if f.verdict == "FAIL"} == {"S14-url"}
    assert {f.check for f in judge(trace(clock, *late), Scenario()) if f.verdict == "FAIL"} == set()
