"""Faults in whole runs: each strikes whom it should, breaks what it says it may, and nothing else."""

import json
import random
import re
from collections import Counter

import numpy as np
import pytest

from simulator.broker.core import Broker
from simulator.broker.packets import ConnAck, Connect
from simulator.checks import requests
from simulator.checks.judge import judge
from simulator.checks.validity import validity
from simulator.device.habits import HABITS
from simulator.faults.catalogue import CATALOGUE
from simulator.faults.rules import Nature, OnServer, OtherClient, Strike
from simulator.faults.swarm import with_swarm
from simulator.model.errors import PartDied
from simulator.model.events import Kind
from simulator.model.verdict import Verdict
from simulator.worlds import virtual
from tests.worlds.running import fleetsim, latest
from tests.worlds.running import scenario as written
from tests.worlds.virtually import run, scenario

FAILS = {"F11-corrupt", "F13-disk-full", "F15-boot-fails"}  # the update fails, and the device says so
SOMETIMES = {"F22-poisoned-build"}
GONE = {"F19-vanish"}


def asked(name, **more):
    """A fault with a time, where it needs one."""
    made = {"fault": name, **more}
    if name == "F3-offline":
        made |= {"step": "installing", "for": "2m"}
    elif name == "F24-blackhole":
        made |= {"at": 0, "for": "2m"}
    elif CATALOGUE[name].settings == {} and isinstance(CATALOGUE[name].make(), Strike | OtherClient):
        made |= {"step": "downloading"}
    return made


def harmed_run(*faults, **blocks):
    """(trace, the harmed things, check -> finding that is not PASS) of a run of 12 devices."""
    blocks = {"rollout": {"timeoutConfig": {"inProgressTimeout": "3h"}}, "target": {"url_ttl": "10m"}, **blocks}
    made = scenario(devices=12, profile="wifi", run_time="12h", faults=faults, **blocks)
    trace = run(made)
    harmed = {made.fleet.name(o) for nth in range(len(faults)) for o in made.harmed(nth)}
    return trace, harmed, {f.check: f for f in judge(trace, made) if f.verdict.against}


def ends(trace):
    return dict(zip(trace.kind(Kind.EXECUTION).texts("thing"), trace.kind(Kind.EXECUTION).texts("status"), strict=True))


HASTY = {"F5-herd", "F21-retry-storm"}
SERVERS = {name for name, package in CATALOGUE.items() if not package.settings and isinstance(package.make(), OnServer)}


COMPANY = {  # what brings a bad habit out, and how the executions of those that have it end
    "F2-single-gate": ((), "TIMED_OUT"),
    "F3-never-asks": (({"fault": "F3-offline", "at": 0, "for": "20s"},), "TIMED_OUT"),
    "F6-keeps-url": (({"fault": "F6-late-download"},), "FAILED"),
    "F9-appends": (({"fault": "F9-range-ignored"},), "FAILED"),
    "F14-marks-early": (({"fault": "F14-power-cut", "step": "downloading"},), "TIMED_OUT"),
    "F17-says-once": (({"fault": "F15-boot-fails"}, {"fault": "F17-report-lost"}), "TIMED_OUT"),
    "F17-parks": (({"fault": "F15-boot-fails"}, {"fault": "F17-answer-lost"}), "TIMED_OUT"),
    "F17-fails-late": (({"fault": "F17-report-lost"},), "FAILED"),
    "F18-redoes": (({"fault": "F18-label-mismatch"},), "SUCCEEDED"),
}  # fmt: skip

PARKED = {"F17-parks"}  # seen when something more is desired of it


@pytest.mark.parametrize("name", sorted(CATALOGUE.keys() - SERVERS - HASTY - COMPANY.keys()))
def test_a_fault_strikes_those_it_is_meant_for_and_breaks_what_it_may(name):
    trace, harmed, findings = harmed_run(asked(name, count=4))
    did = trace.kind(Kind.FAULT).where("status", "did")
    assert set(did.texts("thing")) == harmed
    assert set(did.texts("phase")) == {name}
    assert all(json.loads(detail) for detail in did.texts("detail"))
    broken = {check for check, found in findings.items() if found.verdict is Verdict.FAIL}
    assert broken == set(CATALOGUE[name].breaks)
    for check in broken:
        assert set(findings[check].things) == harmed
    states = ends(trace)
    well = {thing for thing in states if thing not in harmed}
    assert {states[thing] for thing in well} == {"SUCCEEDED"}
    found = {states[thing] for thing in harmed}
    if name in SOMETIMES:
        assert found <= {"SUCCEEDED", "FAILED"}
    else:
        assert found == {"FAILED" if name in FAILS else "TIMED_OUT" if name in GONE else "SUCCEEDED"}


def test_each_habit_has_its_fault():
    made = [package.make() for package in CATALOGUE.values() if package.settings == {}]
    of_their_own = {rule.habit for rule in made if isinstance(rule, Nature)} - {""}
    by_setting = {CATALOGUE["F5-herd"].make(gap=1, policy="reset-on-connect").habit}
    assert of_their_own | by_setting == set(HABITS)


@pytest.mark.parametrize("name", sorted(COMPANY))
def test_a_bad_habit_is_seen_in_the_company_that_brings_it_out(name):
    company, end = COMPANY[name]
    blocks = {"rollout": {"timeoutConfig": {"inProgressTimeout": "3h"}, "retryConfig": {"failed": int(name in PARKED)}}}
    _, _, findings = harmed_run(*company, **blocks)
    assert findings == {}
    trace, _, findings = harmed_run(*company, {"fault": name, "count": 4}, **blocks)
    bad = set(trace.kind(Kind.FAULT).where("status", "did").where("phase", name).texts("thing"))
    assert len(bad) == 4
    assert set(findings) == set(CATALOGUE[name].breaks)
    assert all(set(found.things) <= bad for found in findings.values())
    assert {state for thing, state in ends(trace).items() if thing in bad} == {end}


@pytest.mark.parametrize("name", sorted(HASTY))
def test_a_device_without_patience_is_seen_where_it_has_to_wait(name):
    faults = {"fault": "F3-offline", "at": "5s", "for": "30s"}, {"fault": name, "count": 4}
    trace, _, findings = harmed_run(*faults, target={"connects_per_second": 3})
    did = trace.kind(Kind.FAULT).where("status", "did")
    hasty = set(did.where("phase", name).texts("thing"))
    assert len(hasty) == 4
    assert set(findings) == set(CATALOGUE[name].breaks)
    assert set(findings["L9-backoff"].things) == hasty
    _, _, findings = harmed_run(*faults)
    assert set(findings) == {"L9-backoff"}  # where nothing caps connections, a herd breaks no more than that
    _, _, findings = harmed_run(faults[0], target={"connects_per_second": 3})
    assert findings == {}


@pytest.mark.parametrize(
    "company",
    [{"fault": "F8-storage-refuses", "times": 5}, {"fault": "F17-answer-lost", "times": 5},
     {"fault": "F3-offline", "at": "5s", "for": "30s"}, {"fault": "F4-broker-killed", "at": "5s", "for": "30s"}],
    ids=lambda company: company["fault"],
)  # fmt: skip
@pytest.mark.parametrize("name", sorted(HASTY))
def test_a_gap_that_is_longer_than_the_back_off_makes_nobody_late(name, company):
    made = {"fault": name, "count": 4, "with": {"gap": "20m"}}
    trace, harmed, findings = harmed_run(company, made, settle="2h")
    assert harmed
    assert findings == {}
    assert set(ends(trace).values()) == {"SUCCEEDED"}


class Busy(Broker):
    """Takes every connection, and for a while refuses all but those of the services."""

    def receive(self, conn, packet, now):
        if isinstance(packet, Connect) and packet.client_id.startswith("device") and 20 < now < 200:
            return [(conn, ConnAck(0x89))]
        return super().receive(conn, packet, now)


def test_a_device_that_takes_tcp_for_a_success_does_not_wait_longer_each_time():
    hasty = {"fault": "F5-herd", "count": 4, "with": {"policy": "reset-on-connect"}}
    made = scenario(devices=12, profile="wifi", rollout={"maximumPerMinute": 10}, run_time="2h", faults=[
        hasty, {"fault": "F3-offline", "at": "19s", "for": "2s"}])  # fmt: skip
    findings = {f.check: f for f in judge(run(made, broker=Busy), made) if f.verdict is Verdict.FAIL}
    assert findings.keys() == {"L8-return", "L9-backoff"}  # L8: the broker refuses for longer than it may
    assert set(findings["L9-backoff"].things) == {made.fleet.name(ordinal) for ordinal in made.harmed(0)}
    assert [f for f in judge(run(made), made) if f.verdict is Verdict.FAIL] == []  # nobody takes TCP and no more


COMES_BACK = {"clean": "new", "persistent": "resumed", "expired": "new"}


def comes_back(trace, after_us):
    """thing -> how its first connection after this time began."""
    found = trace.kind(Kind.CONNECT).where("status", "new", "resumed")
    found = found.only(found["t_us"] > after_us)
    return dict(reversed(list(zip(found.texts("thing"), found.texts("status"), strict=True))))


@pytest.mark.parametrize("session", COMES_BACK)
def test_a_device_that_was_offline_finds_the_session_that_it_had_asked_for(session):
    fault = {"fault": "F3-offline", "count": 5, "at": "5s", "for": "40s", "with": {"session": session}}
    trace, harmed, findings = harmed_run(fault, rollout={"maximumPerMinute": 20}, settle="2m")
    assert findings == {}
    end = trace.kind(Kind.FAULT).where("status", "end")["t_us"][0]
    back = comes_back(trace, end)
    assert {back[thing] for thing in harmed} == {COMES_BACK[session]}
    queued = trace.kind(Kind.DELTA).where("status", "duplicate", "running", "start").where("detail", "delta")
    late = set(queued.only(queued["t_us"] > end).texts("thing")) & harmed
    assert late  # the replica says it again, whatever was kept


def test_a_road_that_forgets_who_says_nothing_keeps_a_delta_from_its_device():
    idle = {"fault": "F24-blackhole", "count": 4, "with": {"idle": "2m30s"}}
    made = scenario(devices=12, profile="lte-m", rollout={"startAfter": "5m"}, run_time="12h", faults=[idle],
                    profiles={"lte-m": {"keep_alive": "4m", "latency": "60ms"}})  # fmt: skip
    trace = run(made)
    harmed = {made.fleet.name(ordinal) for ordinal in made.harmed(0)}
    did = trace.kind(Kind.FAULT).where("status", "did")
    assert set(did.texts("thing")) == harmed
    broken = {f.check: set(f.things) for f in judge(trace, made) if f.verdict.against}
    assert broken == {"L3-learns": harmed}
    assert set(ends(trace).values()) == {"SUCCEEDED"}
    often = made.model_copy(update={"profiles": {"lte-m": made.profile("lte-m").model_copy(update={"keep_alive": 60})}})
    assert len(run(often).kind(Kind.FAULT).where("status", "did")) == 0  # who pings is not forgotten


@pytest.mark.parametrize("profile", ["perfect", "wifi", "nb-iot"])
@pytest.mark.parametrize("step", ["downloading", "installing", "rebooting", "reporting", "idle"])
def test_an_old_connection_that_is_left_open_is_closed_and_costs_nothing(step, profile):
    made = scenario(devices=8, profile=profile, run_time="12h", settle="5m",
                    faults=[{"fault": "F25-half-open", "step": step}])  # fmt: skip
    trace = run(made)
    assert [f for f in judge(trace, made) if f.verdict.against] == []
    assert set(ends(trace).values()) == {"SUCCEEDED"}
    saw = trace.kind(Kind.FAULT).where("status", "saw")
    closed = [thing for thing, said in zip(saw.texts("thing"), saw.texts("detail"), strict=True) if "closed" in said]
    assert len(closed) == len(set(closed)) == (0 if step == "reporting" else 8)  # then it has not connected again yet


@pytest.mark.parametrize(
    "step", ["downloading", "verifying", "installing", "rebooting", "confirming", "reporting", "idle"]
)
@pytest.mark.parametrize("profile", ["perfect", "wifi"])
def test_a_power_cut_at_any_phase_boundary_is_survived(step, profile):
    made = scenario(devices=6, profile=profile, faults=[{"fault": "F14-power-cut", "step": step}], settle="1m")
    trace = run(made)
    cuts = trace.kind(Kind.BOOT).where("status", "power-cut")
    assert Counter(cuts.texts("thing")) == {f"device-{i}": 1 for i in range(6)}
    assert set(ends(trace).values()) == {"SUCCEEDED"}
    assert [f for f in judge(trace, made) if f.verdict.against] == []


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "F17-answer-lost", "times": 20}, {"fault": "F23-at-once", "with": {"every": "3m"}},
        {"fault": "F2-held", "with": {"name": "accepted", "hold": "2m"}},
        {"fault": "F24-blackhole", "step": "installing", "for": "3m"},
    ],
    ids=["answers", "gathered", "held", "dark"],
)  # fmt: skip
def test_nobody_is_accused_of_the_answers_that_a_fault_has_kept_back(monkeypatch, fault):
    slow = {
        "slow": {
            "latency": "20ms",
            "keep_alive": "10m",
            "install": {"uniform": ["3m", "6m"]},
            "running_interval": "7s",
            "resend": {"base": "5s", "attempts": 2},
        }
    }
    made = scenario(devices=8, profile="slow", profiles=slow, faults=[{**fault, "count": 3}], settle="4m",
                    rollout={"maximumPerMinute": 1})  # fmt: skip
    trace = run(made)
    assert [f for f in judge(trace, made) if f.verdict is Verdict.FAIL and f.check not in ("L3-learns",)] == []
    monkeypatch.setattr(requests, "_kept_back", lambda trace, asked, until: np.zeros(len(asked), bool))
    found = {f.check: f for f in judge(trace, made)}["L5-answered"]
    assert found.verdict == "FAIL"
    assert set(found.things) <= {made.fleet.name(o) for o in made.harmed(0)}  # the last may end after the fault


def test_a_power_cut_goes_no_further_than_the_boundary():
    made = scenario(devices=1, faults=[{"fault": "F14-power-cut", "step": "installing"}])
    trace = run(made)
    kinds = trace.table["kind"].to_pylist()
    cut = next(n for n, s in enumerate(trace.table["status"].to_pylist()) if s == "power-cut" and kinds[n] == "boot")
    assert "commit" not in kinds[:cut]
    assert kinds.count("commit") == 1


def test_a_fault_has_its_time_and_ends_with_it():
    faults = [{"fault": "F3-offline", "share": "50%", "at": "3s", "for": "40s"}]
    trace, harmed, findings = harmed_run(*faults)
    turns = trace.kind(Kind.FAULT).where("status", "begin", "end")
    began = trace.kind(Kind.STAGE).where("phase", "rollout")["t_us"][0]
    assert [(s, round((t - began) / 1e6)) for s, t in zip(turns.texts("status"), turns["t_us"], strict=True)] == [
        ("begin", 3),
        ("end", 43),
    ]
    assert len(harmed) == 6
    assert findings == {}
    assert trace.kind(Kind.STAGE).texts("phase") == ["ramp", "rollout", "heal", "settle"]


def test_what_is_left_is_healed_when_the_rollout_has_ended():
    trace, _, _ = harmed_run({"fault": "F17-answer-lost", "count": 1, "times": 100}, rollout={})
    turns = trace.kind(Kind.FAULT).where("status", "begin", "end")
    assert turns.texts("status") == ["begin", "end"]
    heal = trace.kind(Kind.STAGE).where("phase", "heal")["t_us"][0]
    assert turns["t_us"][1] == heal


FOR_EVER = {"fault": "F3-offline", "share": "30%", "at": "1s"}


def test_what_is_left_is_healed_at_the_time_that_the_scenario_gives():
    late = {"fault": "F14-power-cut", "at": "10m"}
    made = scenario(devices=20, run_time="10m", heal="3m", faults=[FOR_EVER, late], rollout={"maximumPerMinute": 60})
    trace = run(made)
    assert Counter(ends(trace).values()) == {"SUCCEEDED": 20}
    assert [f for f in judge(trace, made) if f.verdict.against] == []
    stages = dict(zip(trace.kind(Kind.STAGE).texts("phase"), trace.kind(Kind.STAGE)["t_us"] / 1e6, strict=True))
    assert stages["heal"] - stages["rollout"] == 180
    assert stages["settle"] > stages["heal"]
    assert trace.kind(Kind.FAULT).where("status", "begin", "end").texts("status") == ["begin", "end"]


def test_a_fault_that_keeps_the_rollout_from_ending_is_named():
    made = scenario(devices=20, run_time="10m", faults=[FOR_EVER], rollout={"maximumPerMinute": 60})
    outcome = virtual.run(made, lambda batch: None)
    assert outcome["reason"] == (
        "not finished within run_time 600 s: F3-offline had not ended; give it `for`, or the scenario `heal`"
    )


def test_leaving_out_a_fault_harms_no_other_device_of_the_rest():
    faults = [asked("F9-cut", count=3), asked("F1-duplicate", count=3), asked("F9-cut", count=2)]
    full = scenario(devices=40, faults=faults)
    without = scenario(devices=40, faults=[faults[0], faults[2]])
    assert full.harmed(0) == without.harmed(0)
    assert full.harmed(2) == without.harmed(1)
    assert full.harmed(0) != full.harmed(2)


def swarming(seed, dialect="atlas"):
    return scenario(devices=15, profile=["wifi", "flaky", "nb-iot"][seed % 3], seed=seed, swarm=3, run_time="24h",
                    rollout={"maximumPerMinute": 60}, target={"dialect": dialect})  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "seed"), [*(("atlas", n) for n in range(30)), *(("atlas-example", n) for n in range(8))]
)
def test_a_swarm_of_harmless_faults_raises_no_alarm(dialect, seed):
    """Each seed has its own faults; those that break nothing must break nothing together either."""
    made = with_swarm(swarming(seed, dialect))
    failed = {f.check: f.summary for f in judge(run(made), made) if f.verdict is Verdict.FAIL}
    assert failed == {}, made.faults


def test_in_the_pages_own_code_a_report_that_is_lost_with_its_connection_is_said_again():
    trace, _, findings = harmed_run({"fault": "F17-report-lost", "count": 4}, target={"dialect": "atlas-example"})
    assert (
        len(trace.kind(Kind.FAULT).where("status", "did")) == len(trace.kind(Kind.DELTA).where("status", "again")) == 4
    )
    assert findings == {}


HARMFUL = sorted(name for name, package in CATALOGUE.items() if package.breaks)


def condemned(seed):
    """A fleet with one fault of those that break something, drawn with its parameters, and what provokes it."""
    roll = random.Random(seed)
    name = HARMFUL[seed % len(HARMFUL)]
    fault = {"fault": name, "count": roll.randint(1, 7)}
    options = {
        "F2-held": lambda: {"hold": f"{roll.randint(60, 600)}s"},
        "F5-herd": lambda: {"gap": f"{roll.randint(100, 400)}ms"},
        "F9-wrong-range": lambda: {"at": round(roll.uniform(0.1, 0.9), 2)},
        "F9-changed": lambda: {"at": round(roll.uniform(0.1, 0.9), 2)},
        "F21-retry-storm": lambda: {"gap": f"{roll.randint(50, 300)}ms"},
    }
    if name in options:
        fault["with"] = options[name]()
    if name == "F24-blackhole":
        fault |= {"at": 0, "for": f"{roll.randint(120, 300)}s"}
    faults = [fault]
    if name in HASTY:
        faults.insert(0, {"fault": "F3-offline", "at": 0, "for": f"{roll.randint(20, 60)}s"})
    elif name in COMPANY:
        faults = [*COMPANY[name][0], *faults]
    rollout = {"size": roll.choice(["4KiB", "64KiB"]), "retryConfig": {"failed": int(name in PARKED)}}
    return scenario(devices=roll.randint(8, 20), profile=roll.choice(["wifi", "perfect"]), seed=seed, faults=faults,
                    rollout=rollout, run_time="12h")  # fmt: skip


def accused(made):
    """(the checks and things that must be found, those that are) in a run under the last of its faults."""
    trace = run(made)
    last = len(made.faults) - 1
    harmed = {made.fleet.name(ordinal) for ordinal in made.harmed(last)}
    found = {f.check: set(f.things) for f in judge(trace, made) if f.verdict.against}
    capped = made.target.connects_per_second is not None
    breaks = [check for check in CATALOGUE[made.faults[last].fault].breaks if capped or check != "L8-return"]
    return dict.fromkeys(breaks, harmed), found


@pytest.mark.parametrize("seed", range(3 * len(HARMFUL)))
def test_a_swarm_of_harmful_faults_fails_what_they_declare_on_those_they_harm_and_nothing_else(seed):
    made = condemned(seed)
    declared, found = accused(made)
    assert found == declared, made.faults


# ---- servers and operators

MEANWHILE = {  # what does not happen while it is down
    "F4-broker-killed": Kind.ACCEPTED,
    "F4-replica-killed": Kind.ACCEPTED,
    "F8-backend-killed": Kind.ACCEPTED,
    "F8-storage-killed": Kind.SERVED,
}


@pytest.mark.parametrize("profile", ["wifi", "nb-iot", "perfect"])
@pytest.mark.parametrize("name", sorted(MEANWHILE))
def test_a_server_that_is_killed_costs_time_and_nothing_else(name, profile):
    made = scenario(
        devices=60, profile=profile, run_time="12h", faults=[{"fault": name, "at": "6s", "for": "20s"}],
        rollout={"maximumPerMinute": 120},
    )  # fmt: skip
    trace = run(made)
    assert Counter(ends(trace).values()) == {"SUCCEEDED": 60}
    assert [f for f in judge(trace, made) if f.verdict.against] == []
    turns = trace.kind(Kind.FAULT).where("status", "begin", "end")["t_us"]
    done = trace.kind(MEANWHILE[name])["t_us"]
    assert not ((done > turns[0] + 10_000) & (done < turns[1])).any()
    lost = trace.kind(Kind.LOST).where("status", "lost")
    assert (len(lost) > 0) == (name == "F4-broker-killed")


@pytest.mark.parametrize("name", sorted(MEANWHILE))
def test_a_server_that_is_killed_twice_at_once_comes_back_once(name):
    made = scenario(
        devices=40, rollout={"maximumPerMinute": 60},
        faults=[{"fault": name, "at": "4s", "for": "20s"}, {"fault": name, "at": "10s", "for": "5s"}],
    )  # fmt: skip
    trace = run(made)
    assert Counter(ends(trace).values()) == {"SUCCEEDED": 40}
    assert [f for f in judge(trace, made) if f.verdict.against] == []
    done = trace.kind(MEANWHILE[name])["t_us"] / 1e6
    began = trace.kind(Kind.STAGE).where("phase", "rollout")["t_us"][0] / 1e6
    assert not ((done > began + 4.1) & (done < began + 24)).any()


@pytest.mark.parametrize("at", ["0s", "1ms", "2ms", "3ms", "4ms"])
@pytest.mark.parametrize("name", sorted(MEANWHILE.keys() - {"F8-storage-killed"}))
def test_a_server_that_is_killed_under_a_probe_leaves_its_questions_open_and_accuses_nobody(name, at):
    made = scenario(devices=5, faults=[{"fault": name, "at": at, "for": "15s"}], settle="1m")
    trace = run(made)
    assert [f for f in judge(trace, made) if f.verdict.against] == []
    probes = trace.kind(Kind.PROBE)
    assert 0 < len(probes.where("status", "accepted", "rejected")) < len(probes.where("status", "sent"))
    assert probes.where("status", "rejected").texts("phase")[-1] == "twin"


@pytest.mark.parametrize(
    ("name", "goes_on"),
    [("F4-replica-killed", {Kind.SERVED}), ("F8-storage-killed", {Kind.ACCEPTED}), ("F8-backend-killed", set())],
)
def test_replica_and_storage_are_killed_each_by_itself(name, goes_on):
    made = scenario(devices=60, profile="slow", profiles={"slow": {"install": "1s"}},
                    rollout={"maximumPerMinute": 600}, faults=[{"fault": name, "at": "3s", "for": "10s"},
                    {"fault": "F6-late-download", "with": {"wait": "2s"}}])  # fmt: skip
    trace = run(made)
    assert Counter(ends(trace).values()) == {"SUCCEEDED": 60}
    assert [f for f in judge(trace, made) if f.verdict.against] == []
    begin, end = trace.kind(Kind.FAULT).where("phase", name).where("status", "begin", "end")["t_us"]
    seen = trace.kind(Kind.ACCEPTED, Kind.SERVED)
    assert set(seen.only((seen["t_us"] > begin + 10_000) & (seen["t_us"] < end)).texts("kind")) == goes_on


def test_a_storage_that_is_down_for_longer_than_devices_try_fails_them_and_no_check():
    made = scenario(devices=20, profile="wifi", rollout={"maximumPerMinute": 120}, run_time="2h",
                    faults=[{"fault": "F8-storage-killed", "at": "5s", "for": "20m"}])  # fmt: skip
    trace = run(made)
    states = Counter(ends(trace).values())
    assert states.keys() == {"SUCCEEDED", "FAILED"}
    assert [f for f in judge(trace, made) if f.verdict.against] == []


@pytest.mark.parametrize("name", ["F4-replica-killed", "F8-backend-killed"])
def test_a_replica_waits_for_its_broker_to_come_back(name):
    made = scenario(devices=10, rollout={"maximumPerMinute": 30}, settle="1m", faults=[
        {"fault": name, "at": "2s", "for": "5s"}, {"fault": "F4-broker-killed", "at": "3s", "for": "20s"}])  # fmt: skip
    trace = run(made)
    assert Counter(ends(trace).values()) == {"SUCCEEDED": 10}
    assert [f for f in judge(trace, made) if f.verdict.against] == []


@pytest.mark.parametrize(("settle", "verdict"), [("5s", Verdict.UNKNOWN), ("1m", Verdict.PASS)])
def test_who_hears_of_it_after_the_application_has_given_up_has_time_to_end(settle, verdict):
    made = scenario(devices=40, profile="wifi", rollout={"maximumPerMinute": 120}, settle=settle, run_time="2h",
                    faults=[{"fault": "F8-backend-killed", "at": "6s", "for": "10m"}])  # fmt: skip
    trace = run(made)
    assert Counter(ends(trace).values()) == {"SUCCEEDED": 12, "UNKNOWN": 28}
    found = {finding.check: finding for finding in judge(trace, made)}
    assert {check for check, finding in found.items() if finding.verdict is Verdict.FAIL} == set()
    assert found["L2-convergence"].verdict is verdict
    assert ("settle longer than 5 s" in found["L2-convergence"].summary) == (verdict is Verdict.UNKNOWN)


def test_offers_that_wait_for_the_broker_do_not_make_the_generator_late():
    made = scenario(devices=100, ramp="50/s", faults=[{"fault": "F4-broker-killed", "at": "2s", "for": "30s"}],
                    rollout={"maximumPerMinute": 1200}, settle="1m")  # fmt: skip
    trace = run(made)
    sent = trace.kind(Kind.OFFER).where("status", "sent")
    gaps = np.diff(sent["t_us"])
    assert gaps.max() > 25_000_000  # nothing could be sent while the broker was away
    assert (gaps[gaps.argmax() + 1 :][:10] < 10_000).all()  # and then those that had waited went at once
    assert (sent["span_us"] < 100_000).all()
    assert validity(trace, made).reasons == ()
    without = made.model_copy(update={"faults": ()})
    assert (run(without).kind(Kind.OFFER).where("status", "sent")["span_us"] <= 1).all()


def test_what_goes_wrong_with_a_fault_ends_the_run(monkeypatch):
    async def revive(self, name):
        raise PartDied(f"{name} could not start: no")

    monkeypatch.setattr(virtual.VirtualWorld, "revive", revive)
    made = scenario(devices=5, faults=[{"fault": "F8-backend-killed", "at": 0, "for": "5s"}])
    outcome = virtual.run(made, lambda batch: None)
    assert (outcome["complete"], outcome["died"]) == (False, "storage could not start: no")


def test_a_broker_that_is_gone_for_hours_is_waited_for():
    made = scenario(devices=5, run_time="12h", faults=[{"fault": "F4-broker-killed", "at": 0, "for": "3h"}],
                    rollout={"timeoutConfig": {"inProgressTimeout": "6h"}})  # fmt: skip
    trace = run(made)
    assert Counter(ends(trace).values()) == {"SUCCEEDED": 5}
    assert [f for f in judge(trace, made) if f.verdict.against] == []


def test_what_the_replica_had_committed_is_there_again():
    made = scenario(devices=40, faults=[{"fault": "F8-backend-killed", "at": "3s", "for": "2s"}],
                    rollout={"maximumPerMinute": 300})  # fmt: skip
    accepted = run(made).kind(Kind.ACCEPTED)
    versions = {}
    for thing, doc in zip(accepted.texts("thing"), accepted["doc"].tolist(), strict=True):
        versions.setdefault(thing, []).append(doc)
    assert all(docs == sorted(set(docs)) for docs in versions.values())
    assert max(len(docs) for docs in versions.values()) >= 3


def test_an_operator_cancels_at_a_share():
    made = scenario(devices=60, profile="wifi", faults=[{"fault": "F20-cancel", "converged": "30%"}],
                    rollout={"maximumPerMinute": 120})  # fmt: skip
    trace = run(made)
    states = Counter(ends(trace).values())
    assert states["SUCCEEDED"] + states["CANCELED"] == 60
    assert 18 <= states["SUCCEEDED"] < 40
    assert trace.kind(Kind.ROLLOUT).where("status", "abort").texts("detail") == ["by an operator"]
    assert [f for f in judge(trace, made) if f.verdict.against] == []


# ---- the live world


@pytest.mark.parametrize("killed", ["F8-backend-killed", "F4-replica-killed", "F8-storage-killed"])
@pytest.mark.parametrize("broker", ["embedded", "mosquitto"])
def test_servers_are_killed_and_come_back_in_the_live_world(tmp_path, broker, killed):
    faults = [
        {"fault": "F4-broker-killed", "at": "1s", "for": "500ms"},
        {"fault": killed, "at": "3s", "for": "1s"},
    ]
    profiles = {"quick": {"install": {"uniform": ["200ms", "2s"]}, "reboot": "100ms",
                          "reconnect": {"base": "200ms", "cap": "1s"}, "resend": {"base": "1s", "cap": "2s"},
                          "download_retry": {"base": "500ms", "cap": "1s"}, "answer_timeout": "2s"}}  # fmt: skip
    rollout = {"maximumPerMinute": 400, "timeoutConfig": {"inProgressTimeout": "20s"}}
    file = written(tmp_path, faults=faults, profiles=profiles, rollout=rollout, run_time="90s")
    code, text, err = fleetsim("run", file, "--broker", broker, "--out", tmp_path / "out")
    assert code == 0, text + err
    left = latest(tmp_path / "out")
    assert left.manifest["complete"]
    turns = left.trace.kind(Kind.FAULT)
    assert turns.texts("status") == ["begin", "end", "begin", "end"]
    assert len(left.trace.kind(Kind.LOST).where("status", "lost")) > 0
    running = left.trace.kind(Kind.RETIRED)
    assert set(running.texts("version")) == {"2.0.0"}
    begin, end = turns["t_us"][2:].tolist()
    served, done = (left.trace.kind(kind)["t_us"] for kind in (Kind.SERVED, MEANWHILE[killed]))
    assert (served > end).any()  # the storage that came back has the artifact
    middle, half = (begin + end) / 2, (end - begin) / 2  # both turns take their time on a busy machine
    assert not (abs(done - middle) < half / 2).any()


@pytest.mark.parametrize(("name", "server"), [("F4-broker-killed", "broker"), ("F8-storage-killed", "storage")])
def test_what_is_not_ours_is_not_killed(tmp_path, name, server):
    target = {"kind": "external", "artifact_url": "http://127.0.0.1:1/a"}
    file = written(tmp_path, faults=[{"fault": name, "at": "1s"}], target=target)
    code, _, err = fleetsim("run", file, "--broker", "mqtt://127.0.0.1:1", "--out", tmp_path / "out")
    assert code == 3
    assert f"faults.0: {name}: the {server} is not fleetsim's own, and is left alone" in err


def test_faults_happen_on_real_roads_as_in_virtual_time(tmp_path):
    faults = [
        {"fault": "F11-corrupt", "count": 2},  # of several on one message, the first takes it
        {"fault": "F1-duplicate", "count": 5, "with": {"after": "100ms"}},
        {"fault": "F1-puback-lost", "count": 5},
        {"fault": "F9-range-ignored", "count": 5},
        {"fault": "F14-power-cut", "count": 5, "step": "rebooting"},
        {"fault": "F17-answer-lost", "count": 3},
        {"fault": "F23-at-once", "count": 5, "with": {"every": "2s", "copies": 1}},
        {"fault": "F6-keeps-url", "count": 5},
        {"fault": "F3-offline", "count": 5, "step": "installing", "for": "1s"},
        {"fault": "F25-duplicate-client-id", "count": 3, "step": "installing"},
    ]
    profiles = {"quick": {"install": "200ms", "reboot": "100ms", "reconnect": {"base": "100ms", "cap": "1s"},
                          "resend": {"base": "1s", "cap": "2s"}, "download_retry": {"base": "50ms"}}}  # fmt: skip
    rollout = {"startAfter": "2s"}  # all are connected by then, however slow the machine: each hears its delta
    file = written(tmp_path, faults=faults, profiles=profiles, rollout=rollout, run_time="60s")
    struck, states = {}, {}
    for world in ("live", "virtual"):
        code, text, err = fleetsim(
            "run", file, "--world", world, "--out", tmp_path / world, "--processes", "2" if world == "live" else "1"
        )
        assert code == 0, text + err
        trace = latest(tmp_path / world).trace
        did = trace.kind(Kind.FAULT).where("status", "did")
        struck[world] = set(zip(did.texts("phase"), did.texts("thing"), strict=True))
        states[world] = ends(trace)
    assert struck["live"] == struck["virtual"]
    assert states["live"] == states["virtual"]
    assert Counter(states["live"].values()) == {"SUCCEEDED": 28, "FAILED": 2}


QUICK = {"install": "200ms", "reboot": "100ms", "reconnect": {"base": "100ms", "cap": "500ms"}, "keep_alive": "4s",
         "resend": {"base": "1s", "cap": "2s"}, "download_retry": {"base": "50ms"}, "answer_timeout": "2s"}  # fmt: skip
EVERYWHERE = pytest.mark.parametrize(
    "where",
    [("--world", "virtual"), ("--broker", "embedded"), ("--broker", "mosquitto"), ("--link", "library")],
    ids=lambda where: where[1],
)


def harmed_everywhere(tmp_path, where, faults, **rollout):
    """The trace of a run of 30 quick devices there, in which all must pass."""
    file = written(tmp_path, faults=faults, profiles={"quick": QUICK}, rollout=rollout, run_time="90s")
    code, text, err = fleetsim("run", file, *where, "--out", tmp_path / "out")
    assert code == 0, text + err
    return latest(tmp_path / "out").trace


@EVERYWHERE
def test_sessions_are_kept_cleared_and_expire_on_real_wires_as_in_virtual_time(tmp_path, where):
    kept = [{"fault": "F3-offline", "count": 8, "at": "1s", "for": "4s", "with": {"session": session}}
            for session in COMES_BACK]  # fmt: skip
    trace = harmed_everywhere(tmp_path, where, kept, startAfter="2s", maximumPerMinute=240)
    turns = trace.kind(Kind.FAULT)
    asked = turns.where("status", "did")
    terms = {}
    for thing, detail in zip(asked.texts("thing"), asked.texts("detail"), strict=True):
        said = json.loads(detail)
        if "clean_start" in said:  # of several the last one counts
            terms[thing] = "resumed" if said["session_expiry"] > 10 else "new"
    assert set(terms.values()) == {"new", "resumed"}
    back = comes_back(trace, turns.where("status", "end")["t_us"].max())
    assert {thing: back[thing] for thing in terms} == terms


@EVERYWHERE
def test_connections_are_left_open_taken_and_forgotten_on_real_wires_as_in_virtual_time(tmp_path, where):
    faults = [
        {"fault": "F25-half-open", "count": 5, "step": "installing"},
        {"fault": "F25-duplicate-client-id", "count": 5, "step": "downloading"},
        {"fault": "F24-blackhole", "count": 5, "with": {"idle": "1500ms"}, "times": 1},
        {"fault": "F1-duplicate", "count": 5, "with": {"packet_id": "same", "after": "100ms"}},
        {"fault": "F5-herd", "count": 5, "with": {"policy": "reset-on-connect"}},
    ]
    if where[1] == "library":
        del faults[2]  # it cannot stall
    trace = harmed_everywhere(tmp_path, where, faults, startAfter="3s")
    struck, saw = (trace.kind(Kind.FAULT).where("status", status) for status in ("did", "saw"))
    assert set(struck.texts("phase")) == {fault["fault"] for fault in faults}
    said = Counter(json.dumps(json.loads(detail)) for detail in saw.texts("detail"))
    assert 0 < said['{"half-open": "closed"}'] <= 5  # unless a rival has just taken the connection
    assert said['{"rival": "connected"}'] == said['{"rival": "gone"}'] == 5
    assert set(ends(trace).values()) == {"SUCCEEDED"}


def test_the_shipped_scenario_of_faults_passes_with_five_failures(tmp_path):
    code, text, err = fleetsim("run", "faults", "--out", tmp_path)
    assert code == 0, text + err
    assert Counter(ends(latest(tmp_path).trace).values()) == {"SUCCEEDED": 395, "FAILED": 5}


def test_a_fault_that_there_is_not_is_refused_before_anything_starts(tmp_path):
    code, _, err = fleetsim("run", written(tmp_path, faults=[{"fault": "F9-cutt"}]), "--out", tmp_path / "out")
    assert code == 3
    assert re.search(r"small.yaml:\d+: faults.0.fault: no such fault: 'F9-cutt'; did you mean 'F9-cut'\?", err)
    assert not (tmp_path / "out").exists()
