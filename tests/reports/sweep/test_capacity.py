"""What a sweep tells, on hand-made points: what counts, what saturated, what is said where nothing can be told."""

import json

import pytest

from reports.sweep import capacity
from reports.sweep import page as sweep_page
from tests.reports.run.test_page import HOSTILE, Reader
from tests.reports.sweep.test_scaling import law

LOADS = (100, 200, 400, 800, 1600)


def point(load, rate, *, nth=0, **changes):
    """A point that counts; `changes` are laid over it."""
    idle = {"mean": 0.1, "most": 0.2, "waited": 0.01}
    return {
        "load": load, "nth": nth, "seed": 1 + nth, "run": f"devices-{load}/s/then", "verdict": "PASS", "exit_code": 0,
        "safe": True, "invalid": [], "counts": True, "why": "", "broker": "embedded 1", "targets": load,
        "succeeded": load, "deltas_per_s": 900.0, "updates_per_s": rate, "steady_per_s": rate, "held_per_s": rate,
        "under_way": rate * 2,
        "offer_to_delta_s": {"median": 0.1, "p99": 0.2}, "downloading_s": {"median": 0.1, "p99": 0.2},
        "whole_update_s": {"median": 2.0, "p99": 3.0}, "cpu": {"shard-0": idle, "broker": idle, "replica": idle},
        "cpu_all": {"mean": 0.3, "most": 0.6}, "busy_before": 0.1,
    } | changes  # fmt: skip


def invalid(load, rate):
    why = ["loop lag p99 of shard-0: 0.3 s, allowed 0.1 s"]
    return point(load, rate, verdict="INVALID", exit_code=2, counts=False, invalid=why, why=why[0])


def sweep(points, **changes):
    return capacity.judged({
        "schema": 1, "scenario": {"name": "s", "description": "d", "world": "live", "target": {"kind": "reference"}},
        "version": "1", "python": "3", "host": "h", "cores": 4, "seed": 1, "options": {"link": "lean"}, "began": "then",
        "axis": "devices", "loads": sorted({p["load"] for p in points}), "repeat": 1, "unpaced": True, "holds": [],
        "pace_per_s": None, "command": "fleetsim sweep s", "ended": "", "died": False, "points": points,
    } | changes)  # fmt: skip


def curve(loads=LOADS, **parameters):
    return [point(load, float(law(load, **parameters))) for load in loads]


FEW = {"alone": 0.2, "contention": 0.002, "crosstalk": 1e-6}


def shown(made, tmp_path):
    sweep_page.write_sweep(tmp_path / "sweep.html", made)
    return Reader((tmp_path / "sweep.html").read_text())


def test_a_perfect_sweep_tells_knee_law_and_peak(tmp_path):
    made = sweep(curve(**FEW))
    found = made["analysis"]
    assert found["law"]["sigma"]["value"] == pytest.approx(0.002)
    assert found["law"]["peak"]["value"] == pytest.approx((0.998 / 1e-6) ** 0.5)
    assert found["knee"] == 400
    assert (found["most_at"], found["counting"], made["exit_code"]) == (800, 5, 0)
    assert "within what was measured" in found["beyond_said"]
    rows = shown(made, tmp_path).table("parameter")
    assert rows[2][1].startswith("0.002 ")


def test_the_curve_goes_on_beyond_the_last_point_and_no_farther_than_twice():
    law_ = sweep(curve(**FEW))["analysis"]["law"]
    assert law_["last"] == 1600
    assert law_["curve"][0]["N"] == 100
    assert law_["curve"][-1]["N"] == pytest.approx(3200)
    assert all(row["low"] <= row["value"] <= row["high"] for row in law_["curve"])


def test_an_invalid_point_is_shown_and_left_out(tmp_path):
    honest, more = sweep(curve(**FEW)), sweep([*curve(**FEW), invalid(3200, 999.0)])
    assert more["analysis"]["law"] == honest["analysis"]["law"]
    assert more["analysis"]["most_per_s"] == honest["analysis"]["most_per_s"]
    assert more["exit_code"] == 0
    assert "at 3,200 devices the load generator itself" in more["analysis"]["saturated_said"]
    read = shown(more, tmp_path)
    assert "INVALID: generator too slow" in read.text
    assert read.table("why")[1][0] == "3,200 devices"


def test_invalid_points_and_no_law_end_in_2():
    made = sweep([*curve(LOADS[:3], **FEW), invalid(800, 90.0)])
    assert made["analysis"]["law"] is None
    assert "only 3 loads gave a throughput that counts; at least 4 loads are needed" in made["analysis"]["law_said"]
    assert made["exit_code"] == 2
    assert sweep(curve(LOADS[:3], **FEW))["exit_code"] == 0  # all that was asked, and all of it passed
    nothing = sweep([invalid(800, 90.0)])
    assert nothing["analysis"]["saturated"] == ["generator"]
    assert nothing["exit_code"] == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"verdict": "FAIL", "exit_code": 1, "safe": False, "counts": False, "why": "S10-integrity"}, 1),
        ({"verdict": "FAIL", "exit_code": 1}, 1),
        ({"verdict": "UNKNOWN", "exit_code": 2, "counts": False, "why": "not complete"}, 2),
        ({"verdict": "UNKNOWN", "exit_code": 4, "counts": False, "why": "broker died"}, 4),
    ],
    ids=["unsafe", "late", "incomplete", "died"],
)
def test_the_exit_code_is_that_of_the_worst(changes, code):
    assert sweep([*curve(**FEW), point(3000, 80.0, **changes)])["exit_code"] == code


def test_a_sweep_that_ended_early_ends_in_2_and_says_how_to_go_on(tmp_path):
    made = sweep(curve(**FEW), ended="at 3,200 devices: interrupted")
    assert made["exit_code"] == 2
    assert "go on      fleetsim sweep s" in capacity.as_text(made, "there")
    assert "To go on: fleetsim sweep s" in shown(made, tmp_path).text
    assert sweep([], ended="at 10 devices: x", died=True)["exit_code"] == 4


def test_points_too_wild_for_any_law_are_said_to_be(tmp_path):
    made = sweep([point(load, rate) for load, rate in zip(LOADS, (5, 90, 3, 200, 9), strict=True)])
    assert made["analysis"]["law"] is None
    assert "cannot tell" in made["analysis"]["law_said"]
    assert "the throughput above this load cannot be predicted" in made["analysis"]["beyond_said"]
    assert "extrapolated" not in shown(made, tmp_path).text


def test_the_rollouts_own_pace_is_no_capacity():
    points = [point(load, min(load / 4, 98.0)) for load in LOADS]
    made = sweep(points, unpaced=False, holds=["maximumPerMinute"], pace_per_s=100.0)
    assert made["analysis"]["law"] is None
    assert (
        "from 400 devices on, the rollout's own maximum of 100 offers a second limits the throughput"
        in made["analysis"]["law_said"]
    )
    assert made["analysis"]["saturated"] == ["pace"]
    assert "--unpaced" in " ".join(made["analysis"]["notes"])


def busy(process, mean=0.2, most=0.3, waited=0.0):
    return {"cpu": {process: {"mean": mean, "most": most, "waited": waited}}}


@pytest.mark.parametrize(
    ("changes", "saturated"),
    [
        (busy("broker", 0.95), ["broker"]),
        (busy("mosquitto", most=1.0), ["broker"]),
        (busy("replica", 0.5, waited=0.4), ["replica", "machine"]),
        (busy("storage", 0.9), ["storage"]),
        (busy("application", 0.9), ["application"]),
        (busy("shard-1", 0.9), ["generator"]),
        ({"cpu_all": {"mean": 3.0, "most": 3.8}}, ["machine"]),
        (busy("shard-0", waited=0.3), ["machine"]),
        (busy("shard-0", waited=None), []),
        ({}, []),
    ],
    ids=[
        "broker",
        "mosquitto",
        "replica",
        "storage",
        "application",
        "generator",
        "all together",
        "waits",
        "not told",
        "nothing",
    ],
)
def test_what_saturated_at_the_last_load(changes, saturated):
    points = curve(**FEW)
    points[-1] |= changes
    assert sweep(points)["analysis"]["saturated"] == saturated
    points[0] |= busy("broker", 0.95)  # at the lowest load it does not matter
    assert sweep(points)["analysis"]["saturated"] == saturated


def test_nothing_busy_is_said_in_two_ways():
    assert "something else" in sweep(curve(**FEW))["analysis"]["saturated_said"]
    straight = [point(load, load / 10) for load in LOADS]
    assert "nothing yet" in sweep(straight)["analysis"]["saturated_said"]


def test_what_else_the_machine_did_is_said():
    points = [p | {"busy_before": 2.0} for p in curve(**FEW)]
    assert "took up to 2.0 of its 4 cores" in " ".join(sweep(points)["analysis"]["notes"])
    assert "took up to" not in " ".join(sweep(curve(**FEW))["analysis"]["notes"])


def test_over_rates_what_was_offered_stands_beside_what_was_achieved(tmp_path):
    rates = {30.0: 30.0, 60.0: 59.0, 120.0: 118.0, 240.0: 150.0, 480.0: 155.0}
    points = [point(load, rate, under_way=w, updates_per_s=1.0)
              for (load, rate), w in zip(rates.items(), (60, 118, 240, 900, 2000), strict=True)]  # fmt: skip
    made = sweep(points, axis="rates")
    assert made["analysis"]["knee"] == 120
    assert "the system kept up with 120/s, but not with the next higher rate" in made["analysis"]["knee_said"]
    assert made["analysis"]["law"]["N"] == "executions under way"
    assert made["analysis"]["law"]["last"] == 2000
    assert made["analysis"]["most_per_s"] == 155
    text = shown(made, tmp_path).text
    assert "as offered" in text
    assert "offered a second" in text


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({}, "no rate was held long enough in a run that counts"),
        ({10.0: 10.0}, "none up to 10/s"),
        ({10.0: 5.0}, "did not keep up even with the lowest rate"),
    ],
)
def test_over_rates_without_a_knee(rates, said):
    made = sweep([point(load, rate) for load, rate in rates.items()], axis="rates")
    assert made["analysis"]["knee"] is None
    assert said in made["analysis"]["knee_said"]


def test_a_rate_that_was_not_held_long_enough_tells_no_throughput_and_says_what_it_takes(tmp_path):
    points = [point(load, load, held_per_s=None if load > 20 else load) for load in (10.0, 20.0, 40.0, 60.0)]
    made = sweep(points, axis="rates")
    assert "none up to 20/s" in made["analysis"]["knee_said"]
    note = made["analysis"]["notes"][0]
    assert note.startswith("At 40/s, 60/s there were too few devices to hold the rate")
    assert "--devices 400" in note  # twice the 60 a second, of 3 s
    assert note in shown(made, tmp_path).text
    assert "At 10/s" not in " ".join(sweep(points[:2], axis="rates")["analysis"]["notes"])


def test_repeated_loads_are_shown_each_and_told_by_their_median():
    points = [point(load, float(law(load, **FEW)) * by, nth=nth) for load in LOADS for nth, by in enumerate((1, 1, 3))]
    made = sweep(points, repeat=3)
    assert made["analysis"]["most_per_s"] == pytest.approx(float(law(800, **FEW)))
    assert made["analysis"]["counting"] == 15
    assert capacity.as_text(made, "there").count(" 1,600 devices  PASS") == 3


def test_virtual_time_says_that_it_measures_no_machine(tmp_path):
    points = [p | {"cpu": {}, "cpu_all": None, "busy_before": None} for p in curve(**FEW)]
    made = sweep(points, scenario={"name": "s", "world": "virtual", "target": {"kind": "reference"}})
    assert "Virtual time measures the protocol, not a machine" in shown(made, tmp_path).text
    assert made["analysis"]["saturated"] == []


def test_a_page_for_nothing_at_all(tmp_path):
    made = sweep([], ended="at 10 devices: interrupted", loads=[10])
    assert "Nothing was measured" in shown(made, tmp_path).text
    assert "nothing was measured" in capacity.as_text(made, "there")
    nobody = point(10, 1.0, verdict="FAIL", exit_code=1, counts=False, why="too few", updates_per_s=None,
                   steady_per_s=None, held_per_s=None, deltas_per_s=None, under_way=None, offer_to_delta_s=None, downloading_s=None,
                   whole_update_s=None, cpu={}, cpu_all=None)  # fmt: skip
    assert "too few" in shown(sweep([nobody]), tmp_path).text


def test_the_page_is_one_file_and_nothing_hostile_gets_through(tmp_path):
    points = [p | {"why": HOSTILE, "broker": HOSTILE, "run": HOSTILE} for p in curve(**FEW)]
    points[-1]["cpu"] = {HOSTILE: {"mean": 0.99, "most": 1.0, "waited": 0.5}}
    scenario = {"name": HOSTILE, "description": HOSTILE, "world": "live", "target": {"kind": "reference"}}
    read = shown(sweep(points, scenario=scenario, host=HOSTILE, command=HOSTILE, ended=HOSTILE), tmp_path)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "img", "link", "iframe", "object"})
    assert "onerror" not in {name for _, attrs in read.tags for name in attrs}
    assert all("src" not in attrs for _, attrs in read.tags)


def test_the_same_sweep_gives_the_same_page(tmp_path):
    made = json.loads(json.dumps(sweep(curve(**FEW))))
    pages = []
    for _ in range(2):
        sweep_page.write_sweep(tmp_path / "a.html", made)
        pages.append((tmp_path / "a.html").read_text())
    assert pages[0] == pages[1]
