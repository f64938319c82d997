"""The summary of a CI job: what it says of each end of a run, and nothing that Markdown or HTML would obey."""

import re

import pytest

from reports import words
from reports.run import markdown, summary
from simulator.checks.judge import judge
from simulator.model.verdict import Finding, Judgement, Verdict
from tests.checks.traces import failure, trace, update
from tests.reports.run.test_page import HOSTILE
from tests.worlds.virtually import scenario


def of(events, judgement=None, **manifest):
    made = trace(*events)
    said = {"scenario": {"name": "s", "fleet": {"devices": 1}}, "repeat": "fleetsim run s", "seed": 7, **manifest}
    return markdown.of_run(summary.summarise(said, made, judgement or Judgement(judge(made, scenario()))))


def test_it_holds_the_verdict_the_counts_the_times_and_the_command(left):
    numbers, _ = left
    text = markdown.of_run(numbers)
    assert text.startswith(f"## {words.MARKS[Verdict(numbers['verdict'])]} {numbers['verdict']}: ")
    assert markdown.plain(words.spelled(numbers)) in text
    rows = {cells[0]: cells[1:] for line in text.splitlines() if line.startswith("| ")
            for cells in [[cell.strip() for cell in line.strip("|").split(" | ")]]}  # fmt: skip
    assert rows["after"] == [words.seconds(at) for at in numbers["converged_s"].values()]
    q = numbers["phases_s"]["whole update"]
    assert rows["whole update"] == [f"{q['count']:,}", *(words.seconds(q[h]) for h in ("med", "p95", "p99", "max"))]
    assert f"```\n{numbers['repeat']}\n```" in text


def test_what_is_not_pass_is_listed_with_its_evidence_and_what_is_pass_is_counted():
    text = of(update(report={"version": "9"}))
    failing = [line for line in text.splitlines() if "FAIL |" in line]
    assert any("S11-true-success" in line for line in failing)
    assert re.search(r"^Checks and thresholds: \d+ passed, \d+ failed, \d+ unknown, \d+ had no occasion\.$", text, re.M)
    assert "S19-one-session" not in text
    assert "version=9" in text
    assert "S10-integrity" not in text


def test_a_run_that_passed_lists_no_check():
    findings = [
        Finding(verdict, "t", Verdict(verdict), "said") for verdict in ("PASS", "PASS", "NO OCCASION", "NOT JUDGED")
    ]
    text = of(update(), Judgement(tuple(findings)))
    assert "Checks and thresholds: 2 passed, 1 had no occasion, 1 could not be judged." in text
    assert "| finding |" not in text


def test_a_run_of_which_nothing_began_says_so_once():
    text = of([])
    assert "- no targets\n" in text
    assert "not reached" not in text


@pytest.mark.parametrize("events", [[], update()[:2], failure()], ids=["nothing", "only a target", "a failure"])
def test_every_end_has_a_summary_and_says_why_it_does_not_count(events):
    text = of(events, Judgement((), ("lag",), ("interrupted",), ("shard-0 died",)))
    for said in ("INVALID: s", "shard-0 died", "bottleneck: lag", "interrupted", "No check was made."):
        assert said in text


def test_nothing_hostile_gets_through():
    hostile = f"{HOSTILE} | `code` ``` [x](javascript:y) @all #1 \n# heading"
    found = Judgement((Finding(hostile, hostile, Verdict.FAIL, hostile, events=(0,)),), (hostile,), (hostile,))
    text = of(update(hostile), found, scenario={"name": hostile, "fleet": {"devices": 1}}, repeat=f"{hostile}\n```\nx")
    outside, inside, fence = [], [], ""
    for line in text.splitlines():
        if not fence and (opened := re.match("`{3,}", line)):
            fence = opened[0]
        elif line == fence:
            fence = ""
        else:
            (inside if fence else outside).append(line)
    assert not fence
    assert inside
    bare = re.sub(r"\\.", "", "\n".join(outside))
    assert "<" not in bare
    assert "`" not in bare
    assert "[" not in bare
    assert "\x1b" not in text
    assert [line for line in outside if line.startswith("#")] == [line for line in outside if line.startswith("## ")][
        :1
    ]
