"""An artifact that says what goes wrong with it: the devices do so, in both worlds, and the trace names the marker."""

from collections import Counter

import pytest

from simulator.checks.judge import judge
from simulator.model.events import Kind
from simulator.model.marker import MARKERS
from simulator.model.verdict import Verdict
from tests.device.scripted import DONE, play
from tests.worlds.running import fleetsim, latest
from tests.worlds.running import scenario as written
from tests.worlds.test_faults import ends
from tests.worlds.virtually import run, scenario

ENDS = {
    "verify-fails": "FAILED", "install-fails": "FAILED", "boot-fails": "FAILED", "early-success": "SUCCEEDED",
    "install-hangs": "TIMED_OUT", "boot-hangs": "TIMED_OUT", "report-hangs": "TIMED_OUT", "vanish": "TIMED_OUT",
}  # fmt: skip


def marked(text, **blocks):
    """(trace, its mishaps) of 20 devices on wifi and an artifact with this marker."""
    rollout = {"marker": text, "timeoutConfig": {"inProgressTimeout": "5m"}}
    made = scenario(devices=20, profile="wifi", rollout=rollout, settle="1m", **blocks)
    trace = run(made)
    return made, trace, trace.kind(Kind.MISHAP)


@pytest.mark.parametrize("word", MARKERS)
def test_each_marker_ends_an_execution_in_its_way(word):
    made, trace, mishaps = marked(word)
    stage, way = MARKERS[word]
    assert set(zip(mishaps.texts("phase"), mishaps.texts("status"), mishaps.texts("detail"), strict=True)) == {
        (stage, way, word)
    }
    assert set(ends(trace).values()) == {ENDS[word]}
    failed = {f.check for f in judge(trace, made) if f.verdict is Verdict.FAIL}
    assert ("S11-true-success" in failed) == (word == "early-success")
    sizes = trace.kind(Kind.DELTA)["size"]
    assert set(sizes.tolist()) == {4096}


def test_a_share_befalls_some_devices_and_the_trace_says_which():
    _, trace, mishaps = marked("boot-fails 30%")
    states = ends(trace)
    assert {thing for thing, state in states.items() if state == "FAILED"} == set(mishaps.texts("thing"))
    assert Counter(states.values()) == {"SUCCEEDED": 14, "FAILED": 6}


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "F9-cut", "with": {"at": 0.9}},
        {"fault": "F9-cut", "with": {"at": 0.001}},
        *({"fault": "F14-power-cut", "step": s} for s in ("downloading", "verifying", "installing", "rebooting")),
    ],
    ids=str,
)
def test_neither_a_resumed_download_nor_a_power_cut_loses_the_marker(fault):
    _, trace, _ = marked("boot-fails", faults=[fault])
    assert set(ends(trace).values()) == {"FAILED"}


def test_a_file_holds_markers_of_its_own_and_unknown_ones_are_told(tmp_path):
    (tmp_path / "app.bin").write_bytes(b"#!app\nfleetsim:explodes\nfleetsim:install-fails\n" + b"x" * 200_000)
    trace = run(scenario(devices=2, rollout={"file": str(tmp_path / "app.bin")}))
    mishaps = trace.kind(Kind.MISHAP).where("thing", "device-0")
    assert list(zip(mishaps.texts("status"), mishaps.texts("detail"), strict=True)) == [
        ("ignored", "explodes"), ("error", "install-fails"),
    ]  # fmt: skip
    assert set(ends(trace).values()) == {"FAILED"}


def test_a_marker_means_its_own_artifact_alone():
    async def story(world):
        world.storage.contents["2"] = b"fleetsim:verify-fails\n".ljust(1 << 19, b".")
        await world.desire("2", sha256=None)
        await world.until(DONE)
        await world.desire("3")
        await world.until(2 * DONE)

    world = play(story)
    assert [h.reason for h in world.said("FAILURE")] == ["verify error"]
    assert world.runs == "3"


def test_the_same_devices_heed_it_on_real_wires(tmp_path):
    file = written(tmp_path, rollout={"version": "2.0.0", "size": "32KiB", "marker": "boot-fails 40%"})
    states = {}
    for world in ("live", "virtual"):
        code, out, err = fleetsim("run", file, "--world", world, "--out", tmp_path / world)
        assert code == 0, out + err
        states[world] = ends(latest(tmp_path / world).trace)
    assert states["live"] == states["virtual"]
    assert set(states["live"].values()) == {"SUCCEEDED", "FAILED"}
