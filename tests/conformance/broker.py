"""What every MQTT 5 broker must do that no `MqttLink` can ask for, as checks that speak packets to it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import mqtt5

from simulator.broker.access import thing_password
from simulator.broker.core import Broker
from simulator.broker.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Filter,
    Packet,
    Ping,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)
from tests.conformance.mqtt import KEPT, RUN_KEY, SERVICE, SERVICE_PASSWORD, SOON_S

_unique = itertools.count(1)


class Client(Protocol):
    """One connection to a broker."""

    def send(self, packet: Packet) -> None:
        """Say this."""

    async def hear(self) -> Packet | None:
        """What the broker says next; None once it has closed."""

    def cut(self) -> None:
        """End without a word."""


@dataclass
class Place:
    """A broker, and how to reach it."""

    reach: Callable[[], Awaitable[Client]]
    name: str = field(default_factory=lambda: f"b{next(_unique)}")

    async def enter(self, client_id: str, *, resumed: bool = False, **connect: Any) -> Client:
        """A connection with a session; its client id is this place's own, its user the service."""
        client = await self.reach()
        login = {"username": SERVICE, "password": SERVICE_PASSWORD} | connect
        client.send(Connect(f"{self.name}-{client_id}", **login))
        assert await soon(client) == ConnAck(0, resumed)
        return client

    def topic(self, name: str) -> str:
        """A topic of this place's own."""
        return f"state/{self.name}/{name}"


Check = Callable[[Place], Awaitable[None]]
CHECKS: list[Check] = []
NEEDS: dict[Check, str] = {}


def check(needs: str = "") -> Callable[[Check], Check]:
    """Add a check to the suite, with what a way to a broker may lack."""

    def add(wanted: Check) -> Check:
        CHECKS.append(wanted)
        NEEDS[wanted] = needs
        return wanted

    return add


async def soon(client: Client) -> Packet | None:
    async with asyncio.timeout(SOON_S):
        return await client.hear()


async def subscribed(client: Client, *filters: Filter | str) -> None:
    """Subscribe, all granted."""
    wanted = tuple(f if isinstance(f, Filter) else Filter(f) for f in filters)
    client.send(Subscribe(1, wanted))
    assert await soon(client) == SubAck(1, tuple(f.qos for f in wanted))


async def told(client: Client, topic: str, *payloads: bytes, qos: int = 1, retain: bool = False) -> None:
    """Publish, and wait until the broker has it all."""
    for number, payload in enumerate(payloads, 1):
        client.send(Publish(topic, payload, qos, retain, False, number if qos else None))
        if qos:
            assert await soon(client) in (PubAck(number), PubAck(number, 0x10))  # 0x10: nobody subscribes
    if not qos:
        client.send(Ping())
        assert await soon(client) == Ping()


async def heard(client: Client, count: int, *, ack: bool = True) -> list[Publish]:
    """The next messages, acknowledged as they come."""
    messages = []
    for _ in range(count):
        packet = await soon(client)
        assert isinstance(packet, Publish)
        messages.append(packet)
        if ack and packet.packet_id is not None:
            client.send(PubAck(packet.packet_id))
    return messages


async def nothing_more(client: Client) -> None:
    """Whatever the broker had for this client has come."""
    client.send(Ping())
    assert await soon(client) == Ping()


async def closed(client: Client, code: int | None = None) -> None:
    """The broker ends the connection, and says why where a code is given."""
    last = await soon(client)
    if code is not None:
        assert isinstance(last, Disconnect)
        assert last.code == code
    while last is not None:
        last = await soon(client)


def payloads(messages: list[Publish]) -> list[bytes]:
    return [message.payload for message in messages]


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % n for n in range(first, end)]


# ---- connections and sessions


@check()
async def a_login_that_fails_is_told_and_closed(place: Place) -> None:
    for user, password in (
        (SERVICE, "wrong"),
        (SERVICE, "schlüssel"),
        ("thing-1", thing_password(RUN_KEY, "thing-2")),
        ("nobody", ""),
        (None, None),
    ):
        client = await place.reach()
        client.send(Connect(f"{place.name}-a", user, password))
        answer = await soon(client)
        assert isinstance(answer, ConnAck)
        assert answer.code in (0x86, 0x87)
        await closed(client)


@check()
async def whoever_does_not_begin_with_connect_or_does_it_twice_is_sent_away(place: Place) -> None:
    stranger = await place.reach()
    stranger.send(Publish(place.topic("t"), b""))
    await closed(stranger)
    twice = await place.enter("a")
    twice.send(Connect(f"{place.name}-a", SERVICE, SERVICE_PASSWORD))
    await closed(twice)


@check()
async def a_second_client_of_one_id_takes_over_the_session_and_the_first_is_closed(place: Place) -> None:
    first = await place.enter("a", **KEPT)
    await subscribed(first, place.topic("t"))
    second = await place.enter("a", **KEPT, resumed=True)
    await closed(first)
    other = await place.enter("b")
    await told(other, place.topic("t"), b"for the second")
    assert payloads(await heard(second, 1)) == [b"for the second"]


@check()
async def a_takeover_brings_what_was_on_its_way_and_the_first_hears_no_more(place: Place) -> None:
    first, other = await place.enter("a", **KEPT), await place.enter("b")
    await subscribed(first, place.topic("t"))
    await told(other, place.topic("t"), *numbers(0, 4))
    got = await heard(first, 4, ack=False)
    assert got[0].packet_id is not None
    first.send(PubAck(got[0].packet_id))
    await nothing_more(first)
    second = await place.enter("a", **KEPT, resumed=True)
    await told(other, place.topic("t"), *numbers(4, 6))
    again = await heard(second, 5)
    assert payloads(again) == numbers(1, 6)
    assert [m.dup for m in again] == [True] * 3 + [False] * 2
    await nothing_more(second)
    while (last := await soon(first)) is not None:
        assert not isinstance(last, Publish)


@check()
async def who_takes_an_id_as_another_user_hears_nothing_that_was_kept_for_it(place: Place) -> None:
    login = {"username": "thing-1", "password": thing_password(RUN_KEY, "thing-1")}
    first, service = await place.enter("a", **KEPT, **login), await place.enter("service")
    await subscribed(first, f"state/thing-1/{place.name}")
    first.cut()
    await told(service, f"state/thing-1/{place.name}", b"secret")
    thief = await place.reach()
    thief.send(Connect(f"{place.name}-a", "thing-2", thing_password(RUN_KEY, "thing-2"), **KEPT))
    answer = await soon(thief)
    assert isinstance(answer, ConnAck)
    await told(service, f"state/thing-1/{place.name}", b"secret")
    await nothing_more(thief)


@check("receive-maximum")
async def what_is_sent_again_keeps_to_the_receive_maximum(place: Place) -> None:
    client, other = await place.enter("a", **KEPT), await place.enter("b")
    await subscribed(client, place.topic("t"))
    await told(other, place.topic("t"), *numbers(0, 4))
    await heard(client, 4, ack=False)
    client.cut()
    back = await place.enter("a", **KEPT, receive_max=3, resumed=True)
    again = await heard(back, 3, ack=False)
    await nothing_more(back)
    for message in again:
        assert message.packet_id is not None
        back.send(PubAck(message.packet_id))
    last = await heard(back, 1)
    assert payloads(again + last) == numbers(0, 4)
    assert all(m.dup for m in again + last)


@check("says-why")
async def whoever_is_taken_over_or_sent_away_is_told_why_and_its_will_speaks(place: Place) -> None:
    heir = await place.enter("heir")
    await subscribed(heir, place.topic("will"))
    first = await place.enter("a", **KEPT, will=Publish(place.topic("will"), b"taken over", 1))
    await place.enter("a", **KEPT, resumed=True)
    await closed(first, 0x8E)
    twice = await place.enter("b", will=Publish(place.topic("will"), b"sent away", 1))
    twice.send(Connect(f"{place.name}-b", SERVICE, SERVICE_PASSWORD))
    await closed(twice, 0x82)
    assert payloads(await heard(heir, 2)) == [b"taken over", b"sent away"]


@check()
async def a_disconnect_may_end_a_session_that_was_to_be_kept(place: Place) -> None:
    client = await place.enter("a", **KEPT)
    await subscribed(client, place.topic("t"))
    client.send(Disconnect(0, 0.0))
    await closed(client)
    await place.enter("a", **KEPT)


@check()
async def an_unsubscribed_filter_brings_nothing_more(place: Place) -> None:
    client = await place.enter("a")
    await subscribed(client, place.topic("t"), place.topic("#"))
    await told(client, place.topic("other"), qos=0)
    client.send(Unsubscribe(2, (place.topic("#"), place.topic("never"))))
    assert await soon(client) == UnsubAck(2, (0, 0x11))
    other = await place.enter("b")
    await told(other, place.topic("other"), b"1")
    await told(other, place.topic("t"), b"2")
    assert payloads(await heard(client, 1)) == [b"2"]


# ---- delivery


@check()
async def filters_that_overlap_bring_a_message_at_the_highest_quality(place: Place) -> None:
    client, other = await place.enter("a"), await place.enter("b")
    await subscribed(client, Filter(place.topic("t"), 0), Filter(place.topic("+"), 1), Filter(place.topic("#"), 0))
    await told(other, place.topic("t"), b"x")
    assert max(m.qos for m in await everything(client)) == 1  # MQTT 5 3.3.4: whether once or more often is free


@check("receive-maximum")
async def no_more_is_on_its_way_than_the_receive_maximum(place: Place) -> None:
    client, other = await place.enter("a", receive_max=3), await place.enter("b")
    await subscribed(client, place.topic("t"))
    await told(other, place.topic("t"), *numbers(0, 8))
    first = await heard(client, 3, ack=False)
    await nothing_more(client)
    assert first[1].packet_id is not None
    client.send(PubAck(first[1].packet_id))
    assert payloads(first + await heard(client, 1, ack=False)) == numbers(0, 4)
    await nothing_more(client)
    for message in (first[0], first[2]):
        assert message.packet_id is not None
        client.send(PubAck(message.packet_id))
    assert payloads(await heard(client, 2, ack=False)) == numbers(4, 6)
    await nothing_more(client)


@check()
async def an_absent_session_keeps_what_must_be_acknowledged_and_not_the_rest_and_all_in_order(place: Place) -> None:
    client, other = await place.enter("a", **KEPT), await place.enter("b")
    await subscribed(client, place.topic("t"))
    await told(other, place.topic("t"), *numbers(0, 3))
    assert payloads(await heard(client, 3, ack=False)) == numbers(0, 3)
    client.cut()
    await told(other, place.topic("t"), *numbers(3, 4))  # whose PUBACK tells that the cut was noticed, or soon is
    await told(other, place.topic("t"), b"quality 0", qos=0)
    await told(other, place.topic("t"), *numbers(4, 6))
    back = await place.enter("a", **KEPT, resumed=True)
    again = await heard(back, 6)
    assert payloads(again) == numbers(0, 6)
    assert [m.dup for m in again][:3] == [True] * 3
    assert len({m.packet_id for m in again}) == 6
    await nothing_more(back)


# ---- retained messages


@check()
async def the_last_retained_message_waits_and_an_empty_one_clears_it(place: Place) -> None:
    a = await place.enter("a")
    await told(a, place.topic("t"), b"old", b"new", retain=True)
    await told(a, place.topic("quality/0"), b"zero", qos=0, retain=True)
    b = await place.enter("b")
    await subscribed(b, place.topic("#"))
    assert {(m.payload, m.qos, m.retain) for m in await heard(b, 2)} == {(b"new", 1, True), (b"zero", 0, True)}
    await told(a, place.topic("t"), b"", retain=True)
    assert [(m.payload, m.retain) for m in await heard(b, 1)] == [(b"", False)]
    c = await place.enter("c")
    await subscribed(c, place.topic("t"))
    await nothing_more(c)


@check()
async def what_is_retained_comes_as_the_subscriber_asked_for_it(place: Place) -> None:
    a, b = await place.enter("a"), await place.enter("b")
    await told(a, place.topic("t"), b"kept", retain=True)
    await subscribed(b, Filter(place.topic("t"), retain_handling=2))
    await subscribed(b, Filter(place.topic("t"), retain_handling=1))
    await nothing_more(b)
    await subscribed(b, Filter(place.topic("t"), 0))
    assert [(m.payload, m.qos) for m in await heard(b, 1)] == [(b"kept", 0)]
    c = await place.enter("c")
    await subscribed(c, Filter(place.topic("t"), retain_handling=1, retain_as_published=True))
    await told(a, place.topic("t"), b"newer", retain=True)
    assert [(m.payload, m.retain) for m in await heard(c, 2)] == [(b"kept", True), (b"newer", True)]
    await told(a, place.topic("t"), b"", retain=True)


# ---- wills


@check()
async def a_will_is_asked_for_by_a_disconnect_or_dropped_by_it(place: Place) -> None:
    heir = await place.enter("heir")
    await subscribed(heir, place.topic("will"))
    for code, left in ((0x00, []), (0x04, [b"gone"])):
        client = await place.enter("a", will=Publish(place.topic("will"), b"gone", 1))
        client.send(Disconnect(code))
        await closed(client)
        assert payloads(await heard(heir, len(left))) == left
        await nothing_more(heir)


@check()
async def a_retained_will_waits_for_the_subscriber(place: Place) -> None:
    client = await place.enter("a", will=Publish(place.topic("will"), b"gone", 1, True))
    heir = await place.enter("heir")
    await subscribed(heir, place.topic("will"))
    client.cut()
    await heard(heir, 1)
    late = await place.enter("late")
    await subscribed(late, place.topic("will"))
    assert [(m.payload, m.retain) for m in await heard(late, 1)] == [(b"gone", True)]


@check()
async def a_will_is_held_to_the_rights_of_its_client(place: Place) -> None:
    heir = await place.enter("heir")
    await subscribed(heir, f"state/+/{place.name}/will")
    for topic in (f"state/thing-2/{place.name}/will", f"state/thing-1/{place.name}/will"):
        login = {"username": "thing-1", "password": thing_password(RUN_KEY, "thing-1")}
        client = await place.reach()
        client.send(Connect(f"{place.name}-a", **login, will=Publish(topic, topic.encode(), 1)))
        await soon(client)  # some brokers refuse it at once
        client.send(Disconnect(0x04))
        await closed(client)
    assert payloads(await heard(heir, 1)) == [topic.encode()]


@check("keep-alive")
async def a_client_silent_for_too_long_is_given_up_and_its_will_speaks(place: Place) -> None:
    heir = await place.enter("heir")
    await subscribed(heir, place.topic("will"))
    began = asyncio.get_running_loop().time()
    client = await place.enter("a", keep_alive_s=1, will=Publish(place.topic("will"), b"silent", 1))
    assert payloads(await heard(heir, 1)) == [b"silent"]
    assert 1.4 < asyncio.get_running_loop().time() - began < 4.0
    await closed(client)


# ---- shared subscriptions


@check()
async def each_group_gets_each_message_once_spread_over_its_members_in_order(place: Place) -> None:
    sender, whole = await place.enter("sender"), await place.enter("whole")
    group = [await place.enter(f"member-{n}") for n in range(2)]
    for member in group:
        await subscribed(member, f"$share/one/{place.topic('+')}")
    alone = await place.enter("alone")
    await subscribed(alone, Filter(f"$share/two/{place.topic('t')}", 0))
    await subscribed(whole, place.topic("t"))
    await told(sender, place.topic("t"), *numbers(0, 20))
    assert [(m.payload, m.qos) for m in await heard(whole, 20)] == [(n, 1) for n in numbers(0, 20)]
    assert [(m.payload, m.qos) for m in await heard(alone, 20)] == [(n, 0) for n in numbers(0, 20)]
    shares = [payloads(await everything(member)) for member in group]
    assert sorted(shares[0] + shares[1]) == sorted(numbers(0, 20))
    for share in shares:
        assert share
        assert share == sorted(share, key=int)


async def everything(client: Client) -> list[Publish]:
    """All messages that are on their way."""
    client.send(Ping())
    messages = []
    while isinstance(packet := await soon(client), Publish):
        messages.append(packet)
        if packet.packet_id is not None:
            client.send(PubAck(packet.packet_id))
    assert packet == Ping()
    return messages


@check()
async def a_group_goes_on_with_those_who_are_left(place: Place) -> None:
    sender = await place.enter("sender")
    stays, leaves, unsubscribes = [await place.enter(name) for name in ("stays", "leaves", "unsubscribes")]
    shared = f"$share/g/{place.topic('t')}"
    for member in (stays, leaves, unsubscribes):
        await subscribed(member, shared)
    leaves.send(Disconnect())
    await closed(leaves)
    unsubscribes.send(Unsubscribe(2, (shared,)))
    assert await soon(unsubscribes) == UnsubAck(2, (0,))
    await told(sender, place.topic("t"), *numbers(0, 5))
    assert payloads(await heard(stays, 5)) == numbers(0, 5)
    await nothing_more(unsubscribes)


@check()
async def what_a_thing_shares_is_held_to_its_rights(place: Place) -> None:
    thing = await place.enter("thing", username="thing-1", password=thing_password(RUN_KEY, "thing-1"))
    thing.send(Subscribe(1, (Filter(f"$share/g/state/+/{place.name}"), Filter(f"$share/g/state/thing-1/{place.name}"))))
    await soon(thing)  # some brokers refuse it, some deliver nothing
    sender = await place.enter("sender")
    await told(sender, f"state/thing-2/{place.name}", b"for the other")
    await told(sender, f"state/thing-1/{place.name}", b"own")
    assert {*payloads(await everything(thing))} == {b"own"}


# ---- ways to a broker


class CoreClient:
    """A connection to a core in memory; implements `Client`."""

    def __init__(self, core: Broker) -> None:
        self._core = core
        self._inbox: asyncio.Queue[Packet | None] = asyncio.Queue()
        self._open = True

    def send(self, packet: Packet) -> None:
        if self._open:
            self._carry(self._core.receive(self, packet, asyncio.get_running_loop().time()))
            if isinstance(packet, Disconnect):
                self.end()

    def _carry(self, outputs: Any) -> None:
        for client, packet in outputs:
            client._inbox.put_nowait(packet)
            if isinstance(packet, Disconnect) or (isinstance(packet, ConnAck) and packet.code):
                client.end()

    async def hear(self) -> Packet | None:
        return await self._inbox.get()

    def end(self) -> None:
        self._open = False
        self._inbox.put_nowait(None)
        self._carry(self._core.dropped(self, asyncio.get_running_loop().time()))

    def cut(self) -> None:
        self.end()


class SocketClient:
    """A connection over TCP, by the codec alone; implements `Client`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._rest = b""

    def send(self, packet: Packet) -> None:
        self._writer.write(_SPOKEN[type(packet)](packet).write())

    async def hear(self) -> Packet | None:
        while True:
            try:
                packet, length = mqtt5.read(memoryview(self._rest))
            except IndexError:
                try:
                    more = await self._reader.read(65536)
                except ConnectionError:
                    more = b""
                if not more:
                    self._writer.close()
                    return None
                self._rest += more
            else:
                self._rest = self._rest[length:]
                return _UNDERSTOOD[type(packet)](packet)

    def cut(self) -> None:
        self._writer.transport.abort()


_QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE)
_RETAIN = (
    mqtt5.RetainHandling.SEND_ALWAYS,
    mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
    mqtt5.RetainHandling.SEND_NEVER,
)


def _connect(c: Connect) -> Any:
    will = c.will and mqtt5.Will(c.will.topic, payload=c.will.payload, qos=_QOS[c.will.qos], retain=c.will.retain)
    return mqtt5.ConnectPacket(
        c.client_id,
        username=c.username,
        password=None if c.password is None else c.password.encode(),
        clean_start=c.clean_start,
        session_expiry_interval=int(c.session_expiry_s),
        keep_alive=int(c.keep_alive_s),
        receive_max=c.receive_max,
        will=will,
    )


def _disconnect(d: Disconnect) -> Any:
    expiry = None if d.session_expiry_s is None else int(d.session_expiry_s)
    return mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode(d.code), session_expiry_interval=expiry)


def _filter(f: Filter) -> Any:
    return mqtt5.TopicFilter(
        f.pattern,
        max_qos=_QOS[f.qos],
        no_local=f.no_local,
        retain_as_published=f.retain_as_published,
        retain_handling=_RETAIN[f.retain_handling],
    )


_SPOKEN: dict[type, Callable[[Any], Any]] = {
    Connect: _connect,
    Disconnect: _disconnect,
    Ping: lambda _: mqtt5.PingReqPacket(),
    PubAck: lambda a: mqtt5.PubAckPacket(a.packet_id),
    Publish: lambda m: mqtt5.PublishPacket(
        m.topic, m.payload, qos=_QOS[m.qos], retain=m.retain, duplicate=m.dup, packet_id=m.packet_id
    ),
    Subscribe: lambda s: mqtt5.SubscribePacket(s.packet_id, [_filter(f) for f in s.filters]),
    Unsubscribe: lambda u: mqtt5.UnsubscribePacket(u.packet_id, list(u.patterns)),
}
_UNDERSTOOD: dict[type, Callable[[Any], Packet]] = {
    mqtt5.ConnAckPacket: lambda a: ConnAck(int(a.reason_code), a.session_present),
    mqtt5.DisconnectPacket: lambda d: Disconnect(int(d.reason_code)),
    mqtt5.PingRespPacket: lambda _: Ping(),
    mqtt5.PubAckPacket: lambda a: PubAck(a.packet_id, int(a.reason_code)),
    mqtt5.PublishPacket: lambda m: Publish(m.topic, m.payload, int(m.qos), m.retain, m.duplicate, m.packet_id),
    mqtt5.SubAckPacket: lambda a: SubAck(a.packet_id, tuple(int(code) for code in a.reason_codes)),
    mqtt5.UnsubAckPacket: lambda a: UnsubAck(a.packet_id, tuple(int(code) for code in a.reason_codes)),
}
