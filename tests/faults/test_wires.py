"""What a device hears and says through a harmed road, message by message."""

import asyncio
import json

import pytest

from simulator.broker.core import Broker
from simulator.dialects.atlas.device import AtlasDevice
from simulator.dialects.meanings import Meaning, Means
from simulator.faults.harm import Harms
from simulator.faults.wires import FaultyHttp, FaultyMqtt
from simulator.links.base import MqttOptions
from simulator.links.clock import run_virtual
from simulator.links.memory import MemoryBroker, MemoryMqtt
from simulator.links.memory_http import MemoryHttp
from simulator.model.errors import LinkError, TransferError
from simulator.model.io import Purpose, Request, Response
from simulator.model.scenario import Scenario
from simulator.model.update import Phase


class Scene:
    """A broker, a service that speaks to the device, and the device's harmed road."""

    def __init__(self, *faults):
        self.record = []
        scenario = Scenario.model_validate({"fleet": {"devices": 1}, "faults": faults})
        self.loop = asyncio.get_running_loop()
        self.nemesis = Harms(scenario, lambda kind, thing="", **columns: self.record.append((thing, columns)))
        self.harm = self.nemesis.harm(0, "d")
        self.broker = MemoryBroker(Broker(lambda *who: True, lambda *what: True))
        self.service = self.link("service")
        self.mqtt = FaultyMqtt(self.link("d"), self.harm, self.meaning, lambda: self.link("d"), 90.0)

    def meaning(self, topic, payload):
        """As the dialect says it; the topics here end in the names of atlas's."""
        name = topic.rpartition("/")[2]
        if name == "accepted" and topic.startswith("up/"):
            return AtlasDevice("d", variant="atlas-example").meaning("state/d/update/accepted", payload)
        known = {"update": "update", "delta": "update/delta", "accepted": "update/accepted"}
        return AtlasDevice("d").meaning(f"state/d/{known.get(name, name)}", payload)

    def link(self, name):
        return MemoryMqtt(self.broker, MqttOptions("memory", 0, name, name, "", clean_start=False, session_expiry_s=99))

    async def connect(self):
        await self.service.connect()
        await self.mqtt.connect()
        await self.mqtt.subscribe(["d/#"])
        return self

    async def say(self, name="delta", payload=b"x"):
        await self.service.publish(f"d/{name}", payload)

    async def heard(self, seconds=200.0):
        """(time, name, DUP, retained) of what comes within so many seconds."""
        found, until = [], self.loop.time() + seconds
        while (delivery := await self.mqtt.receive(until)) is not None:
            delivery.ack()
            found.append((self.loop.time(), delivery.topic[2:], delivery.dup, delivery.retain))
        return found

    def keep(self, story):
        self.task = self.loop.create_task(story)

    def did(self, status="did"):
        return [json.loads(columns["detail"]) for _, columns in self.record if columns["status"] == status]


def scene(story, *faults):
    async def main(loop):
        return await story(await Scene(*faults).connect())

    return run_virtual(main, until_s=10_000)


def test_a_duplicate_comes_again_and_others_do_not():
    async def story(s):
        await s.say("accepted")
        await s.say("delta")
        return await s.heard(), s.did()

    heard, did = scene(story, {"fault": "F1-duplicate", "with": {"after": "3s"}})
    assert heard == [(0, "accepted", False, False), (0, "delta", False, False), (3, "delta", False, False)]
    assert did == [{"message": "delta", "size": 1, "again_s": [3.0]}]


@pytest.mark.parametrize("packet_id", ["new", "same"])
def test_a_duplicate_without_dup_has_the_packet_id_that_it_is_asked_for(packet_id):
    async def story(s):
        await s.say("delta")
        first, again = [await s.mqtt.receive() for _ in range(2)]
        assert (first.dup, again.dup, first.packet_id is None) == (False, False, False)
        return again.packet_id == first.packet_id, s.did()

    same, did = scene(story, {"fault": "F1-duplicate", "with": {"packet_id": packet_id}})
    assert same == (packet_id == "same")
    assert did[0].get("same_id", False) == same


def test_a_lost_puback_brings_the_message_again_with_dup():
    async def story(s):
        await s.say("delta")
        delivery = await s.mqtt.receive()
        delivery.ack()
        with pytest.raises(LinkError):
            await s.mqtt.receive()
        await s.mqtt.connect()
        return await s.heard()

    assert scene(story, {"fault": "F1-puback-lost"}) == [(0, "delta", True, False)]


def test_what_is_held_back_is_passed_by_what_comes_later():
    async def story(s):
        await s.say("delta")
        await s.say("accepted")
        return await s.heard()

    assert scene(story, {"fault": "F2-held", "with": {"hold": "9s"}}) == [
        (0, "accepted", False, False),
        (9, "delta", False, False),
    ]


def test_a_lost_answer_never_comes_and_is_not_sent_again():
    async def story(s):
        await s.say("accepted", b'{"status":"RUNNING"}')
        await s.say("accepted", b'{"status":"SUCCESS"}')
        heard = await s.heard()
        s.mqtt.abort()
        await s.mqtt.connect()
        return heard + await s.heard()

    assert scene(story, {"fault": "F17-answer-lost", "times": 1}) == [(0, "accepted", False, False)]


def test_a_lost_report_never_reaches_the_broker_but_other_words_do():
    async def story(s):
        await s.service.subscribe(["up/#"])
        await s.mqtt.publish("up/update", b'{"status":"SUCCESS"}')
        await s.mqtt.publish("up/update", b'{"status":"RUNNING"}')
        await s.mqtt.publish("up/get", b"")
        return [(await s.service.receive(1.0)).payload for _ in range(2)], await s.service.receive(1.0)

    assert scene(story, {"fault": "F17-report-lost"}) == ([b'{"status":"RUNNING"}', b""], None)


async def arrivals(s, seconds):
    """(time, payload) of what the service hears within so many seconds."""
    found, until = [], s.loop.time() + seconds
    while (delivery := await s.service.receive(until)) is not None:
        delivery.ack()
        found.append((s.loop.time(), delivery.payload))
    return found


AT_ONCE = {"fault": "F23-at-once", "with": {"every": "10s", "copies": 1}}
DONE = b'{"status":"FAILURE"}'


def test_ends_wait_for_the_common_moment_and_are_said_more_than_once():
    async def story(s):
        await s.service.subscribe(["up/#"])
        await asyncio.sleep(7)
        for payload in (DONE, b"jobID:j SUCCESS", b'{"status":"RUNNING"}'):
            await s.mqtt.publish("up/accepted" if payload.startswith(b"job") else "up/update", payload)
        return await arrivals(s, 30)

    assert scene(story, AT_ONCE) == [
        (7, b'{"status":"RUNNING"}'),
        *[(10, DONE)] * 2,
        *[(10, b"jobID:j SUCCESS")] * 2,
    ]


@pytest.mark.parametrize("lost", ["abort", "close", "dark"])
def test_an_end_that_waits_is_lost_with_its_connection(lost):
    async def story(s):
        await s.service.subscribe(["up/#"])
        await asyncio.sleep(7)
        await s.mqtt.publish("up/update", DONE)
        if lost == "dark":
            s.nemesis.switch(1, True)
        elif lost == "close":
            await s.mqtt.close()
        else:
            s.mqtt.abort()
            await s.mqtt.connect()
        return await arrivals(s, 30)

    assert scene(story, AT_ONCE, {"fault": "F24-blackhole", "at": "1s"}) == []


def test_offline_cuts_at_once_and_refuses_until_it_ends():
    async def story(s):
        s.nemesis.switch(0, True)
        with pytest.raises(LinkError):
            await s.mqtt.receive()
        with pytest.raises(LinkError):
            await s.mqtt.connect()
        s.nemesis.switch(0, False)
        return await s.mqtt.connect()

    assert scene(story, {"fault": "F3-offline", "at": "1s"}) is True  # the session was kept


def test_a_dark_road_swallows_everything_until_the_keep_alive_tells():
    async def story(s):
        await s.service.subscribe(["up/#"])
        s.nemesis.switch(0, True)
        await s.say("delta")
        await s.mqtt.publish("up/update", b"x")
        assert await s.service.receive(1.0) is None
        with pytest.raises(LinkError):
            await s.mqtt.receive()
        noticed = s.loop.time()
        with pytest.raises(LinkError):
            await s.mqtt.connect()
        refused = s.loop.time()
        s.nemesis.switch(0, False)
        await s.mqtt.connect()
        return noticed, refused, await s.heard(5.0)

    assert scene(story, {"fault": "F24-blackhole", "at": "1s"}) == (90.0, 120.0, [(120.0, "delta", True, False)])


def test_what_was_said_on_a_dark_road_arrives_when_it_is_bright_again_before_the_keep_alive_tells():
    async def story(s):
        await s.service.subscribe(["up/#"])
        s.nemesis.switch(0, True)
        await s.say("delta")
        await s.mqtt.publish("up/update", b"x")
        heard = await s.heard(30.0), await arrivals(s, 30.0)
        s.nemesis.switch(0, False)
        return heard, await s.heard(1.0), await arrivals(s, 1.0), s.mqtt.unacknowledged

    late = ([(60, "delta", False, False)], [(61, b"x")], 0)
    assert scene(story, {"fault": "F24-blackhole", "at": "1s"}) == (([], []), *late)


def test_the_broker_gives_up_whom_it_does_not_hear_and_keeps_what_comes_for_it():
    async def story(s):
        s.mqtt._road.patience_s = 300.0  # a device that is slow to notice
        s.nemesis.switch(0, True)
        await asyncio.sleep(89)
        online = s.broker.core.describe()["connected"]
        await asyncio.sleep(2)
        left = s.broker.core.describe()["connected"]
        await s.say("delta")
        s.nemesis.switch(0, False)
        with pytest.raises(LinkError, match="keep-alive"):
            await s.mqtt.receive()
        await s.mqtt.connect()
        return online, left, await s.heard(1.0)

    assert scene(story, {"fault": "F24-blackhole", "at": "1s"}) == (2, 1, [(91, "delta", False, False)])


IDLE = {"fault": "F24-blackhole", "with": {"idle": "40s"}}


def test_a_road_forgets_a_connection_that_was_idle_and_not_the_next_one():
    async def story(s):
        heard = []
        for _ in range(3):
            await s.say("delta")
            heard += await s.heard(30.0)
        assert s.did() == []
        s.loop.call_at(150.0, lambda: s.keep(s.say("delta")))
        with pytest.raises(LinkError):
            await s.mqtt.receive()
        noticed = s.loop.time()
        await s.mqtt.connect()
        return [at for at, *_ in heard], noticed, await s.heard(30.0), s.did()

    assert scene(story, IDLE) == (
        [0, 30, 60], 60 + 40 + 90, [(190, "delta", True, False)], [{"act": "dark", "idle_s": 40.0}],
    )  # fmt: skip


def test_whoever_pings_more_often_than_the_road_forgets_is_never_forgotten():
    async def story(s):
        await asyncio.sleep(1000)
        await s.say("delta")
        return await s.heard(5.0), s.did()

    assert scene(story, {**IDLE, "with": {"idle": "50s"}}) == ([(1000, "delta", False, False)], [])


def test_a_road_forgets_as_often_as_it_may_and_no_more_when_the_fault_ends():
    async def story(s):
        await asyncio.sleep(50)
        s.nemesis.switch(0, False)
        await s.say("delta")
        heard = await s.heard(1.0)
        s.nemesis.switch(0, True)
        await asyncio.sleep(1000)
        await s.say("delta")
        return heard, await s.heard(1.0), s.did()

    assert scene(story, {**IDLE, "times": 1}) == (
        [(50, "delta", False, False)], [(1051, "delta", False, False)], [{"act": "dark", "idle_s": 40.0}],
    )  # fmt: skip


def test_another_client_of_the_same_id_takes_the_connection_over():
    async def story(s):
        s.harm.at_phase(Phase.INSTALLING)
        with pytest.raises(LinkError):
            await s.mqtt.receive()
        await s.say("delta")
        await asyncio.sleep(0.5)
        await s.mqtt.connect()
        return await s.heard(5.0), s.did(), s.did("saw")

    heard, did, saw = scene(story, {"fault": "F25-duplicate-client-id", "step": "installing"})
    assert heard == [(0.5, "delta", True, False)]  # which the other had got, and did not acknowledge
    assert (did, saw) == ([{"act": "rival"}], [{"rival": "connected"}, {"rival": "gone"}])


def test_another_client_that_cannot_connect_is_no_rival():
    async def story(s):
        s.broker.kill()
        s.harm.at_phase(Phase.INSTALLING)
        await asyncio.sleep(5)
        return s.did("saw")

    assert scene(story, {"fault": "F25-duplicate-client-id", "step": "installing"}) == [{"rival": "failed"}]


def test_whoever_comes_back_at_once_leaves_its_old_connection_to_the_broker():
    async def story(s):
        s.loop.call_at(1.0, s.harm.at_phase, Phase.INSTALLING)
        with pytest.raises(LinkError):
            await s.mqtt.receive()
        left = s.loop.time()
        await s.say("delta")
        await asyncio.sleep(2.0)
        saw = s.did("saw")
        assert await s.mqtt.connect() is True
        await asyncio.sleep(0)
        await s.say("accepted")
        return left, saw, await s.heard(5.0), s.did("saw")

    assert scene(story, {"fault": "F25-half-open", "step": "installing"}) == (
        1.0, [{"half-open": "heard", "message": "delta"}],
        [(3.0, "delta", True, False), (3.0, "accepted", False, False)],
        [{"half-open": "heard", "message": "delta"}, {"half-open": "closed"}],
    )  # fmt: skip


def test_without_a_connection_none_is_left_open():
    async def story(s):
        s.mqtt.abort()
        s.harm.at_phase(Phase.INSTALLING)
        await s.mqtt.connect()
        await s.say()
        return await s.heard(5.0), s.did("saw")

    assert scene(story, {"fault": "F25-half-open", "step": "installing"}) == ([(0, "delta", False, False)], [])


def test_a_stale_command_comes_again_retained_at_each_connection():
    async def story(s):
        await s.say("delta")
        first = await s.heard(1.0)
        s.mqtt.abort()
        await s.mqtt.connect()
        return first, await s.heard(1.0)

    assert scene(story, {"fault": "F26-stale-command"}) == (
        [(0, "delta", False, False)],
        [(1, "delta", False, True)],
    )


def test_who_is_woken_while_a_message_is_held_receives_nothing():
    async def story(s):
        await s.say("delta")
        s.loop.call_at(2.0, s.mqtt.wake)
        return await s.mqtt.receive(), s.loop.time(), await s.heard(30.0)

    assert scene(story, {"fault": "F2-held", "with": {"hold": "9s"}}) == (None, 2.0, [(9, "delta", False, False)])


# ---- a dialect with other topics and other words is harmed as atlas is


class Foreign(Scene):
    """Words of one letter: what shall run is O, a report E where it tells of an end, and its answer A where it does."""

    def meaning(self, topic, payload):
        means = {
            b"O": Means.DESIRED,
            b"E": Means.REPORT,
            b"R": Means.REPORT,
            b"A": Means.ACCEPTED,
            b"B": Means.ACCEPTED,
        }
        return Meaning(means.get(payload, Means.OTHER), f"word {payload.decode()}", payload in (b"E", b"A"))


@pytest.mark.parametrize(
    ("fault", "says", "hears", "struck"),
    [
        ({"fault": "F1-duplicate"}, [], [b"O", b"B", b"A", b"O"], "word O"),
        ({"fault": "F1-duplicate", "with": {"name": "accepted"}, "times": 1}, [], [b"O", b"B", b"A", b"B"], "word B"),
        ({"fault": "F17-answer-lost"}, [], [b"O", b"B"], "word A"),
        ({"fault": "F17-report-lost"}, [b"R"], None, "word E"),
        ({"fault": "F23-at-once", "with": {"every": "5s", "copies": 0}}, [b"R", b"E"], None, "word E"),
    ],
)
def test_a_dialect_of_other_topics_and_words_is_harmed_by_what_its_messages_mean(fault, says, hears, struck):
    async def main(loop):
        s = await Foreign(fault).connect()
        await s.service.subscribe(["up/#"])
        if hears is None:
            for word in (b"E", b"R"):
                await s.mqtt.publish("up/x", word)
            came = [payload for _, payload in await arrivals(s, 9.0)]
        else:
            for word in (b"O", b"B", b"A"):
                await s.say("x", word)
            came, until = [], loop.time() + 9.0
            while (delivery := await s.mqtt.receive(until)) is not None:
                delivery.ack()
                came.append(delivery.payload)
        assert came == (says if hears is None else hears)
        assert {did["message"] for did in s.did()} == {struck}

    run_virtual(main, until_s=100)


# ---- HTTP

CONTENT = bytes(range(200)) * 5


def serve(request):
    headers = dict(request.headers)
    offset = int(headers["range"][6:-1]) if "range" in headers else 0
    body = CONTENT[offset:]
    more = (("content-range", f"bytes {offset}-999/1000"),) if offset else ()
    return Response(206 if offset else 200, (("content-length", str(len(body))), ("etag", '"e"'), *more), body)


def fetched(fault, *headers):
    """(status, headers, content, error) of a request through the fault, and when it was answered."""

    async def main(loop):
        s = Scene(fault)
        http = FaultyHttp(MemoryHttp(serve), s.harm)
        body = await http.open(Request("GET", "u", headers, purpose=Purpose.DOWNLOAD), bound=1 << 20, timeout_s=10)
        at, content, error = loop.time(), b"", None
        try:
            async for chunk in body:
                content += chunk
        except TransferError as cut:
            error = cut.received
        body.close()
        return body.status, body.headers, content, error, at

    return run_virtual(main)


def test_a_storage_that_refuses_says_when_to_come_again():
    status, headers, content, _, _ = fetched({"fault": "F8-storage-refuses", "with": {"retry_after": "7s"}})
    assert (status, headers["retry-after"], content) == (503, "7", b"")


def test_a_download_is_cut_truncated_corrupted_or_late():
    assert fetched({"fault": "F9-cut", "with": {"at": "25%"}})[2:4] == (CONTENT[:250], 250)
    _, headers, content, error, _ = fetched({"fault": "F10-truncated", "with": {"at": "25%"}})
    assert (content, error, "content-length" in headers) == (CONTENT[:250], None, False)
    content = fetched({"fault": "F11-corrupt"})[2]
    assert [n for n in range(1000) if content[n] != CONTENT[n]] == [500]
    assert fetched({"fault": "F6-late-download", "with": {"wait": "5s"}})[2:] == (CONTENT, None, 5.0)


def test_the_rest_of_a_download_is_whole_or_wrong_or_of_another_content():
    rest = (("range", "bytes=400-"), ("if-range", '"e"'))
    assert fetched({"fault": "F9-range-ignored"}, *rest)[0::2][:2] == (200, CONTENT)
    assert fetched({"fault": "F9-wrong-range"}, *rest)[1]["content-range"] == "bytes 0-0/1"
    status, headers, content, _, _ = fetched({"fault": "F9-changed"}, *rest)
    assert (status, headers["etag"]) == (206, '"changed"')
    assert content != CONTENT[400:]
    assert len(content) == 600
    for name in ("F9-range-ignored", "F9-wrong-range", "F9-changed"):
        assert fetched({"fault": name})[3] == 500  # the first is cut, so that there is a rest


@pytest.mark.parametrize("fault", [{"fault": "F8-storage-refuses"}, {"fault": "F9-cut"}, {"fault": "F6-late-download"}])
def test_a_control_exchange_passes_where_downloads_are_harmed(fault):
    async def main(loop):
        s = Scene(fault)
        http = FaultyHttp(MemoryHttp(serve), s.harm)
        answer = await http.request(Request("GET", "u"))
        return answer.status, answer.body, loop.time(), s.did()

    assert run_virtual(main) == (200, CONTENT, 0.0, [])
