"""A rollout that somebody else's API carries out, in virtual time: whole updates of devices that ask it, and its failures."""

import asyncio
import json
from collections import Counter

import orjson
import pytest

from simulator.application.delegated import DelegatedRollouts
from simulator.application.port import ArtifactFacts, NoSuch, RolloutRequest, Rollouts, TargetFacts
from simulator.application.rollout import WrongState
from simulator.checks.judge import judge
from simulator.device.agent import Software
from simulator.device.device import Device as RealDevice
from simulator.device.device import DeviceSpec
from simulator.links.base import Wires
from simulator.links.clock import run_virtual
from simulator.links.memory_http import MemoryHttp
from simulator.model.dice import Dice
from simulator.model.errors import LinkError, PeerError, ScenarioError
from simulator.model.events import Kind
from simulator.model.io import Response
from simulator.model.scenario import Profile, RolloutSpec
from simulator.model.verdict import Verdict
from simulator.storage.core import Storage
from simulator.storage.service import recording
from simulator.trace.reader import Trace, in_order
from simulator.trace.recorder import Recorder
from tests.standins import polling
from tests.standins.jobs import Device, JobsApi, JobService
from tests.worlds.virtually import scenario

CHECKS = ["L1-terminal", "L7-rollout-ends", "S6-states", "S7-idempotence", "S8-counters", "S9-binding", "S10-integrity",
          "S11-true-success", "S13-at-most-once", "S17-abort", "S21-no-replay", "S23-targeting"]  # fmt: skip


class Play:
    """The service, its devices, and the engine that has it carry out rollouts of this many things."""

    def __init__(self, loop, service, size):
        self.loop, self.service, self.size, self.batches = loop, service, size, []
        self.recorder = Recorder(lambda: loop.now_us, self.batches.append)
        self.record = self.recorder.record
        self.storage = Storage("http://s", b"k")
        self.artifact = self.storage.put("app", "2.0.0", b"new" * 99)
        answer = recording(self.storage.serve, self.record, loop.time)
        self.files = lambda request: answer(request, "")
        service.sign = lambda thing, url: self.storage.presign(self.storage.known(url), thing, 10_000)
        self.rollouts: Rollouts = DelegatedRollouts(
            MemoryHttp(service.serve), JobsApi(), self.record, seed=1, prefix="p."
        )
        self.things = [f"device-{n}" for n in range(size)]
        self.tasks = [asyncio.ensure_future(self.rollouts.run(asyncio.Event()))]

    def switch_on(self, fails=lambda job: ""):
        self.tasks += [
            asyncio.ensure_future(Device(thing, self.service, self.files, self.record, fails).run())
            for thing in self.things
        ]

    def request(self, **spec):
        spec = RolloutSpec.model_validate({"name": "r", "version": "2.0.0", **spec})
        facts = ArtifactFacts(
            version="2.0.0", url=self.artifact.url, size=self.artifact.size_bytes, sha256=self.artifact.sha256
        )
        targets = [TargetFacts(thing=t, cohort="even" if n % 2 == 0 else "odd") for n, t in enumerate(self.things)]
        return RolloutRequest(spec=spec, artifact=facts, targets=targets)

    def trace(self):
        self.recorder.flush()
        return Trace(in_order(self.batches))

    async def findings(self):
        """Switch everything off; check -> its finding, on a scenario of as many devices."""
        await self.stop()
        made = scenario(devices=self.size, rollout={"name": "r"}, checks=CHECKS)
        return {finding.check: finding for finding in judge(self.trace(), made)}

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def noted(self, kind, thing=None):
        events = self.trace().kind(kind)
        events = events if thing is None else events.where("thing", thing)
        return list(events.texts("status"))


def playing(size=5, **service):
    """A test in virtual time, with a Play as its argument."""

    def wrap(test):
        def played():
            async def main(loop):
                play = Play(loop, JobService(**service), size)
                try:
                    await test(play)
                finally:
                    await play.stop()

            run_virtual(main, until_s=2e3)

        played.__name__, played.__module__ = test.__name__, test.__module__
        return played

    return wrap


# ---- whole updates


@playing(size=5, at_once=2)
async def test_a_job_is_created_by_rest_devices_poll_download_and_report_and_polling_sees_them_succeed(play):
    play.switch_on()
    state = await play.rollouts.create(play.request())
    assert (state.status, state.states) == ("running", {"IN_PROGRESS": 2, "QUEUED": 3})
    await play.rollouts.ended("r")
    state = await play.rollouts.state("r")
    assert (state.status, state.reason, state.states) == ("ended", "all targets ended", {"SUCCEEDED": 5})
    assert state.cohorts == {"even": {"SUCCEEDED": 3}, "odd": {"SUCCEEDED": 2}}
    findings, trace = await play.findings(), play.trace()
    assert {check: f.summary for check, f in findings.items() if f.verdict.against} == {}
    assert set(findings) == set(CHECKS)
    assert sorted(trace.kind(Kind.TARGET).texts("thing")) == play.things
    assert play.noted(Kind.ROLLOUT) == ["begin", "end"]
    for thing in play.things:
        assert play.noted(Kind.OFFER, thing) == ["sent", "accepted"]
        assert play.noted(Kind.EXECUTION, thing) == ["IN_PROGRESS", "SUCCEEDED"]
    final = trace.kind(Kind.COUNTERS).where("status", "final")
    assert [json.loads(text)["SUCCEEDED"] for text in final.texts("detail")] == [5]
    assert len(trace.kind(Kind.COUNTERS).where("status", "moving")) > 1


def polled(play, thing):
    """The service as a device of `tests.standins.polling` asks it: another face of the same jobs."""

    def serve(request):
        path = request.url.removeprefix(f"{polling.BASE}/{thing}").strip("/")
        if request.url.startswith("http://s/"):
            return play.files(request)
        work, answer = play.service._work(thing), {}
        if path == "":
            answer = {"sleep": 3.0, **({"deployment": f"{thing}/deployments/it"} if work else {})}
        elif path == "deployments/it":
            size = play.artifact.size_bytes
            answer = {"job": work["id"], **{k: work[k] for k in ("version", "url", "sha256")}, "size": size}
        elif path == "feedback" and orjson.loads(request.body)["status"] in ("SUCCESS", "FAILURE"):
            said = orjson.loads(request.body)
            return Response(play.service._reported(thing, said["job"], said)[0])
        return Response(200, (), orjson.dumps(answer))

    return serve


@playing(size=3, at_once=1)
async def test_real_devices_that_poll_carry_a_job_that_was_created_by_rest_to_its_end(play):
    for thing in play.things:
        spec = DeviceSpec(thing, Profile(install=5, reboot=3, verify=2), Software("1.0.0", "urn:1", "0" * 64))
        wires = Wires(None, MemoryHttp(polled(play, thing)))
        made = RealDevice(spec, polling.PollingDevice(thing), wires, play.record, Dice(1, thing))
        play.tasks.append(asyncio.ensure_future(made.live(play.loop.time())))
    await play.rollouts.create(play.request())
    await play.rollouts.ended("r")
    assert (await play.rollouts.state("r")).states == {"SUCCEEDED": 3}
    findings, trace = await play.findings(), play.trace()
    assert {check: f.summary for check, f in findings.items() if f.verdict.against} == {}
    for thing in play.things:
        assert list(trace.kind(Kind.CONFIRM).where("thing", thing).texts("version")) == ["2.0.0"]
        assert play.noted(Kind.EXECUTION, thing) == ["IN_PROGRESS", "SUCCEEDED"]


@playing(size=3, retries=1)
async def test_a_device_that_fails_is_tried_again_by_the_service_and_each_try_is_an_execution(play):
    await play.rollouts.create(play.request())
    play.switch_on(fails=lambda job: "no space" if job.endswith("device-1/0") or "device-2" in job else "")
    await play.rollouts.ended("r")
    assert (await play.rollouts.state("r")).states == {"SUCCEEDED": 2, "FAILED": 1}
    assert play.noted(Kind.EXECUTION, "device-1") == ["IN_PROGRESS", "UNKNOWN", "IN_PROGRESS", "SUCCEEDED"]
    ends = play.trace().kind(Kind.EXECUTION).where("thing", "device-2").where("status", "FAILED")
    assert list(ends.texts("detail")) == ["no space"]
    assert (await play.rollouts.thing("device-2")).attempt == 1
    assert {check for check, f in (await play.findings()).items() if f.verdict is Verdict.FAIL} == set()


@playing(size=2)
async def test_what_the_service_invents_is_found_by_the_checks(play):
    await play.rollouts.create(play.request())
    play.switch_on()
    play.service.jobs["p.r"]["executions"]["device-1"]["state"] = "done"  # it never reported
    await play.rollouts.ended("r")
    assert (await play.findings())["S8-counters"].verdict is Verdict.FAIL


# ---- failures


@playing(size=2)
async def test_an_api_that_answers_5xx_or_not_at_all_is_asked_again(play):
    play.service.failing = 2
    await play.rollouts.create(play.request())
    assert play.service.asked[:3] == ["POST /jobs"] * 3
    await asyncio.sleep(0.1)
    play.service.deaf, play.service.failing = 4, 4
    play.switch_on()
    await play.rollouts.ended("r")
    assert (await play.rollouts.state("r")).states == {"SUCCEEDED": 2}
    assert {check for check, f in (await play.findings()).items() if f.verdict.against} == set()


@playing(size=2)
async def test_a_creation_whose_answer_was_lost_makes_no_second_job(play):
    play.service.forgetful = 1
    await play.rollouts.create(play.request())
    assert list(play.service.jobs) == ["p.r"]
    assert play.noted(Kind.ROLLOUT) == ["begin"]


@playing(size=2)
async def test_an_api_that_never_takes_the_job_is_said_after_the_offers_tries(play):
    play.service.deaf = 10**6
    with pytest.raises(LinkError, match=r"rollout 'r': the backend did not create it in 3 tries: connection refused"):
        await play.rollouts.create(play.request(offer={"base": "1s", "attempts": 3}))
    assert play.service.asked == ["POST /jobs"] * 3
    assert await play.rollouts.names() == []
    assert len(play.trace().table) == 0


@playing(size=2, things=["device-0"])
async def test_a_job_that_the_api_rejects_is_said_with_its_reason_and_nothing_is_recorded(play):
    with pytest.raises(ScenarioError, match=r"^rollout 'r': the backend refused the job: 400 no such thing: device-1$"):
        await play.rollouts.create(play.request())
    assert await play.rollouts.names() == []
    assert len(play.trace().table) == 0


@playing(size=2)
async def test_a_poll_that_the_api_refuses_or_garbles_ends_the_engine(play):
    await play.rollouts.create(play.request())
    play.service.jobs.clear()
    with pytest.raises(PeerError, match=r"GET http://service.test/jobs/p.r: 404 no job p.r"):
        await play.tasks[0]


@playing(size=4, at_once=1)
async def test_a_job_that_the_remote_side_aborts_ends_and_what_was_not_offered_is_canceled(play):
    await play.rollouts.create(play.request())
    await asyncio.sleep(1.5)
    play.service.operate(play.service.jobs["p.r"], "abort", "too many complaints")
    await asyncio.sleep(1.5)
    state = await play.rollouts.state("r")
    assert (state.status, state.reason) == ("aborting", "aborted: too many complaints")
    play.switch_on()  # the one under way ends freely
    await play.rollouts.ended("r")
    state = await play.rollouts.state("r")
    assert (state.status, state.reason) == ("ended", "aborted: too many complaints")
    assert state.states == {"SUCCEEDED": 1, "CANCELED": 3}
    assert play.noted(Kind.ROLLOUT) == ["begin", "abort", "end"]
    assert Counter(play.noted(Kind.EXECUTION)) == {"IN_PROGRESS": 1, "CANCELED": 3, "SUCCEEDED": 1}
    assert play.noted(Kind.OFFER, "device-1") == []


@playing(size=2)
async def test_what_the_api_leaves_without_an_end_is_unknown(play):
    await play.rollouts.create(play.request())
    await asyncio.sleep(1.5)
    play.service._described = lambda job: {
        "status": "ended",
        "aborted": False,
        "reason": "closed",
        "counts": {"UNKNOWN": 2},
    }
    await play.rollouts.ended("r")
    assert (await play.rollouts.state("r")).reason == "closed"
    assert play.noted(Kind.EXECUTION, "device-0") == ["IN_PROGRESS", "UNKNOWN"]


# ---- operators


@playing(size=3, at_once=1)
async def test_an_operator_aborts_through_the_api_and_hears_what_it_cannot_do(play):
    await play.rollouts.create(play.request())
    with pytest.raises(WrongState, match="the backend's API cannot pause"):
        await play.rollouts.pause("r")
    with pytest.raises(WrongState, match="the backend refused to resume: 409 it is not paused"):
        await play.rollouts.resume("r")
    state = await play.rollouts.abort("r")
    assert (state.status, state.states) == ("aborting", {"IN_PROGRESS": 1, "CANCELED": 2})
    play.switch_on()
    await play.rollouts.ended("r")
    assert play.noted(Kind.ROLLOUT) == ["begin", "abort", "end"]


@playing(size=3, at_once=1)
async def test_an_operator_whom_the_api_does_not_answer_asks_again_and_hears_of_it_after_the_offers_tries(play):
    await play.rollouts.create(play.request(offer={"base": "1s", "attempts": 3}))
    play.service.failing = 10**6
    with pytest.raises(LinkError, match=r"rollout 'r': the backend did not abort it in 3 tries: .* 503"):
        await play.rollouts.abort("r")
    play.service.failing = 2
    assert (await play.rollouts.abort("r")).status == "aborting"


@playing(size=2)
async def test_the_port_tells_of_fleet_and_things_and_refuses_what_makes_no_sense(play):
    play.switch_on()
    await play.rollouts.create(play.request())
    await play.rollouts.ended("r")
    fleet = await play.rollouts.fleet()
    assert (fleet.things, fleet.states, fleet.cohorts) == (
        2, {"SUCCEEDED": 2}, {"even": {"SUCCEEDED": 1}, "odd": {"SUCCEEDED": 1}})  # fmt: skip
    thing = await play.rollouts.thing("device-1")
    assert (thing.rollout, thing.job, thing.state, thing.attempt) == ("r", "p.r/device-1/0", "SUCCEEDED", 0)
    for asked in (play.rollouts.state("s"), play.rollouts.thing("device-9"), play.rollouts.abort("s")):
        with pytest.raises(NoSuch):
            await asked
    with pytest.raises(ScenarioError, match="there is a rollout called 'r' already"):
        await play.rollouts.create(play.request())
    twice = play.request(name="t")
    twice.targets.append(twice.targets[0])
    with pytest.raises(ScenarioError, match="a thing stands among its targets twice"):
        await play.rollouts.create(twice)
