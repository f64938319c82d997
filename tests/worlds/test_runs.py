"""What a run directory says of its run."""

import json

import yaml

from simulator.model.scenario import parse_scenario
from simulator.worlds.runs import manifest_of
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
