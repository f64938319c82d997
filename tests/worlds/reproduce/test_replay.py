"""A run from its directory once more: the same, another, or mended; and what a record that breaks off still tells."""

import json
import os
import re
import signal

import pytest
import yaml
from msgspec.structs import replace

from simulator import __version__
from simulator.application.rollout import Rollout
from simulator.model.errors import ScenarioError
from simulator.model.events import Kind
from simulator.model.scenario import Scenario
from simulator.model.update import State
from simulator.trace import rundir
from simulator.trace.reader import write_parquet
from simulator.worlds import virtual
from simulator.worlds.reproduce.replay import Likeness, as_text, replay, twice
from tests.worlds.recording import plant, recorded, without_its_end
from tests.worlds.running import fleetsim, latest, start, wait_for
from tests.worlds.virtually import scenario


class OverCounting(Rollout):
    """Counts a success too many."""

    def counts_by_state(self):
        counts = super().counts_by_state()
        counts[State.SUCCEEDED] += 1
        return counts


class Wordy(Rollout):
    """Breaks no promise, but gives other reasons."""

    def observe(self, outcome, now):
        return super().observe(replace(outcome, reason=f"{outcome.reason} indeed"), now)


FULL = {
    "fleet": {
        "devices": 12, "ramp": "30s", "password": "s3cret",
        "cohorts": [{"name": "a", "share": "33.3%", "profile": "flaky"}, {"name": "b", "profile": "own"}],
    },
    "profiles": {"own": {
        "latency": {"quantiles": [["0%", "1ms"], ["100%", "90ms"]]}, "bandwidth": {"lognormal": ["0.7mbit", 0.3]},
        "online": {"exponential": "7m"}, "mishaps": {"download": {"slow": "7%"}},
    }},
    "rollout": {
        "size": "3KiB", "maximumPerMinute": 100, "abortConfig": {"criteriaList": [{"thresholdPercentage": 99}]},
        "exponentialRate": {"baseRatePerMinute": 7, "incrementFactor": 1.3,
                            "rateIncreaseCriteria": {"numberOfSucceededThings": 3}},
        "waves": [{"share": "10%"}, {"share": "90%", "error": "> 33%"}],
    },
    "thresholds": {"converged": ">= 10%"},
    "run_time": "2h",
}  # fmt: skip


def test_a_run_is_the_same_again_byte_for_byte(tmp_path):
    made = scenario(**FULL)
    run, judgement = recorded(tmp_path, made)
    assert Scenario.model_validate(run.manifest["scenario"]).model_copy(update={"fleet": made.fleet}) == made
    found = replay(run)
    assert found.likeness is Likeness.SAME
    assert found.exit_code == judgement.exit_code
    write_parquet(found.new.trace.table, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (run.path / "trace.parquet").read_bytes()
    assert f"all {len(run.trace):,} events are the same" in as_text(found)


def test_a_failure_that_is_still_there_has_the_originals_exit_code(tmp_path, monkeypatch):
    plant(monkeypatch, rollout=OverCounting)
    run, judgement = recorded(tmp_path, scenario(devices=4))
    assert judgement.exit_code == 1
    found = replay(run)
    assert (found.likeness, found.exit_code) == (Likeness.SAME, 1)
    assert "S8-counters" in as_text(found)


def test_a_failure_that_is_gone_is_fixed_and_the_first_difference_is_told(tmp_path, monkeypatch):
    with monkeypatch.context() as planted:
        plant(planted, rollout=OverCounting)
        run, _ = recorded(tmp_path, scenario(devices=4))
    found = replay(run)
    assert (found.likeness, found.exit_code) == (Likeness.FIXED, 0)
    assert [f.check for f in found.recorded.failed] == ["S8-counters"]
    row, ours, theirs = found.difference
    assert found.run.trace.row(row)["kind"] == Kind.COUNTERS
    assert ours in as_text(found)
    assert theirs in as_text(found)


def test_another_trace_is_different_and_shows_both_sides(tmp_path, monkeypatch):
    run, judgement = recorded(tmp_path, scenario(devices=4))
    assert judgement.exit_code == 0
    plant(monkeypatch, rollout=Wordy)
    found = replay(run)
    assert (found.likeness, found.exit_code) == (Likeness.DIFFERENT, 2)
    row, ours, theirs = found.difference
    assert "indeed" not in ours
    assert "indeed" in theirs
    assert f"differ at event {row}:" in as_text(found)


def test_one_failure_instead_of_another_is_not_fixed(tmp_path, monkeypatch):
    made = scenario(devices=4, thresholds={"succeeded": ">= 100%"}, profile="bad",
                    profiles={"bad": {"mishaps": {"install": {"error": "100%"}}}})  # fmt: skip
    run, judgement = recorded(tmp_path, made)
    assert [f.check for f in judgement.failed] == ["threshold-succeeded"]
    manifest = json.loads((run.path / "manifest.json").read_text())
    manifest["scenario"]["profiles"]["bad"]["mishaps"] = {}  # as if installing had been mended
    rundir.write_json(run.path / "manifest.json", manifest)
    assert replay(rundir.open_run(run.path)).likeness is Likeness.FIXED
    plant(monkeypatch, rollout=OverCounting)
    found = replay(rundir.open_run(run.path))
    assert (found.likeness, found.exit_code) == (Likeness.DIFFERENT, 2)


def test_a_party_that_raises_ends_the_replay_with_what_it_said(tmp_path, monkeypatch):
    class Clumsy(Rollout):
        def observe(self, outcome, now):
            raise ZeroDivisionError("of my own")

    run, _ = recorded(tmp_path, scenario(devices=4))
    plant(monkeypatch, rollout=Clumsy)
    found = replay(run)
    assert found.exit_code == 2
    assert found.new.crash == "ZeroDivisionError in test_replay.py observe"
    assert "of my own" in as_text(found)


def test_of_a_record_that_breaks_off_the_beginning_is_compared(tmp_path, monkeypatch):
    run, _ = recorded(tmp_path, scenario(devices=10, profile="wifi"))
    without_its_end(run.path, 100)
    found = replay(rundir.open_run(run.path))
    assert (found.likeness, found.exit_code) == (Likeness.SAME, 2)
    assert 0 < found.compared < 100
    assert f"breaks off (interrupted): its first {found.compared} events were compared" in as_text(found)
    manifest = json.loads((run.path / "manifest.json").read_text())
    rundir.write_json(run.path / "manifest.json", manifest | {"scenario": {**manifest["scenario"], "seed": 77}})
    assert replay(rundir.open_run(run.path)).likeness is Likeness.DIFFERENT


def test_a_run_whose_time_was_up_is_compared_whole(tmp_path):
    run, judgement = recorded(tmp_path, scenario(devices=10, profile="wifi", run_time="3s"))
    found = replay(run)
    assert judgement.exit_code == found.exit_code == 2
    assert (found.likeness, found.whole) == (Likeness.SAME, True)


def test_another_version_is_told(tmp_path):
    run, _ = recorded(tmp_path, scenario(devices=2))
    run.manifest["version"] = "0.0.1"
    assert f"recorded by version 0.0.1, replayed by {__version__}" in as_text(replay(run))


def test_a_fault_that_this_version_does_not_have_is_named_with_the_run_that_asked_for_it(tmp_path):
    run, _ = recorded(tmp_path, scenario(devices=2))
    run.manifest["scenario"]["faults"] = [{"fault": "F9-cutt"}]
    said = re.escape(f"{run.path / 'manifest.json'}: faults.0.fault: no such fault: 'F9-cutt'; did you mean")
    with pytest.raises(ScenarioError, match=said):
        replay(run)


def test_a_live_run_and_an_empty_record_are_refused(tmp_path):
    run, _ = recorded(tmp_path, scenario(devices=2))
    run.manifest["scenario"]["world"] = "live"
    with pytest.raises(ScenarioError, match="which no run repeats"):
        replay(run)
    without_its_end(run.path, 0)
    with pytest.raises(ScenarioError, match="nothing that could be compared"):
        replay(rundir.open_run(run.path))


def test_twice_tells_runs_that_differ(monkeypatch):
    made = scenario(devices=3)
    assert twice(made) is None
    seeds = iter((1, 2))
    original = virtual.run
    monkeypatch.setattr(
        virtual, "run", lambda s, sink: original(s.model_copy(update={"seed": next(seeds)}), sink)
    )  # fmt: skip
    assert twice(made) is not None


# ---- the command


def written(path, **changes):
    file = path / "case.yaml"
    file.write_text(yaml.safe_dump({"world": "virtual", "fleet": {"devices": 12, "ramp": "10/s"}, **changes}))
    return file


def test_a_failed_run_prints_the_command_that_replays_it(tmp_path):
    file = written(tmp_path, thresholds={"failed": "> 50%"})
    code, out, _ = fleetsim("run", file, "--out", tmp_path / "r", env={"FLEETSIM_DEVICES": "5"})
    assert code == 1
    said = [line.split() for line in out.splitlines()[-3:]]
    assert [words[0] for words in said] == ["repeat", "replay", "seed"]
    assert said[1][1] == "fleetsim"
    file.unlink()  # the directory alone is enough
    code, out, err = fleetsim(*said[1][2:])
    assert (code, err) == (1, "")
    assert out.startswith("SAME")
    assert "threshold-failed" in out


def test_replay_refuses_what_is_no_run(tmp_path):
    code, _, err = fleetsim("replay", tmp_path)
    assert code == 3
    assert "manifest.json" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_is_the_beginning_of_its_replay(tmp_path, number):
    file = written(tmp_path, fleet={"devices": 3000, "ramp": "100/s", "profile": "flaky"}, run_time="20m")
    process = start("run", file, "--out", tmp_path / "r")
    part = tmp_path / "r" / "latest" / "parts" / "virtual.arrow"
    wait_for(lambda: part.exists() and part.stat().st_size > 100_000)
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    run = latest(tmp_path / "r")
    found = replay(run)
    assert found.difference is None, as_text(found)
    assert 1000 < found.compared < len(found.new.trace)
    assert found.new.trace.column("t_us")[-1] <= run.trace.column("t_us")[-1]  # and no further
    assert not found.whole
