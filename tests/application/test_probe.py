"""The probe, against the reference's replica and against ones that are silent, late or gone."""

import asyncio

import orjson
import pytest

from simulator.application.probe import PATIENCE_S, Probe
from simulator.broker.core import Broker
from simulator.dialects.atlas.probe import AtlasProbe
from simulator.dialects.atlas.replica import AtlasReplica
from simulator.links.base import MqttOptions
from simulator.links.clock import run_virtual
from simulator.links.memory import MemoryBroker, MemoryMqtt
from simulator.model.io import Message
from simulator.model.scenario import Target
from simulator.model.state import deeper
from simulator.replica.core import DocumentLimits, Replica

CASES = [
    "update", "again", "too large", "too deep", "long token", "null in an array", "no object", "get", "at the limits",
    "stale", "twin", "twin", "get",
]  # fmt: skip
TOLD = {
    "update": "accepted", "again": "accepted", "too large": "413", "too deep": "400", "long token": "400",
    "null in an array": "400", "no object": "400", "get": "accepted", "at the limits": "accepted", "stale": "409",
}  # fmt: skip


class Scene:
    """A probe of thing p, and a replica that says of each request how many seconds later it answers (None: never)."""

    def __init__(self, target, delay):
        self.delay, self.gone_s = delay, 0
        self.fabric, self.events, self.kept = MemoryBroker(Broker()), [], []
        self.dialect = AtlasReplica()
        limits = DocumentLimits(target.document_max, target.depth_max, target.token_max)
        self.core = Replica(self.dialect, download=lambda *_: None, credential=lambda *_: None, limits=limits)
        self.link = MemoryMqtt(self.fabric, MqttOptions("m", 0, "replica"))
        link = MemoryMqtt(self.fabric, MqttOptions("m", 0, "probe"))
        self.probe = Probe(link, AtlasProbe("p"), self.record, target)

    def record(self, kind, thing, **columns):
        assert (kind, thing) == ("probe", "p")
        self.events.append({"t": asyncio.get_running_loop().time(), **columns})

    async def run(self):
        begin = asyncio.Event()
        asking = asyncio.create_task(self.probe.run(begin))
        if self.gone_s:
            self.fabric.down = True
            begin.set()
            await asyncio.sleep(self.gone_s)
            self.fabric.revive()
        await self.link.connect()
        await self.link.subscribe(["state/p/update", "state/p/get"])
        serving = asyncio.create_task(self.serve())
        begin.set()
        await asking
        serving.cancel()
        return self

    async def serve(self):
        while True:
            delivery = await self.link.receive()
            request = self.dialect.parse(Message(delivery.topic, delivery.payload))
            decision = self.core.decide(request, 0.0)
            self.kept += [decision.row.reported] if decision.row else []
            for said in decision.outputs:
                wait = self.delay(request)
                if wait is not None:
                    await asyncio.sleep(wait)
                    await self.link.publish(said.topic, said.payload)

    def asked(self):
        return [e["phase"] for e in self.events if e["status"] == "sent"]

    def answers(self):
        """number -> (case, what was told)."""
        return {
            e["size"]: (e["phase"], "accepted" if e["status"] == "accepted" else e["detail"][:3])
            for e in self.events if e["status"] != "sent"
        }  # fmt: skip


def scene(delay=lambda request: 0.0, meddle=None, **limits):
    async def main(loop):
        made = Scene(Target.model_validate(limits), delay)
        if meddle is not None:
            meddle(made)
        return await made.run()

    return run_virtual(main)


@pytest.mark.parametrize("limits", [{}, {"document_max": 400, "depth_max": 2, "token_max": 40}])
def test_it_asks_its_script_and_hears_of_each_request_what_became_of_it(limits):
    made = scene(**limits)
    assert made.asked() == CASES
    answers = made.answers()
    assert len(answers) == len(CASES)
    for case, told in answers.values():
        assert told == TOLD.get(case, told)
    assert sorted(told for case, told in answers.values() if case == "twin") == ["409", "accepted"]
    assert made.core.rows["p"].version == 3


def test_what_it_asks_at_the_limits_is_as_large_and_as_deep_as_may_be():
    made = scene(document_max=500, depth_max=3)
    reported = max(made.kept, key=lambda document: len(orjson.dumps(document)))
    assert len(orjson.dumps({})) + len(orjson.dumps(reported)) == 500
    assert deeper(reported, 2)
    assert not deeper(reported, 3)


def test_nobody_answers_and_it_goes_on_after_its_patience():
    made = scene(delay=lambda request: None)
    assert made.asked() == [*CASES[:8], *["update"] * 6]  # no version is known, so that none can be required
    assert made.answers() == {}
    assert made.events[-1]["t"] == 8 * PATIENCE_S


def test_a_version_that_nobody_has_told_is_asked_for_again():
    silent_s = 3.5 * PATIENCE_S
    made = scene(delay=lambda request: None if asyncio.get_running_loop().time() < silent_s else 0.0)
    assert made.asked() == [*CASES[:8], *["update"] * 2, *CASES[8:]]
    assert [case for case, _ in made.answers().values()] == ["update", *CASES[8:]]


def test_a_late_answer_is_that_of_its_own_request():
    made = scene(
        delay=lambda request: (
            PATIENCE_S + 1 if getattr(request, "state", None) == {"reported": {"probe": "stale"}} else 0.0
        )
    )
    late = [e for e in made.events if e["phase"] == "stale"]
    assert [e["status"] for e in late] == ["sent", "rejected"]
    assert late[1]["t"] - late[0]["t"] == PATIENCE_S + 1
    assert made.answers()[late[0]["size"]] == ("stale", "409")


def test_a_connection_that_is_lost_leaves_its_requests_open_and_the_rest_is_asked():
    def meddle(made):
        kept = made.record

        def record(kind, thing, **columns):
            kept(kind, thing, **columns)
            if (columns["phase"], columns["status"]) == ("stale", "sent"):
                made.probe._link.abort()

        made.probe._record = record

    made = scene(meddle=meddle)
    assert made.asked() == CASES
    assert {case for case, _ in made.answers().values()} == {*CASES} - {"stale"}


def test_a_broker_that_is_not_there_is_waited_for():
    def meddle(made):
        made.gone_s = 7

    made = scene(meddle=meddle)
    assert made.asked() == CASES
    assert len(made.answers()) == len(CASES)
    assert made.events[0]["t"] > 7


def test_each_run_has_tokens_of_its_own():
    made = scene()
    tokens = [e["token"] for e in made.events if e["status"] == "sent" and e["token"]]
    assert len(set(tokens)) == len(CASES) - 2  # one is said again, one has none
    assert all(token.startswith("probe-0-") for token in tokens)
    assert max(map(len, tokens)) == 65


def test_an_answer_to_nobody_is_passed_over():
    dialect = AtlasProbe("p")
    assert dialect.receive(Message("state/p/update/accepted", b"[]")) is None
    answer = dialect.receive(Message("state/p/get/rejected", orjson.dumps({"code": 404, "message": "no such thing"})))
    assert (answer.token, answer.code) == ("", 404)
