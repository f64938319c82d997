"""From a fleet and a heap of faults to the few that do it, as a scenario that fails by itself."""

import pytest
import yaml
from typer.testing import CliRunner

from simulator.cli import app
from simulator.device.agent import UpdateAgent
from simulator.model.scenario import load_scenario, parse_scenario
from simulator.trace import rundir
from simulator.worlds.reproduce import replay, shrink
from tests.worlds.running import fleetsim

HEAP = [
    {"fault": "F1-duplicate", "share": "20%"},
    {"fault": "F14-power-cut", "share": "60%", "step": "idle"},
    {"fault": "F9-cut", "share": "30%"},
    {"fault": "F3-offline", "share": "20%", "at": "20s", "for": "40s"},
    {"fault": "F26-stale-command", "share": "60%"},
    {"fault": "F8-storage-refuses", "share": "20%"},
    {"fault": "F17-answer-lost", "share": "10%"},
]
BIG = {
    "world": "virtual",
    "fleet": {"devices": 300, "ramp": "10s", "profile": "bad"},
    "profiles": {
        "bad": {"latency": "20ms", "install": {"uniform": ["1s", "4s"]}, "mishaps": {"reboot": {"error": "100%"}}}
    },
    "rollout": {"version": "2.0.0", "size": "64KiB", "maximumPerMinute": 600, "retryConfig": {"failed": 2}},
    "faults": HEAP,
    "run_time": "2h",
    "settle": "1m",
}


@pytest.fixture
def left(tmp_path, monkeypatch):
    """`left(scenario)` runs it and gives its directory."""
    monkeypatch.chdir(tmp_path)

    def run(made):
        (tmp_path / "big.yaml").write_text(yaml.safe_dump(made))
        CliRunner().invoke(app, ["run", "big.yaml", "--quiet"])
        return (tmp_path / "runs" / "latest").resolve()

    return run


@pytest.fixture
def forgetful(monkeypatch):
    """Devices that forget at a power cut which jobs they have carried through: harmless, unless a command comes again."""
    lost = UpdateAgent.power_lost

    def power_lost(self):
        lost(self)
        self.flash.ended = ()

    monkeypatch.setattr(UpdateAgent, "power_lost", power_lost)


def test_a_bug_that_needs_two_faults_in_a_fleet_of_300_is_shrunk_to_them_and_one_device(left, forgetful):
    run = left(BIG)
    found = shrink.shrink(rundir.open_run(run), "S7-idempotence")
    assert {fault.fault for fault in found.scenario.faults} == {"F14-power-cut", "F26-stale-command"}
    assert len(found.scenario.fleet.present) == 1
    assert found.finding.check == "S7-idempotence"
    assert found.runs < 60
    anew = parse_scenario(shrink.written(found.scenario))
    assert anew.model_dump(exclude={"name"}) == found.scenario.model_dump(exclude={"name"})
    assert not anew.rollout.maximum_per_minute


def test_what_is_left_is_needed(left, forgetful):
    found = shrink.shrink(rundir.open_run(left(BIG)), "S7-idempotence")
    for nth in range(2):
        scenario = found.scenario.model_copy(update={"faults": (found.scenario.faults[nth],)})
        assert "S7-idempotence" not in {f.check for f in replay.again(scenario).judgement.failed}


def test_a_failure_that_is_gone_is_said_to_be(left, forgetful, monkeypatch):
    run = left({**BIG, "fleet": {**BIG["fleet"], "devices": 40}})
    monkeypatch.undo()
    result = CliRunner().invoke(app, ["shrink", str(run)])
    assert result.exit_code == 2
    assert "S7-idempotence does not fail again" in result.output


def test_the_command_leaves_a_scenario_that_fails_alone(tmp_path):
    faults = [{"fault": "F16-early-success", "count": 3}, {"fault": "F9-cut", "share": "50%"}]
    made = {"world": "virtual", "fleet": {"devices": 50, "profile": "wifi"}, "faults": faults}
    (tmp_path / "liars.yaml").write_text(yaml.safe_dump(made))
    code, _, err = fleetsim("run", tmp_path / "liars.yaml", "--out", tmp_path / "out")
    assert code == 1, err
    run = (tmp_path / "out" / "latest").resolve()
    for place in (tmp_path / "nowhere" / "x.yaml", tmp_path):
        code, text, err = fleetsim("shrink", run, "--out", place)
        assert (code, text) == (3, "")  # before anything was searched
        assert f"{place}: cannot be written; name another place with --out" in err
    code, text, err = fleetsim("shrink", run, "--check", "S11-true-success")
    assert code == 0, text + err
    assert "1 device, 1 fault" in text
    assert "report" in text  # the device's timeline
    small = load_scenario(run / "shrunk.yaml")
    assert [fault.fault for fault in small.faults] == ["F16-early-success"]
    assert len(small.fleet.present) == 1
    code, text, _ = fleetsim("run", run / "shrunk.yaml", "--out", tmp_path / "again")
    assert code == 1
    assert "S11-true-success" in text


LATE = {
    "world": "virtual",
    "fleet": {"devices": 20, "profile": "wifi", "ramp": "2s"},
    "rollout": {"size": "4KiB", "timeoutConfig": {"inProgressTimeout": "20s"}},
    "faults": [{"fault": "F9-cut", "share": "30%"}, {"fault": "F4-broker-killed", "at": "1s", "for": "2m"}],
    "thresholds": {"converged": ">= 95%"},
}


def test_a_server_that_must_be_killed_stays_and_what_needs_no_fault_is_left_without(left):
    found = shrink.shrink(rundir.open_run(left(LATE)))
    assert [fault.fault for fault in found.scenario.faults] == ["F4-broker-killed"]
    assert found.scenario.faults[0].times is None
    mishaps = {"worn": {"mishaps": {"install": {"error": "100%"}}}}
    needless = {**LATE, "fleet": {**LATE["fleet"], "profile": "worn"}, "profiles": mishaps}
    found = shrink.shrink(rundir.open_run(left(needless)))
    assert found.scenario.faults == ()
    assert len(found.scenario.fleet.present) == 1


def test_what_cannot_be_shrunk_is_said(tmp_path):
    (tmp_path / "good.yaml").write_text(yaml.safe_dump({"world": "virtual", "fleet": {"devices": 3}}))
    fleetsim("run", tmp_path / "good.yaml", "--out", tmp_path / "out")
    code, _, err = fleetsim("shrink", tmp_path / "out" / "latest")
    assert code == 3
    assert "it failed no check; there is nothing to shrink" in err


# ---- a fleet of which only some are there


def test_leaving_devices_out_changes_nothing_for_the_others():
    from tests.worlds.virtually import run, scenario

    fleet = {"devices": 30, "profile": "flaky", "ramp": "10/s"}
    faults = [{"fault": "F9-cut", "share": "40%"}, {"fault": "F14-power-cut", "share": "40%", "step": "installing"}]
    whole = scenario(fleet=fleet, faults=faults, target={"commit_latency": 0})
    few = scenario(fleet={**fleet, "only": [7, 21]}, faults=faults, target={"commit_latency": 0})
    assert few.targets() == (7, 21)
    assert whole.harmed(0) == few.harmed(0)

    def story(trace, thing):
        rows = trace.thing(thing).rows.tolist()
        return [
            (r["kind"], r.get("status"), r.get("phase")) for r in map(trace.row, rows) if "replica" not in r["kind"]
        ]

    both = run(whole), run(few)
    assert set(both[1].kind("boot").texts("thing")) == {"device-7", "device-21"}
    for thing in ("device-7", "device-21"):
        assert story(both[0], thing) == story(both[1], thing)


def test_only_names_devices_that_there_are(tmp_path):
    for only in ([3, 3], [10], [-1]):
        (tmp_path / "s.yaml").write_text(yaml.safe_dump({"fleet": {"devices": 10, "only": only}}))
        code, _, err = fleetsim("run", tmp_path / "s.yaml")
        assert code == 3
        assert "fleet.only: each once, from 0 to 9" in err
