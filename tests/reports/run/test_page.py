"""The page and the files for other tools: the numbers of summary.json, nothing from outside, nothing unescaped."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as Xml

import duckdb
import pyarrow.compute as pc
import pytest
from matplotlib.figure import Figure

from reports import files, html, words
from reports.run import charts, page, summary
from reports.run.times import QUANTILES
from simulator.checks.judge import judge
from simulator.model.verdict import Finding, Judgement, Limit, Verdict
from simulator.trace.reader import Trace
from simulator.worlds.manifest import manifest_of
from tests.checks.traces import backed, failure, trace, update
from tests.worlds.virtually import run, scenario


class Reader(HTMLParser):
    """Tables as rows of texts, all text, and every tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in ("meta", "path", "use", "rect", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.words.append(data)
        if "table" in self.open and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data

    def table(self, head):
        return next(rows for rows in self.tables if head in rows[0])

    @property
    def text(self):
        return " ".join(self.words)


def written(tmp_path, events, judgement=None, manifest=None):
    made = trace(*events) if isinstance(events, list) else events
    manifest = manifest or {"scenario": {"name": "s", "fleet": {"devices": 1}}, "broker": {"name": "b"}}
    numbers = summary.summarise(manifest, made, judgement or Judgement(judge(made, scenario())))
    page.write_report(tmp_path / "report.html", manifest, made, numbers)
    files.write_junit(tmp_path / "junit.xml", numbers)
    files.write_devices(tmp_path / "devices.csv", made)
    return (tmp_path / "report.html").read_text()


def test_the_numbers_of_the_page_are_those_of_summary_json(left):
    numbers, path = left
    read = Reader((path / "report.html").read_text())
    outcomes = {row[0]: row[1].split()[0] for row in read.table("state of the last attempt")[1:]}
    expected = {state.lower().replace("_", " "): str(count) for state, count in numbers["outcomes"].items()}
    assert outcomes == {**expected, "all": "60"}
    parts = [numbers, *numbers["cohorts"].values()]
    assert read.table("share of the targets")[1:] == [
        [share, *(words.seconds(part["converged_s"][share]) for part in parts)] for share in numbers["converged_s"]
    ]
    assert "not reached" in read.text
    phases = {row[0]: row[1:] for row in read.table("phase")[1:]}
    assert phases.keys() == numbers["phases_s"].keys()
    for name, q in numbers["phases_s"].items():
        assert phases[name] == [f"{q['count']:,}", *(words.seconds(q[h]) for h in QUANTILES)]
    checks = {row[1]: row[0] for row in read.table("check")[1:]}
    assert checks == {f["check"]: words.MARKS[Verdict(f["verdict"])] for f in numbers["findings"]}
    sizes = {name: html.amount if name.startswith("bytes") else html.count for name in numbers["throughput"]}
    assert read.table("step")[1:] == [
        [name, *map(sizes[name], (step["total"], step["total"] / numbers["rolled_out_s"], step["peak_per_s"]))]
        for name, step in numbers["throughput"].items()
    ]
    spread = numbers["fan_out"]["rollout-1"]
    assert read.table("devices that heard of it")[1][1:] == [
        str(spread["devices"]), *(words.seconds(spread[at]) for at in ("first_s", "median_s", "last_s")),
        html.count(spread["slope"]),
    ]  # fmt: skip
    efforts = {row[0]: row[3] for row in read.table("what was done")[1:]}
    assert efforts == {what: f"{one['times']:.3f}" for what, one in numbers["effort"].items()}
    assert read.table("reason")[1:] == [
        [f["state"].lower().replace("_", " "), f["phase"], f["reason"], f["cohort"], str(f["targets"])]
        for f in numbers["failures"]
    ]
    assert sum(f["targets"] for f in numbers["failures"]) == 60 - numbers["outcomes"]["SUCCEEDED"]
    assert f"{60 - numbers['stuck']} (" in read.text
    assert f"{numbers['events']:,}" in read.text


def test_one_file_with_nothing_from_outside(left):
    text = (left[1] / "report.html").read_text()
    assert len(text) < 5_000_000
    assert not re.search(r"https?:|//\w|@import|url\(\s*['\"]?(?!#)", text.replace("http://storage.test", ""))
    tags = Reader(text).tags
    assert {tag for tag, _ in tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base"})
    references = [value for _, attrs in tags for name, value in attrs.items() if name in ("href", "src", "xlink:href")]
    assert references
    assert all(value.startswith("#") for value in references)


def test_the_verdict_comes_first():
    for verdict, findings in (("PASS", ()), ("FAIL", ({"commit": {"digest": "x"}},))):
        changed = findings[0] if findings else {}
        made = trace(*backed("device-0", "r.device-0.0", **changed))
        numbers = summary.summarise({"scenario": {"name": "s"}}, made, Judgement(judge(made, scenario())))
        head = page._head({}, numbers)
        assert f"{verdict}: s</h1>" in head
        assert ("S10-integrity" in head) == (verdict == "FAIL")


def test_a_run_that_is_unknown_says_on_top_which_check_was(tmp_path):
    text = written(tmp_path, update(download=None))
    head = text[text.index("<header") : text.index("</header>")]
    assert "UNKNOWN: s" in head
    assert "S10-integrity: the trace holds no downloads" in head
    assert "S11" not in head


def test_parts_are_shown_where_there_are_several(tmp_path):
    read = Reader(written(tmp_path, update()))
    assert [read.table(head)[0] for head in ("share of the targets", "state of the last attempt")] == [
        ["share of the targets", "all, after"], ["state of the last attempt", "targets"],
    ]  # fmt: skip
    cohorts = [update(target={"detail": "a"}), update("d-1", "r.d-1.0", target={"detail": "b"})]
    read = Reader(written(tmp_path, [event for events in cohorts for event in events]))
    assert read.table("share of the targets")[0][1:] == ["all, after", "a, after", "b, after"]
    assert read.table("state of the last attempt")[0][1:] == ["targets", "a", "b"]


def test_a_failing_check_shows_its_evidence(tmp_path):
    read = Reader(written(tmp_path, update(report={"version": "9"})))
    row = next(row for row in read.table("check") if row[1] == "S11-true-success")
    assert row[0] == "✗"
    assert "> " in row[2]
    assert "version=9" in row[2]


def test_an_interrupted_run_says_on_its_page_what_is_missing(tmp_path):
    made = [e for e in update(ended=None) if e[0] not in ("counters", "rollout")]
    interrupted = Judgement(judge(trace(*made), scenario()), incomplete=("interrupted",))
    text = Reader(written(tmp_path, made, interrupted)).text
    assert "UNKNOWN: s" in text
    for said in ("not complete: interrupted", "1 of 1 targets had not ended", "rollout-1 had not ended"):
        assert said in text
    assert "S8-counters" in text


def test_limits_of_validity_stand_beside_their_values(tmp_path):
    judgement = Judgement(
        (), ("lag",), limits=(Limit("loop lag p99, s", 0.25, 0.01), Limit("offered", 1.0, 0.99, False))
    )
    read = Reader(written(tmp_path, update(), judgement))
    assert read.table("measured")[1:] == [["!", "loop lag p99", "0.250 s", "at most 10 ms"],
                                          ["✓", "offered", "100.00%", "at least 99.00%"]]  # fmt: skip
    assert "the load generator was the bottleneck" in read.text
    assert "INVALID: s" in read.text


def test_the_broker_is_told_in_words():
    said = page.broker({"name": "mosquitto", "version": "2.0.11", "dropped": 12_000, "clients_connected": 3})
    assert said == "mosquitto 2.0.11 (dropped 12,000, clients connected 3)"
    assert page.broker({"name": "external"}) == "external"
    assert page.broker({}) == ""


HOSTILE = '</svg><script>alert(1)</script><img src=x onerror="alert(2)">&\'$x^{ \x07\x1b[31m'


def test_nothing_hostile_gets_through(tmp_path):
    job = f"r.{HOSTILE}.0"
    cohort = {"target": {"detail": HOSTILE}, "ended": {"detail": HOSTILE, "status": "TIMED_OUT"}}
    made = [*update(HOSTILE, job, report={"version": HOSTILE}, **cohort), *update("d-1", "r.d-1.0")]
    manifest = {"scenario": {"name": HOSTILE, "description": HOSTILE}, "repeat": HOSTILE, "host": HOSTILE,
                "broker": {"name": HOSTILE, HOSTILE: HOSTILE}, "seed": HOSTILE}  # fmt: skip
    findings = Judgement((*judge(trace(*made), scenario()), Finding("x", HOSTILE, Verdict.UNKNOWN, HOSTILE)),
                         (HOSTILE,), (HOSTILE,), (HOSTILE,), (Limit(HOSTILE, 1, 2),))  # fmt: skip
    text = written(tmp_path, made, findings, manifest)
    read = Reader(text)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "img"})
    assert "onerror" not in {name for _, attrs in read.tags for name in attrs}
    assert "alert(1)" in read.text
    suite = Xml.parse(tmp_path / "junit.xml").getroot()
    assert "<script>" in suite.get("name")
    assert "\x1b" not in summary.evidence(trace(*made), 3)[0]


def test_junit_counts_what_it_holds_and_unknown_is_no_pass(tmp_path):
    findings = tuple(Finding(f"c-{v}", "t", v, f"said {v}") for v in Verdict if v is not Verdict.INVALID)
    manifest = {"scenario": {"name": "s"}, "began": "2026-01-02T03:04:05+00:00", "seed": 7, "repeat": "fleetsim run s"}
    written(tmp_path, update(), Judgement(findings), manifest)
    suite = Xml.parse(tmp_path / "junit.xml").getroot()
    cases = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    skipped = {"c-NO OCCASION": ["skipped"], "c-NOT JUDGED": ["skipped"]}
    assert cases == {"c-PASS": [], "c-FAIL": ["failure"], "c-UNKNOWN": ["error"], "run": [], **skipped}
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["6", "1", "1", "2"]
    assert suite.find("testcase/skipped").get("message") == "no occasion: said NO OCCASION"
    assert (suite.get("name"), suite.get("timestamp")) == ("fleetsim.s", "2026-01-02T03:04:05")
    said = suite.find("testcase/failure")
    assert (said.get("message"), said.get("type"), said.text) == ("said FAIL", "FAIL", "said FAIL")
    told = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert (told["seed"], told["repeat"]) == ("7", "fleetsim run s")


def test_junit_is_what_jenkins_and_gitlab_read(tmp_path):
    """Jenkins: name, time and timestamp of a suite; classname, name and time of a case, message and text of what is
    wrong with it. GitLab: the same of a case, and the text alone: empty, it shows none of the message."""
    findings = tuple(Finding(f"c-{v}", "t", v, f"said {v}") for v in (Verdict.FAIL, Verdict.UNKNOWN))
    for judgement in (Judgement(findings), Judgement(findings[1:], invalid=("lag",)), Judgement((), died=("a died",))):
        written(tmp_path, update(), judgement)
        suite = Xml.parse(tmp_path / "junit.xml").getroot()
        assert suite.tag == "testsuite"
        assert float(suite.get("time")) >= 0
        for case in suite.iter("testcase"):
            assert case.get("classname") == suite.get("name")
            assert case.get("name")
            assert float(case.get("time")) >= 0
            for wrong in case:
                assert wrong.get("message") in wrong.text
                assert wrong.get("type") in ("FAIL", "UNKNOWN", "INVALID")


def test_junit_is_red_for_a_run_that_does_not_count(tmp_path):
    passed = (Finding("c", "t", Verdict.PASS, "good"),)
    for judgement in (Judgement(passed, invalid=("lag",)), Judgement(passed, incomplete=("interrupted",)),
                      Judgement(passed, died=("broker died",))):  # fmt: skip
        written(tmp_path, update(), judgement)
        suite = Xml.parse(tmp_path / "junit.xml").getroot()
        assert (suite.get("errors"), suite.find("testcase[@name='run']/error") is not None) == ("1", True)


def test_a_failing_findings_evidence_is_in_junit(tmp_path):
    written(tmp_path, update(report={"version": "9"}))
    failing = Xml.parse(tmp_path / "junit.xml").getroot().find("testcase[@name='S11-true-success']/failure")
    assert "version=9" in failing.text


@pytest.mark.parametrize(
    "events",
    [[], update()[:2], update(confirm=None, ended={"status": "TIMED_OUT"}), failure(), update()],
    ids=["nothing", "only a target", "nobody finished", "a failure", "one device"],
)
def test_a_page_for_every_end(tmp_path, events):
    read = Reader(written(tmp_path, events))
    assert read.table("state of the last attempt")[-1][:2] == ["all", str(min(len(events), 1))]
    lines = (tmp_path / "devices.csv").read_text().splitlines()
    assert len(lines) == 1 + min(len(events), 1)


def test_a_run_of_which_nothing_began_shows_no_table_without_numbers(tmp_path):
    read = Reader(written(tmp_path, []))
    assert {"No rollout began.", "No device got as far as to be timed."} <= set(read.words)
    assert not [rows for rows in read.tables if rows and rows[0][0] in ("share of the targets", "phase")]


def test_a_number_that_there_is_none_of_stands_where_numbers_do():
    rows = Reader(html.table(("what", "how much"), [("a", "-")])).tags
    assert [attrs for tag, attrs in rows if tag in ("th", "td")] == [{}, {"class": "n"}, {}, {"class": "n"}]


def test_a_step_looks_the_same_whichever_others_a_run_has(monkeypatch):
    def looks(made):
        axes = Figure().subplots()
        monkeypatch.setattr(charts, "drawn", lambda paints, *_, **__: paints[0](axes) or "")
        charts.Charts(made).distributions()
        return {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.lines}

    virtual = run(scenario(devices=3))
    whole = looks(virtual)
    fewer = looks(
        Trace(virtual.table.filter(pc.not_equal(virtual.table["phase"].cast("string"), "reporting").fill_null(True)))
    )
    assert set(whole) - set(fewer) == {"reporting"}
    assert fewer.items() <= whole.items()


def test_the_same_run_gives_the_same_page(tmp_path):
    made = run(scenario(devices=5))
    manifest = manifest_of(scenario(devices=5), "fleetsim run") | {"began": "then"}
    assert written(tmp_path, made, None, manifest) == written(tmp_path, made, None, manifest)


def test_many_cohorts_stay_a_page(tmp_path):
    made = [event for i in range(60) for event in update(f"d-{i}", f"r.d-{i}.0", target={"detail": f"cohort-{i}"})]
    text = written(tmp_path, made)
    assert len(text) < 400_000
    assert len(Reader(text).table("share of the targets")[0]) <= 22


def test_the_examples_of_the_readme_read_a_run(left, capsys):
    text = (Path(__file__).parents[3] / "reports" / "README.md").read_text()
    examples = {language: re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1] for language in ("python", "sql")}
    path = str(left[1] / "trace.parquet")
    exec(examples["python"].replace("runs/latest/trace.parquet", path), {})
    assert "200" in capsys.readouterr().out
    rows = duckdb.sql(examples["sql"].replace("runs/latest/trace.parquet", path)).fetchall()
    assert {phase for phase, *_ in rows} >= {"downloading", "installing"}


def test_the_first_screen_tells_what_devices_received_whoever_served_it(tmp_path):
    made = [event for event in update(download={"size": 4_000_000}) if event[0] != "storage.served"]
    judgement = Judgement((Finding("c", "t", Verdict.PASS, "good"),))
    written(tmp_path, made, judgement)
    numbers = summary.summarise({}, trace(*made), judgement)
    assert (numbers["bytes_served"], numbers["bytes_received"]) == (0, 4_000_000)
    assert "<b>4.0 MB</b><span>downloaded</span>" in (tmp_path / "report.html").read_text()
