"""Thresholds on figures: what a path finds, what a limit compares with, and what is said of what there is not."""

import json
import re

import pytest

from reports.run import figures
from simulator.model import quantity
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario, parse_scenario
from simulator.worlds.judgement import judged
from tests.checks.traces import trace
from tests.worlds.virtually import run, scenario

FLEET = {
    "fleet": {
        "devices": 40,
        "ramp": "10/s",
        "cohorts": [
            {"name": "home.eu", "profile": "perfect", "share": "50%"},
            {"name": "field", "profile": "nb-iot", "share": "50%"},
        ],
    },
    "rollout": {
        "size": "64KiB",
        "marker": "boot-fails 20%",
        "waves": [{"share": "50%", "success": ">= 1%"}, {"share": "50%"}],
    },
    "faults": [{"fault": "F9-cut", "share": "50%", "at": "0s", "for": "1h"}],
    "run_time": "6h",
}


@pytest.fixture(scope="module")
def ran():
    made = scenario(**FLEET)
    return run(made)


def found(trace, **thresholds):
    """Path -> the finding of each threshold."""
    return {f.check.removeprefix("threshold-"): f for f in figures.judge(trace, Scenario(thresholds=thresholds))}


def test_each_figure_is_found_by_its_path_and_compared_in_its_unit(ran):
    tree = figures.figures(ran)
    values = {
        "phases.reporting.p99": tree["phases"]["reporting"]["p99"].value,
        "phases.whole-update.max": tree["phases"]["whole update"]["max"].value,
        "update.median": tree["phases"]["whole update"]["med"].value,
        "delta.p99": tree["phases"]["offer to delta"]["p99"].value,
        "cohorts.field.converged.p50": tree["cohorts"]["field"]["converged"]["50%"].value,
        "cohorts.home.eu.converged.50%": tree["cohorts"]["home.eu"]["converged"]["50%"].value,
        "waves.wave 1.converged_s.p50": tree["waves"]["wave 1"]["converged"]["50%"].value,
        "rolled_out_s": tree["rolled_out"].value,
        "targets": 40,
        "rollouts.rollout-1.outcomes.FAILED": tree["outcomes"]["FAILED"].value,
    }
    for path, value in values.items():
        assert value > 0, path
        (at,) = found(ran, **{path: f"<= {value + 0.001:.6f}"}).values()
        assert at.verdict == "PASS", (path, at.summary)
        (at,) = found(ran, **{path: f"> {value + 0.001:.6f}"}).values()
        assert at.verdict == "FAIL", (path, at.summary)


@pytest.mark.parametrize(
    ("path", "limit", "verdict", "summary"),
    [
        ("bytes_received", "> 64KiB", "PASS", "wanted > 65,536 bytes"),
        ("bytes_received", "< 1KiB", "FAIL", "bytes, wanted < 1,024 bytes"),
        ("wasted_bytes", "<= 0", "PASS", "0 bytes, wanted <= 0 bytes"),
        ("outcomes.FAILED", "<= 1%", "FAIL", "%, wanted <= 1.00%"),
        ("waves.wave 1.failed", "<= 90%", "PASS", "%, wanted <= 90.00%"),
        ("throughput.deltas heard.peak_per_s", "> 0.5/s", "PASS", "/s, wanted > 0.500/s"),
        ("stuck", ">= 1", "PASS", ", wanted >= 1"),
        ("converged.p100", "< 1h", "FAIL", "never, wanted < 3,600.0 s"),
        ("cohorts.nope.failed", "<= 1%", "UNKNOWN", "this run has no 'nope'; there are field, home.eu"),
        ("phases.reporting", "< 1s", "UNKNOWN", "phases.reporting is no single figure; there are count, min, med"),
        ("stuck.more", "< 1", "UNKNOWN", "stuck.more is no single figure; leave out .more"),
        ("stuck", "< 10s", "UNKNOWN", "which 10.0 s does not compare with"),
        ("phases.reporting.p99", "< 1%", "UNKNOWN", "which 1.00% does not compare with"),
    ],
)
def test_a_limit_in_words(ran, path, limit, verdict, summary):
    (at,) = found(ran, **{path: limit}).values()
    assert (at.verdict, at.safety) == (verdict, False)
    assert summary in at.summary


def test_without_a_value_it_is_unknown():
    (at,) = found(trace(("boot", "d", {"status": "cold"})), **{"converged.p95": "< 1h"}).values()
    assert (at.verdict, at.summary) == ("UNKNOWN", "there is no value")


def test_it_counts_in_the_verdict_of_a_run(ran):
    made = scenario(**FLEET, thresholds={"converged.p50": "< 1ms"})
    assert [f.check for f in judged(ran, made, (), ()).failed] == ["threshold-converged.p50"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [("latency.p95", "a path begins with targets, outcomes, converged"), ("convergd", "did you mean 'converged'?")],
)
def test_a_path_that_is_no_figure_of_any_run_is_refused_and_told_what_there_is(path, hint):
    with pytest.raises(
        ScenarioError, match=rf"thresholds\.{re.escape(path)}: there is no such figure; {re.escape(hint)}"
    ):
        figures.sensible(Scenario(thresholds={path: "< 1m"}))
    figures.sensible(Scenario(thresholds={"Rolled-out": "< 1m", "converged": ">= 5%"}))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (">= 95%", (">=", "share", 0.95)),
        ("< 10m", ("<", "s", 600.0)),
        ("<= 1h30m", ("<=", "s", 5400.0)),
        ("<=16MiB", ("<=", "bytes", 16 * 2**20)),
        ("> 50/s", (">", "/s", 50.0)),
        ("> 120/min", (">", "/s", 2.0)),
        ("<= 3", ("<=", "", 3.0)),
        (["<", "s", 1.5], ("<", "s", 1.5)),
        ([">=", 0.5], (">=", "share", 0.5)),
    ],
)
def test_a_limit_is_written_as_people_write_it_and_read_back_from_a_manifest(text, limit):
    assert quantity.limit(text) == limit
    assert quantity.limit(json.loads(json.dumps(limit))) == limit


@pytest.mark.parametrize("text", ["10m", "~ 3", "<", "< soon", "< -1", 3, None, ["<"], ["~", "s", 1]])
def test_what_is_no_limit_is_told_how_to_write_one(text):
    with pytest.raises(ValueError, match=r"is not a threshold; write '>= 95%', '< 10m'"):
        quantity.limit(text)


@pytest.mark.parametrize("limit", ["< 10m", ">= 95", "< 1MiB"])
def test_a_share_of_the_targets_is_compared_with_a_share(limit):
    with pytest.raises(ScenarioError, match=r"thresholds\.succeeded: it is a share of the targets; write '>= 95%'"):
        parse_scenario(f"{{thresholds: {{succeeded: '{limit}'}}}}")
