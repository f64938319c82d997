"""A sweep over loads: what is run, what is kept, how it goes on, and how it ends when the machine or the user says so."""

import json
import re
import shutil
import signal

import pytest

from reports.sweep.fields import FIELDS
from simulator.model.errors import PartDied, ScenarioError
from simulator.model.scenario import RolloutSpec
from simulator.model.verdict import Finding, Judgement, Verdict
from simulator.worlds import run as running
from simulator.worlds import signals
from simulator.worlds.campaigns import sweep as sweeping
from simulator.worlds.live import health, machine
from simulator.worlds.live.options import Options
from tests.test_cli import written
from tests.worlds.running import fleetsim, scenario, start, wait_for
from tests.worlds.virtually import scenario as virtual


def swept(*words, **options):
    code, out, err = fleetsim("sweep", *words, **options)
    assert "Traceback" not in err, err
    return code, out, err


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A virtual sweep: (its directory, its sweep.json, what it printed)."""
    where = tmp_path_factory.mktemp("sweep")
    file = written(where, rollout={"version": "2.0.0", "size": "4KiB", "maximumPerMinute": 600}, fleet={"ramp": "1s"})
    code, out, err = swept(file, "--devices", "40,5,10,20", "--unpaced", "--out", where / "made")
    assert code == 0, out + err
    return where / "made", json.loads((where / "made" / "sweep.json").read_text()), out


def test_each_load_leaves_a_run_and_all_of_them_a_report(done):
    where, made, out = done
    assert [p["load"] for p in made["points"]] == [5, 10, 20, 40]
    for p in made["points"]:
        manifest = json.loads((where / p["run"] / "manifest.json").read_text())
        assert manifest["scenario"]["fleet"]["devices"] == p["targets"] == p["succeeded"] == p["load"]
        assert "maximumPerMinute" not in manifest["scenario"]["rollout"]
        assert (where / p["run"] / "report.html").exists()
        assert (p["verdict"], p["counts"], p["cpu"], p["busy_before"]) == ("PASS", True, {}, None)
    assert "virtual time measures the protocol, not a machine" in (where / "sweep.html").read_text().lower()
    assert [line.split()[:3] for line in out.splitlines() if "devices  PASS" in line] == [
        ["5", "devices", "PASS"], ["10", "devices", "PASS"], ["20", "devices", "PASS"], ["40", "devices", "PASS"],
    ]  # fmt: skip


def test_throughput_and_latency_are_those_of_the_runs(done):
    where, made, _ = done
    for p in made["points"]:
        numbers = json.loads((where / p["run"] / "summary.json").read_text())
        lines = (where / p["run"] / "devices.csv").read_text().splitlines()
        at = sorted(float(line.split(",")[6]) for line in lines[1:])
        left = len(at) // 10
        assert p["updates_per_s"] == pytest.approx((len(at) - left) / at[-left - 1], rel=0.02)
        assert p["whole_update_s"]["p99"] == numbers["phases_s"]["whole update"]["p99"]


def paths(value, before=""):
    """The names of what stands in sweep.json, as far as FIELDS goes."""
    for name, below in value.items():
        path = f"{before}{name}"
        yield path
        if name == "analysis":
            yield from paths(below, f"{path}.")
        if name == "points":
            for point in below:
                yield from (f"{path}[].{key}" for key in point)


def test_each_field_is_documented_and_there_is_no_other(done):
    assert set(paths(done[1])) == set(FIELDS)
    said = json.loads(fleetsim("schema", "sweep")[1])
    assert (said["version"], said["fields"]) == (done[1]["schema"], FIELDS)


def test_the_command_of_one_run_runs_it_again(done, tmp_path):
    where, made, _ = done
    manifest = json.loads((where / made["points"][1]["run"] / "manifest.json").read_text())
    words = manifest["repeat"].split()
    assert words[words.index("-c") + 1] == "10"
    assert fleetsim(*words[1:], "--out", tmp_path / "again")[0] == 0
    again = json.loads((tmp_path / "again" / "sweep.json").read_text())
    both = [(d / p["run"] / "trace.parquet").read_bytes()
            for d, p in ((where, made["points"][1]), (tmp_path / "again", again["points"][0]))]  # fmt: skip
    assert both[0] == both[1]


def test_what_is_there_is_not_run_again_and_more_loads_are_added(done, tmp_path):
    shutil.copytree(done[0], tmp_path / "made")
    file = done[0].parent / "case.yaml"
    code, out, _ = swept(file, "--devices", "10,20,60", "--unpaced", "--out", tmp_path / "made")
    assert code == 0
    assert "2 points of" in out
    again = json.loads((tmp_path / "made" / "sweep.json").read_text())
    assert again["points"][:4] == done[1]["points"]
    assert (again["points"][4]["load"], len(again["points"])) == (60, 5)
    assert again["loads"] == [5, 10, 20, 40, 60]


def test_another_scenario_does_not_go_on_there(done, tmp_path):
    file = written(tmp_path, settle="9s")
    code, _, err = swept(file, "--devices", "10", "--unpaced", "--out", done[0])
    assert code == 3
    assert "a different scenario" in err
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "sweep.json").write_text("[]")
    code, _, err = swept(file, "--devices", "10", "--out", tmp_path / "x")
    assert code == 3
    assert "is not the file of a sweep" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say what to vary"),
        (("--devices", "10", "--repeat", "0"), "repeat"),
        (("--devices", "10", "--link", "rope"), "--link rope"),
        (("--devices", "10", "--out", "/proc/none/x"), "/proc/none"),
        (("--devices", "10", "--run-time", "soon"), "--run-time: 'soon' is not a duration"),
    ],
    ids=str,
)
def test_bad_arguments_end_in_3(tmp_path, words, said):
    code, _, err = swept(written(tmp_path), *words, cwd=tmp_path)
    assert code == 3
    assert said in re.sub(r"[│╭╮╰╯─\s]+", " ", err)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("devices", "rates", "said"),
    [
        (None, None, "say what to vary"),
        ("10,20", "1/s,2/s", "vary one thing"),
        ("10,few", None, "--devices 10,few: 'few' is not a number of devices"),
        ("10,0", None, "'0' is not"),
        ("-5", None, "'-5' is not"),
        ("", None, "'' is not"),
        (None, "60", "write 60/s"),
        (None, "0/s", "write 60/s"),
        (None, "60/h", "write 60/s"),
    ],
)
def test_bad_axes(devices, rates, said):
    with pytest.raises(ScenarioError, match=re.escape(said)):
        sweeping.loads_of(devices, rates)


def test_good_axes():
    assert sweeping.loads_of("20, 5,20", None) == ("devices", [5, 20], None)
    assert sweeping.loads_of(None, "600/min,0.5/s") == ("rates", [0.5, 10], None)
    assert sweeping.loads_of("40", "5/s") == ("rates", [5], 40)


def test_a_load_that_the_scenario_does_not_allow_is_refused_before_the_first(tmp_path):
    cohorts = [{"name": "a", "count": 15}, {"name": "b"}]
    file = written(tmp_path, fleet={"devices": 20, "cohorts": cohorts})
    code, _, err = swept(file, "--devices", "20,10", cwd=tmp_path)
    assert code == 3
    assert "cohorts" in err
    code, _, err = swept(written(tmp_path, rollout={"maximumPerMinute": 60, "exponentialRate": {
        "baseRatePerMinute": 5, "incrementFactor": 2, "rateIncreaseCriteria": {"numberOfNotifiedThings": 5}}}),
        "--rates", "1/s", cwd=tmp_path)  # fmt: skip
    assert code == 3
    assert "--unpaced" in err


def test_over_rates_the_rollout_is_paced_and_the_fleet_stays(tmp_path):
    file = written(tmp_path, fleet={"devices": 30, "ramp": "1s"})
    code, out, err = swept(file, "--rates", "2/s,5/s,600/min", "--devices", "100", "--out", tmp_path / "r")
    assert code == 0, out + err
    made = json.loads((tmp_path / "r" / "sweep.json").read_text())
    assert (made["axis"], made["loads"], {p["targets"] for p in made["points"]}) == ("rates", [2, 5, 10], {100})
    for p in made["points"]:
        assert p["held_per_s"] == pytest.approx(p["load"], rel=0.03)
        assert p["under_way"] == pytest.approx(p["load"] * p["whole_update_s"]["median"], rel=0.3)  # Little
        manifest = json.loads((tmp_path / "r" / p["run"] / "manifest.json").read_text())
        assert manifest["scenario"]["rollout"]["maximumPerMinute"] == p["load"] * 60
    assert made["analysis"]["knee_said"].startswith("none up to 10/s")


def test_updates_that_last_longer_than_the_offers_do_not_pass_for_a_backend_that_is_slow(tmp_path):
    late = {"late": {"install": {"uniform": ["1s", "20s"]}}}
    file = written(tmp_path, fleet={"ramp": "1s", "profile": "late"}, profiles=late)
    code, out, err = swept(file, "--rates", "4/s,20/s", "--devices", "200", "--out", tmp_path / "r")
    assert code == 0, out + err
    points = json.loads((tmp_path / "r" / "sweep.json").read_text())["points"]
    assert points[0]["held_per_s"] == pytest.approx(4, rel=0.05)
    assert (points[1]["steady_per_s"] < 15, points[1]["held_per_s"]) == (True, None)
    assert "none up to 4/s" in out
    assert "Take more devices: --devices 900" in out


def test_the_rollouts_own_pace_is_found_to_be_what_bounds(tmp_path):
    file = written(tmp_path, fleet={"ramp": "1s"}, rollout={"size": "4KiB", "maximumPerMinute": 120})
    code, out, _ = swept(file, "--devices", "20,40,60,80", "--out", tmp_path / "r")
    assert code == 0
    assert "the rollout's own maximum of 2 offers a second" in out


def test_a_run_that_breaks_a_promise_ends_the_sweep_in_1_and_none_is_left_out(tmp_path):
    file = written(tmp_path, profiles={"liar": {"mishaps": {"install": {"lie": "50%"}}}}, fleet={"profile": "liar"})
    code, out, _ = swept(file, "--devices", "10,20", "--out", tmp_path / "r")
    assert code == 1
    assert "FAIL at 20 devices: S11-true-success" in out
    made = json.loads((tmp_path / "r" / "sweep.json").read_text())
    assert [(p["safe"], p["counts"]) for p in made["points"]] == [(False, False)] * 2


def test_quiet_and_json_and_a_copy(tmp_path):
    file = written(tmp_path)
    code, out, _ = swept(file, "--devices", "5", "--json", "--html", tmp_path / "x.html", "--out", tmp_path / "r")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "r" / "sweep.json").read_text())
    assert (tmp_path / "x.html").stat().st_size > 10_000
    assert "1 of" not in swept(file, "--devices", "6", "--quiet", "--out", tmp_path / "r")[1]


def test_the_environment_gives_the_axis(tmp_path):
    env = {"FLEETSIM_DEVICES": "5,6", "FLEETSIM_OUT": str(tmp_path / "r"), "FLEETSIM_UNPACED": "1"}
    assert swept(written(tmp_path), env=env)[0] == 0
    assert len(json.loads((tmp_path / "r" / "sweep.json").read_text())["points"]) == 2


def test_an_interrupted_sweep_keeps_what_was_measured_and_goes_on(tmp_path):
    file = written(tmp_path, fleet={"ramp": "100/s"})
    words = ("sweep", file, "--devices", "5,30000", "--out", tmp_path / "r")
    process = start(*words)
    part = "devices-30000/latest/parts/virtual.arrow"
    wait_for(lambda: (tmp_path / "r" / part).exists() and (tmp_path / "r" / part).stat().st_size > 100_000, 40)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 2, out + err
    assert "Traceback" not in err
    assert "ended      at 30,000 devices: interrupted" in out
    assert f"go on      fleetsim sweep {file}" in out
    made = json.loads((tmp_path / "r" / "sweep.json").read_text())
    assert [p["load"] for p in made["points"]] == [5]
    assert (tmp_path / "r" / "sweep.html").exists()
    code, out, _ = swept(file, "--devices", "5,20", "--out", tmp_path / "r")
    assert code == 0
    assert "1 point of" in out
    made = json.loads((tmp_path / "r" / "sweep.json").read_text())
    assert ([p["load"] for p in made["points"]], made["ended"]) == ([5, 20], "")


def test_a_small_live_sweep_over_both_brokers(tmp_path):
    file = scenario(tmp_path)
    for broker, name in (("embedded", "embedded"), ("mosquitto", "mosquitto 2.")):
        where = tmp_path / broker
        code, out, err = swept(file, "--devices", "20,40", "--broker", broker, "--out", where)
        assert code == 0, out + err
        made = json.loads((where / "sweep.json").read_text())
        assert [p["load"] for p in made["points"]] == [20, 40]
        for p in made["points"]:
            assert p["broker"].startswith(name)
            assert (p["counts"], p["succeeded"]) == (True, p["load"])
            assert p["busy_before"] is not None
        assert "at least 4 loads are needed" in made["analysis"]["law_said"]


# ---- what a machine or a part may do in between, in this process


def plan(loads=(5, 10, 15), repeat=1, **changes):
    made = {load: virtual(devices=load, **changes) for load in loads}
    return sweeping.Plan("devices", made, repeat, False, Options(), "fleetsim sweep", lambda load, seed: "again")


def facts(path, judgement):
    code = judgement.exit_code
    return {"verdict": judgement.verdict.value, "exit_code": code, "updates_per_s": 1.0}


def run_(made, where, told=None):
    return sweeping.sweep(made, where, facts, (told if told is not None else []).append, quiet=True)


def test_each_further_time_has_its_own_seed_and_comes_after_all_loads(tmp_path):
    made = run_(plan((5, 6), repeat=2), tmp_path)
    assert [(p["load"], p["nth"], p["seed"]) for p in made["points"]] == [(5, 0, 1), (6, 0, 1), (5, 1, 2), (6, 1, 2)]


def test_a_limit_of_the_machine_ends_the_sweep_with_what_to_change(tmp_path, monkeypatch):
    real = machine.check_memory

    def small(devices, parts, world, available=None):
        real(devices, parts, world, available=(150 << 20) + (2 << 14) * 10)

    monkeypatch.setattr(machine, "check_memory", small)
    made = run_(plan((5, 10, 5000)), tmp_path)
    assert len(made["points"]) == 2
    assert "at 5,000 devices: 5000 devices need about" in made["ended"]
    assert "ask for fewer devices" in made["ended"]
    with pytest.raises(ScenarioError, match="ask for fewer devices"):  # nothing was started
        run_(plan((5000,)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_signal_in_a_loads_last_moments_keeps_it_and_begins_no_other(tmp_path, monkeypatch):
    real = running.run
    monkeypatch.setattr(signals, "_came", False)

    def ending(*words, **options):
        ended = real(*words, **options)
        monkeypatch.setattr(signals, "_came", True)
        return ended

    monkeypatch.setattr(running, "run", ending)
    made = run_(plan(), tmp_path / "r")
    assert ([p["load"] for p in made["points"]], made["ended"]) == ([5], "at 5 devices: interrupted")


def test_a_part_that_dies_ends_the_sweep_and_its_point_is_run_again(tmp_path, monkeypatch):
    real = running.run

    def dying(made, out, repeat, options, *, quiet=False):
        path, judgement = real(made, out, repeat, options, quiet=quiet)
        return path, Judgement(judgement.findings, died=("broker died: killed",) if made.fleet.devices == 10 else ())

    monkeypatch.setattr(running, "run", dying)
    made = run_(plan(), tmp_path)
    assert ([p["load"] for p in made["points"]], made["ended"]) == ([5, 10], "at 10 devices: broker died: killed")
    monkeypatch.setattr(running, "run", real)
    assert [p["load"] for p in run_(plan(), tmp_path)["points"]] == [5, 10, 15]


def test_a_record_that_cannot_be_finished_is_a_part_that_died(tmp_path, monkeypatch):
    def full(*args, **options):
        raise PartDied("the disk is full")

    monkeypatch.setattr(running, "run", full)
    made = run_(plan(), tmp_path)
    assert (made["died"], made["points"], made["ended"]) == (True, [], "at 5 devices: the disk is full")


def test_an_interruption_between_runs_is_one_too(tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run", interrupted)
    assert run_(plan(), tmp_path)["ended"] == "at 5 devices: interrupted"
    assert json.loads((tmp_path / "sweep.json").read_text())["points"] == []


def test_what_is_said_while_it_runs(tmp_path, monkeypatch):
    findings = (Finding("c", "t", Verdict.PASS, "s"),)
    monkeypatch.setattr(running, "run", lambda made, out, *a, **o: (tmp_path / "x", Judgement(findings)))
    told = []
    run_(plan((5, 10)), tmp_path, told)
    assert [line.strip() for line in told] == [
        "1 of 2: 5 devices", "PASS, 1.0 updates a second", "2 of 2: 10 devices", "PASS, 1.0 updates a second",
    ]  # fmt: skip


def test_unpaced_takes_out_what_holds_offers_back():
    rollout = {"waves": [{"share": 1.0}], "maximumConcurrent": 5, "maximumPerMinute": 60, "exponentialRate": {
        "baseRatePerMinute": 5, "incrementFactor": 2, "rateIncreaseCriteria": {"numberOfNotifiedThings": 5}}}  # fmt: skip
    bare = sweeping.at_load(virtual(rollout=rollout), "devices", 10, unpaced=True).rollout
    assert bare == RolloutSpec(size=4096)
    kept = sweeping.at_load(virtual(rollout=rollout), "devices", 10, unpaced=False)
    assert kept == virtual(rollout=rollout)
    paced = sweeping.at_load(virtual(rollout=rollout), "rates", 7, unpaced=True).rollout
    assert paced == RolloutSpec(size=4096, maximum_per_minute=420)


def test_a_rate_is_not_given_to_several_operators_each():
    made = virtual(operators=[{"part": "1/2"}, {"part": "2/2"}])
    assert sweeping.at_load(made, "devices", 10, unpaced=False) == made
    with pytest.raises(
        ScenarioError, match="--rates: 2 operators run a rollout each, and each would get the whole rate"
    ):
        sweeping.at_load(made, "rates", 7, unpaced=False)


def test_memory_of_the_machine():
    machine.check_memory(1000, 5, "live", available=1 << 30)
    with pytest.raises(ScenarioError, match="100000 devices need about"):
        machine.check_memory(100_000, 5, "live", available=1 << 30)
    assert 0 < machine.available_bytes() < 1 << 62


def test_how_busy_the_machine_is():
    assert 0 <= health.busy_cores(0.05) <= 1024
    assert health.wait_share(None, 1.0, 1.0) == {}
    assert health.wait_share(1.0, 1.5, 2.0) == {"wait_share": 0.25}
    assert health.waited_s(2**30) is None
