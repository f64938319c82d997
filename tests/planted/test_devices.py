"""Devices with one bad habit each: the named check finds it, and without the habit all pass."""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from simulator.checks.judge import judge
from simulator.device import work
from simulator.device.agent import Reaction, UpdateAgent
from simulator.device.connection import Connection
from simulator.device.download import Terms
from simulator.device.profile import Draws
from simulator.device.reports import Reports
from simulator.model.io import Response
from simulator.model.scenario import Backoff, Profile
from simulator.replica.core import Decision, Replica
from simulator.storage.core import Storage
from tests.planted.party import THREE, fails, passes
from tests.worlds.virtually import judged, run, scenario


def obeys_whatever_comes_again(monkeypatch):
    """Begins a job anew that it has carried through."""
    careful = UpdateAgent.consider

    def eager(self, request):
        reaction = careful(self, request)
        return Reaction.START if reaction is Reaction.DUPLICATE else reaction

    monkeypatch.setattr(UpdateAgent, "consider", eager)


def test_s7_a_device_that_applies_a_repeated_delta(monkeypatch):
    made = scenario(devices=3, profile="clumsy", profiles={"clumsy": {"mishaps": {"reboot": {"error": "100%"}}}})
    passes(made)
    obeys_whatever_comes_again(monkeypatch)
    assert fails("S7-idempotence", made) == THREE


def test_s21_a_device_that_obeys_a_stale_command(monkeypatch):
    blocks = {"rollout": {"startAfter": "1s", "maximumPerMinute": 8}}
    stale, offline = {"fault": "F26-stale-command", "count": 4}, {"fault": "F3-offline", "at": "40s", "for": "2s"}
    made = scenario(devices=8, faults=[stale, offline], **blocks)
    passes(made)
    obeys_whatever_comes_again(monkeypatch)
    assert fails("S21-no-replay", made) == {made.fleet.name(ordinal) for ordinal in made.harmed(0)} - {"device-7"}
    passes(scenario(devices=8, faults=[offline], **blocks))  # nobody is commanded again


@pytest.mark.parametrize(
    "lie",
    [
        {"reboot": {"error": "100%"}, "report": {"lie": "100%"}},
        {"install": {"lie": "100%"}},
        {"download": {"lie": "100%"}},
        {"reboot": {"lie": "100%"}},
        {"connect": {"lie": "100%"}},
    ],
    ids=["report", "install", "download", "reboot", "connect"],
)
def test_s11_a_device_that_lies(lie):
    fleet = {"devices": 5, "cohorts": [{"name": "bad", "count": 1, "profile": "liar"}, {"name": "rest"}]}
    made = scenario(fleet=fleet, profiles={"liar": {"mishaps": lie}})
    liar = {made.fleet.name(i) for i, cohort in enumerate(made.fleet.cohort_of(made.seed)) if cohort == "bad"}
    assert fails("S11-true-success", made) == liar
    passes(scenario(fleet={**fleet, "cohorts": []}))


class Backwards:
    """A replica's dialect whose document versions go back."""

    def __init__(self, dialect):
        self._dialect = dialect

    def __getattr__(self, name):
        return getattr(self._dialect, name)

    def delta(self, thing, state, version, now, **more):
        return self._dialect.delta(thing, state, 1000 - version, now, **more)

    def current(self, request, state, version, now, **more):
        return self._dialect.current(request, state, 1000 - version, now, **more)


def test_s12_versions_that_go_back_on_a_device_that_does_not_mind(monkeypatch):
    made = scenario(
        devices=3, profile="clumsy", profiles={"clumsy": {"mishaps": {"install": {"error": "100%"}}}},
        rollout={"retryConfig": {"failed": 1}},
    )  # fmt: skip
    careful = UpdateAgent.consider

    def careless(self, request):
        self.flash.doc = -1
        return careful(self, request)

    monkeypatch.setattr(UpdateAgent, "consider", careless)
    assert fails("S12-no-regress", made, replica=lambda dialect, **k: Replica(Backwards(dialect), **k)) == {
        "device-0", "device-1", "device-2",
    }  # fmt: skip
    monkeypatch.undo()
    _, findings = judged(made, replica=lambda dialect, **k: Replica(Backwards(dialect), **k))
    assert "S12-no-regress" not in findings  # a device that minds stays with the newer one


def test_s13_a_device_that_forgets_what_it_has_carried_through(monkeypatch):
    made = scenario(devices=3, profile="unlucky", profiles={"unlucky": {"mishaps": {"reboot": {"error": "60%"}}}})
    passes(made)
    monkeypatch.setattr(UpdateAgent, "end", lambda self, job: None)
    original = UpdateAgent.consider

    def again(self, request):
        reaction = original(self, request)
        return Reaction.START if reaction is Reaction.INSTALLED else reaction

    monkeypatch.setattr(UpdateAgent, "consider", again)
    assert fails("S13-at-most-once", made)


class HardOfHearing(Replica):
    """Does not hear an outcome before it was said three times."""

    def _update(self, request, now):
        self.said = getattr(self, "said", Counter())
        self.said[request.thing, request.token] += 1
        if request.status == "SUCCESS" and self.said[request.thing, request.token] < 4:
            return Decision(None, (), ())
        return super()._update(request, now)


@dataclass
class Busy(Storage):
    """Has no time for anybody before the third request."""

    asked: Counter = field(default_factory=Counter)

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        self.asked[served.thing] += 1
        if self.asked[served.thing] > 2:
            return response, served
        return Response(503, (("content-length", "0"),), b""), replace(served, status=503, size=0)


UNREACHABLE = {"profile": "unlucky", "profiles": {"unlucky": {"mishaps": {"connect": {"error": "60%"}}}}}


@pytest.mark.parametrize(
    ("parts", "blocks"), [({"replica": HardOfHearing}, {}), ({"storage": Busy}, {}), ({}, UNREACHABLE)],
    ids=["reports", "downloads", "connections"],
)  # fmt: skip
def test_l9_a_device_that_does_not_wait(monkeypatch, parts, blocks):
    made = scenario(devices=3, **blocks)
    passes(made, unplanted="storage" in parts, **parts)
    monkeypatch.setattr(Draws, "delay", lambda self, purpose, backoff, nth: 0.01)
    assert fails("L9-backoff", made, **parts)


def test_l9_a_device_that_says_it_too_often():
    told = {"profile": "calm", "profiles": {"calm": {"resend": {"base": "5s", "attempts": 2}}}}
    heeds = scenario(devices=3, **told, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    _, findings = judged(heeds, replica=HardOfHearing)
    assert "L9-backoff" not in findings
    trace = run(scenario(devices=3), replica=HardOfHearing)
    found = {f.check: f for f in judge(trace, heeds)}["L9-backoff"]
    assert (found.verdict, set(found.things)) == ("FAIL", THREE)


class Weary(Storage):
    """Refuses everybody for ever, and says that it is busy."""

    def serve(self, request, now, address=""):
        _, served = super().serve(request, now, address)
        return Response(503, (("content-length", "0"),), b""), replace(served, status=503, size=0)


def test_l1_a_device_that_asks_for_ever(monkeypatch):
    made = scenario(devices=3, run_time="30m")
    passes(made, unplanted=True, storage=Weary)  # they give up, and say so
    monkeypatch.setattr(work, "Terms", lambda *terms: replace(Terms(*terms), retry=Backoff(attempts=None)))
    assert fails("L1-terminal", made, storage=Weary) == THREE


def test_l1_a_device_that_is_parked_when_its_answer_is_lost(monkeypatch):
    lost = {"fault": "F17-answer-lost", "count": 2, "step": "reporting", "times": 2}  # the initial report's too
    made = scenario(devices=3, faults=[lost], settle="1h", run_time="6h")
    passes(made)
    monkeypatch.setattr(Reports, "_until_resend", lambda self, way: math.inf)
    assert fails("L1-terminal", made) == {made.fleet.name(ordinal) for ordinal in made.harmed(0)}


OUTAGE = {"fault": "F4-broker-killed", "at": "2s", "for": "1m"}


def test_l8_a_device_that_does_not_come_back(monkeypatch):
    made = scenario(devices=6, faults=[OUTAGE], settle="5m", rollout={"maximumPerMinute": 60})
    passes(made)
    patient = Connection.back_off

    async def fickle(self):
        await (asyncio.sleep(1e6) if self._log.thing == "device-4" and self._failures > 2 else patient(self))

    monkeypatch.setattr(Connection, "back_off", fickle)
    assert fails("L8-return", made) == {"device-4"}


def test_l8_a_herd_that_comes_back_all_at_once():
    made = scenario(devices=200, ramp="20/s", faults=[OUTAGE], target={"connects_per_second": 50},
                    settle="2m", rollout={"maximumPerMinute": 1200})  # fmt: skip
    passes(made)
    herd = {"base": "1s", "cap": "1m", "jitter": 0}
    assert fails(
        "L8-return", made.model_copy(update={"profiles": {"perfect": Profile(install=0, reboot=0, reconnect=herd)}})
    )


@pytest.mark.parametrize("seed", range(3))
def test_without_a_bug_all_pass(seed):
    passes(scenario(devices=12, profile="wifi", seed=seed, run_time="6h"))
