"""What a run directory says of its run."""

import contextlib
import json
import os
import signal

import pytest
import yaml

from simulator.model.events import Kind
from simulator.model.scenario import parse_scenario
from simulator.model.verdict import Verdict
from simulator.trace.recorder import Recorder
from simulator.worlds import signals, virtual
from simulator.worlds.live.options import Options
from simulator.worlds.manifest import manifest_of
from simulator.worlds.run import run
from tests.worlds.running import fleetsim


def test_no_password_stands_in_the_manifest():
    broker = "mqtts://user:s3cret@broker.example:8883"
    made = parse_scenario(f"{{target: {{kind: external, broker: '{broker}'}}, fleet: {{password: 's3cret-%i'}}}}")
    said = manifest_of(made, f"fleetsim run my.yaml --broker {broker} --seed 1")
    assert "s3cret" not in json.dumps(said)
    assert said["repeat"] == "fleetsim run my.yaml --broker mqtts://user:***@broker.example:8883 --seed 1"
    assert said["broker"] == {"name": "mqtts://user:***@broker.example:8883"}


def test_a_report_that_cannot_be_written_is_said_in_a_line(tmp_path):
    (tmp_path / "good.yaml").write_text(yaml.safe_dump({"world": "virtual", "fleet": {"devices": 3}}))
    fleetsim("run", tmp_path / "good.yaml", "--out", tmp_path / "out")
    run = (tmp_path / "out" / "latest").resolve()
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    code, _, err = fleetsim("report", run)
    assert code == 3
    assert err.splitlines() == [f"fleetsim: {run}/report.html: Is a directory"]


@pytest.fixture
def handlers(monkeypatch):
    monkeypatch.setattr(signals, "_came", False)
    before = {number: signal.getsignal(number) for number in signals.BOTH}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", signals.BOTH)
def test_an_interrupt_that_a_library_swallows_ends_the_run_with_the_next_batch(tmp_path, monkeypatch, handlers, number):
    def swallowing(scenario, sink):
        recorder = Recorder(lambda: 0, sink)
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), number)
        recorder.record(Kind.RUN)
        recorder.flush()
        raise AssertionError("not reached")

    monkeypatch.setattr(virtual, "run", swallowing)
    path, judgement = run(parse_scenario("{world: virtual}"), tmp_path, "", Options())
    assert judgement.verdict is not Verdict.PASS
    assert json.loads((path / "manifest.json").read_text())["incomplete"] == ["interrupted"]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_start_that_is_refused_leaves_no_directory_and_latest_as_it_was(tmp_path, earlier):
    runs = tmp_path / "runs"
    if earlier:
        assert fleetsim("run", "smoke", "-c", 5, "--world", "virtual", "--out", runs)[0] == 0
    before = sorted(runs.rglob("*")), earlier and (runs / "latest").resolve()
    code, out, err = fleetsim(
        "run",
        "smoke",
        "-c",
        5,
        "--world",
        "live",
        "--database",
        f"sqlite:{tmp_path}/nowhere/x",
        "--out",
        runs,
        "--quiet",
    )
    assert (code, out) == (3, "")
    assert "Traceback" not in err
    assert (sorted(runs.rglob("*")), earlier and (runs / "latest").resolve()) == before
    assert runs.exists() is earlier
