"""A rollout that is paused by its gate, or aborted: the run ends, says why, and its thresholds are judged."""

import io
import json
from xml.etree import ElementTree as Xml

import pytest
import yaml

from simulator.model.events import Kind
from simulator.worlds import progress, virtual
from simulator.worlds.judgement import judged
from tests.worlds.running import SMALL, fleetsim, latest
from tests.worlds.virtually import run, scenario

PAUSES = {
    "marker": "boot-fails 20%",
    "waves": [{"share": "50%", "success": ">= 90%", "error": "> 5%"}, {"share": "50%"}],
}
WHY = "errors 6.7% > 5.0% of the wave's targets"
SECOND = 1_000_000


def findings(made, trace):
    return {finding.check: finding for finding in judged(trace, made, (), ()).findings}


def closing(trace):
    return json.loads(trace.kind(Kind.RUN).where("status", "end").texts("detail")[0])


def paused(**blocks):
    return scenario(devices=60, ramp="60/s", rollout=PAUSES, run_time="6h", **blocks)


def test_a_rollout_that_its_gate_pauses_ends_the_run_once_nothing_is_under_way():
    made = paused(thresholds={"succeeded": ">= 95%", "failed": "<= 15%"})
    trace = run(made)
    assert closing(trace)["complete"]
    assert trace.column("t_us")[-1] < 600 * SECOND
    assert trace.kind(Kind.EXECUTION).where("status", "FAILED", "SUCCEEDED").rows.size == 30
    found = findings(made, trace)
    assert [check for check, finding in found.items() if finding.verdict.against] == ["threshold-succeeded"]
    assert found["threshold-succeeded"].summary.startswith("38.3% succeeded, 23 of 60")
    assert found["threshold-failed"].verdict == "PASS"
    assert found["L7-rollout-ends"].summary == f"paused: {WHY}"
    assert found["L2-convergence"].summary.startswith("30 targets, each ")
    assert found["L2-convergence"].summary.endswith("; 30 more wait, for the rollout is paused")


def test_an_operator_who_will_resume_it_is_waited_for():
    trace = run(paused(operators=[{"pauseAfter": "5m", "pauseFor": "5m"}]))
    moves = trace.kind(Kind.ROLLOUT)
    assert list(moves.texts("status")) == ["begin", "wave", "pause", "resume", "wave", "end"]
    assert moves["t_us"][3] - moves["t_us"][0] == 600 * SECOND


def test_what_is_still_under_way_when_the_gate_closes_comes_to_its_end_first():
    profile = {"profiles": {"slow": {"install": "10m"}}}
    waves = [{"share": "50%", "error": "> 1%"}, {"share": "50%"}]
    made = scenario(
        devices=10,
        profile="slow",
        ramp="1s",
        rollout={"marker": "verify-fails 30%", "waves": waves},
        run_time="6h",
        **profile,
    )
    trace = run(made)
    assert closing(trace)["complete"]
    assert len(trace.kind(Kind.CONFIRM)) + len(trace.kind(Kind.EXECUTION).where("status", "FAILED")) == 5
    assert len(trace.kind(Kind.CONFIRM)) > 0


@pytest.mark.parametrize("world", ["virtual", "live"])
def test_the_reason_stands_wherever_the_verdict_does(tmp_path, world):
    file = tmp_path / "case.yaml"
    made = {
        "name": "case", "world": world, "fleet": {"devices": 60, "ramp": "60/s", "profile": "perfect"}, "rollout": PAUSES,
        "settle": "1s", "run_time": "10m", "thresholds": {"succeeded": ">= 95%"}, "limits": SMALL["limits"],
    }  # fmt: skip
    file.write_text(yaml.safe_dump(made))
    step = tmp_path / "step.md"
    code, out, err = fleetsim(
        "run", file, "--quiet", "--out", tmp_path / "runs", env={"GITHUB_STEP_SUMMARY": str(step)}
    )
    sentence = f"rollout-1 was paused in wave 1: {WHY}"
    assert (code, out, err) == (1, f"FAIL  {sentence}\n", "")
    where = latest(tmp_path / "runs").path
    assert json.loads((where / "summary.json").read_text())["stopped"] == {"rollout-1": f"paused in wave 1: {WHY}"}
    assert Xml.parse(where / "junit.xml").find("testcase[@name='run']/system-out").text == sentence
    assert "paused in wave 1" in step.read_text()
    assert "paused in wave 1" in (where / "report.html").read_text().partition("</header>")[0]
    assert f"\n  {sentence}\n" in fleetsim("report", where)[1]


def test_the_live_line_says_that_a_rollout_is_paused_and_why():
    operators = [{"pauseAfter": "5m", "pauseFor": "5m"}]
    for made, shown in ((paused(), f"PAUSED: {WHY}"), (paused(operators=operators), "")):
        line = progress.Line(60, io.StringIO())
        virtual.run(made, progress.follow(line))
        assert line.now.stopped == shown
