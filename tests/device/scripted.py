"""One device in virtual time, over the memory links, against a replica and a storage that do as a test says."""

import asyncio
import functools
import hashlib
from types import SimpleNamespace

import orjson

from simulator.broker.core import Broker
from simulator.broker.packets import Publish
from simulator.device.agent import Software
from simulator.device.device import Device, DeviceSpec
from simulator.dialects.atlas.device import AtlasDevice
from simulator.links.base import MqttOptions, Wires
from simulator.links.clock import run_virtual
from simulator.links.latency import LatentMqtt
from simulator.links.memory import MemoryBroker, MemoryMqtt
from simulator.links.memory_http import MemoryHttp
from simulator.model.dice import Dice
from simulator.model.errors import LinkError
from simulator.model.events import Kind
from simulator.model.io import Response
from simulator.model.scenario import Profile
from simulator.model.state import delta
from simulator.model.update import MOVES, Phase

STEADY = {"install": 5, "reboot": 3, "verify": 2, "bandwidth": 65536, "reconnect": {"jitter": 0}}  # 8 chunks: 8 s
DOWNLOADING, VERIFYING, INSTALLING, REBOOTING, DONE = 2.5, 10.0, 13.0, 17.0, 30.0  # of a delta that came at 1.0
WORKING = [DOWNLOADING, VERIFYING, INSTALLING]
MOMENTS = [*WORKING, REBOOTING, 19.0]
NAMES = ["downloading", "verifying", "installing", "rebooting", "booted"]


@functools.cache
def content(version):
    """What version `version` consists of: 512 KiB, which travel in eight chunks."""
    return version.encode().ljust(1 << 19, b".")


@functools.cache
def digest(version):
    return hashlib.sha256(content(version)).hexdigest()


FACTORY = Software("1", "http://s/1", digest("1"))


class Storage:
    """Serves each version under http://s/<version>; `script` answers come first. None stands for a dead road."""

    def __init__(self):
        self.requests, self.script, self.contents = [], [], {}

    def serve(self, request):
        self.requests.append((request.url, dict(request.headers)))
        if self.script and (answer := self.script.pop(0)) is not True:
            if answer is None:
                raise LinkError("connection refused")
            return answer
        version = request.url.partition("?")[0].rpartition("/")[2]
        body = self.contents.get(version) or content(version)
        said = dict(request.headers).get("range")
        if not said:
            return Response(200, (("etag", f'"{version}"'), ("content-length", str(len(body)))), body)
        first = int(said[6:-1])
        where = f"bytes {first}-{len(body) - 1}/{len(body)}"
        return Response(206, (("etag", f'"{version}"'), ("content-range", where)), body[first:])


class World:
    """The device (`task`), its link, and what a test says in the replica's place. `mute` names what it keeps from
    answering: "update", "get", "credentials"."""

    def __init__(self, loop, profile, dice, variant, credential, epoch, broker, latency):
        self.loop = loop
        self.fabric, self.storage = MemoryBroker(broker), Storage()
        self.link = MemoryMqtt(self.fabric, MqttOptions("m", 0, "d"))
        self.backend = MemoryMqtt(self.fabric, MqttOptions("m", 0, "replica"))
        self.events, self.heard, self.mute = [], [], set()
        self.doc, self.job, self.desired, self.reported, self.leave = 0, "", {}, {}, {}
        spec = DeviceSpec("d", Profile(**profile), FACTORY, 1 << 20, epoch)
        dialect = AtlasDevice("d", variant=variant, credential=credential)
        mqtt = LatentMqtt(self.link, lambda: latency) if latency else self.link
        self.device = Device(spec, dialect, Wires(mqtt, MemoryHttp(self.storage.serve)), self.record, dice)

    def record(self, kind, thing="", **columns):
        nothing = dict.fromkeys(
            ("job", "status", "phase", "version", "digest", "doc", "size", "span_us", "detail", "token")
        )
        self.events.append(SimpleNamespace(t=self.loop.time(), kind=kind, **{**nothing, **columns}))

    # ---- the replica

    async def start(self):
        await self.backend.connect()
        await self.backend.subscribe(["state/d/update", "state/d/get", "state/d/credentials/get"])
        self.replica = self.loop.create_task(self.serve())
        self.task = self.loop.create_task(self.device.live(self.loop.time()))

    async def stop(self):
        """Switch the device off, and show what it died of if it did."""
        self.replica.cancel()
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.result()

    async def serve(self):
        while True:
            delivery = await self.backend.receive()
            delivery.ack()
            name = delivery.topic.removeprefix("state/d/")
            body = orjson.loads(delivery.payload or b"{}")
            self.heard.append(SimpleNamespace(t=self.loop.time(), name=name, **{"jobID": None, "status": None, **body}))
            if name.partition("/")[0] not in self.mute:
                await self.answer(name, body)

    async def answer(self, name, body):
        if name == "update":
            self.doc += 1
            self.reported = body["state"]["reported"]
            await self.say("update/accepted", {**body, "version": self.doc})
        elif name == "get":
            different = delta(self.desired, self.reported)
            if different:
                different = {"software": {**different["software"], "softwareURL": self.url}}
            state = {"desired": self.desired, "reported": self.reported, "delta": different}
            await self.say("get/accepted", {"state": state, "jobID": self.job, "version": self.doc, **self.leave})
        else:
            await self.say("credentials/get/accepted", {"authorization": "Bearer b", "jobID": body["jobID"]})

    async def say(self, name, body):
        await self.backend.publish(f"state/d/{name}", orjson.dumps(body))

    def now(self, name, body):
        """The message reaches the device within this very turn, without the broker's hops."""
        self.link.arrived(Publish(f"state/d/{name}", orjson.dumps(body), 0))

    @property
    def url(self):
        return self.desired["software"]["softwareURL"]

    def order(self, version, job=None, *, doc=None, url=None, leave=True, **more):
        """The delta's body; what it says is desired from now on, unless it is of an older document."""
        if doc is None:
            self.doc = doc = self.doc + 1
            self.job = job or f"j{version}"
            self.desired = {"software": {"version": version, "softwareURL": url or f"http://s/{version}"}}
            self.leave = {}
            if leave:
                signed = {"url": f"{self.url}?first", "size": 1 << 19, "sha256": digest(version), **more}
                self.leave = {"download": signed}
        state = {"software": {"version": version, "softwareURL": url or f"http://s/{version}"}}
        return {"state": state, "jobID": job or f"j{version}", "version": doc, **self.leave}

    async def desire(self, version, job=None, **more):
        """Desire this version, and publish the delta."""
        await self.say("update/delta", self.order(version, job, **more))

    async def until(self, t):
        await asyncio.sleep(t - self.loop.time())

    # ---- what happens to the device

    def lose(self, reason="cut"):
        """Its connection is cut from the other side."""
        if self.link.up:
            self.link.lose(reason)
            self.fabric.vanish(self.link)

    def cut_power(self):
        self.device.power.off("power-cut")

    # ---- what a test asks

    def answered(self, status=None):
        """What became of the reports of an update's end."""
        return [e for e in self.of(Kind.ANSWER, status) if e.job]

    def of(self, kind, status=None, job=None):
        """The events of this kind."""
        return [
            e for e in self.events
            if e.kind == kind and (status is None or e.status == status) and (job is None or e.job == job)
        ]  # fmt: skip

    def said(self, status, job=None):
        """The reports with this status that reached the replica."""
        return [h for h in self.heard if h.name == "update" and h.status == status and (job is None or h.jobID == job)]

    @property
    def runs(self):
        return self.device.agent.flash.active.version

    @property
    def phase(self):
        return self.device.agent.phase

    def checked(self):
        """What must hold of every record: legal moves, each job written once, reports that name what runs."""
        at = Phase.IDLE
        for event in self.events:
            if event.kind == Kind.BOOT and event.status == "power-cut":
                at = None  # what the flash says
            elif event.kind == Kind.PHASE:
                assert at in (None, event.phase)
                assert event.status in MOVES[event.phase]
                at = event.status
        jobs = [e.job for e in self.of(Kind.COMMIT)]
        assert len(jobs) == len(set(jobs))
        versions = {e.digest: e.version for e in self.events if e.kind in (Kind.BOOT, Kind.COMMIT)}
        assert all(versions[e.digest] == e.version for e in self.of(Kind.REPORT))
        wanted = {e.job: e.digest for e in self.of(Kind.DELTA)}
        assert all(wanted[e.job] in (None, e.digest) for e in self.of(Kind.REPORT, "SUCCESS"))
        return self


def play(story, *, dice=None, variant="atlas", credential=False, epoch=0.0, broker=None, latency=0.0, check=True,
         **profile):  # fmt: skip
    """Run `story(world)`, from 1.0 s on, beside a device whose profile is STEADY with these changes; the world
    afterwards."""

    async def main(loop):
        world = World(
            loop, {**STEADY, **profile}, dice or Dice(1, "d"), variant, credential, epoch, broker or Broker(), latency
        )
        await world.start()
        try:
            await asyncio.sleep(1)
            await story(world)
        finally:
            await world.stop()
        return world.checked() if check else world

    return run_virtual(main, until_s=1e6)


def phases(world, job):
    """The phases that this job entered."""
    return [e.status for e in world.of(Kind.PHASE, job=job)]


def ranges(world):
    """The Range header of each request."""
    return [headers.get("range") for _, headers in world.storage.requests]


async def updated(world):
    """One update from 1 to 2, without a fault."""
    await world.desire("2")
    await world.until(DONE)
