"""The self-test: what is measured is what the shards did, and a generator that lags is found out."""

import asyncio
import json
import time

import pytest

from simulator.links.loop import run_live
from simulator.model.events import Kind
from simulator.model.scenario import Scenario, parse_scenario
from simulator.trace.reader import Trace, encoded
from simulator.trace.recorder import Recorder
from simulator.worlds.campaigns import selftest
from simulator.worlds.campaigns.selftest import Counts, Measured, bound, capacity, following, judged, load_of
from simulator.worlds.live.health import Health
from tests.worlds.running import fleetsim, scenario


@pytest.mark.parametrize("processes", [1, 2])
def test_a_small_fleet_is_driven_and_both_sides_count_the_same(tmp_path, processes):
    code, out, err = fleetsim("run", scenario(tmp_path), "--self-test", "-c", 40, "--processes", processes, "--json")
    assert code == 0, out + err
    found = json.loads(out)
    assert found.keys() == {"schema", "scenario", "processes", "cores", "steps", "largest", "bound", "exit_code"}
    assert (found["scenario"], found["processes"], found["exit_code"]) == ("small", processes, 0)
    [step] = found["steps"]
    assert step == found["largest"]
    assert step["devices"] == 40
    assert step["reported"] == step["updates"] > 10
    assert 0 < step["deltas_per_s"] < 8
    assert step["cpu_us_per_update"] > 100
    assert step["kib_per_device"] > 0
    assert step["cores"].keys() == {"null", *(f"shard-{i}" for i in range(processes))}
    assert found["bound"] == "nothing yet: 40 devices are all that were to be had"


def test_a_person_gets_a_table_and_a_sentence(tmp_path):
    code, out, err = fleetsim("run", scenario(tmp_path), "--self-test", "-c", 5)
    assert code == 0, out + err
    assert out.splitlines()[0] == "small: self-test, --processes 1"
    assert "devices  deltas/s updates/s  CPU/update  KiB/device" in out
    assert "\n  carries   5 devices and " in out
    assert "\n  bound by  nothing yet: 5 devices" in out


@pytest.mark.parametrize("words", [("--broker", "mosquitto"), ("--fault", "F5-herd"), ("--check-determinism",)])
def test_what_would_mean_nothing_is_refused(tmp_path, words):
    code, out, err = fleetsim("run", scenario(tmp_path), "--self-test", "-c", 5, *words)
    assert (code, out) == (3, "")
    said = "--self-test drives the devices alone, against a null backend"
    assert err == f"fleetsim: {words[0]}: {said}; leave {words[0]} out\n"


def test_more_devices_than_files_are_refused_before_the_start(tmp_path):
    code, out, err = fleetsim("run", scenario(tmp_path), "--self-test", "-c", 100_000_000)
    assert code == 3
    assert "open files" in err
    assert "CPU/update" not in out


def recorded(work, seconds):
    """(the trace of a shard that does this work, in a loop of its own, the loop's own counts)."""
    batches, began = [], time.monotonic_ns()
    recorder = Recorder(time.monotonic_ns, batches.append, shard=10, zero=began, per_us=1000)

    async def shard():
        recorder.record(Kind.STAGE, phase="ramp")
        for thing in ("device-0", "device-1"):
            recorder.record(Kind.CONNECT, thing, status="new", span_us=0)
        tasks = [
            asyncio.ensure_future(task)
            for task in (Health("shard-0", recorder.record, lambda *a, **k: None).watch(), work())
        ]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_live(shard)
    recorder.flush()
    return Trace(encoded(batches)), Counts((0, round(seconds * 1e6)), {"shard-0": seconds, "null": 0.1}, 0, 10, 10, 0)


async def burning():
    while True:
        time.sleep(0.3)  # noqa: ASYNC251  the fault: it holds the loop
        await asyncio.sleep(0.01)


SMALL = "{fleet: {devices: 2}, limits: {warm_up: 0s, loop_lag_p99: 250ms}}"


def test_a_shard_whose_loop_is_held_does_not_count():
    found = judged(*reversed_in(recorded(burning, 1.5)))
    assert any(reason.startswith("loop lag p99 of shard-0, s: ") for reason in found.reasons)
    assert found.bound.startswith("shard-0, 100% of a core")


def test_one_that_is_left_alone_counts():
    found = judged(*reversed_in(recorded(lambda: asyncio.sleep(9), 1.5)))
    assert found.reasons == ()


def reversed_in(made):
    trace, counts = made
    return trace, parse_scenario(SMALL), counts


@pytest.mark.parametrize(
    ("due", "sent", "said"), [(100, 98, "deltas sent of those due: 0.98, allowed 0.99"), (0, 0, "deltas sent")]
)
def test_deltas_that_did_not_go_out_and_devices_that_did_not_come_do_not_count(due, sent, said):
    batches = []
    recorder = Recorder(lambda: 1, batches.append)
    recorder.record(Kind.CONNECT, "device-0", status="new", span_us=0)
    recorder.record(Kind.CONNECT, "device-0", status="new", span_us=0)
    recorder.flush()
    counts = Counts((0, 1_000_000), {"null": 0.1, "shard-0": 0.2}, 0, due, sent, sent)
    found = judged(Trace(encoded(batches)), parse_scenario(SMALL), counts)
    assert found.reasons[0] == "devices connected: 0.5, allowed 1"
    assert found.reasons[1].startswith(said)
    assert found.cpu_us_per_update is None


def step(devices, reasons=(), cores=None):
    return Measured(devices, 1.0, 1.0, 1.0, 1.0, cores or {"shard-0": 0.3}, 1, 1, reasons, "shard-0, 30% of a core")


BAD = ("loop lag",)


@pytest.mark.parametrize(
    ("steps", "most", "then"),
    [
        ([], 50_000, 1000),
        ([], 20, 20),
        ([step(1000)], 50_000, 3000),  # to nine tenths of a core
        ([step(1000)], 2500, 2500),
        ([step(1000, cores={"shard-0": 0.05})], 50_000, 4000),  # but not more than four times
        ([step(1000, cores={"null": 0.95, "shard-0": 0.2})], 50_000, 1250),
        ([step(1000), step(4000, BAD)], 50_000, 2000),
        ([step(1000), step(1250, BAD)], 50_000, 0),
        ([step(20)], 20, 0),
        ([step(1000, BAD)], 50_000, 500),
        ([step(1000, BAD), step(500, BAD), step(250)], 50_000, 354),
        ([step(1, BAD)], 50_000, 0),
    ],
)
def test_which_load_comes_next(steps, most, then):
    assert following(steps, most) == then


def test_what_bound_is_seen_beyond_the_largest_that_counts():
    found = capacity([step(1000), step(4000, BAD), step(2000, BAD)], 50_000)
    assert (found.largest.devices, found.exit_code) == (1000, 0)
    assert found.bound == "shard-0, 30% of a core (with 2,000 devices: loop lag)"
    assert capacity([step(1000, BAD)], 50_000).exit_code == 2
    assert capacity([step(1000)], 50_000).bound == "nothing yet: the time was up"


@pytest.mark.parametrize(
    ("cores", "waits", "said"),
    [
        ({"null": 0.3, "shard-0": 0.97}, {}, "shard-0, 97% of a core"),
        ({"null": 0.3, "shard-0": 0.7, "shard-1": 0.75}, {}, "this machine's 2 cores, all in use; most by shard-1"),
        ({"null": 0.1, "shard-0": 0.4}, {"shard-0": 0.5}, "what else runs on this machine: shard-0 was ready"),
        ({"null": 0.1, "shard-0": 0.4}, {"shard-0": 0.1}, "neither a core nor the machine"),
    ],
)
def test_who_bounds(cores, waits, said):
    assert bound(cores, waits, 2).startswith(said)


def test_slow_devices_are_offered_updates_more_rarely():
    quick, slow = (parse_scenario(f"{{fleet: {{devices: 100, profile: {p}}}}}") for p in ("perfect", "nb-iot"))
    assert load_of(quick).rate == 10
    assert load_of(quick).lead_s == 1
    assert load_of(slow).rate < 1.5
    assert load_of(slow).lead_s == selftest._LEAD_S


def test_what_a_scenario_runs_against_and_what_goes_wrong_there_is_left_out():
    made = selftest.bare(Scenario.model_validate({
        "world": "virtual", "swarm": 2, "faults": [{"fault": "F9-cut"}],
        "target": {"kind": "external", "broker": "mqtt://x", "artifact_url": "http://x/a", "access": "credential"},
    }))  # fmt: skip
    assert (made.world, made.swarm, made.faults) == ("live", 0, ())
    assert made.target.model_dump(include={"kind", "broker", "artifact_url", "access"}) == {
        "kind": "reference", "broker": "embedded", "artifact_url": None, "access": "credential",
    }  # fmt: skip
