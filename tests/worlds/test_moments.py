"""Faults at every moment and in every variant: what an update meets on its way costs time, or is told, and nothing else."""

import itertools
import json
from collections import Counter

import pytest

from simulator.checks.judge import judge
from simulator.model.events import Kind
from simulator.model.update import Phase
from tests.worlds.test_faults import ends
from tests.worlds.virtually import run, scenario

PROFILES = {
    "steady": {"bandwidth": {"uniform": ["100kbit", "200kbit"]}, "verify": {"uniform": ["1s", "3s"]},
               "install": {"uniform": ["2s", "6s"]}, "reboot": {"uniform": ["2s", "5s"]},
               "latency": {"uniform": ["100ms", "400ms"]}},
}  # fmt: skip


def steady(*faults, devices=24, rollout=None, **blocks):
    """Devices that stay a while in each phase."""
    made = {"size": "64KiB", **(rollout or {})}
    return scenario(devices=devices, profile="steady", profiles=PROFILES, faults=faults, rollout=made, settle="2m",
                    run_time="12h", **blocks)  # fmt: skip


def passing(made):
    """The trace of a run that passes all checks."""
    trace = run(made)
    assert [f for f in judge(trace, made) if f.verdict.against] == []
    return trace


def moments(trace):
    """phase -> (from, until) of each device's stay in it, in seconds since the rollout began."""
    began = trace.kind(Kind.STAGE).where("phase", "rollout")["t_us"][0]
    stays, at = {}, {}
    moves = trace.kind(Kind.PHASE)
    for t_us, thing, left, entered in zip(
        moves["t_us"].tolist(), moves.texts("thing"), moves.texts("phase"), moves.texts("status"), strict=True
    ):
        if thing in at:
            stays.setdefault(left, []).append((at[thing], (t_us - began) / 1e6))
        at[thing] = (t_us - began) / 1e6
        stays.setdefault(entered, [])
    return stays


# ---- F14: the power


CUTS_S = (0.0, 5.25, 7.5)
FIRST_S = range(14)


@pytest.mark.parametrize("first_s", FIRST_S)
def test_a_power_cut_in_the_middle_of_anything_costs_time_and_nothing_else(first_s):
    trace = passing(steady(*[{"fault": "F14-power-cut", "at": first_s + more} for more in CUTS_S]))
    assert len(set(trace.kind(Kind.BOOT).where("status", "power-cut").texts("thing"))) == 24
    assert set(ends(trace).values()) == {"SUCCEEDED"}


def test_power_cuts_are_tried_in_the_middle_of_every_phase_that_takes_time():
    met = set()
    for phase, stays in moments(run(steady())).items():
        cuts = {first + more for first in FIRST_S for more in CUTS_S}
        met |= {phase} if any(begin < cut < end for (begin, end), cut in itertools.product(stays, cuts)) else set()
    assert met >= {"downloading", "verifying", "installing", "rebooting", "reporting"}


@pytest.mark.parametrize("step", [str(phase) for phase in Phase if phase is not Phase.CONFIRMING])
def test_a_power_cut_at_any_boundary_of_an_update_that_fails_leaves_no_brick(step):
    trace = passing(steady({"fault": "F15-boot-fails"}, {"fault": "F14-power-cut", "step": step}, devices=6))
    assert Counter(trace.kind(Kind.BOOT).where("status", "power-cut").texts("thing")) == {
        f"device-{i}": 1 for i in range(6)
    }
    assert set(ends(trace).values()) == {"FAILED"}
    assert set(trace.kind(Kind.RETIRED).texts("version")) == {"1.0.0"}
    assert set(trace.kind(Kind.RETIRED).texts("status")) == {"idle"}


# ---- F20: an operator


@pytest.mark.parametrize("phase", [str(phase) for phase in Phase if phase is not Phase.IDLE])
def test_an_operator_may_cancel_while_a_device_is_in_any_phase(phase):
    paced = {"maximumPerMinute": 40}
    half = {"fault": "F15-boot-fails", "share": "50%"}
    stays = moments(run(steady(half, rollout=paced)))[phase]
    begin, end = stays[len(stays) // 2]
    at = float(begin + (end - begin) / 2)
    trace = passing(steady(half, {"fault": "F20-cancel", "at": at}, rollout=paced))
    aborted = trace.kind(Kind.ROLLOUT).where("status", "abort")["t_us"][0]
    began = trace.kind(Kind.STAGE).where("phase", "rollout")["t_us"][0]
    assert abs((aborted - began) / 1e6 - at) < 1e-3
    states = Counter(ends(trace).values())
    assert states["CANCELED"] > 0
    assert states["SUCCEEDED"] + states["FAILED"] == 24 - states["CANCELED"] > 0


# ---- F8: a storage that refuses


@pytest.mark.parametrize("status", [403, 404, 429, 503])
@pytest.mark.parametrize("retry_after", [0, 45])
def test_a_storage_that_refuses_is_heeded(status, retry_after):
    said = {"status": status, "retry_after": f"{retry_after}s"}
    trace = passing(steady({"fault": "F8-storage-refuses", "count": 6, "times": 3, "with": said}, devices=8))
    harmed = set(trace.kind(Kind.FAULT).where("status", "did").texts("thing"))
    assert len(harmed) == 6
    assert {ends(trace)[thing] for thing in harmed} == {"FAILED" if status == 404 else "SUCCEEDED"}
    for thing in harmed:
        pieces = trace.kind(Kind.DOWNLOAD).where("thing", thing)
        begun, ended = pieces["t_us"] - pieces["span_us"], pieces["t_us"]
        refused = [text == str(status) for text in pieces.texts("status")]
        assert refused == ([True] if status == 404 else [True, True, True, False])
        if status in (429, 503):
            assert (begun[1:] - ended[:-1] >= retry_after * 1_000_000).all()
    if status == 403:  # a fresh URL each time
        assert len(trace.kind(Kind.DELTA).where("status", "running").where("detail", "get")) >= 3 * 6


@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_storage_that_refuses_for_ever_is_given_up(status):
    refuses = {"fault": "F8-storage-refuses", "count": 4, "times": 1000, "with": {"status": status}}
    trace = passing(steady(refuses, devices=8))
    assert Counter(ends(trace).values()) == {"FAILED": 4, "SUCCEEDED": 4}
    assert sorted(Counter(trace.kind(Kind.DOWNLOAD).texts("thing")).values()) == [1, 1, 1, 1, 8, 8, 8, 8]
    assert set(trace.kind(Kind.EXECUTION).where("status", "FAILED").texts("detail")) == {f"http {status}"}


# ---- F7: clocks


@pytest.mark.parametrize("access", ["presigned", "credential"])
@pytest.mark.parametrize("by", ["1m", "-1m", "15m", "-15m", "18263d", "-18263d"])
def test_a_clock_that_is_wrong_costs_at_most_a_request(by, access):
    skew = {"fault": "F7-clock-skew", "share": "50%", "with": {"by": by}}
    trace = passing(steady(skew, devices=8, target={"access": access, "url_ttl": "10m"}))
    assert set(ends(trace).values()) == {"SUCCEEDED"}
    assert set(trace.kind(Kind.DOWNLOAD).texts("status")) == {"200"}


# ---- F17: a report, or its answer


LAST = {"fault": "F6-late-download", "count": 1, "with": {"wait": "10m"}}  # until then the rollout is under way


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("fault", ["F17-report-lost", "F17-answer-lost"])
def test_a_report_or_its_answer_that_is_lost_is_said_again_and_counted_once(fault, end, times):
    fails = [{"fault": "F15-boot-fails"}] if end == "FAILED" else []
    trace = passing(steady({"fault": fault, "times": times}, *fails, LAST, devices=8))
    last = trace.kind(Kind.FAULT).where("phase", LAST["fault"]).where("status", "did").texts("thing")[0]
    assert set(ends(trace).values()) == {end}
    reports = trace.kind(Kind.REPORT).where("status", "SUCCESS", "FAILURE")
    said = Counter(thing for thing in reports.texts("thing") if thing != last)
    assert said == {f"device-{i}": times + 1 for i in range(8) if f"device-{i}" != last}
    answers = trace.kind(Kind.ANSWER).where("status", "accepted")
    assert len(answers.only(answers["job"] >= 0)) == 8
    accepted = trace.kind(Kind.ACCEPTED).where("status", "reported")
    told = Counter(
        thing
        for thing, job in zip(accepted.texts("thing"), accepted.texts("job"), strict=True)
        if job and thing != last
    )
    assert set(told.values()) == {1}  # the same token changes the document once


@pytest.mark.parametrize("fault", ["F17-report-lost", "F17-answer-lost"])
def test_a_report_that_is_lost_before_a_power_cut_is_said_again_after_it(fault):
    cuts = [{"fault": "F14-power-cut", "at": at} for at in ("16s", "18s", "20s")]
    trace = passing(steady({"fault": fault}, *cuts, LAST))
    assert set(ends(trace).values()) == {"SUCCEEDED"}
    struck = trace.kind(Kind.FAULT).where("status", "did").where("phase", fault)
    cut = trace.kind(Kind.BOOT).where("status", "power-cut")
    between = cut.latest(struck, "thing") >= 0
    assert between.any()  # lost, and the power went before it could be said again
    assert all(json.loads(detail)["lost"] for detail in struck.texts("detail"))
