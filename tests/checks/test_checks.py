"""Each check: traces it passes, traces it fails, traces it must call UNKNOWN; its findings name rows and devices."""

import json
import re

import pytest

from simulator.checks import judge as judging
from simulator.checks.judge import CHECKS, judge, sensible
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding, Judgement, Verdict
from tests.checks.tables import cases
from tests.checks.traces import NEW, OLD, apart, failure, trace, update, with_after

HERE = L2, S8, S10, S11, S12, S13, S23 = (
    "L2-convergence", "S8-counters", "S10-integrity", "S11-true-success", "S12-no-regress", "S13-at-most-once",
    "S23-targeting",
)  # fmt: skip
JOB, RETRY = "r.d-0.0", "r.d-0.1"
SOFT, OLD_SOFT = {"version": "2", "digest": NEW}, {"version": "1", "digest": OLD}
LOST_SIGHT = {"ended": {"status": "TIMED_OUT"}, "counters": {"detail": '{"TIMED_OUT":1}'}}


def old_stays(**changed):
    """A device that downloads, and installs nothing."""
    gone = dict.fromkeys(("commit", "reboot", "confirm", "report", "accepted", "answer"))
    return update(**{**gone, "ended": {"status": "FAILED"}, "retired": {"version": "1", "digest": OLD}, **changed})


STILL_OLD = {"reboot": None, "confirm": None, "report": None, "accepted": None, "answer": None, "retired": OLD_SOFT}
PASSES = {
    L2: {
        "success": update(),
        "a failure that says why": failure(),
        "canceled before it was offered": update(
            **dict.fromkeys(("begun", "offer", "delta", "download", "commit"), None), ended={"status": "CANCELED"},
            **STILL_OLD,
        ),
        "timed out, yet the device came through": update(**LOST_SIGHT),
        "the same, known from the replica alone": update(**LOST_SIGHT, answer=None),
        "the same, known from the device alone": update(**LOST_SIGHT, accepted=None),
        "a backend that leaves no record and does not answer": update(accepted=None, answer=None),
        "no hash told, the version tells": update(target={"digest": None}, offer={"digest": None},
                                                  begun={"digest": None}, ended={"digest": None}),
    },
    S8: {
        "success": update(),
        "failure": failure(),
        "counted while moving": with_after(
            update(), "SUCCESS", ("counters", "", {"job": "rollout-1", "status": "moving", "detail": '{"SUCCEEDED":1}'})
        ),
        "timed out and never heard of": update(**LOST_SIGHT, **STILL_OLD),
    },
    S10: {
        "success": update(),
        "resumed under one ETag": with_after(
            update(download={"size": 5}), "download", ("download", "d-0", {"status": "206", "size": 4, "detail":
            '{"offset":5,"etag":"e"}'})
        ),
        "resumed under a later job": with_after(
            update(download={"size": 5}), "download", ("download", "d-0", {"job": RETRY, "status": "206", "size": 4,
            "detail": '{"offset":5,"etag":"e"}'})
        ),
        "begun afresh": with_after(
            update(download={"size": 5, "detail": '{"offset":0,"etag":"other"}'}), "download",
            ("download", "d-0", {"job": JOB, "status": "200", "size": 9, "detail": '{"offset":0,"etag":"e"}'}),
        ),
        "a refusal between": with_after(
            update(), "offer", ("download", "d-0", {"job": JOB, "status": "403", "size": 0, "detail": '{"offset":0}'})
        ),
        "nothing to download": update(download={"size": 0}, commit={"size": 0}),
        "nothing was installed": old_stays(),
        "the hash known from the application alone": update(commit={"detail": None}, delta={"digest": None}),
        "the hash known from the device alone": update(offer={"digest": None}, delta={"digest": None}),
    },
    S11: {
        "success": update(),
        "failure": failure(),
        "it ran already": update(delta={"status": "installed"}, confirm=None, boot=SOFT, initial=SOFT),
        "two versions with the same bytes": update(boot={"digest": NEW}, initial={"digest": NEW}),
        "no hash told": update(offer={"digest": None}, delta={"digest": None}),
    },
    S12: {
        "success": update(),
        "an older one heard and left": [*update(), ("delta", "d-0", {"status": "stale", "doc": 1})],
        "the same document again": [*update(), ("delta", "d-0", {"status": "supersede", "doc": 2})],
        "another device's document": [*update(), ("delta", "d-1", {"status": "start", "doc": 1})],
    },
    S13: {
        "success": update(),
        "nothing installed": update(commit=None),
        "one job on two things": [*update(), ("commit", "d-7", {"job": JOB, "size": 9})],
        "jobs of nobody": [*update(), ("commit", "d-0", {"job": "x"}), ("commit", "d-0", {"job": "y"})],
        "a rollout whose retries the scenario does not know": [
            *update(rollout="another"), ("execution", "d-0", {"job": RETRY, "status": "IN_PROGRESS", **SOFT}),
            ("commit", "d-0", {"job": RETRY})],
    },
    S23: {
        "success": update(),
        "no hash told": update(target={"digest": None}, offer={"digest": None}),
        "the storage's answer is the backend's last word": update(accepted=None),
        "a foreign request refused": [*update(), ("storage.served", "", {"status": "403"})],
    },
}  # fmt: skip
FAILS = {
    L2: {
        "timed out and still the old one": (update(**LOST_SIGHT, **STILL_OLD), ["d-0"]),
        "success, and the device runs another": (update(retired=OLD_SOFT), ["d-0"]),
        "the same, whatever else is missing": (update(retired=OLD_SOFT, end=None, connect=None), ["d-0"]),
        "it came through, and nobody knows": (update(**LOST_SIGHT, accepted=None, answer=None), ["d-0"]),
        "it came through, and nobody knows of which version": (
            update(**LOST_SIGHT, target={"version": None}, accepted=None, answer=None), ["d-0"]),
        "no hash told, the version is another": (
            update(target={"digest": None}, offer={"digest": None}, begun={"digest": None},
                   ended={"digest": None}, retired={"version": "1"}), ["d-0"]),
    },
    S8: {
        "more than there are": (update(counters={"detail": '{"SUCCEEDED":1,"FAILED":1}'}), []),
        "another number of targets": (update(counters={"size": 2, "detail": '{"SUCCEEDED":2}'}), []),
        "counted as something else": (update(counters={"detail": '{"FAILED":1}'}), []),
        "a success that no device sent": (update(report={"status": "RUNNING"}), ["d-0"]),
        "a failure that was a success": (update(ended={"status": "FAILED"}, counters={"detail": '{"FAILED":1}'}),
                                         ["d-0"]),
        "counted before it was sent": (
            with_after(update(), "delta", ("counters", "", {"job": "rollout-1", "status": "moving",
                                                            "detail": '{"SUCCEEDED":1}'})), []),
        "another's report": (update(report={"thing": "d-9"}), ["d-0"]),
    },
    S10: {
        "other bytes than offered": (update(commit={"digest": OLD}), ["d-0"]),
        "other bytes than told": (update(commit={"detail": OLD}), ["d-0"]),
        "the backend told another hash": (
            update(delta={"digest": OLD}, commit={"digest": OLD, "detail": OLD}), ["d-0"]),
        "no bytes were downloaded": ([*update(download=None), ("download", "d-9", {"status": "200", "size": 9})],
                                     ["d-0"]),
        "too few": (update(download={"size": 8}), ["d-0"]),
        "a gap": (with_after(update(download={"size": 5}), "download", ("download", "d-0", {
            "status": "206", "size": 3, "detail": '{"offset":6,"etag":"e"}'})), ["d-0"]),
        "two contents": (with_after(update(download={"size": 5}), "download", ("download", "d-0", {
            "status": "206", "size": 4, "detail": '{"offset":5,"etag":"other"}'})), ["d-0"]),
        "the bytes of another device": (update(download={"thing": "d-1"}), ["d-0"]),
        "the bytes of another device, before it": ([*update(), ("commit", "d-1", {"job": RETRY, "size": 9})], ["d-1"]),
        "the same bytes twice": ([*update(), ("commit", "d-0", {"job": RETRY, "size": 9, "detail": NEW, **SOFT})],
                                 ["d-0"]),
    },
    S11: {
        "from the old slot": (update(report={"digest": OLD}), ["d-0"]),
        "never confirmed": (update(confirm=None), ["d-0"]),
        "confirmed by another job": (update(confirm={"job": RETRY}), ["d-0"]),
        "other software confirmed": (update(confirm={"digest": OLD}), ["d-0"]),
        "confirmed afterwards": (with_after(update(confirm=None), "answer", ("confirm", "d-0", {"job": JOB, **SOFT})),
                                 ["d-0"]),
        "confirmed by another device": (update(confirm={"thing": "d-1"}), ["d-0"]),
        "of a job it never heard of": (update(report={"job": "r.d-0.7"}), ["d-0"]),
        "another version than runs": (update(report={"version": "3"}), ["d-0"]),
        "a first report of what does not run": (update(initial={"version": "2"}), ["d-0"]),
        "the version before, after the new one runs": (update(report={"status": "FAILURE", "version": "1"}), ["d-0"]),
        "what was confirmed is not what was offered": (
            update(confirm={"digest": OLD}, report={"digest": OLD}, reboot={"digest": OLD}), ["d-0"]),
        "what was confirmed is not what was announced": (
            update(confirm={"digest": OLD}, report={"digest": OLD}, offer={"digest": None}), ["d-0"]),
    },
    S12: {
        "begun on an older one": ([*update(), ("delta", "d-0", {"job": RETRY, "status": "start", "doc": 1})], ["d-0"]),
        "older than one only heard of": (
            [*update(), ("delta", "d-0", {"job": JOB, "status": "running", "doc": 9}),
             ("delta", "d-0", {"job": RETRY, "status": "supersede", "doc": 8})], ["d-0"]),
    },
    S13: {
        "twice": ([*update(), ("commit", "d-0", {"job": JOB, "size": 9})], ["d-0"]),
        "a retry that nobody allowed": (
            [*update(), ("execution", "d-0", {"job": RETRY, "status": "IN_PROGRESS", **SOFT}),
             ("commit", "d-0", {"job": RETRY, "size": 9})], ["d-0"]),
    },
    S23: {
        "another installs it": ([*update(), ("commit", "d-7", {"job": JOB, "size": 9})], ["d-7"]),
        "another acts on a job of nobody": ([*update(), ("delta", "d-7", {"job": "x", "status": "start"})], ["d-7"]),
        "another hears of it": ([*update(), ("delta", "d-7", {"job": JOB, "status": "start"})], ["d-7"]),
        "a target acts on another's job": (
            [*update(), *update("d-1", "r.d-1.0", delta={"job": JOB})], ["d-1"]),
        "offered to another": ([*update(), ("offer", "d-7", {"job": "r.d-7.0", "status": "sent", **SOFT})], ["d-7"]),
        "served to another": ([*update(), ("storage.served", "d-7", {"status": "200", "digest": NEW})], ["d-7"]),
        "served another artifact": ([*update(), ("storage.served", "d-0", {"status": "206", "digest": OLD})], ["d-0"]),
        "a credential for another's job": (
            [*update(), ("replica.credential", "d-7", {"job": JOB, "status": "granted"})], ["d-7"]),
        "a delta sent to another": ([*update(), ("replica.delta", "d-7", {"job": JOB})], ["d-7"]),
        "another's report accepted": ([*update(), ("replica.accepted", "d-7", {"job": JOB, "status": "reported"})],
                                      ["d-7"]),
        "downloaded with another's leave": (
            [*update(), *update("d-1", "r.d-1.0", served={"thing": "d-0"})], ["d-1"]),
        "downloaded with another's leave, and the storage's own record goes on": (
            apart(*update(), *update("d-1", "r.d-1.0", served={"thing": "d-0"}), ("health", "", {"shard": 4})), ["d-1"]),
    },
}  # fmt: skip
LACKS = {
    L2: {
        "targets": update(target=None),
        "the device's record": update(**LOST_SIGHT, boot=None, connect=None, **STILL_OLD | {"retired": None}),
        "the end of its record": update(retired=None, confirm=None, reboot=None),
        "the rollout's end": update(ended=None, counters=None, end=None, **STILL_OLD),
        "a device within reach": with_after(
            update(**LOST_SIGHT, **STILL_OLD), "commit", ("lost", "d-0", {"status": "lost"})
        ),
        "a device that was ever connected": update(**LOST_SIGHT, **STILL_OLD, connect=None),
        "time since it came back": with_after(
            update(**LOST_SIGHT, **STILL_OLD), "end", ("lost", "d-0", {}), ("stage", "", {"phase": "settle"}),
            ("connect", "d-0", {"status": "resumed"}),
        ),
    },
    S8: {
        "targets": update(target=None),
        "final counters": update(counters=None),
        "the end of the device's record": update(report=None, retired=None),
    },
    S10: {
        "any installation": update(commit=None),
        "the devices, where nothing was installed": old_stays(boot=None, retired=None),
        "the end of a device's record, where nothing was installed": old_stays(retired=None),
        "any hash": update(commit={"detail": None}, delta={"digest": None}, offer={"digest": None}),
        "one of the hashes": [
            *update(), *update("d-1", "r.d-1.0", commit={"detail": None}, delta={"digest": None},
                               offer={"digest": None}),
        ],
        "downloads": update(download=None),
    },
    S11: {"reports": update(report=None, initial=None), "what ran": update(boot=None)},
    S12: {
        "deltas": update(delta=None),
        "versions": update(delta={"doc": None}),
        "one of the versions": [*update(), ("delta", "d-0", {"job": RETRY, "status": "start"})],
    },
    S13: {"deltas": update(delta=None), "the job's name": update(commit={"job": None})},
    S23: {
        "targets": update(target=None),
        "devices": update(boot=None, reboot=None),
        "offers": update(offer=None, begun=None, ended=None),
        "whom the storage served": update(served=None),
        "the end of the backend's record": [*update("d-1", "r.d-1.0"), *update(served=None, accepted=None)],
        "the end of the storage's record alone": apart(*update("d-1", "r.d-1.0"), *update(served=None)),
    },
}  # fmt: skip


NO_OCCASION = {"S10-integrity": {"nothing was installed"}, "S13-at-most-once": {"nothing installed"}}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


@pytest.mark.parametrize(("check", "events", "verdict"), cases(PASSES, NO_OCCASION))
def test_passes(check, events, verdict):
    found = CHECKS[check](trace(*events), Scenario())
    assert (found.verdict, found.things, found.events) == (verdict, (), ()), found.summary


@pytest.mark.parametrize(("check", "case"), cases(FAILS))
def test_fails_and_says_where_and_who(check, case):
    events, things = case
    found = CHECKS[check](trace(*events), Scenario())
    assert (found.check, found.verdict) == (check, "FAIL"), found.summary
    assert list(found.things) == things
    assert found.events
    assert "first at 0.0000" in found.summary


@pytest.mark.parametrize(("check", "events"), cases(LACKS))
def test_unknown_without(check, events):
    found = CHECKS[check](trace(*events), Scenario())
    assert found.verdict == "UNKNOWN", found.summary
    assert found.summary


def test_doubts_count_those_concerned_alone():
    away = with_after(update("d-1", "r.d-1.0", **LOST_SIGHT, **STILL_OLD), "commit", ("lost", "d-1", {}))
    found = CHECKS[L2](trace(*update(), *away), Scenario())
    assert (found.verdict, found.summary) == ("UNKNOWN", "1 of 2 targets were out of reach at the end")


@pytest.mark.parametrize("name", CHECKS)
def test_unknown_on_an_empty_trace(name):
    assert CHECKS[name](trace(), Scenario()).verdict == "UNKNOWN"


def test_the_first_offending_event_comes_first_whatever_the_order_of_devices():
    bad = [*update("d-9", "r.d-9.0", commit={"digest": OLD}), *update("d-0", commit={"digest": OLD})]
    found = CHECKS[S10](trace(*bad), Scenario())
    assert found.things == ("d-9", "d-0")
    assert found.events == tuple(i for i, event in enumerate(bad) if event[0] == "commit")
    assert (
        "2 installations wrote other bytes than the announced ones: d-9, d-0; first at 0.000012 s: commit"
        in found.summary
    )


def test_a_retry_that_the_rollout_allows_may_install_again():
    again = [*update(), ("execution", "d-0", {"job": RETRY, "status": "IN_PROGRESS", **SOFT}),
             ("commit", "d-0", {"job": RETRY, "size": 9})]  # fmt: skip
    allowed = Scenario.model_validate({"rollout": {"retryConfig": {"failed": 1}}})
    assert CHECKS[S13](trace(*again), allowed).verdict == "PASS"
    assert CHECKS[S13](trace(*again), Scenario()).verdict == "FAIL"
    twice = [*update(), ("commit", "d-0", {"job": JOB, "size": 9})]
    assert CHECKS[S13](trace(*twice), allowed).verdict == "FAIL"


def test_a_storage_of_others_leaves_no_record_and_s23_judges_the_devices():
    scenario = Scenario.model_validate({"target": {"artifact_url": "http://cdn.example/a"}})
    assert CHECKS[S23](trace(*update(served=None)), scenario).verdict == "PASS"


# ---- records that break off


def counted(when, **states):
    return ("counters", "", {"job": "rollout-1", "status": when, "size": 2, "detail": json.dumps(states)})


def two(first, second, *counts):
    """Two targets of one rollout, with these counters at the end."""
    return [e for e in [*first, *second] if e[0] != "counters"] + list(counts)


def test_a_report_past_the_record_of_a_device_may_have_been_counted():
    unheard = update("d-1", "r.d-1.0", report=None, retired=None, ended={"status": "TIMED_OUT"})
    for counts, verdict in (({"SUCCEEDED": 1}, "PASS"), ({"SUCCEEDED": 2}, "UNKNOWN"), ({"SUCCEEDED": 3}, "FAIL")):
        made = two(update(), unheard, counted("moving", **counts), counted("final", SUCCEEDED=1, TIMED_OUT=1))
        assert CHECKS[S8](trace(*made), Scenario()).verdict == verdict
    ended = two(update(), failure("d-1", "r.d-1.0", retired=None, report=None, ended={"status": "FAILED"}),
                counted("final", SUCCEEDED=1, FAILED=1))  # fmt: skip
    found = CHECKS[S8](trace(*ended), Scenario())
    assert found.verdict == "UNKNOWN"
    assert "1 target counted as FAILED may have reported after their record ends" in found.summary


def test_a_device_that_reported_before_its_record_broke_off_excuses_nobody():
    heard = [update(thing, f"r.{thing}.0", retired=None) for thing in ("d-0", "d-1")]
    made = two(*heard, counted("moving", SUCCEEDED=3), counted("final", SUCCEEDED=2))
    assert CHECKS[S8](trace(*made), Scenario()).verdict == "FAIL"


def test_a_device_whose_record_is_whole_excuses_nobody_elses_count():
    silent = update("d-1", "r.d-1.0", report=None, ended={"status": "TIMED_OUT"})
    made = two(update(), silent, counted("moving", SUCCEEDED=2), counted("final", SUCCEEDED=1, TIMED_OUT=1))
    assert CHECKS[S8](trace(*made), Scenario()).verdict == "FAIL"


# ---- several rollouts, one after the other

THIRD = {"version": "3", "digest": "3" * 64}


def second(**changed):
    """The events of a second rollout, to version 3, over the same device."""
    changed = {"boot": None, "connect": None, "initial": None, **changed}
    return update(job="q.d-0.0", rollout="rollout-2", doc=5, **THIRD, **changed)


@pytest.mark.parametrize("check", HERE)
def test_two_rollouts_one_after_the_other_pass(check):
    found = CHECKS[check](trace(*update(retired=None), *second()), Scenario())
    assert found.verdict == "PASS", found.summary


def test_a_replaced_rollout_need_not_converge():
    first = update(retired=None, **LOST_SIGHT | {"report": None, "accepted": None, "answer": None, "confirm": None})
    assert CHECKS[L2](trace(*first, *second()), Scenario()).verdict == "PASS"


def test_a_rollout_that_was_never_offered_replaces_nothing():
    first = update(**LOST_SIGHT, **STILL_OLD | {"retired": None})
    offered = dict.fromkeys(("begun", "offer", "delta", "download", "commit", "reboot", "confirm", "report"), None)
    canceled = second(**offered, ended={"status": "CANCELED"}, retired=OLD_SOFT)
    found = CHECKS[L2](trace(*first, *canceled), Scenario())
    assert (found.verdict, found.things) == ("FAIL", ("d-0",))
    assert "TIMED_OUT" in found.summary


def test_each_rollout_counts_its_own_targets():
    wrong = second()
    wrong = [("counters", "", {**e[2], "detail": '{"SUCCEEDED":2}', "size": 2}) if e[0] == "counters" else e
             for e in wrong]  # fmt: skip
    found = CHECKS[S8](trace(*update(retired=None), *wrong), Scenario())
    assert found.verdict == "FAIL"
    assert found.events == (len(update(retired=None)) + [e[0] for e in wrong].index("counters"),)


def test_success_for_the_second_rollout_from_the_software_of_the_first():
    unchanged = second(confirm=None, reboot=None, report=SOFT)
    found = CHECKS[S11](trace(*update(retired=None), *unchanged), Scenario())
    assert (found.verdict, found.things) == ("FAIL", ("d-0",))


# ---- the judge


def test_what_is_asked_of_a_rollout_is_asked_of_each_and_the_gravest_tells():
    both = Scenario(rollout={"name": "rollout"}, operators=[{}, {}], checks=("L7-rollout-ends", "S16-limits"))
    names = [one.rollout.name for one in both.rollouts]
    first = renamed(update(), names[0])
    (ends, limits) = judge(trace(*first), both)
    assert (ends.verdict, limits.verdict) == ("UNKNOWN", "UNKNOWN")
    assert ends.summary.startswith(f"{names[1]}: the trace names no targets")
    (ends, limits) = judge(trace(*first, *renamed(update(), names[1])), both)
    assert (ends.verdict, limits.verdict) == ("PASS", "NO OCCASION")
    assert limits.summary.startswith("2 rollouts; ")
    open_end = [
        event for event in renamed(update(), names[1]) if (event[0], event[2].get("status")) != ("rollout", "end")
    ]
    (ends, _) = judge(trace(*first, *open_end), both)
    assert ends.verdict != "PASS"
    assert ends.summary.startswith(f"{names[1]}: ")


def test_a_check_that_is_required_and_had_no_occasion_is_unknown():
    scenario = Scenario(require=("S19", "S11-true-success"))
    findings = {f.check: f for f in judge(trace(*update()), scenario)}
    assert findings["S19-one-session"].verdict == "UNKNOWN"
    assert findings["S19-one-session"].summary == "required, but no connection was taken over"
    assert findings["S11-true-success"].verdict == "PASS"
    assert Judgement(tuple(findings.values())).verdict == "UNKNOWN"


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        ({"require": ["S99"]}, "require: no such check: 'S99'; "),
        ({"checks": ["L1"], "require": ["S19"]}, "require: S19-one-session is not among the scenario's checks"),
        ({"checks": ["S19-one-sesion"]}, "checks: no such check: 'S19-one-sesion'; did you mean 'S19-one-session'?"),
    ],
)
def test_a_check_that_there_is_not_or_that_is_left_out_is_refused(scenario, why):
    with pytest.raises(ScenarioError, match=re.escape(why)):
        sensible(Scenario.model_validate(scenario))


def test_a_run_in_which_no_check_saw_anything_is_unknown():
    silent = Finding("S19-one-session", "", Verdict.NO_OCCASION, "no connection was taken over")
    assert Judgement((silent,)).verdict == "UNKNOWN"
    assert Judgement((silent, Finding("L7-rollout-ends", "", Verdict.PASS, "it ended"))).verdict == "PASS"


def renamed(events, name):
    """The same of another rollout."""
    words = {"job": name}
    kinds = ("rollout", "target", "counters")
    return [(kind, thing, {**more, **words}) if kind in kinds else (kind, thing, more) for kind, thing, more in events]


def test_a_crashed_check_is_unknown(monkeypatch):
    monkeypatch.setitem(judging.CHECKS, "S8-counters", lambda trace, scenario: 1 / 0)
    found = {f.check: f for f in judge(trace(*update()), Scenario())}
    assert found["S8-counters"].verdict == "UNKNOWN"
    assert "ZeroDivisionError" in found["S8-counters"].summary


def test_an_unknown_check_names_the_nearest():
    with pytest.raises(ScenarioError, match="S11-true-success"):
        judge(trace(), Scenario(checks=("S11-true-succes",)))


def verdicts(events, **thresholds):
    found = judge(trace(*events), Scenario(checks=("S8-counters",), thresholds=thresholds))
    return {f.check.removeprefix("threshold-"): f.verdict for f in found[1:]}


def test_thresholds_count_the_targets():
    wanted = {"converged": ">= 100%", "succeeded": ">= 100%", "failed": "<= 0%"}
    assert verdicts(update(), **wanted) == {"converged": "PASS", "succeeded": "PASS", "failed": "PASS"}
    assert verdicts(failure(), **wanted) == {"converged": "FAIL", "succeeded": "FAIL", "failed": "FAIL"}
    late = verdicts(update(**LOST_SIGHT), **wanted)
    assert late == {"converged": "PASS", "succeeded": "FAIL", "failed": "FAIL"}


def test_a_missed_threshold_names_those_who_missed_it():
    made = [*update(), *failure("d-1", "r.d-1.0")]
    found = judge(trace(*made), Scenario(checks=("S8-counters",), thresholds={"converged": ">= 60%"}))[1]
    assert (found.verdict, found.things) == ("FAIL", ("d-1",))
    assert "50.0% converged, 1 of 2, because of d-1" in found.summary


def test_thresholds_are_unknown_before_the_rollout_ended():
    assert verdicts(update(end=None), converged=">= 100%") == {"converged": "UNKNOWN"}
    assert verdicts([], converged=">= 100%") == {"converged": "UNKNOWN"}
