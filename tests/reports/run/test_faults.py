"""What a report says of the faults: recounted from the trace, on the page, and as a window in the picture."""

import duckdb

from reports.run import page, summary
from simulator.model.verdict import Judgement
from simulator.trace.reader import write_parquet
from tests.reports.run.test_page import Reader
from tests.worlds.virtually import run, scenario

HARMED = scenario(
    devices=40,
    profile="wifi",
    faults=[
        {"fault": "F9-cut", "share": "50%"},
        {"fault": "F3-offline", "count": 10, "at": "4s", "for": "30s"},
        {"fault": "F14-power-cut", "count": 1, "step": "installing"},
        {"fault": "F8-backend-killed", "at": "40s", "for": "5s"},
    ],
)


def test_the_faults_are_recounted_shown_and_shaded(tmp_path):
    made = run(HARMED)
    numbers = summary.summarise({"scenario": {"name": "s"}}, made, Judgement(()))
    write_parquet(made.table, tmp_path / "t.parquet")
    counted = duckdb.sql(f"""SELECT phase, count(DISTINCT thing), count(*) FROM '{tmp_path}/t.parquet'
        WHERE kind = 'fault' AND status = 'did' GROUP BY phase""").fetchall()  # fmt: skip
    assert {(f["fault"], f["devices"], f["strikes"]) for f in numbers["faults"] if not f["on"]} == set(counted)
    assert {name: devices for name, devices, _ in counted} == {
        "F9-cut": 20, "F3-offline": 10, "F14-power-cut": 1,
    }  # fmt: skip
    windows = {f["fault"]: (f["begin_s"], f["end_s"]) for f in numbers["faults"]}
    assert windows["F3-offline"] == (4.0, 34.0)
    assert windows["F9-cut"][0] < 0
    assert windows["F14-power-cut"][0] is None
    said = summary.as_text(numbers, "r")
    for line in (
        "F3-offline: 10 devices, 10 strikes",
        "F14-power-cut: 1 device, 1 strike",
        "F8-backend-killed: on the backend",
    ):
        assert f"  {line}\n" in said
    page.write_report(tmp_path / "report.html", {}, made, numbers)
    read = Reader((tmp_path / "report.html").read_text())
    rows = {row[0]: row[1:] for row in read.table("struck")[1:]}
    assert rows["F3-offline"] == ["10 devices, 10 strikes", "4.000 s", "34.0 s"]
    assert rows["F9-cut"][1] == "from the start"
    assert rows["F14-power-cut"][1] == "by the device's step"
    assert rows["F8-backend-killed"] == ["on the backend", "40.0 s", "45.0 s"]
    assert [attrs["id"] for _, attrs in read.tags if attrs.get("id", "").startswith("fault-")] == ["fault-0", "fault-1"]


def test_a_run_without_faults_says_nothing_of_them(tmp_path):
    made = run(scenario(devices=3))
    numbers = summary.summarise({}, made, Judgement(()))
    page.write_report(tmp_path / "report.html", {}, made, numbers)
    assert numbers["faults"] == []
    assert "Faults" not in (tmp_path / "report.html").read_text()
