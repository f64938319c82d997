"""The command line as its users meet it: codes, messages, files, and which setting outweighs which."""

import json
import resource
import signal
import subprocess
import sys
from functools import partial

import jsonschema
import pytest
import yaml

from simulator import __version__
from simulator.model.scenario import load_scenario
from tests.worlds.running import ROOT, fleetsim, latest, start, wait_for

VIRTUAL = {
    "world": "virtual",
    "fleet": {"devices": 12, "ramp": "10/s"},
    "rollout": {"version": "2.0.0", "size": "4KiB"},
    "run_time": "10m",
}


def written(path, **changes):
    file = path / "case.yaml"
    file.write_text(yaml.safe_dump({**VIRTUAL, **changes}))
    return file


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run that passed: (its directory, what it printed)."""
    where = tmp_path_factory.mktemp("done")
    code, out, err = fleetsim("run", written(where), "--out", where / "runs")
    assert code == 0, out + err
    return where / "runs" / "latest", out


def test_a_run_leaves_its_files_and_says_where(done):
    path, out = done
    names = {p.name for p in path.iterdir()}
    assert names >= {"manifest.json", "trace.parquet", "summary.json", "devices.csv", "report.html", "junit.xml",
                     "summary.md"}  # fmt: skip
    assert out.splitlines()[0].endswith("seed 1")
    assert out.strip().splitlines()[-1].split() == ["seed", "1"]
    assert "PASS" in out
    assert len((path / "devices.csv").read_text().splitlines()) == 13


def test_check_judges_again_and_one_check_alone(done):
    code, out, _ = fleetsim("check", done[0], "--check", "S10-integrity")
    assert code == 0
    assert "S10-integrity" in out
    assert "S13-at-most-once" not in out
    code, _, err = fleetsim("check", done[0], "--check", "S10-integrty")
    assert code == 3
    assert "S10-integrity" in err


def test_report_writes_again_what_is_missing(done):
    (done[0] / "report.html").unlink()
    code, _, _ = fleetsim("report", done[0])
    assert code == 0
    assert (done[0] / "report.html").stat().st_size > 10_000


def test_the_summary_of_a_ci_job_is_appended_to(done, tmp_path):
    step = tmp_path / "step.md"
    step.write_text("# what was there\n")
    env = {"GITHUB_STEP_SUMMARY": str(step)}
    assert fleetsim("report", done[0], env=env)[0] == 0
    assert fleetsim("run", written(tmp_path), "--out", tmp_path / "r", "--quiet", env=env)[0] == 0
    assert step.read_text().startswith("# what was there\n## ✓ PASS: case\n")
    assert step.read_text().count("## ✓ PASS: case") == 2
    assert (done[0] / "summary.md").read_text() in step.read_text()


def test_a_ci_summary_that_cannot_be_written_changes_no_verdict(done, tmp_path):
    code, _, err = fleetsim("report", done[0], env={"GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "such.md")})
    assert code == 0
    assert "GITHUB_STEP_SUMMARY" in err
    assert "Traceback" not in err


def test_trace_prints_one_device(done):
    code, out, _ = fleetsim("trace", done[0], "device-3")
    assert code == 0
    assert "rebooting" in out
    assert "device-4" not in out
    code, _, err = fleetsim("trace", done[0], "device-99")
    assert code == 3
    assert "device-99" in err


def test_schema_and_scenarios(done):
    code, out, _ = fleetsim("schema")
    assert code == 0
    assert "fleet" in json.loads(out)["properties"]
    assert "columns" in json.loads(fleetsim("schema", "trace")[1])
    summary = json.loads((done[0] / "summary.json").read_text())
    jsonschema.validate(summary, json.loads(fleetsim("schema", "summary")[1]))
    assert "comparisons" in json.loads(fleetsim("schema", "comparison")[1])["properties"]
    code, _, err = fleetsim("schema", "nothing")
    assert code == 3
    assert "there are scenario, summary, comparison, sweep, trace" in err
    assert "smoke" in fleetsim("scenarios")[1]


def test_json_is_json_alone_and_copies_go_where_asked(tmp_path):
    code, out, _ = fleetsim(
        "run", written(tmp_path), "--json", "--out", tmp_path / "r",
        "--html", tmp_path / "a.html", "--junit", tmp_path / "b.xml", "--csv", tmp_path / "c",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["verdict"] == "PASS"
    assert all((tmp_path / name).stat().st_size for name in ("a.html", "b.xml", "c_devices.csv"))


def test_flag_outweighs_environment_outweighs_scenario(tmp_path):
    file = written(tmp_path)
    env = {"FLEETSIM_DEVICES": "5", "FLEETSIM_SEED": "7", "FLEETSIM_OUT": str(tmp_path / "r"), "FLEETSIM_QUIET": "1"}
    code, out, _ = fleetsim("run", file, "--seed", "9", env=env)
    assert (code, out) == (0, "PASS\n")
    run = latest(tmp_path / "r")
    assert run.manifest["seed"] == 9
    assert run.manifest["scenario"]["fleet"]["devices"] == 5
    assert "--seed 9" in run.manifest["repeat"]


def test_the_command_to_repeat_repeats(tmp_path):
    file = written(tmp_path, thresholds={"failed": "> 50%"})
    code, out, _ = fleetsim("run", file, "--seed", "5", "--out", tmp_path / "a")
    assert code == 1
    line = next(line for line in out.splitlines() if line.strip().startswith("repeat"))
    words = line.split()[2:]
    words[words.index("--out") + 1] = str(tmp_path / "b")
    assert fleetsim(*words)[0] == 1
    one, two = latest(tmp_path / "a"), latest(tmp_path / "b")
    assert (one.path / "trace.parquet").read_bytes() == (two.path / "trace.parquet").read_bytes()


def test_a_run_too_short_ends_in_2(tmp_path):
    code, out, _ = fleetsim("run", written(tmp_path), "--run-time", "1s", "--out", tmp_path / "r")
    assert code == 2
    assert "run_time 1 s" in out


def test_check_determinism(tmp_path):
    code, out, _ = fleetsim("run", written(tmp_path), "--check-determinism")
    assert code == 0
    assert "same trace twice" in out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rollout": {"maximumPerMinut": 5}}, ["case.yaml:", "maximumPerMinut", "maximumPerMinute"]),
        ({"fleets": {}}, ["case.yaml:", "fleets", "fleet"]),
        ({"run_time": "10 parsecs"}, ["case.yaml:", "run_time", "parsecs"]),
        ({"fleet": {"profile": "wify"}}, ["wify", "wifi"]),
        ({"fleet": {"devices": 10, "cohorts": [{"name": "a", "count": 3}]}}, ["case.yaml", "cohorts"]),
        ({"checks": ["S99"]}, ["S99"]),
        ({"rollout": {"file": "/nowhere/app.bin"}}, ["rollout.file", "/nowhere/app.bin"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_scenario_ends_in_3_and_says_where_and_what_instead(tmp_path, change, said):
    code, _, err = fleetsim("run", written(tmp_path, **change), "--out", tmp_path / "r")
    assert code == 3
    for text in said:
        assert text in err
    assert "Traceback" not in err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "words",
    [("run", "nosuch"), ("run",), ("run", "smoke", "--devices", "many"), ("fly",), ("report", "/nowhere"),
     ("run", "smoke", "--out", "/proc/none"), ("run", "smoke", "--run-time", "soon")],
    ids=" ".join,
)  # fmt: skip
def test_bad_usage_ends_in_3_without_a_traceback(words):
    code, _, err = fleetsim(*words)
    assert code == 3
    assert err.strip()
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_virtual_run_stays_readable(tmp_path, number):
    file = written(tmp_path, fleet={"devices": 20000, "ramp": "100/s"})

    def ignored():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    process = start("run", file, "--out", tmp_path / "r", preexec_fn=ignored)
    part = tmp_path / "r" / "latest" / "parts" / "virtual.arrow"
    wait_for(lambda: part.exists() and part.stat().st_size > 100_000)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    assert "interrupted" in out
    assert "Traceback" not in err
    assert len(latest(tmp_path / "r").trace) > 1000


@pytest.mark.parametrize(
    "words",
    [
        ("run", "FILE", "--world", "virtual"),
        ("run", "FILE", "--check-determinism"),
        ("explore", "FILE", "--seeds", "2"),
        ("sweep", "FILE", "-c", "5", "--world", "virtual"),
    ],
)
def test_an_external_target_is_refused_in_virtual_time_where_nothing_of_it_would_take_part(tmp_path, words):
    target = {"kind": "external", "broker": "mqtt://127.0.0.1:1", "artifact_url": "http://127.0.0.1:1/a"}
    file = written(tmp_path, world="live", target=target)
    code, out, err = fleetsim(*(file if word == "FILE" else word for word in words), cwd=tmp_path)
    assert (code, out) == (3, "")
    assert "target.kind: an external backend cannot take part in virtual time; use world live, or target.kind" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ramp", "5"), "--ramp: '5' is not a ramp; write 200/s (devices a second) or 30s (all within)"),
        (("--world", "vritual"), "--world: Input should be 'live' or 'virtual'"),
        (
            ("--broker", "mqtt://app:secret@127.0.0.1:1"),
            "--broker: mqtt://app:***@127.0.0.1:1 cannot take part in virtual time; use world live",
        ),
        (
            ("--storage", "http://127.0.0.1:1/app"),
            "--storage: http://127.0.0.1:1/app cannot take part in virtual time; use world live",
        ),
        (
            ("--world", "live", "--broker", "mqtt://[::1"),
            "target.broker: 'mqtt://[::1' is none of embedded, mosquitto, mqtt://HOST, mqtts://HOST, ws://HOST, wss://HOST",
        ),
        (
            ("--world", "live", "--storage", "http://[::1/x"),
            "target.artifact_url: 'http://[::1/x' is no http:// or https:// URL",
        ),
        (("--world", "live", "--ifaddr", "192.0.2.1"), "--ifaddr 192.0.2.1: Cannot assign requested address"),
        (
            ("--world", "live", "--bind", "::1"),
            "--bind ::1: name one IPv4 address of this machine, by which devices will find it",
        ),
        (("--html", "nowhere/r.html"), "--html: there is no directory nowhere; make it, or name another"),
        (("--csv", "nowhere/r"), "--csv: there is no directory nowhere; make it, or name another"),
        (("--junit", "nowhere/r.xml"), "--junit: there is no directory nowhere; make it, or name another"),
    ],
)
def test_a_wrong_flag_is_named_itself_before_anything_runs(tmp_path, words, said):
    code, out, err = fleetsim("run", written(tmp_path), *words, "--out", tmp_path / "r", "--quiet")
    assert (code, out, err) == (3, "", f"fleetsim: {said}\n")
    assert not (tmp_path / "r").exists()


def test_a_terminal_without_the_marks_gets_others(tmp_path):
    code, out, err = fleetsim("run", written(tmp_path), "--out", tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert code == 0, out + err
    assert "? L2-convergence" in out


def test_a_file_that_may_not_grow_is_said_in_4(tmp_path):
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, 4096))
    code, _, err = fleetsim("run", written(tmp_path), "--out", tmp_path / "r", "--quiet", preexec_fn=limit)
    assert (code, err.splitlines()[-1]) == (4, "fleetsim: it could not be written: File too large")
    assert "Traceback" not in err


LAST_MOMENT = """
import atexit, os, signal
from simulator import __main__, cli
cli.main = lambda: None
for number in (signal.SIGINT, signal.SIGTERM):
    atexit.register(os.kill, os.getpid(), number)
__main__.main()
"""


def test_a_signal_after_the_end_does_not_change_how_it_ended():
    done = subprocess.run([sys.executable, "-c", LAST_MOMENT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_told():
    assert fleetsim("--version") == (0, f"fleetsim {__version__}\n", "")


def test_overrides_reach_the_scenario(tmp_path):
    scenario = load_scenario(written(tmp_path), {"fleet.first_index": 100, "fleet.client_id": "c-%i"})
    assert scenario.fleet.name(0) == "device-100"
    assert scenario.fleet.login("device-107") == ("c-107", "device-107", None)


def test_a_bug_of_the_field_is_there_by_name_and_one_flag_shows_its_other_side(tmp_path):
    code, out, _ = fleetsim("scenarios")
    assert code == 0
    assert "\nbugs known from the field" in out
    assert "\nfield/esp-idf-17960 " in out
    runs = ("--out", tmp_path, "--quiet")
    assert fleetsim("run", "field/esp-idf-17960", *runs)[:2] == (0, "PASS\n")
    code, out, _ = fleetsim("run", "field/esp-idf-17960", "--fault", "F9-appends", *runs)
    assert (code, out) == (1, "FAIL\n")
    asked = latest(tmp_path).manifest["scenario"]["faults"]
    assert [fault["fault"] for fault in asked] == ["F9-range-ignored", "F9-appends"]
    assert "--fault F9-appends" in latest(tmp_path).manifest["repeat"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["field/esp-idf-1796"], "no such scenario: 'field/esp-idf-1796'; did you mean 'field/esp-idf-17960'?"),
        (["smoke", "--fault", "F9-append"], "--fault: no such fault: 'F9-append'; did you mean 'F9-appends'?"),
        (["smoke", "--fault", "F14-power-cut"], "--fault: F14-power-cut needs at, converged or step"),
    ],
)
def test_what_there_is_not_is_said_with_what_is_near(words, said, tmp_path):
    code, _, err = fleetsim("run", *words, "--out", tmp_path)
    assert code == 3
    assert said in err


IMPORTED = """
import sys
from simulator import cli
sys.argv = ["fleetsim", *sys.argv[1:]]
try:
    cli.main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
RECORD = {"pyarrow", "numpy"}
HEAVY = RECORD | {
    "aiohttp", "aiomqtt", "asyncio", "duckdb", "fastapi", "httptools", "matplotlib", "mqtt5", "paho", "pandas", "scipy",
    "sqlite3", "uvicorn", "uvloop", "yaml",
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "may"),
    [
        (("--help",), set()),
        (("scenarios",), {"yaml"}),
        (("schema",), {"yaml"}),
        (("schema", "trace"), set()),
        (("trace", "RUN", "device-3"), RECORD),
        (("check", "RUN"), RECORD | {"yaml"}),
        (("report", "RUN"), RECORD | {"yaml", "matplotlib"}),
    ],
    ids=lambda what: " ".join(sorted(what) if isinstance(what, set) else what),
)
def test_a_verb_imports_no_more_than_it_needs(done, words, may):
    path, _ = done
    words = [str(path) if word == "RUN" else word for word in words]
    said = subprocess.run(
        [sys.executable, "-c", IMPORTED, *words], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert {name.partition(".")[0] for name in said.stderr.split()} & HEAVY <= may
