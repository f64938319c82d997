"""One run with every kind of end, and the files it leaves."""

import json

import pytest

from reports import files
from reports.run import page, summary
from simulator.checks.judge import judge
from simulator.checks.validity import validity
from simulator.model.verdict import Judgement
from simulator.trace.reader import write_parquet
from simulator.worlds.manifest import manifest_of
from tests.worlds.virtually import run, scenario

MIXED = scenario(
    fleet={"devices": 60, "ramp": "5s", "cohorts": [{"name": "home", "count": 40, "profile": "wifi"},
                                                    {"name": "field", "profile": "rough"}]},
    profiles={"rough": {"install": {"uniform": ["1s", "9s"]}, "mishaps": {"reboot": {"error": "30%"},
                        "download": {"crash": "30%"}, "report": {"hang": "40%"}}, "reboot": {"fixed": "2s"}}},
    rollout={"size": "64KiB", "retryConfig": {"failed": 1}, "timeoutConfig": {"inProgressTimeout": "10m"}},
    run_time="6h",
)  # fmt: skip


@pytest.fixture(scope="session")
def left(tmp_path_factory):
    """A run with successes, failures, retries and time-outs: (summary, its directory)."""
    path, made = tmp_path_factory.mktemp("run"), run(MIXED)
    health = validity(made, MIXED)
    judgement = Judgement(judge(made, MIXED), health.reasons, limits=health.limits)
    manifest = manifest_of(MIXED, "fleetsim run mixed --seed 1") | {"complete": True}
    numbers = summary.summarise(manifest, made, judgement)
    write_parquet(made.table, path / "trace.parquet")
    (path / "summary.json").write_text(json.dumps(numbers))
    files.write_devices(path / "devices.csv", made)
    files.write_junit(path / "junit.xml", numbers)
    page.write_report(path / "report.html", manifest, made, numbers)
    return json.loads((path / "summary.json").read_text()), path
