"""A dialect over MQTT whose artifacts come over MQTT, too, chunk by chunk, as ThingsBoard's do; and its server. It opens
with a question and no report, and nobody answers its reports."""

import hashlib
from dataclasses import dataclass, field

import orjson

from simulator.dialects.base import Chunk, InSync, UpdateRequested
from simulator.dialects.meanings import Meaning, Means
from simulator.model.errors import NotSimulated
from simulator.model.io import NOTHING, Publish, Step, Subscribe
from simulator.model.update import Artifact, Download, Execution, Status


class ChunkDevice:
    """Topics: d/up, d/ask, d/wants/JOB/OFFSET/LENGTH of the device; d/down, d/chunk/JOB/OFFSET for it."""

    roads = frozenset({"mqtt"})
    answers = False
    wake_at = None

    def __init__(self, thing):
        self.thing = thing

    def open(self, initial, now):
        return Step((Subscribe((f"{self.thing}/down", f"{self.thing}/chunk/#")), *self.ask_current(now).outputs))

    def meaning(self, topic, payload):
        name = topic.removeprefix(f"{self.thing}/").split("/")[0]
        means = {"down": Means.DESIRED, "up": Means.REPORT, "ask": Means.ASKED}.get(name, Means.OTHER)
        return Meaning(means, name, of_end=name == "up", answered=False)

    def ask_current(self, now):
        return Step((Publish(f"{self.thing}/ask", b""),))

    def ask_credential(self, job, now):
        raise NotSimulated("credentials")

    def ask_chunk(self, job, offset, length, now):
        return Step((Publish(f"{self.thing}/wants/{job}/{offset}/{length}", b""),))

    def report(self, progress, now):
        if progress.status not in (Status.SUCCESS, Status.FAILURE):
            return NOTHING
        said = {"version": progress.version, "status": progress.status, "job": progress.job, "reason": progress.reason}
        return Step((Publish(f"{self.thing}/up", orjson.dumps(said)),))

    def receive(self, inbound, now):
        name, *more = inbound.topic.removeprefix(f"{self.thing}/").split("/")
        if name == "chunk":
            return Step((), (Chunk(more[0], int(more[1]), inbound.payload),))
        body = orjson.loads(inbound.payload)
        if not body:
            return Step((), (InSync(None),))
        artifact = Artifact(body["version"], "urn:2", body["size"], body["sha256"])
        order = Execution(body["job"], self.thing, artifact)
        download = Download("", chunk_bytes=body["chunk"])
        return Step((), (UpdateRequested(order, download, None, body["source"]),))

    def wake(self, now):
        return NOTHING


@dataclass
class ChunkServer:
    """Over a link of its own. `lost` is which chunk requests, by ordinal, get no answer; `wanted` is what was asked."""

    thing: str
    content: bytes
    chunk: int = 1000
    size: bool = True  # announced
    open: bool = False
    lost: set = field(default_factory=set)
    takes: float = 0.0  # seconds a chunk
    wanted: list = field(default_factory=list)
    reports: list = field(default_factory=list)

    def order(self, source):
        if not self.open:
            return {}
        return {"job": "7", "version": "2", "chunk": self.chunk, "source": source,
                "size": len(self.content) if self.size else None,
                "sha256": hashlib.sha256(self.content).hexdigest()}  # fmt: skip

    async def desire(self, link):
        self.open = True
        await link.publish(f"{self.thing}/down", orjson.dumps(self.order("delta")))

    async def serve(self, link, sleep):
        await link.connect()
        await link.subscribe([f"{self.thing}/up", f"{self.thing}/ask", f"{self.thing}/wants/#"])
        while True:
            delivery = await link.receive()
            delivery.ack()
            name, *more = delivery.topic.removeprefix(f"{self.thing}/").split("/")
            if name == "up":
                self.reports.append(orjson.loads(delivery.payload))
                self.open = False
            elif name == "ask":
                await link.publish(f"{self.thing}/down", orjson.dumps(self.order("get")))
            else:
                job, offset, length = more[0], int(more[1]), int(more[2])
                self.wanted.append(offset)
                if self.takes:
                    await sleep(self.takes)
                if len(self.wanted) not in self.lost:
                    await link.publish(f"{self.thing}/chunk/{job}/{offset}", self.content[offset : offset + length])
