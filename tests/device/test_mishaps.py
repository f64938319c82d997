"""A device that loses power, is switched off, or whose profile makes a stage go wrong."""

import asyncio

import pytest

from simulator.links.memory import MemoryMqtt
from simulator.model.dice import Dice
from simulator.model.events import Kind
from simulator.model.update import Phase
from tests.device.scripted import (
    DONE,
    FACTORY,
    INSTALLING,
    MOMENTS,
    NAMES,
    digest,
    phases,
    play,
    ranges,
    updated,
)

# ---- power


@pytest.mark.parametrize("at", [*MOMENTS, 20.5], ids=[*NAMES, "answered"])
def test_a_power_cut_at_any_phase_loses_nothing(at):
    async def story(world):
        await world.desire("2")
        await world.until(at)
        world.cut_power()
        await world.until(100)

    world = play(story)
    assert (world.runs, len(world.of(Kind.COMMIT))) == ("2", 1)
    assert world.answered()[-1].status == "accepted"
    assert world.phase is Phase.IDLE


def test_a_power_cut_while_the_device_says_goodbye_before_its_reboot_loses_nothing(monkeypatch):
    async def cut(link):
        await close(link)
        if not worlds[0].of(Kind.BOOT, "power-cut"):
            worlds[0].cut_power()

    async def story(world):
        worlds.append(world)
        await updated(world)

    worlds, close = [], MemoryMqtt.close
    monkeypatch.setattr(MemoryMqtt, "close", cut)
    world = play(story)
    assert len(world.of(Kind.BOOT, "power-cut")) == 1
    assert world.runs == "2"


def test_a_download_goes_on_where_a_power_cut_left_it():
    async def story(world):
        await world.desire("2")
        await world.until(4.5)
        world.cut_power()
        await world.until(60)

    world = play(story)
    assert ranges(world) == [None, "bytes=262144-"]
    assert world.runs == "2"


def test_a_report_whose_answer_was_lost_with_the_power_is_sent_again_under_its_token():
    async def story(world):
        await world.desire("2")
        await world.until(18)
        world.mute = {"update"}
        await world.until(20)
        world.mute = set()
        world.cut_power()
        await world.until(60)

    sent = play(story).said("SUCCESS")
    assert len(sent) == 2
    assert len({h.clientToken for h in sent}) == 1


@pytest.mark.parametrize(("lost", "more"), [(12.5, {}), (11.95, {"latency": 0.1}), (0, {"online": 11, "offline": 9})],
                         ids=["backing off", "connecting", "offline"])  # fmt: skip
def test_power_that_goes_while_the_device_is_not_connected(lost, more):
    async def story(world):
        await world.desire("2")
        if lost:
            await world.until(lost)
            world.lose()
        await world.until(13)
        assert not world.device.connection.connected
        world.cut_power()
        await world.until(200)

    world = play(story, **more)
    assert (world.runs, len(world.of(Kind.COMMIT))) == ("2", 1)
    assert [e.status for e in world.of(Kind.BOOT)] == ["cold", "power-cut", "reboot"]


@pytest.mark.parametrize("way", ["error", "slow"])
def test_power_that_goes_during_a_start_is_off_when_the_start_has_ended_whether_the_new_software_boots_or_not(way):
    async def story(world):
        await world.desire("2")
        await world.until(MOMENTS[NAMES.index("rebooting")])
        world.cut_power()
        await world.until(200)

    world = play(story, mishaps={"reboot": {way: 1}})
    assert [e.status for e in world.of(Kind.BOOT)] == ["cold", "reboot", "power-cut"]
    assert world.runs == ("2" if way == "slow" else "1")
    assert world.answered()[-1].status == "accepted"
    assert world.phase is Phase.IDLE


def test_a_device_that_vanishes_during_a_start_whose_software_does_not_boot_is_not_heard_again():
    async def story(world):
        await world.desire("2")
        await world.until(MOMENTS[NAMES.index("rebooting")])
        world.device.power.off("vanish")
        await world.until(200)

    world = play(story, mishaps={"reboot": {"error": 1}})
    assert [e.status for e in world.of(Kind.BOOT)] == ["cold", "reboot"]
    assert not world.said("FAILURE")


@pytest.mark.parametrize("at", [0.0, 1.0, *MOMENTS, 16.0, 19.0, DONE])
def test_a_device_that_is_switched_off_ends_at_once(at):
    async def story(world):
        await world.desire("2")
        await world.until(max(at, 1.0))

    assert play(story).of(Kind.RETIRED)[0].t == max(at, 1.0)


def test_a_device_that_is_switched_off_while_it_supersedes_ends():
    async def story(world):
        await world.desire("2")
        await world.until(INSTALLING)
        await world.desire("3")
        await asyncio.sleep(0)

    assert [e.t for e in play(story).of(Kind.RETIRED)] == [INSTALLING]


def test_a_bug_in_the_work_ends_the_device():
    async def story(world):
        world.storage.script = [0]
        await world.desire("2")
        await world.until(2)
        ended.append(world.task.done())

    ended = []
    with pytest.raises(AttributeError):
        play(story)
    assert ended == [True]


# ---- what the profile makes go wrong


@pytest.mark.parametrize("stage", ["download", "verify", "install"])
def test_an_error_is_reported_as_failure_with_the_version_that_still_runs(stage):
    world = play(updated, mishaps={stage: {"error": 1}})
    assert [(h.reason, h.state["reported"]["software"]["version"]) for h in world.said("FAILURE")] == [
        (f"{stage} error", "1")
    ]
    assert [e.status for e in world.of(Kind.PHASE)][-2:] == ["reporting", "idle"]


@pytest.mark.parametrize("way", ["error", "crash"])
def test_a_slot_that_does_not_boot_is_rolled_back(way):
    world = play(updated, mishaps={"reboot": {way: 1}})
    assert (world.runs, world.said("FAILURE")[0].reason) == ("1", "boot failed")
    assert phases(world, "j2")[-4:] == ["rebooting", "rolling-back", "reporting", "idle"]
    assert world.of(Kind.ROLLBACK)[0].digest == FACTORY.digest


@pytest.mark.parametrize("stage", ["download", "verify", "install"])
def test_a_crash_is_a_power_cut_after_which_the_job_goes_on(stage):
    class Once(Dice):
        def roll(self, purpose):
            return 0.5 if "mishap" not in purpose else 0.1 if super().roll(purpose) and self._rolls[purpose] == 1 else 1

    world = play(updated, dice=Once(1, "d"), mishaps={stage: {"crash": 0.5}})
    assert [e.status for e in world.of(Kind.BOOT)] == ["cold", "power-cut", "reboot"]
    assert world.runs == "2"


@pytest.mark.parametrize("stage", ["connect", "report"])
def test_a_device_that_crashes_whenever_it_starts_lets_time_pass(stage):
    async def story(world):
        world.device.mishaps.draws.profile.mishaps[stage] = {"crash": 1}
        world.lose()
        await updated(world)

    world = play(story, reboot=0, mishaps={})
    assert world.of(Kind.RETIRED)[0].t == DONE
    assert 10 < len(world.of(Kind.BOOT, "power-cut")) < 30


def test_what_hangs_reports_nothing_more():
    async def story(world):
        await world.desire("2")
        await world.until(1000)

    for stage, phase in {"download": "downloading", "install": "installing", "reboot": "rebooting"}.items():
        world = play(story, mishaps={stage: {"hang": 1}}, running_interval=10)
        assert world.phase == phase
        assert all(h.t < 20 for h in world.heard)


def test_a_report_that_hangs_stays_unsaid_over_a_lost_connection():
    async def story(world):
        await world.desire("2")
        await world.until(30)
        world.lose()
        await world.until(500)

    world = play(story, mishaps={"report": {"hang": 1}})
    assert not world.said("SUCCESS")
    assert world.phase is Phase.REPORTING


def test_a_report_that_hangs_is_said_after_a_power_cut():
    async def story(world):
        await world.desire("2")
        await world.until(30)
        world.device.mishaps.draws.profile.mishaps.clear()
        world.cut_power()
        await world.until(60)

    assert [h.t for h in play(story, mishaps={"report": {"hang": 1}}).said("SUCCESS")] == [33]


@pytest.mark.parametrize(("way", "at"), [("error", 19 + 4), ("slow", 19 + 7)])
def test_a_report_that_goes_wrong_is_sent_later(way, at):
    async def story(world):
        await world.desire("2")
        await world.until(200)

    world = play(story, mishaps={"report": {way: 1}}, resend={"base": 4, "jitter": 0}, slow_factor=7)
    assert [h.t for h in world.said("SUCCESS")] == [at]


def test_a_slow_stage_takes_longer_by_the_factor():
    async def story(world):
        await world.desire("2")
        await world.until(200)

    for stage, longer in {"download": 8, "verify": 2, "install": 5, "reboot": 3}.items():
        world = play(story, mishaps={stage: {"slow": 1}}, slow_factor=3)
        assert world.said("SUCCESS")[0].t == 19 + 2 * longer


@pytest.mark.parametrize(
    "mishaps", [{"download": {"lie": 1}}, {"install": {"lie": 1}}, {"reboot": {"lie": 1}},
                {"reboot": {"error": 1}, "report": {"lie": 1}}],
    ids=["download", "install", "reboot", "report"],
)  # fmt: skip
def test_a_liar_claims_what_it_does_not_run(mishaps):
    world = play(updated, mishaps=mishaps, check=False)
    report = world.of(Kind.REPORT, "SUCCESS")[0]
    assert (world.runs, report.digest) == ("1", FACTORY.digest)
    assert report.version == ("1" if "report" in mishaps else "2")


def test_a_device_that_does_not_verify_installs_whatever_came():
    async def story(world):
        world.storage.contents["2"] = b"x" * (1 << 19)
        await updated(world)

    world = play(story, mishaps={"verify": {"lie": 1}}, check=False)
    assert world.of(Kind.COMMIT)[0].digest not in (digest("2"), None)
    assert world.runs == "2"


def test_connecting_goes_wrong_in_every_way():
    async def story(world):
        await world.until(100)

    class Once(Dice):
        def roll(self, purpose):
            first = super().roll(purpose) and self._rolls[purpose] == 1
            return 0.0 if first and "mishap" in purpose else 1.0

    connected = {way: [(e.status, e.t) for e in play(story, dice=Once(1, "d"), slow_factor=7, check=False,
                                                     mishaps={"connect": {way: 0.5}}).of(Kind.CONNECT)]
                 for way in ("error", "hang", "slow", "crash", "lie")}  # fmt: skip
    assert connected == {
        "error": [("failed", 0), ("new", 1)],
        "hang": [("failed", 30), ("new", 31)],
        "slow": [("new", 7)],
        "crash": [("new", 3)],
        "lie": [("new", 0)],
    }
