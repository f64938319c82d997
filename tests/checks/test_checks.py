"""Each check: a trace it passes, one it fails, one it must call UNKNOWN; and its findings name rows and devices."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from traces import OLD, trace, update

from simulator.checks import judge as judging
from simulator.checks.judge import CHECKS, judge
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario

FAILS = {
    "L2-convergence": update(ended={"status": "TIMED_OUT"}, confirm=None),
    "S8-counters": update(counters={"detail": '{"SUCCEEDED":1,"FAILED":1}'}),
    "S10-integrity": update(commit={"digest": OLD}),
    "S11-true-success": update(report={"digest": OLD}),
    "S12-no-regress": [*update(), ("delta", "d-0", {"job": "r.old", "status": "start", "doc": 1})],
    "S13-at-most-once": [*update(), ("commit", "d-0", {"job": "r.d-0.0", "size": 9})],
    "S23-targeting": [*update(), ("commit", "d-7", {"job": "r.d-0.0", "size": 9})],
}
LACKS = {
    "L2-convergence": update(target=None),
    "S8-counters": update(counters=None),
    "S10-integrity": update(commit={"detail": None}),
    "S11-true-success": update(report=None),
    "S12-no-regress": update(delta={"doc": None}),
    "S13-at-most-once": update(delta=None),
    "S23-targeting": update(target=None),
}


@pytest.mark.parametrize("name", CHECKS)
def test_passes_a_good_update(name):
    assert CHECKS[name](trace(*update()), Scenario()).verdict == "PASS"


@pytest.mark.parametrize("name", CHECKS)
def test_fails_the_broken_one_and_says_where(name):
    found = CHECKS[name](trace(*FAILS[name]), Scenario())
    assert found.verdict == "FAIL"
    assert found.events
    assert found.check == name


@pytest.mark.parametrize("name", CHECKS)
def test_unknown_without_what_it_needs(name):
    assert CHECKS[name](trace(*LACKS[name]), Scenario()).verdict == "UNKNOWN"


@pytest.mark.parametrize("name", CHECKS)
def test_unknown_on_an_empty_trace(name):
    assert CHECKS[name](trace(), Scenario()).verdict == "UNKNOWN"


def test_pieces_of_two_contents_are_no_whole():
    second = (
        "download",
        "d-0",
        {"job": "r.d-0.0", "status": "206", "size": 4, "detail": '{"offset":5,"etag":"other"}'},
    )
    good = update(download={"size": 5})
    events = [*good[:6], second, *good[6:]]
    assert CHECKS["S10-integrity"](trace(*events), Scenario()).verdict == "FAIL"


def test_a_crashed_check_is_unknown(monkeypatch):
    monkeypatch.setitem(judging.CHECKS, "S8-counters", lambda trace, scenario: 1 / 0)
    found = {f.check: f for f in judge(trace(*update()), Scenario())}
    assert found["S8-counters"].verdict == "UNKNOWN"
    assert "ZeroDivisionError" in found["S8-counters"].summary


def test_an_unknown_check_names_the_nearest():
    with pytest.raises(ScenarioError, match="S11-true-success"):
        judge(trace(), Scenario(checks=("S11-true-succes",)))


def test_thresholds_count_the_targets():
    scenario = Scenario(thresholds={"converged": ">= 100%", "failed": "<= 0%"})
    good = {f.check: f.verdict for f in judge(trace(*update()), scenario)}
    bad = {f.check: f.verdict for f in judge(trace(*update(confirm=None, ended={"status": "FAILED"})), scenario)}
    assert (good["threshold-converged"], good["threshold-failed"]) == ("PASS", "PASS")
    assert (bad["threshold-converged"], bad["threshold-failed"]) == ("FAIL", "FAIL")
