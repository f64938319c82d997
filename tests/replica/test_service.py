"""The backend on its wires: nothing is answered before its commit, and nothing a device says ends it."""

import asyncio
from collections import deque
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulator.dialects.atlas.replica import AtlasReplica
from simulator.links.clock import run_virtual
from simulator.model.errors import LinkError, PartDied
from simulator.model.io import Request
from simulator.replica.core import Replica, Row
from simulator.replica.database import MemoryDatabase
from simulator.replica.service import BackendService
from simulator.storage.core import Storage
from simulator.storage.grant import Grants
from simulator.trace.recorder import Recorder


class ScriptedLink:
    """An MqttLink whose messages come from `say`; what the service does is in `said`, in order."""

    def __init__(self):
        self.said, self.inbox, self.waiter, self.broken = [], deque(), asyncio.Event(), False
        self.unacknowledged, self.refused, self.resumes = 0, 0, True

    def say(self, topic, body):
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        number = f"{topic.removeprefix('state/')} {payload.decode(errors='replace')[:60]}"
        self.inbox.append(
            SimpleNamespace(topic=topic, payload=payload, ack=lambda: self.said.append(("puback", number)))
        )
        self.waiter.set()

    async def connect(self):
        self.broken = False
        self.said.append(("connect", ""))
        return self.resumes

    async def subscribe(self, filters, *, qos=1, no_local=False):
        pass

    async def publish(self, topic, payload, *, qos=1, retain=False):
        if self.broken:
            raise LinkError("cut")
        self.said.append((topic.removeprefix("state/"), orjson.loads(payload)))

    async def receive(self, until=None):
        while not self.inbox:
            if self.broken:
                raise LinkError("cut")
            self.waiter.clear()
            await self.waiter.wait()
        return self.inbox.popleft()

    def abort(self):
        pass

    def cut(self):
        self.broken = True
        self.waiter.set()

    def topics(self):
        return [topic for topic, _ in self.said]


class HeldDatabase(MemoryDatabase):
    """Commits when `release` is called, once for each call."""

    def __init__(self):
        super().__init__(lambda: 0.0)
        self.batches, self._gate = [], asyncio.Semaphore(0)

    async def commit(self, rows):
        self.batches.append([(row.thing, row.version) for row in rows])
        await self._gate.acquire()
        await super().commit(rows)

    def release(self):
        self._gate.release()


class FullDatabase(MemoryDatabase):
    def __init__(self):
        super().__init__(lambda: 0.0)

    async def commit(self, rows):
        raise PartDied("the replica's database: database or disk is full")


def reported(n, **more):
    return {"state": {"reported": {"n": n}}, **more}


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def served(main, make=HeldDatabase, storage=None, credential=False, events=None):
    """Run `main(service, link, database)` beside the running service, in virtual time; `events` gets (time, kind,
    status) of what is recorded."""

    async def whole(loop):
        link, database = ScriptedLink(), make()
        grants = Grants(storage or Storage("http://s", b"k"), ttl_s=60, credential=credential)
        dialect = AtlasReplica()
        replica = Replica(dialect, download=grants.download, credential=grants.credential)
        recorder = Recorder(lambda: 0, lambda batch: None)

        def note(kind, thing="", **columns):
            recorder.record(kind, thing, **columns)
            if events is not None:
                events.append((loop.time(), kind, columns.get("status")))

        service = BackendService(link, dialect, replica, database, note, 1000.0)
        await service.load()
        ready = asyncio.Event()
        running = asyncio.ensure_future(service.run(ready))
        await ready.wait()
        link.said.remove(("connect", ""))
        try:
            return await main(service, link, database)
        finally:
            recorder.flush()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return run_virtual(whole)


def test_neither_accepted_nor_puback_leaves_before_the_commit():
    async def main(service, link, database):
        link.say("state/d/update", reported(1))
        await asyncio.sleep(100.0)
        assert database.batches == [[("d", 1)]]
        assert link.said == []
        database.release()
        await settled()
        assert link.topics() == ["d/update/accepted", "puback"]

    served(main)


def test_what_gathers_while_a_commit_runs_is_one_commit_answered_in_order():
    async def main(service, link, database):
        link.say("state/d/update", reported(1))
        await settled()
        for n in range(2, 6):
            link.say(f"state/d-{n % 2}/update", reported(n, clientToken=f"t{n}"))
        link.say("state/d/update", reported(6, version=99))
        await settled()
        assert database.batches == [[("d", 1)]]
        database.release()
        await settled()
        assert database.batches[1:] == [[("d-0", 1), ("d-1", 1), ("d-0", 2), ("d-1", 2)]]
        assert link.topics() == ["d/update/accepted", "puback"]
        database.release()
        await settled()
        assert [body["clientToken"] for topic, body in link.said[2:] if topic.endswith("accepted")] == [
            "t2",
            "t3",
            "t4",
            "t5",
        ]
        assert link.topics()[-2:] == ["d/update/rejected", "puback"]

    served(main)


def test_a_reader_sees_only_what_is_committed():
    async def main(service, link, database):
        link.say("state/d/update", reported(1))
        database.release()
        await settled()
        link.say("state/d/update", reported(2))
        link.say("state/d/get", b"")
        await settled()
        reading = asyncio.ensure_future(service.read("d"))
        await asyncio.sleep(100.0)
        assert not reading.done()
        assert "d/get/accepted" not in link.topics()
        database.release()
        assert (await reading).version == 2
        assert link.said[-2][1]["version"] == 2
        assert await service.read("nobody") is None

    served(main)


def at_once():
    return MemoryDatabase(lambda: 0.0)


def desired(n):
    return {"state": {"desired": {"software": {"version": str(n), "softwareURL": f"u{n}"}}}, "jobID": f"j{n}"}


def acknowledged(story, resumes=True):
    """(time, status) of what the service says of its deltas' PUBACKs, each of which it publishes when told so."""
    events = []

    async def main(service, link, database):
        link.resumes = resumes
        await story(link)

    served(main, at_once, events=events)
    return [(at, status) for at, kind, status in events if kind == "replica.acknowledged"]


def test_deltas_are_said_to_be_acknowledged_once_all_are_and_at_most_once_a_second():
    async def story(link):
        for n in range(8):
            link.say("state/d/update", desired(n))
            await asyncio.sleep(0.3)
        link.unacknowledged = 1
        link.say("state/d/update", desired(9))
        await asyncio.sleep(3.1)
        link.unacknowledged = 0
        await asyncio.sleep(10)
        link.say("state/d/update", {"state": {"reported": {"n": 1}}})  # the delta again
        await settled()

    found = acknowledged(story)
    assert [(round(at, 3), status) for at, status in found] == [(t, "all") for t in (1.0, 2.2, 6.4, 15.5)]


def test_what_was_answered_without_a_delta_asks_for_no_acknowledgement():
    async def story(link):
        link.say("state/d/update", reported(1))
        await asyncio.sleep(10)

    assert acknowledged(story) == []


def test_deltas_are_lost_with_a_connection_before_they_leave_and_with_the_session_afterwards():
    async def unsent(link):
        link.say("state/d/update", desired(1))
        link.broken = True
        await asyncio.sleep(10)

    async def sent(link):
        link.say("state/d/update", desired(1))
        await settled()
        link.unacknowledged = 1
        link.cut()
        await asyncio.sleep(0.5)
        link.unacknowledged = 0
        await asyncio.sleep(10)

    async def refused(link):
        link.say("state/d/update", desired(1))
        await settled()
        link.refused += 1
        await asyncio.sleep(3)
        link.say("state/d/update", desired(2))
        await asyncio.sleep(10)

    assert acknowledged(unsent) == [(0.0, "lost")]
    assert acknowledged(refused) == [(1.0, "lost"), (4.0, "all")]
    assert acknowledged(sent) == [(1.0, "all")]  # sent again to the session that was kept
    assert acknowledged(sent, resumes=False) == [(0.1, "lost"), (1.0, "all")]


def test_a_connection_lost_during_the_commit_leaves_the_request_unacknowledged_and_its_answer_repeatable():
    async def main(service, link, database):
        link.say("state/d/update", reported(1, clientToken="t"))
        await settled()
        link.cut()
        database.release()
        await asyncio.sleep(10.0)
        assert link.topics() == ["connect"]
        link.say("state/d/update", reported(1, clientToken="t"))
        await settled()
        assert link.topics() == ["connect", "d/update/accepted", "puback"]
        assert link.said[1][1]["version"] == 1

    served(main)


def test_a_database_that_fails_ends_the_service_with_its_reason_and_nothing_is_accepted():
    async def main(loop):
        link, dialect = ScriptedLink(), AtlasReplica()
        replica = Replica(dialect, download=lambda *_: None, credential=lambda *_: None)
        service = BackendService(
            link, dialect, replica, FullDatabase(), Recorder(lambda: 0, lambda batch: None).record, 0.0
        )
        link.say("state/d/update", reported(1))
        with pytest.raises(PartDied, match="full"):
            await service.run(asyncio.Event())
        assert link.topics() == ["connect"]

    run_virtual(main)


def test_a_credential_asked_for_on_ones_own_channel_opens_ones_own_artifact_for_a_while_and_nothing_else():
    storage = Storage("http://s", b"k")
    for version in ("2", "3"):
        storage.put("app", version, version.encode())

    def ask(thing, job):
        return f"state/{thing}/credentials/get", {"jobID": job}

    async def main(service, link, database):
        for thing, version in (("device.1", "2"), ("device.2", "3")):
            software = {"version": version, "softwareURL": f"http://s/artifacts/app/{version}"}
            link.say(f"state/{thing}/update", {"state": {"desired": {"software": software}}, "jobID": f"job {thing}"})
        await asyncio.sleep(1.0)
        link.said.clear()
        link.say(*ask("device.1", "job device.1"))
        link.say(*ask("device.1", "job device.2"))
        link.say(*ask("device.2", "job device.1"))
        await asyncio.sleep(1.0)
        (_, granted), _, (_, foreign), _, (_, other), _ = link.said
        assert (foreign["code"], other["code"]) == (404, 404)
        grant = (("authorization", granted["authorization"]),)

        def status(version, now=1000.0, headers=grant):
            return storage.serve(Request("GET", f"http://s/artifacts/app/{version}", headers), now)[0].status

        assert (status("2"), status("3"), status("2", headers=())) == (200, 403, 403)
        assert (status("2", granted["expiresAt"]), status("2", granted["expiresAt"] + 1)) == (200, 403)

    served(main, make=lambda: MemoryDatabase(lambda: 0.0), storage=storage, credential=True)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
software = st.fixed_dictionaries({"version": json, "softwareURL": json | st.just("http://s/artifacts/app/2")})
section = json | st.fixed_dictionaries({"software": json | software})
body = st.fixed_dictionaries(
    {},
    optional={
        "state": json | st.fixed_dictionaries({}, optional={"desired": section, "reported": section}),
        "version": json, "clientToken": json, "jobID": json, "status": json, "phase": json, "reason": json,
    },
)  # fmt: skip
TOPICS = ["update", "get", "credentials/get", "update/accepted", "other"]
DEEP = b'{"state":{"reported":{"a":' + b"[" * 900 + b"]" * 900 + b"}}}"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(TOPICS), st.binary(max_size=9) | (json | body).map(orjson.dumps)), max_size=12)
)
@example([("update", b'{"state":{"reported":{"software":{"version":5}}}}')])
@example([("update", DEEP)])
def test_whatever_is_said_the_backend_goes_on(messages):
    storage = Storage("http://s", b"k")
    storage.put("app", "2", b"2")

    async def main(service, link, database):
        for topic, payload in messages:
            link.say(f"state/d/{topic}", payload)
        link.say("state/last/update", reported(1))
        await asyncio.sleep(1.0)
        assert link.said[-2][0] == "last/update/accepted"
        assert link.topics().count("puback") == len(messages) + 1

    served(main, make=lambda: MemoryDatabase(lambda: 0.0), storage=storage)


def test_a_replica_that_starts_again_publishes_what_still_differs_once():
    """It may have died between a commit and its delta, and a device that stays connected does not ask."""

    def left():
        database = HeldDatabase()
        behind = {"software": {"version": "2", "softwareURL": "u2"}}
        database.rows = {
            "behind": Row("behind", 4, behind, {}, "j", ()),
            "level": Row("level", 2, behind, behind, "k", ()),
        }
        return database

    async def main(service, link, database):
        await settled()
        first = list(link.said)
        link.cut()
        await asyncio.sleep(10.0)
        return first, link.topics(), database.batches

    first, topics, batches = served(main, left)
    assert [(topic, said["version"], said["jobID"]) for topic, said in first] == [("behind/update/delta", 4, "j")]
    assert topics.count("behind/update/delta") == 1
    assert batches == []
