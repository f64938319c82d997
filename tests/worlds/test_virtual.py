"""The virtual world: the whole cycle, the same trace for the same seed, and what the profiles and dialects change."""

from collections import Counter

import pytest

from simulator.model.errors import ScenarioError
from simulator.model.events import Kind
from simulator.model.scenario import parse_scenario
from simulator.storage.core import Storage
from simulator.worlds.reproduce.replay import trace_of
from tests.worlds.running import fleetsim, latest
from tests.worlds.virtually import judged, own_topics, run, scenario

NINE_STEPS = [
    ("device", Kind.CONNECT, "new"),
    ("application", Kind.OFFER, "sent"),
    ("replica", Kind.ACCEPTED, "desired"),
    ("replica", Kind.SENT_DELTA, None),
    ("device", Kind.DELTA, "start"),
    ("storage", Kind.SERVED, "200"),
    ("device", Kind.COMMIT, None),
    ("device", Kind.CONFIRM, None),
    ("device", Kind.REPORT, "SUCCESS"),
    ("replica", Kind.ACCEPTED, "reported"),
    ("device", Kind.ANSWER, "accepted"),
    ("application", Kind.EXECUTION, "SUCCEEDED"),
]


def test_one_device_goes_through_the_nine_steps_in_order():
    events = [(e["kind"], e["status"]) for e in run(scenario(devices=1)).table.to_pylist()]
    at = 0
    for _, kind, status in NINE_STEPS:
        at = next(i for i in range(at, len(events)) if events[i][0] == kind and status in (None, events[i][1]))


def test_the_trace_is_byte_identical_under_another_hash_seed_and_directory(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("{world: virtual, fleet: {devices: 25, profile: flaky}, rollout: {size: 8KiB}, run_time: 12h}")
    traces = []
    for hash_seed, out in (("0", tmp_path / "a"), ("4242", tmp_path / "deeper" / "b")):
        fleetsim("run", file, "--out", out, "--quiet", env={"PYTHONHASHSEED": hash_seed})
        traces.append((latest(out).path / "trace.parquet").read_bytes())
    assert traces[0] == traces[1]
    fleetsim("run", file, "--out", tmp_path / "c", "--seed", "2", "--quiet")
    assert (latest(tmp_path / "c").path / "trace.parquet").read_bytes() != traces[0]


@pytest.mark.parametrize(
    "target", [{"dialect": "atlas-example"}, {"access": "credential"}], ids=["example", "credential"]
)
def test_other_ways_to_speak_converge(target):
    trace, findings = judged(scenario(devices=8, target=target))
    assert findings == {}
    assert len(trace.kind(Kind.CONFIRM)) == 8
    served = trace.kind(Kind.SERVED)
    assert set(served.texts("thing")) == {f"device-{i}" for i in range(8)}
    assert (len(trace.kind(Kind.CREDENTIAL)) > 0) == ("access" in target)


@pytest.mark.parametrize("before", ["{thing}", "fleet/{thing}", "fleet/v1/{thing}", "a/b/c/{thing}"])
def test_a_thing_s_name_may_stand_at_any_level_of_its_topics(before):
    trace, findings = judged(scenario(devices=4, target={"topics": own_topics(before)}))
    assert findings == {}
    assert len(trace.kind(Kind.CONFIRM)) == 4


class Elsewhere(Storage):
    """Sees each request come from another address than the thing's."""

    def serve(self, request, now, address=""):
        return super().serve(request, now, f"not {address}")


def test_a_url_bound_to_the_address_opens_for_its_thing_and_from_nowhere_else():
    made = scenario(devices=3, target={"bind_address": True})
    _, findings = judged(made)
    assert findings == {}
    trace, _ = judged(made, storage=Elsewhere)
    assert set(trace.kind(Kind.SERVED).texts("status")) == {"403"}
    assert set(trace.kind(Kind.EXECUTION).where("status", "FAILED").texts("thing")) == {f"device-{i}" for i in range(3)}


def test_a_flaky_fleet_breaks_no_safety_promise():
    _, findings = judged(scenario(devices=60, profile="flaky", run_time="24h"))
    assert not {check for check in findings if check.startswith("S")}


def test_leaving_devices_out_moves_no_other_draw():
    small, large = (run(scenario(devices=n, profile="wifi", ramp="0.01/s")) for n in (3, 4))

    def of(trace, thing):
        events = [e for e in trace.table.to_pylist() if e["thing"] == thing and e["kind"] == Kind.PHASE]
        return [(e["status"], e["span_us"]) for e in events if e["phase"] in ("installing", "rebooting")]

    for thing in ("device-0", "device-1", "device-2"):
        assert of(small, thing) == of(large, thing) != []


@pytest.mark.parametrize("stage", ["download", "install", "reboot"])
def test_a_failed_stage_is_reported_as_failure_with_the_version_still_running(stage):
    profile = {"bad": {"mishaps": {stage: {"error": "100%"}}, "download_retry": {"attempts": 2, "base": "1s"}}}
    trace, findings = judged(scenario(devices=2, profile="bad", profiles=profile))
    assert not {check for check in findings if check.startswith("S")}
    reports = trace.kind(Kind.REPORT).where("status", "FAILURE")
    assert set(reports.texts("thing")) == {"device-0", "device-1"}
    assert set(reports.texts("version")) == {"1.0.0"}
    assert set(trace.kind(Kind.RETIRED).texts("version")) == {"1.0.0"}


@pytest.mark.parametrize("stage", ["download", "install", "report"])
def test_a_power_cut_loses_no_update(stage):
    """Half of the fleet loses power at a stage, perhaps again, and all converge."""
    profile = {"cuts": {"mishaps": {stage: {"crash": "50%"}}, "reboot": {"fixed": "3s"}}}
    trace, findings = judged(scenario(devices=20, profile="cuts", profiles=profile, run_time="12h"))
    assert findings == {}
    assert len(trace.kind(Kind.BOOT).where("status", "power-cut")) > 3
    assert set(trace.kind(Kind.RETIRED).texts("version")) == {"2.0.0"}


def test_offline_windows_delay_and_lose_nothing():
    profile = {"commuter": {"online": {"uniform": ["5s", "20s"]}, "offline": {"uniform": ["30s", "90s"]},
                            "install": {"fixed": "10s"}}}  # fmt: skip
    trace, findings = judged(scenario(devices=15, profile="commuter", profiles=profile, run_time="6h"))
    assert findings == {}
    assert len(trace.kind(Kind.LOST).where("status", "offline")) > 5


def test_silence_is_a_timeout_and_a_retry_is_another_job():
    profile = {"mute": {"mishaps": {"report": {"hang": "100%"}}, "running_interval": "1h"}}
    trace, _ = judged(
        scenario(devices=2, profile="mute", profiles=profile, run_time="5h",
                 rollout={"timeoutConfig": {"inProgressTimeout": "10m"}, "retryConfig": {"timedOut": 1}})
    )  # fmt: skip
    ends = trace.kind(Kind.EXECUTION).where("status", "TIMED_OUT")
    assert len(ends) == 4 or len(trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED")) == 2
    assert len(set(trace.kind(Kind.OFFER).where("status", "sent").texts("job"))) == 4


def test_a_file_as_artifact_is_what_the_devices_run(tmp_path):
    import hashlib

    content = b"firmware" * 1000
    (tmp_path / "app.bin").write_bytes(content)
    trace = run(scenario(devices=2, rollout={"file": str(tmp_path / "app.bin")}))
    assert set(trace.kind(Kind.RETIRED).texts("digest")) == {hashlib.sha256(content).hexdigest()}


def test_shares_pick_exact_counts():
    trace = run(scenario(devices=40, rollout={"share": "25%"}))
    assert len(trace.kind(Kind.TARGET)) == 10


def test_a_scenario_that_makes_no_sense_is_refused():
    with pytest.raises(ScenarioError, match="devices"):
        parse_scenario("{fleet: {devices: 0}}")


def test_two_runs_in_one_process_are_the_same():
    made = scenario(devices=10, profile="wifi")
    assert trace_of(made).equals(trace_of(made))


def test_operators_roll_out_at_the_same_time_pause_resume_and_abort():
    operators = [
        {"part": "1/2", "pauseAfter": "2s", "pauseFor": "10s"},
        {"part": "2/2", "after": "1s", "abortAfter": "3s"},
    ]
    trace, findings = judged(scenario(devices=20, rollout={"maximumPerMinute": 60}, operators=operators))
    assert findings == {}
    moves = trace.kind(Kind.ROLLOUT)
    began = moves.where("status", "begin")["t_us"][0]
    at = {
        (job, status): (t_us - began) / 1e6
        for job, status, t_us in zip(moves.texts("job"), moves.texts("status"), moves["t_us"].tolist(), strict=True)
    }
    assert at["rollout-1-1", "pause"] == pytest.approx(2)
    assert at["rollout-1-1", "resume"] == pytest.approx(12)
    assert at["rollout-1-2", "begin"] == pytest.approx(1)
    assert at["rollout-1-2", "abort"] == pytest.approx(4)
    ends = trace.kind(Kind.EXECUTION)
    of = Counter(zip([job.split(".")[0] for job in ends.texts("job")], ends.texts("status"), strict=True))
    assert sum(n for (_, status), n in of.items() if status == "SUCCEEDED") < 20
    assert sum(n for (_, status), n in of.items() if status == "CANCELED") > 0
