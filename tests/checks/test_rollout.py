"""Each check of a rollout: traces it passes, traces it fails, naming where and who, and traces it must call UNKNOWN."""

import numpy as np
import pytest

from simulator.checks.judge import CHECKS
from simulator.model.scenario import Scenario
from tests.checks.courses import SOFT, at, begun, done, end, finished, killed, move, offer, over, running
from tests.checks.tables import cases
from tests.checks.traces import trace

S16, S17, S18 = "S16-limits", "S17-abort", "S18-gate"
L4, L7, L10 = "L4-timeout", "L7-rollout-ends", "L10-no-starvation"
CUT_OFF = over(100, complete=False, died='"the application"')
TIME_UP = over(7200, complete=False)
EVEN = [e for i in range(8) for e in done(i * 10, "SUCCEEDED", i)]
WAVES = {"waves": [{"share": "50%", "success": ">= 100%", "error": "> 50%"}, {"share": "50%"}]}
WAVES_ABORT = {"waves": [{"share": "50%", "error": ">= 50%", "errorAction": "abort"}, {"share": "50%"}]}
HALF = {"abortConfig": {"criteriaList": [{"minNumberOfExecutedThings": 2, "thresholdPercentage": 50}]}}
OF_ALL = {"abortConfig": {"criteriaList": [
    {"failureType": "ALL", "thresholdPercentage": 25, "compare": ">", "of": "targets"}]}}  # fmt: skip
GROWING = {
    "maximumPerMinute": 60,
    "exponentialRate": {
        "baseRatePerMinute": 1, "incrementFactor": 2, "rateIncreaseCriteria": {"numberOfSucceededThings": 1}},
}  # fmt: skip
RETRY = {"retryConfig": {"failed": 1}}
TIMEOUT = {"timeoutConfig": {"inProgressTimeout": "5m"}}

PASSES = {
    S16: {
        "no limit": ({}, [*begun(8), *done(0, "SUCCEEDED", *range(8)), *finished(2)]),
        "as many as may be": ({"maximumConcurrent": 2}, [*begun(4), *done(0, "SUCCEEDED", 0, 1),
                                                         *done(1, "SUCCEEDED", 2, 3), *finished(3)]),
        "a retry takes its own slot again": (
            {"maximumConcurrent": 1, **RETRY},
            [*begun(1), *done(0, "FAILED", 0), *offer(2, 0, attempt=1), *end(3, "SUCCEEDED", 0, attempt=1),
             *finished(4)]),
        "six a minute": ({"maximumPerMinute": 6}, [*begun(8), *EVEN, *finished(99)]),
        "at once, then not until the minute is over": (
            {"maximumPerMinute": 2}, [*begun(4), *done(0, "SUCCEEDED", 0, 1), *done(59.5, "SUCCEEDED", 2, 3),
                                      *finished(99)]),
        "a rate that grows with those that succeed": (
            GROWING, [*begun(4), *done(0, "SUCCEEDED", 0), *done(2, "SUCCEEDED", 1), *done(4, "SUCCEEDED", 2, 3),
                      *finished(99)]),
    },
    S17: {
        "no criterion": ({}, [*begun(2), *done(0, "FAILED", 0, 1), *finished(2)]),
        "none held": (HALF, [*begun(4), *done(0, "SUCCEEDED", 0, 1, 2), *done(2, "FAILED", 3), *finished(4)]),
        "at first too few had ended": (HALF, [*begun(3), *done(0, "FAILED", 0), *offer(2, 1, 2), *end(3, "SUCCEEDED", 1),
                   move(3, "abort", "1 of 2"), *end(4, "SUCCEEDED", 2), *finished(4)]),
        "aborted when it held": (
            HALF, [*begun(3), *offer(0, 0, 1), *end(1, "SUCCEEDED", 0), *end(2, "FAILED", 1), move(2, "abort", "1 of 2"),
                   *end(2, "CANCELED", 2), move(2, "end", "aborted"), *over(9, complete=True)]),
        "what is under way ends freely, and is tried again no more": (
            {**HALF, **RETRY},
            [*begun(4), *offer(0, 0, 1, 2), *end(1, "FAILED", 0, 1), *offer(2, 0, 1, attempt=1),
             *end(3, "FAILED", 0, 1, attempt=1), move(3, "abort", "2 of 2"), *end(3, "CANCELED", 3),
             *end(4, "FAILED", 2), *finished(4, "aborted")]),
        "more than a quarter of all": (
            OF_ALL, [*begun(4), *done(0, "TIMED_OUT", 0), *done(2, "REJECTED", 1), move(3, "abort", "2 of 4"),
                     *end(3, "CANCELED", 2, 3), *finished(3, "aborted")]),
        "an operator's": ({}, [*begun(2), *offer(0, 0), move(1, "abort", "by an operator"), *end(1, "CANCELED", 1),
                               *end(2, "SUCCEEDED", 0), *finished(2, "aborted")]),
        "a wave's errors": (
            WAVES_ABORT, [*begun(4, 2), *done(0, "FAILED", 0), move(1, "abort", "errors"), *end(1, "CANCELED", 1, 2, 3),
                          *finished(1, "aborted")]),
        "a wave over without success": (
            {"waves": [{"share": "50%", "errorAction": "abort"}, {"share": "50%"}]},
            [*begun(4, 2), *done(0, "FAILED", 0, 1), move(1, "abort", "shortfall"), *end(1, "CANCELED", 2, 3),
             *finished(1, "aborted")]),
        "the same, while paused": (
            {"waves": [{"share": "50%", "errorAction": "abort"}, {"share": "50%"}]},
            [*begun(4, 2), *offer(0, 0, 1), move(0.5, "pause", "by an operator"), *end(1, "FAILED", 0, 1),
             move(60, "resume"), move(60, "abort", "shortfall"), *end(60, "CANCELED", 2, 3), *finished(60, "aborted")]),
    },
    S18: {
        "no waves": ({}, [*begun(2), *done(0, "SUCCEEDED", 0, 1), *finished(2)]),
        "the first has succeeded": (
            WAVES, [*begun(4, 2), *done(0, "SUCCEEDED", 0, 1), move(1, "wave", "wave 2", 2), *done(1, "SUCCEEDED", 2, 3),
                    *finished(2)]),
        "let pass by an operator": (
            WAVES, [*begun(4, 2), *done(0, "SUCCEEDED", 0), *done(0, "FAILED", 1), move(1, "pause", "shortfall"),
                    move(9, "resume"), move(9, "wave", "wave 2", 2), *done(9, "SUCCEEDED", 2, 3), *finished(10)]),
        "a wave of whom nobody is left": (
            WAVES, [*begun(4, 2), *end(0, "CANCELED", 0, 1), move(1, "wave", "wave 2", 2), *done(1, "SUCCEEDED", 2, 3),
                    *finished(2)]),
    },
    L4: {
        "in time": (TIMEOUT, [*begun(1), *offer(0, 0), *end(300, "TIMED_OUT", 0), *finished(300)]),
        "ended otherwise": (TIMEOUT, [*begun(1), *done(0, "SUCCEEDED", 0), *finished(2)]),
        "silent since it reported": (
            TIMEOUT, [*begun(1), *offer(0, 0), *running(100, 0, "report", "replica.accepted"),
                      *end(400, "TIMED_OUT", 0), *finished(400)]),
        "a report that did not arrive": (
            TIMEOUT, [*begun(1), *offer(0, 0), *running(100, 0, "report"), *end(300, "TIMED_OUT", 0), *finished(300)]),
        "under way when the run is over": (TIMEOUT, [*begun(1), *offer(0, 0), *over(200, complete=False)]),
        "a report whose answer was lost with the broker": (
            TIMEOUT, [*begun(1), *offer(0, 0), *running(100, 0, "report", "replica.accepted"), killed(101, "begin"),
                      killed(150, "end"), *end(300, "TIMED_OUT", 0), *finished(300)]),
    },
    L7: {
        "all ended": ({}, [*begun(2), *done(0, "SUCCEEDED", 0, 1), *finished(2)]),
        "aborted": ({}, [*begun(1), move(0, "abort", "x"), *end(0, "CANCELED", 0), *finished(2, "aborted: x")]),
        "paused, and it says why": ({}, [*begun(2), *done(0, "FAILED", 0), move(1, "pause", "errors"), *TIME_UP]),
    },
    L10: {
        "a free slot is used": (
            {"maximumConcurrent": 1}, [*begun(2), *done(0, "SUCCEEDED", 0), *done(9, "SUCCEEDED", 1), *finished(11)]),
        "no slot is free": (
            {"maximumConcurrent": 1}, [*begun(2), *offer(0, 0), *end(900, "SUCCEEDED", 0), *done(900, "SUCCEEDED", 1),
                                       *finished(901)]),
        "the rate holds back": (
            {"maximumPerMinute": 0.5}, [*begun(2), *done(0, "SUCCEEDED", 0), *done(125, "SUCCEEDED", 1),
                                        *finished(126)]),
        "the gate holds back": (
            WAVES, [*begun(4, 2), *offer(0, 0, 1), *end(900, "SUCCEEDED", 0, 1), move(900, "wave", "wave 2", 2),
                    *done(900, "SUCCEEDED", 2, 3), *finished(902)]),
        "a pause holds back": ({}, [*begun(1), move(0, "pause", "by an operator"), *TIME_UP]),
        "canceled in a wave that had not opened": (
            WAVES, [*begun(4, 2), *offer(0, 0, 1), *end(1, "CANCELED", 3), *end(900, "SUCCEEDED", 0, 1),
                    move(900, "wave", "wave 2", 2), *done(900, "SUCCEEDED", 2), *finished(902)]),
    },
}  # fmt: skip
# check -> name -> (settings, events, things, second of the first offending event)
FAILS = {
    S16: {
        "one too many": ({"maximumConcurrent": 2}, [*begun(3), *offer(0, 0, 1), *offer(1, 2), *TIME_UP], ["d-2"], 1),
        "an offer of which no execution tells": (
            {"maximumConcurrent": 1},
            [*begun(2), *offer(0, 0), at(1, "offer", "d-1", job="r.d-1.0", status="sent", **SOFT), *TIME_UP],
            ["d-1"], 1),
        "seven a minute": (
            {"maximumPerMinute": 6}, [*begun(8), *EVEN[:-6], *done(51, "SUCCEEDED", 6), *TIME_UP], ["d-6"], 51),
        "faster than it has grown": (
            GROWING, [*begun(3), *done(0, "SUCCEEDED", 0), *done(2, "SUCCEEDED", 1), *offer(2.5, 2), *TIME_UP],
            ["d-2"], 2.5),
    },
    S17: {
        "offered to after the criterion held": (
            HALF, [*begun(4), *done(0, "FAILED", 0, 1), move(1, "abort", "2 of 2"), *end(1, "CANCELED", 3),
                   *done(1.5, "SUCCEEDED", 2), *finished(3)], ["d-2"], 1.5),
        "never aborted": (
            HALF, [*begun(3), *done(0, "FAILED", 0, 1), *over(99, complete=False)], ["d-1"], 1),
        "aborted too late": (
            HALF, [*begun(3), *done(0, "FAILED", 0, 1), move(9, "abort", "2 of 2"), *end(9, "CANCELED", 2),
                   *finished(9)], ["d-1"], 1),
        "aborted without a criterion": (
            HALF, [*begun(3), *done(0, "FAILED", 0), move(1, "abort", "1 of 1"), *end(1, "CANCELED", 1, 2),
                   *finished(1)], [], 1),
        "exactly a quarter is not more than a quarter": (
            OF_ALL, [*begun(4), *done(0, "TIMED_OUT", 0), move(1, "abort", "1 of 4"), *end(1, "CANCELED", 1, 2, 3),
                     *finished(3)], [], 1),
        "what is tried again has not failed yet": (
            {**HALF, **RETRY}, [*begun(3), *done(0, "FAILED", 0, 1), move(1, "abort", "2"), *end(1, "CANCELED", 0, 1, 2),
                                *finished(3)], [], 1),
        "what waited was not canceled": (
            HALF, [*begun(3), *done(0, "FAILED", 0, 1), move(1, "abort", "2 of 2"), *finished(1)], ["d-2"], 1),
        "a wave's errors, and on it goes": (
            WAVES_ABORT, [*begun(4, 2), *done(0, "FAILED", 0), *done(1.5, "SUCCEEDED", 1), *TIME_UP], ["d-0", "d-1"], 1),
    },
    S18: {
        "too little success": (
            WAVES, [*begun(4, 2), *done(0, "SUCCEEDED", 0), move(1, "wave", "wave 2", 2), *TIME_UP], [], 1),
        "too many errors": (
            {"waves": [{"share": "50%", "success": ">= 50%", "error": ">= 50%"}, {"share": "50%"}]},
            [*begun(4, 2), *done(0, "FAILED", 0), *done(2, "SUCCEEDED", 1), move(3, "wave", "wave 2", 2), *TIME_UP],
            [], 3),
        "offered to before its wave has started": (
            WAVES, [*begun(4, 2), *offer(0, 0, 1), *offer(1, 2), *end(2, "SUCCEEDED", 0, 1),
                    move(2, "wave", "wave 2", 2), *TIME_UP], ["d-2"], 1),
        "an operator's own pause excuses nothing": (
            WAVES, [*begun(4, 2), *done(0, "SUCCEEDED", 0), move(1, "pause", "by an operator"), move(9, "resume"),
                    move(9, "wave", "wave 2", 2), *TIME_UP], [], 9),
        "held back, and not resumed": (
            WAVES, [*begun(4, 2), *done(0, "FAILED", 0, 1), move(1, "pause", "errors"), move(2, "wave", "wave 2", 2),
                    *TIME_UP], [], 2),
    },
    L4: {
        "too late": (TIMEOUT, [*begun(1), *offer(0, 0), *end(340, "TIMED_OUT", 0), *finished(340)], ["d-0"], 340),
        "never": (TIMEOUT, [*begun(1), *offer(2, 0), *TIME_UP], ["d-0"], 2),
        "before its time": (TIMEOUT, [*begun(1), *offer(0, 0), *end(298, "TIMED_OUT", 0), *finished(298)], ["d-0"], 298),
        "before its time, since it had reported": (
            TIMEOUT, [*begun(1), *offer(0, 0), *running(100, 0, "report", "replica.accepted"),
                      *end(300, "TIMED_OUT", 0), *finished(400)], ["d-0"], 300),
        "before its time, since it had reported well before the broker was killed": (
            TIMEOUT, [*begun(1), *offer(0, 0), *running(100, 0, "report", "replica.accepted"), killed(111, "begin"),
                      killed(150, "end"), *end(300, "TIMED_OUT", 0), *finished(400)], ["d-0"], 300),
    },
    L7: {
        "all ended, and it does not": ({}, [*begun(2), *done(0, "SUCCEEDED", 0, 1), *TIME_UP], ["d-1"], 1),
        "it ends before they have": ({}, [*begun(2), *done(0, "SUCCEEDED", 0), *finished(2)], ["d-1"], 2),
        "it ends while one waits to be tried again": (
            RETRY, [*begun(1), *done(0, "FAILED", 0), *finished(2)], ["d-0"], 2),
        "paused without a reason": ({}, [*begun(2), *done(0, "SUCCEEDED", 0), move(1, "pause"), *TIME_UP], [], 1),
    },
    L10: {
        "a slot is left unused": (
            {"maximumConcurrent": 1}, [*begun(2), *done(0, "SUCCEEDED", 0), *done(20, "SUCCEEDED", 1), *finished(21)],
            ["d-1"], 1),
        "a target is forgotten": (
            {"maximumConcurrent": 2}, [*begun(3), *done(0, "SUCCEEDED", 0, 2), *TIME_UP], ["d-1"], 1),
        "not tried again": (RETRY, [*begun(1), *done(0, "FAILED", 0), *TIME_UP], ["d-0"], 1),
        "slower than the rate": (
            {"maximumPerMinute": 2}, [*begun(2), *done(0, "SUCCEEDED", 0), *done(45, "SUCCEEDED", 1), *finished(46)],
            ["d-1"], 0),
        "not taken up after a pause": (
            {}, [*begun(1), move(0, "pause", "by an operator"), move(50, "resume"), *TIME_UP], ["d-0"], 50),
    },
}  # fmt: skip
LIMITED = {"maximumConcurrent": 2, "maximumPerMinute": 60, **WAVES_ABORT, **TIMEOUT}
STARTED = [*begun(4, 2), *offer(0, 0), *offer(1, 1)]
LACKS = {
    "nothing": [],
    "targets": [e for e in STARTED if e[0] != "target"],
    "one of the targets": [e for e in STARTED if (e[0], e[1]) != ("target", "d-3")],
    "all but another rollout": [at(0, "target", "d-0", job="rollout-9", **SOFT)],
    "its begin": [e for e in STARTED if e[2].get("status") != "begin"],
    "its end: the application died": [*STARTED, *CUT_OFF],
    "its end: the record breaks off": STARTED,
}


def judged(check, settings, events):
    return CHECKS[check](trace(*events), Scenario.model_validate({"rollout": settings}))


NO_OCCASION = {
    "S16-limits": {"no limit"},
    "S17-abort": {"no criterion"},
    "S18-gate": {"no waves"},
    "L10-no-starvation": {"a pause holds back"},
}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


@pytest.mark.parametrize(("check", "case", "verdict"), cases(PASSES, NO_OCCASION))
def test_passes(check, case, verdict):
    found = judged(check, *case)
    assert (found.check, found.verdict, found.things, found.events) == (check, verdict, (), ()), found.summary


@pytest.mark.parametrize(("check", "case"), cases(FAILS))
def test_fails_and_says_where_and_who(check, case):
    settings, events, things, second = case
    found = judged(check, settings, events)
    assert (found.check, found.verdict) == (check, "FAIL"), found.summary
    assert list(found.things) == things
    assert f"first at {second:.6f} s" in found.summary


@pytest.mark.parametrize("check", PASSES)
@pytest.mark.parametrize("lacks", LACKS)
def test_unknown_without(check, lacks):
    found = judged(check, LIMITED, LACKS[lacks])
    assert found.verdict == "UNKNOWN", found.summary
    assert found.summary


def test_a_run_that_was_over_before_its_rollout_leaves_open_whether_it_would_have_ended():
    assert judged(L7, {}, [*STARTED, *over(3, complete=False)]).verdict == "UNKNOWN"
    assert judged(L7, {}, [*STARTED, *over(3, complete=True)]).verdict == "FAIL"


@pytest.mark.parametrize("check", PASSES)
def test_liveness_and_safety(check):
    assert judged(check, *PASSES[check][next(iter(PASSES[check]))]).safety is check.startswith("S")


def test_waves_are_cut_as_their_shares_add_up():
    from simulator.checks.course import Course

    shares = [0.05, 0.25, 0.7]
    spec = Scenario.model_validate({"rollout": {"waves": [{"share": s} for s in shares]}}).rollout
    course = Course(trace(*begun(30)), spec)
    assert np.bincount(course.waves.of_target).tolist() == [2, 7, 21]


def test_a_newer_rollout_takes_the_turns_of_an_older_one():
    """What it supersedes is tried again no more: it is canceled where it waits, and its failure is final."""
    other = {"version": "3", "digest": "3" * 64}
    newer = [at(2, "target", "d-0", job="rollout-2", **other),
             at(2, "offer", "d-0", job="q.d-0.0", status="sent", **other)]  # fmt: skip
    events = [*begun(1), *offer(0, 0), *newer, *end(3, "FAILED", 0, detail="superseded"), *finished(3)]
    for check in PASSES:
        assert judged(check, RETRY, events).verdict in ("PASS", "NO OCCASION")
