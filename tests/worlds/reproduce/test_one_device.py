"""One device of a virtual run alone, against its tape: the same again, or where it departs."""

import json
import os
import shutil
from functools import partial

import orjson
import pytest
from msgspec.structs import replace

from simulator.application.rollout import Rollout
from simulator.device.agent import UpdateAgent
from simulator.device.profile import Draws
from simulator.dialects.atlas.device import AtlasDevice
from simulator.faults.catalogue import CATALOGUE
from simulator.faults.rules import OnServer, OtherClient, Strike
from simulator.faults.swarm import with_swarm
from simulator.model.errors import ScenarioError
from simulator.model.events import KILLED, Kind
from simulator.trace import rundir
from simulator.trace.reader import Trace, first_difference
from simulator.worlds import setup, virtual
from simulator.worlds.reproduce import one_device
from simulator.worlds.reproduce.one_device import Alone, as_text, own_events, perform, record_tape, replay_device
from simulator.worlds.reproduce.player import Player
from simulator.worlds.reproduce.replay import Likeness
from tests.worlds.recording import plant, recorded, without_its_end
from tests.worlds.running import fleetsim
from tests.worlds.virtually import scenario


def differs(made, ordinal):
    """How a device alone differs from itself in the whole run; None where it is the same. The tape is read from JSON."""
    thing = made.fleet.name(ordinal)
    trace, taped = record_tape(made, thing, None)
    artifact = setup.artifact_bytes(made)
    rows = [orjson.loads(orjson.dumps(one_device.to_json(entry, artifact))) for entry in taped.tape.entries]
    tape = one_device.Tape(taped.tape.began_us, [one_device.from_json(row, artifact) for row in rows])
    played = perform(made, ordinal, tape.began_us, partial(Player, tape))
    assert played.events.num_rows >= 5  # even one that never hears of an update
    return first_difference(own_events(trace, thing), played.events) or played.departs or None


FLAKY = {"devices": 6, "profile": "flaky", "run_time": "2h"}
WAYS = {
    "bound": {**FLAKY, "target": {"bind_address": True}},
    "credential": {**FLAKY, "target": {"access": "credential"}},
    "example": {**FLAKY, "target": {"dialect": "atlas-example"}},
    "short-lived": {**FLAKY, "target": {"url_ttl": "5s"}, "rollout": {"size": "2MB"}},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_device_alone_is_the_same(way):
    assert [differs(scenario(**WAYS[way]), ordinal) for ordinal in (0, 3)] == [None, None]


def harmful(name):
    fault, rule = {"fault": name}, CATALOGUE[name].make(**dict.fromkeys(CATALOGUE[name].settings, 1))
    if isinstance(rule, OnServer) and rule.server in KILLED:
        return fault | {"at": "1s", "for": "30s"}
    if name in ("F3-offline", "F24-blackhole"):
        return fault | {"step": "downloading", "for": "2m"}
    if isinstance(rule, Strike | OtherClient | OnServer):
        return fault | {"at": "3s"}
    return fault


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_harmed_device_alone_is_the_same(name):
    made = scenario(devices=4, profile="wifi", run_time="3h", faults=[harmful(name)], target={"url_ttl": "10m"})
    assert differs(made, 2) is None


@pytest.mark.parametrize("seed", range(12))
def test_what_happens_in_one_instant_keeps_its_order(seed):
    # nothing takes any time here but what takes exactly as long: much happens in one microsecond
    made = scenario(devices=8, seed=seed, swarm=3, settle=f"{seed % 2}s", run_time="2h",
                    faults=[{"fault": "F1-duplicate"}], target={"commit_latency": ("0s", "2ms", "1s")[seed % 3]})  # fmt: skip
    assert [differs(with_swarm(made), ordinal) for ordinal in (2, 5)] == [None, None]


LIARS = {"faults": [{"fault": "F16-early-success", "share": "50%"}]}


@pytest.fixture(scope="module")
def liars(tmp_path_factory):
    """A failed run whose directory each test may copy."""
    run, judgement = recorded(tmp_path_factory.mktemp("r"), scenario(devices=8, profile="wifi", **LIARS))
    assert judgement.exit_code == 1
    return run


@pytest.fixture
def run(liars, tmp_path):
    shutil.copytree(liars.path, tmp_path / "run")
    return rundir.open_run(tmp_path / "run")


def test_the_first_replay_leaves_a_tape_and_the_next_needs_no_whole_run(run, monkeypatch):
    first = replay_device(run, "device-3")
    assert (first.likeness, first.exit_code) == (Likeness.SAME, 1)
    assert f"all {len(own_events(run.trace, 'device-3'))} events of the device are the same" in as_text(first)
    assert "S11-true-success" in as_text(first)
    monkeypatch.setattr(virtual, "run", lambda *a, **k: pytest.fail("the whole run"))
    again = replay_device(run, "3")
    assert (again.likeness, again.thing, again.compared) == (Likeness.SAME, "device-3", first.compared)
    assert again.whole_s == first.whole_s > again.took_s
    assert again.kept == str(run.path / "tape-device-3.json")


def test_a_tape_is_readable_and_holds_neither_password_nor_artifact(run):
    replay_device(run, "device-3")
    file = (run.path / "tape-device-3.json").read_text()
    tape = json.loads(file)
    kinds = [row[4] for row in tape["entries"]]
    assert (kinds[0], kinds[-1]) == ("Connect", "End")
    assert len(file.splitlines()) == len(kinds) + 2
    assert tape["entries"][0][5:8] == ["device-3", "device-3", None]
    (exchange,) = (row for row in tape["entries"] if row[4] == "Exchange")
    assert exchange[8][2] == [0, 4096]
    assert exchange[9] == "download"


def test_only_what_the_device_itself_recorded_counts(run):
    (thing, *_) = run.trace.kind(Kind.FAULT).where("status", "did").texts("thing")
    own = Trace(own_events(run.trace, thing))
    assert set(own.kind(Kind.BOOT, Kind.FAULT, Kind.ACCEPTED, Kind.OFFER).texts("kind")) == {Kind.BOOT, Kind.FAULT}
    assert own.column("seq").tolist() == list(range(len(own)))


# ---- another device


def test_a_device_that_acts_otherwise_is_different_from_its_first_other_event(run, monkeypatch):
    class Slow(Draws):
        def value(self, purpose, distribution):
            return super().value(purpose, distribution) + (purpose == "install")

    replay_device(run, "device-3")
    monkeypatch.setattr("simulator.device.device.Draws", Slow)
    found = replay_device(run, "device-3")
    assert (found.likeness, found.exit_code) == (Likeness.DIFFERENT, 2)
    _, ours, theirs = found.difference
    assert "commit" in ours
    assert theirs == "(no further event)"  # past the departure nothing is recorded
    assert "the device does not say it" in found.departs
    assert found.departs in as_text(found)


def test_a_device_that_says_something_else_departs_there(run, monkeypatch):
    report = AtlasDevice.report
    replay_device(run, "device-3")
    monkeypatch.setattr(
        AtlasDevice, "report", lambda self, progress, now: report(self, replace(progress, token="other"), now)
    )
    found = replay_device(run, "device-3")
    assert found.likeness is Likeness.DIFFERENT
    assert "the device says, at" in found.departs
    assert '"clientToken":"other"' in found.departs


def test_a_device_that_records_something_else_shows_both_events(run, monkeypatch):
    replay_device(run, "device-3")
    monkeypatch.setattr("simulator.device.log.Log.until", lambda self, unix_s: 7)
    found = replay_device(run, "device-3")
    assert (found.likeness, found.departs) == (Likeness.DIFFERENT, "")
    _, ours, theirs = found.difference
    assert "delta" in ours
    assert "grant-for=0.000007s" in theirs
    assert theirs in as_text(found)


def test_what_others_did_comes_from_the_tape(run):
    replay_device(run, "device-3")
    file = run.path / "tape-device-3.json"
    file.write_text(file.read_text().replace('\\"version\\":2,', '\\"version\\":5,'))
    found = replay_device(run, "device-3")
    assert found.likeness is Likeness.DIFFERENT
    assert "doc=2" in found.difference[1]
    assert "doc=5" in found.difference[2]


def test_an_exception_of_the_device_is_raised(run, monkeypatch):
    replay_device(run, "device-3")
    monkeypatch.setattr(UpdateAgent, "commit", lambda self, software: 1 // 0)
    monkeypatch.setattr(UpdateAgent, "consider", lambda self, request: 1 // 0)
    found = replay_device(run, "device-3")
    assert (found.likeness, found.exit_code) == (Likeness.DIFFERENT, 2)
    assert found.departs.startswith("ZeroDivisionError in test_one_device.py")


# ---- another run, and none


class Wordy(Rollout):
    """Breaks no promise, but gives other reasons."""

    def observe(self, outcome, now):
        return super().observe(replace(outcome, reason=f"{outcome.reason} indeed"), now)


def test_a_run_that_is_not_the_same_again_gives_no_tape(run, monkeypatch):
    plant(monkeypatch, rollout=Wordy)
    found = replay_device(run, "device-3")
    assert not isinstance(found, Alone)
    assert (found.likeness, found.exit_code) == (Likeness.DIFFERENT, 2)
    assert not list(run.path.glob("tape-*"))


def test_of_a_record_that_breaks_off_the_devices_beginning_is_compared(run):
    whole = own_events(run.trace, "device-3")
    without_its_end(run.path, len(run.trace) // 2)
    found = replay_device(rundir.open_run(run.path), "device-3")
    assert (found.likeness, found.exit_code) == (Likeness.SAME, 2)
    assert 0 < found.compared < len(whole)
    without_its_end(run.path, 20)
    with pytest.raises(ScenarioError, match="no event of device-7"):
        replay_device(rundir.open_run(run.path), "device-7")


def test_a_directory_that_is_only_read_has_no_tape(run, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(one_device, "write_tape", refuse)
    found = replay_device(run, "device-3")
    assert (found.likeness, found.kept) == (Likeness.SAME, "")
    assert "tape is" not in as_text(found)


@pytest.mark.parametrize("said", ["", "{}", '{"schema": 1, "thing": "device-3", "began_us": 0, "entries": [[1]]}'])
def test_a_damaged_tape_says_what_to_do(run, said):
    (run.path / "tape-device-3.json").write_text(said)
    with pytest.raises(ScenarioError, match=r"tape-device-3\.json: a damaged tape.*remove it"):
        replay_device(run, "device-3")


def test_another_things_tape_is_made_anew(run):
    replay_device(run, "device-3")
    os.rename(run.path / "tape-device-3.json", run.path / "tape-device-4.json")
    assert replay_device(run, "device-4").likeness is Likeness.SAME


def test_a_device_that_is_not_there_is_told(run):
    with pytest.raises(ScenarioError, match="--device nobody: no such device; there are 8, device-0 to device-7"):
        replay_device(run, "nobody")


# ---- the command


def test_the_command_shows_the_device_its_tape_and_what_else_to_look_at(run):
    code, out, err = fleetsim("replay", run.path, "--device", "3")
    assert (code, err) == (1, "")
    assert out.startswith(f"SAME  {run.path}  device-3 alone")
    told = out.splitlines()[-1].split()
    assert told[:2] == ["timeline", "fleetsim"]
    code, timeline, _ = fleetsim(*told[2:])
    assert code == 0
    assert "boot" in timeline.splitlines()[0]
    code, _, err = fleetsim("replay", run.path, "--device", "nobody")
    assert (code, err.count("\n")) == (3, 1)
