"""Runs compared: no alarm where nothing differs, the right one where something does, and nothing said that is not known."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pandas
import pytest
import yaml

from reports import files
from reports.comparison import compare, differences, resampling
from reports.comparison import text as comparison_text
from reports.comparison.differences import Change, Tolerances
from reports.comparison.samples import FIGURES, Sample, Values, figures, sample
from reports.run.times import durations
from reports.schemas import SCHEMAS
from simulator.checks.judge import judge
from simulator.model.verdict import Finding, Judgement, Verdict
from simulator.trace.reader import Trace, read_parquet
from simulator.trace.targets import Targets
from simulator.worlds.manifest import manifest_of
from tests.checks.traces import failure, trace, update
from tests.reports.run.test_page import HOSTILE, Reader
from tests.reports.run.test_summary import ask
from tests.worlds.running import fleetsim
from tests.worlds.virtually import run, scenario

SLOW = {"latency": {"uniform": ["30ms", "50ms"]}, "install": {"uniform": ["8s", "12s"]}}
SWIFT = {"latency": {"uniform": ["15ms", "25ms"]}, "install": {"uniform": ["2s", "3s"]}}


def side(made, events, judgement=None, path="a", **manifest):
    """A side of a comparison, of a scenario and its trace, or of events written by hand."""
    found = trace(*events) if isinstance(events, list) else events
    said = manifest_of(made, "fleetsim run") | {"complete": True, **manifest}
    return compare.side(Path("/runs", path), said, found, judgement or Judgement(judge(found, made)))


def virtual(path="a", **blocks):
    made = scenario(devices=120, **blocks)
    return side(made, run(made), path=path)


@pytest.fixture(scope="module")
def swift():
    return virtual(profile="p", profiles={"p": SWIFT})


@pytest.fixture(scope="module")
def slow():
    return virtual("b", profile="p", profiles={"p": SLOW})


def against(*sides, **allowed):
    found = compare.compare(sides, Tolerances(**allowed))
    jsonschema.Draft202012Validator(SCHEMAS["comparison"]).validate(json.loads(json.dumps(found)))
    return found


def changes(found, nth=0):
    return {row["figure"]: row["change"] for row in found["comparisons"][nth]["figures"]}


def one(findings=(("c", Verdict.PASS),), path="a", **judgement):
    """A run of a single device with these findings."""
    made = tuple(Finding(name, "t", verdict, f"said {verdict}", safety) for name, verdict, *more in findings
                 for safety in [not more])  # fmt: skip
    return side(scenario(devices=1), update(), Judgement(made, **judgement), path)


# ---- what comes of it


def test_the_same_run_twice_is_no_regression_and_differs_by_nothing(swift):
    found = against(swift, swift, relative=0.0, points=0.0)
    assert (found["verdict"], found["exit_code"]) == ("NO REGRESSION", 0)
    rows = found["comparisons"][0]["figures"]
    assert len(rows) == len(FIGURES)
    assert {(row["difference"], row["low"], row["high"], row["change"]) for row in rows} == {(0.0, 0.0, 0.0, "none")}
    assert found["comparisons"][0]["warnings"] == ["both are the same run"]


def test_a_slower_profile_is_a_regression_and_the_other_way_round_is_better(swift, slow):
    found = against(swift, slow)
    assert (found["verdict"], found["exit_code"]) == ("REGRESSION", 1)
    rows = {row["figure"]: row for row in found["comparisons"][0]["figures"]}
    for name in ("50% converged", "whole update, med", "offer to delta, med"):
        assert rows[name]["change"] == "regression"
        assert 0.1 < rows[name]["low"] <= rows[name]["difference"] <= rows[name]["high"]
    assert "whole update, med: " in " ".join(found["comparisons"][0]["why"])
    back = against(slow, swift)
    assert (back["verdict"], back["exit_code"]) == ("NO REGRESSION", 0)
    assert changes(back)["whole update, med"] == "better"


def test_the_tolerance_decides(swift, slow):
    assert against(swift, slow, relative=1.0)["exit_code"] == 1
    assert against(swift, slow, relative=50.0)["exit_code"] == 0


def test_of_several_runs_each_is_compared_with_the_first(swift, slow):
    found = against(swift, swift, slow)
    assert [one["run"] for one in found["comparisons"]] == ["B", "C"]
    assert [one["verdict"] for one in found["comparisons"]] == ["NO REGRESSION", "REGRESSION"]
    assert found["exit_code"] == 1


def test_the_same_runs_give_the_same_numbers_whatever_else_is_compared(swift, slow):
    assert against(swift, slow)["comparisons"][0] == against(swift, slow, swift)["comparisons"][0]


# ---- checks


@pytest.mark.parametrize(
    ("before", "after", "change", "code"),
    [
        ("PASS", "FAIL", "regression", 1),
        ("FAIL", "PASS", "better", 2),
        ("PASS", "UNKNOWN", "cannot tell", 2),
        ("UNKNOWN", "FAIL", "cannot tell", 2),
        ("PASS", "NO OCCASION", "none", 0),
        ("NO OCCASION", "PASS", "none", 0),
        ("NO OCCASION", "NOT JUDGED", "none", 0),
        ("NO OCCASION", "FAIL", "regression", 1),
        ("NOT JUDGED", "FAIL", "cannot tell", 2),
        ("FAIL", "NO OCCASION", "cannot tell", 2),
    ],
)
def test_a_check_that_changes_its_verdict(before, after, change, code):
    found = against(*(one([("c", Verdict(v)), ("d", Verdict.PASS)], path=v) for v in (before, after)))
    (check,) = found["comparisons"][0]["checks"]
    assert (check["check"], check["baseline"], check["run"], check["change"]) == ("c", before, after, change)
    assert found["exit_code"] == (code if change != "better" else 0)


def test_a_check_that_failed_before_is_no_new_one():
    failing = one([("c", Verdict.FAIL)])
    assert against(failing, failing)["comparisons"][0]["checks"] == []
    assert against(failing, failing)["exit_code"] == 0


def test_a_check_that_only_one_run_was_judged_by_cannot_be_told():
    bare, more = one(), one([("c", Verdict.PASS), ("d", Verdict.FAIL)])
    for pair in ((bare, more), (more, bare)):
        found = against(*pair)
        assert [check["change"] for check in found["comparisons"][0]["checks"]] == ["cannot tell"]
        assert found["exit_code"] == 2


# ---- runs that decide nothing


@pytest.mark.parametrize("why", [{"invalid": ("lag",)}, {"incomplete": ("interrupted",)}, {"died": ("broker died",)}])
def test_a_run_that_does_not_count_decides_nothing(swift, slow, why):
    made = scenario(devices=120, profile="p", profiles={"p": SLOW})
    void = side(made, run(made), Judgement((), **why), "v")
    for pair, name in (((swift, void), "B"), ((void, swift), "A")):
        found = against(*pair)
        assert (found["verdict"], found["exit_code"]) == ("UNKNOWN", 2)
        assert set(changes(found).values()) <= {Change.UNSURE, Change.FEW, Change.ABSENT}
        assert found["comparisons"][0]["why"][0].startswith(f"the figures of {name} do not count: ")
        assert next(iter(why.values()))[0] in found["comparisons"][0]["why"][0]


def test_a_broken_safety_promise_counts_even_in_an_invalid_run_and_a_liveness_one_does_not():
    for more, code in (((), 1), (("liveness",), 2)):
        broken = one([("c", Verdict.FAIL, *more)], "b", invalid=("lag",))
        assert against(one(), broken)["exit_code"] == code


@pytest.mark.parametrize(
    "events",
    [[], update()[:2], update(confirm=None, ended={"status": "TIMED_OUT"}), failure(), update()],
    ids=["nothing", "only a target", "nobody finished", "a failure", "one device"],
)
def test_a_comparison_for_every_end(tmp_path, events):
    made = scenario(devices=1)
    pair = side(made, update(), path="a"), side(made, events, path="b")
    for sides in (pair, pair[::-1]):
        found = files.write_comparison(tmp_path, sides, Tolerances())
        jsonschema.validate(json.loads((tmp_path / "comparison.json").read_text()), SCHEMAS["comparison"])
        assert "A is the baseline" in (tmp_path / "comparison.html").read_text()
        assert comparison_text.as_text(found, "p")
        if not all(row["change"] == "none" for row in found["comparisons"][0]["figures"]):
            assert found["exit_code"] in (1, 2)


def test_one_device_is_too_few_to_tell():
    made = scenario(devices=1)
    found = against(side(made, update()), side(made, update(ended={"t_us": 500_000}), path="b"))
    assert changes(found)["whole update, med"] == "too few"
    assert found["exit_code"] == 2
    assert found["comparisons"][0]["why"] == ["there are too few targets for a verdict"]


def test_what_nobody_reached_is_no_number_and_what_only_the_other_did_is_worse():
    done = [made for nth in range(30) for made in update(f"d-{nth}", f"r.d-{nth}.0")]
    undone = [made for nth in range(30) for made in failure(f"d-{nth}", f"r.d-{nth}.0")]
    made = scenario(devices=30)
    good, bad = (side(made, events, Judgement((Finding("c", "t", Verdict.PASS, ""),)), path)
                 for events, path in ((done, "a"), (undone, "b")))  # fmt: skip
    rows = {row["figure"]: row for row in against(good, bad)["comparisons"][0]["figures"]}
    assert (rows["50% converged"]["run"], rows["50% converged"]["difference"]) == (None, None)
    assert rows["50% converged"]["change"] == rows["did not succeed"]["change"] == "regression"
    assert rows["whole update, med"]["change"] == "no value"
    assert against(bad, good)["exit_code"] == 0
    assert "50% converged: not reached, was " in " ".join(against(good, bad)["comparisons"][0]["why"])


# ---- may they be compared?


def test_what_makes_runs_incomparable_is_said(swift):
    other = scenario(devices=60, profile="wifi", name="other")
    found = against(swift, side(other, run(other), path="b", world="live", host="elsewhere"))
    said = " / ".join(found["comparisons"][0]["warnings"])
    for words in (
        "different scenario: unnamed in the baseline, other in this run",
        "different number of devices: 120 in the baseline, 60 in this run",
        "different host: ",
    ):
        assert words in said
    assert not found["comparisons"][0]["paired"]


def test_what_was_changed_in_the_scenario_is_named(swift, slow):
    (said,) = against(swift, slow)["comparisons"][0]["warnings"]
    assert said == "the scenario was changed between the runs: profiles.p"
    keys = [key for key, *_ in against(swift, slow)["comparisons"][0]["settings"]]
    assert all(key.startswith("scenario.profiles.p.") for key in keys)


def test_another_seed_alone_is_comparable(swift):
    other = scenario(devices=120, profile="p", profiles={"p": SWIFT}, seed=2)
    found = against(swift, side(other, run(other), path="b"))
    assert found["comparisons"][0]["warnings"] == []
    assert found["comparisons"][0]["settings"] == [("scenario.seed", "1", "2")]
    assert found["comparisons"][0]["paired"]
    assert Change.WORSE not in changes(found).values()


# ---- the numbers


def test_figures_are_those_of_the_summary(left):
    numbers, path = left
    found = {name: values[0] for name, values in figures(sample(_opened(path))).items()}
    for percent in (50, 90, 99):
        said = numbers["converged_s"][f"{percent}%"]
        assert found[f"{percent}% converged"] == (np.inf if said is None else pytest.approx(said))
    for step in ("whole update", "offer to delta"):
        for name in ("med", "p95", "p99"):
            assert found[f"{step}, {name}"] == pytest.approx(numbers["phases_s"][step][name])
    assert found["deltas a second"] == pytest.approx(numbers["fan_out"]["rollout-1"]["slope"])
    assert found["bytes per installed byte"] == pytest.approx(numbers["effort"]["bytes downloaded"]["times"])
    done = numbers["outcomes"]["SUCCEEDED"]
    assert found["did not succeed"] == pytest.approx(1 - done / 60)
    assert found["messages per update"] == pytest.approx(sum(numbers["messages"].values()) / done)


def _opened(path):
    return Trace(read_parquet(path / "trace.parquet"))


def test_a_median_is_recounted_by_duckdb(left):
    found = figures(sample(_opened(left[1])))
    median = ask(left[1], """SELECT quantile_cont(span_us, 0.5) / 1e6 FROM TRACE
        WHERE kind = 'execution' AND status = 'SUCCEEDED'""").fetchone()[0]  # fmt: skip
    assert found["whole update, med"][0] == pytest.approx(median)


def test_drawn_figures_are_those_of_the_targets_drawn():
    """Weights say how often each target is there: the same as if its values were written down so often."""
    rng = np.random.default_rng(5)
    made = sample_of(rng.lognormal(size=(3, 50)))
    weights = rng.integers(0, 4, (6, 50))
    found = figures(made, weights)
    order = np.argsort(made.whole_update.of)
    by_target = made.whole_update.value[order]
    for row, times in enumerate(weights):
        drawn = np.repeat(by_target, times)
        assert found["whole update, med"][row] == pytest.approx(np.quantile(drawn, 0.5))
        assert found["whole update, p95"][row] == pytest.approx(np.quantile(drawn, 0.95))


def test_an_interval_is_that_of_another_library():
    rng = np.random.default_rng(11)
    a, b = rng.lognormal(0, 0.5, 400), rng.lognormal(0.2, 0.5, 400)
    found = {one.name: one for one in differences.differences(sample_of(a), sample_of(b))}["whole update, med"]
    both = pandas.DataFrame({"a": a, "b": b})
    medians = pandas.DataFrame([both.sample(frac=1, replace=True, random_state=n).median() for n in range(2000)])
    beyond = (1 - differences.CONFIDENCE) / 2 / len(FIGURES)
    said = (medians.b / medians.a - 1).quantile([beyond, 1 - beyond])
    assert [found.low, found.high] == pytest.approx(said.tolist(), abs=0.03)


def sample_of(values):
    """A sample whose times are these: of updates, and the same of all else; one value for each target."""
    rows = np.broadcast_to(values, (3, np.shape(values)[-1]))
    size = rows.shape[1]
    updates, deltas, heard = (Values(np.argsort(row), np.sort(row)) for row in rows)
    ones = np.ones(size, np.int64)
    return Sample(
        [f"{nth:06}" for nth in range(size)], 0 * ones, updates, updates, deltas, heard, ones, 5 * ones, ones, ones
    )


def test_draws_stay_within_each_cohort():
    rng = np.random.default_rng(1)
    made = sample_of(rng.lognormal(size=90))
    cohort = np.repeat([0, 1, 2], [50, 30, 10])
    weights = resampling._drawn(rng, replace(made, cohort=cohort), 7)
    for number, size in enumerate((50, 30, 10)):
        assert (weights[:, cohort == number].sum(axis=1) == size).all()
    small = replace(made, cohort=np.repeat([0, 1], [85, 5]))
    assert len(set(resampling._drawn(rng, small, 20)[:, 85:].sum(axis=1).tolist())) > 1


def test_many_targets_are_thinned_alike_in_both_runs():
    made = sample_of(np.random.default_rng(2).lognormal(size=resampling.TARGETS_MOST + 500))
    ours, theirs = resampling.drawings(made, made)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ("whole update, med", "did not succeed"))
    assert len(made.only(np.array([3, 9]))) == 2
    assert made.only(np.array([3, 9])).targets == ["000003", "000009"]


@pytest.mark.parametrize("paired", [True, False])
def test_equal_runs_raise_no_more_false_alarms_than_stated(paired):
    """60 pairs from one distribution, with no tolerance at all: of 5% of them, 8 or more come once in 130 times."""
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        a, b = (sample_of(rng.lognormal(0, 0.7, (3, 300))) for _ in range(2))
        b = b if paired else replace(b, targets=[f"other-{name}" for name in b.targets])
        assert resampling.paired(a, b) == paired
        judged = [one.judged(Tolerances(0.0, 0.0)) for one in differences.differences(a, b)]
        alarms += Change.WORSE in judged
    assert alarms < 8


def test_a_real_difference_is_found_in_the_right_direction():
    rng = np.random.default_rng(3)
    a, b = sample_of(rng.lognormal(0, 0.3, 500)), sample_of(1.5 * rng.lognormal(0, 0.3, 500))
    found = {one.name: one.judged(Tolerances()) for one in differences.differences(a, b)}
    assert found["whole update, med"] == found["50% converged"] == Change.WORSE
    assert found["deltas a second"] == Change.WORSE  # of times half as long again, two thirds a second
    back = {one.name: one.judged(Tolerances()) for one in differences.differences(b, a)}
    assert back["whole update, med"] == back["deltas a second"] == Change.BETTER


def test_a_difference_of_less_than_a_turn_of_the_loop_is_none():
    rng = np.random.default_rng(4)
    a = rng.uniform(0.001, 0.0012, 500)
    found = {one.name: one.judged(Tolerances()) for one in differences.differences(sample_of(a), sample_of(a * 1.5))}
    assert found["whole update, med"] == Change.SAME


# ---- what is written


def test_the_page_shows_the_numbers_and_needs_nothing_from_outside(tmp_path, swift, slow):
    found = files.write_comparison(tmp_path, [swift, slow], Tolerances())
    text = (tmp_path / "comparison.html").read_text()
    read = Reader(text)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base"})
    assert not re.search(r"https?:|//\w|@import|url\(\s*['\"]?(?!#)", text.replace("http://storage.test", ""))
    rows = {row[1]: row for row in read.table("change (interval)")[1:]}
    for row in found["comparisons"][0]["figures"]:
        shown = rows[row["figure"]]
        assert shown[2:6] == [compare.figure_text(row, "baseline"), compare.figure_text(row, "run"), compare.changed(row),
                              compare.bound(row)]  # fmt: skip
        assert shown[6] == comparison_text.came_of(row)
    spread = read.table("devices that heard of it")
    assert [row[0] for row in spread[1:]] == ["A", "B"]
    again = tmp_path / "again"
    again.mkdir()
    files.write_comparison(again, [swift, slow], Tolerances())
    for name in ("comparison.html", "comparison.json", "comparison.md"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_nothing_hostile_gets_through(tmp_path):
    made = scenario(devices=1, name="s")
    manifest = {"host": HOSTILE, "began": HOSTILE, "repeat": HOSTILE, "version": HOSTILE, "broker": {"name": HOSTILE}}
    findings = Judgement((Finding(HOSTILE, HOSTILE, Verdict.FAIL, HOSTILE),), (HOSTILE,))
    bad = side(made, update(target={"detail": HOSTILE}), findings, f"x{HOSTILE}", **manifest,
               scenario={"name": HOSTILE, HOSTILE: HOSTILE})  # fmt: skip
    files.write_comparison(tmp_path, [side(made, update()), bad], Tolerances())
    read = Reader((tmp_path / "comparison.html").read_text())
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "img"})
    assert "<script" not in re.sub(r"\\.", "", (tmp_path / "comparison.md").read_text())
    assert "onerror" not in {name for _, attrs in read.tags for name in attrs}
    assert "alert(1)" in read.text


def test_curves_are_those_of_the_trace(left):
    made = _opened(left[1])
    spans = durations(made, Targets(made))
    kept = compare._curves(made).took_s
    assert {name: len(took) for name, took in kept.items()} == {name: len(s.took_s) for name, s in spans.items()}


# ---- the command


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two runs on disk, of a swift and of a slow profile."""
    where = tmp_path_factory.mktemp("recorded")
    found = []
    for name, profile in (("swift", SWIFT), ("slow", SLOW)):
        file = where / f"{name}.yaml"
        blocks = {"name": "case", "world": "virtual", "profiles": {"p": profile}, "run_time": "10m",
                  "fleet": {"devices": 60, "profile": "p"}, "rollout": {"size": "4KiB"}}  # fmt: skip
        file.write_text(yaml.safe_dump(blocks))
        assert fleetsim("run", file, "--out", where / name, "--quiet")[0] == 0
        found.append(where / name / "latest")
    return found


def test_report_compares_and_its_exit_code_says_what_came_of_it(recorded, tmp_path):
    swift, slow = recorded
    step = tmp_path / "step.md"
    code, out, err = fleetsim("report", swift, slow, "--out", tmp_path / "c", env={"GITHUB_STEP_SUMMARY": str(step)})
    assert code == 1, out + err
    assert out.startswith("REGRESSION  case")
    assert {p.name for p in (tmp_path / "c").iterdir()} == {"comparison.html", "comparison.json", "comparison.md"}
    assert step.read_text().strip() == (tmp_path / "c" / "comparison.md").read_text().strip()
    code, out, _ = fleetsim("report", swift, swift, "--out", tmp_path / "d", "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "NO REGRESSION")
    assert fleetsim("report", swift, slow, "--out", tmp_path / "e", "--tolerance", "100%")[0] == 1


def test_a_killed_run_is_compared_and_decides_nothing(recorded, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(recorded[1].resolve(), killed)
    (killed / "trace.parquet").unlink()
    manifest = json.loads((killed / "manifest.json").read_text()) | {"complete": False}
    (killed / "manifest.json").write_text(json.dumps(manifest))
    part = killed / "parts" / "virtual.arrow"
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    code, out, err = fleetsim("report", recorded[0], killed, "--out", tmp_path / "c")
    assert code == 2, out + err
    assert "the figures of B do not count: " in out
    assert "Traceback" not in err


def test_without_out_it_goes_below_runs_compare(recorded, tmp_path):
    code, out, err = fleetsim("report", *recorded, cwd=tmp_path)
    assert code == 1, err
    (made,) = (tmp_path / "runs" / "compare").iterdir()
    assert f"runs/compare/{made.name}/comparison.html" in out
    assert (made / "comparison.json").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUN", "/nowhere"], "/nowhere: not a run directory"),
        (["RUN", "--tolerance", "5%"], "--tolerance: for a comparison; name two runs or more"),
        (["RUN", "--out", "x"], "--out: for a comparison"),
        (["RUN", "RUN", "--tolerance", "much"], "--tolerance: 'much' is not a share"),
        (["RUN", "RUN", "--tolerance-failed", "-1%"], "--tolerance-failed: '-1%' is not a share"),
        (["RUN"] * 27, "27 runs are too many"),
        ([], "Missing argument"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_bad_usage_ends_in_3(recorded, tmp_path, words, said):
    words = [recorded[0] if word == "RUN" else word for word in words]
    code, _, err = fleetsim("report", *words, cwd=tmp_path)
    assert code == 3
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_the_tolerances_in_help_are_those_that_hold():
    said = " ".join(fleetsim("report", "--help", env={"COLUMNS": "200"})[1].split())
    assert f"may be; none: {Tolerances().relative:.0%}" in said
    assert f"may not succeed; none: {Tolerances().points:.0%}" in said
