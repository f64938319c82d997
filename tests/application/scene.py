"""An application in virtual time, and a replica whose every answer the test chooses."""

import asyncio

import orjson

from simulator.application.engine import Application
from simulator.application.rollout import Rollout
from simulator.broker.core import Broker
from simulator.dialects.atlas.application import AtlasApplication
from simulator.links.base import MqttOptions
from simulator.links.clock import run_virtual
from simulator.links.memory import MemoryBroker, MemoryMqtt
from simulator.model.scenario import RolloutSpec
from simulator.model.update import Artifact

ACCEPT, SILENCE = None, "silence"


class Scene:
    """An application, and a replica whose every answer the test chooses: ACCEPT, SILENCE or a code.

    `offers` are (time, thing, body) as they reached the replica, `events` (time, kind, thing, columns) as recorded.
    """

    def __init__(self, loop, link=MemoryMqtt, variant="atlas"):
        self.loop, self.fabric = loop, MemoryBroker(Broker())
        self.events, self.offers = [], []
        self.answer = lambda thing, job: ACCEPT
        self.link = link(self.fabric, MqttOptions("memory", 0, "application", clean_start=False, session_expiry_s=3600))
        self.replica = MemoryMqtt(self.fabric, MqttOptions("memory", 0, "replica"))
        self.application = Application(self.link, AtlasApplication(variant=variant), self.record, seed=1)

    def record(self, kind, thing="", **columns):
        self.events.append((self.loop.time(), kind, thing, columns))

    async def start(self):
        await self.replica.connect()
        await self.replica.subscribe(["state/+/update"])
        self.tasks = [asyncio.create_task(self.replicate()), asyncio.create_task(self.application.run(asyncio.Event()))]
        await asyncio.sleep(0.01)

    async def replicate(self):
        while True:
            delivery = await self.replica.receive()
            delivery.ack()
            thing, body = delivery.topic.split("/")[1], orjson.loads(delivery.payload)
            self.offers.append((self.loop.time(), thing, body))
            code = self.answer(thing, body["jobID"])
            if code is ACCEPT:
                await self.say(thing, "accepted", **body, version=1)
            elif code is not SILENCE:
                await self.say(thing, "rejected", code=code, message="no", clientToken=body["clientToken"])

    async def say(self, thing, topic, **body):
        await self.replica.publish(f"state/{thing}/update/{topic}", orjson.dumps(body))

    async def report(self, thing, job, status="", version="2", **more):
        """What the replica says when it has accepted a device's report; one without a job speaks of no update."""
        state = {"reported": {"software": {"version": version, "softwareURL": f"u{version}"}}}
        told = {"jobID": job, "status": status, **more} if job is not None else {}
        await self.say(thing, "accepted", state=state, version=2, **told)
        await asyncio.sleep(0.01)

    def roll(self, size=1, version="2", name="r", **spec):
        """Begin a rollout to the first `size` things; (rollout, the event of its end)."""
        made = Rollout(
            RolloutSpec.model_validate({"name": name, "version": version, **spec}),
            Artifact(version, f"u{version}"),
            [(f"d-{n}", "all") for n in range(size)],
            begin_at=self.application.clock(),
        )
        return made, self.application.add(made)

    def times(self, thing="d-0"):
        """When this thing's offers reached the replica."""
        return [t for t, other, _ in self.offers if other == thing]

    def job(self, thing="d-0", nth=-1):
        """The job id of an offer to this thing."""
        return [body["jobID"] for _, other, body in self.offers if other == thing][nth]

    def noted(self, kind, thing=""):
        """The statuses of the events of a kind."""
        return [columns["status"] for _, k, other, columns in self.events if k == kind and other == thing]


def scene(**options):
    """A test that is played in virtual time, with a Scene as its only argument."""

    def playing(test):
        def played():
            async def main(loop):
                made = Scene(loop, **options)
                await made.start()
                await test(made)

            run_virtual(main, until_s=1e6)

        played.__name__, played.__module__ = test.__name__, test.__module__
        return played

    return playing


def counts(rollout):
    """State -> how many targets, of those that are not zero."""
    return {state.value: n for state, n in rollout.counts_by_state().items() if n}
