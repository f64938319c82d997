"""What every `MqttLink` must do, as checks that take a road: a broker, and links that lead to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from simulator.broker.access import thing_password
from simulator.links.base import Delivery, MqttLink, MqttOptions
from simulator.model.errors import LinkError, PeerError

RUN_KEY = "conformance"
SERVICE, SERVICE_PASSWORD = "service", "service's password"
KEPT: dict[str, Any] = {"clean_start": False, "session_expiry_s": 60}
SOON_S = 5.0  # nothing that is to come takes longer
_unique = itertools.count(1)


@dataclass
class Road:
    """A broker, and how a link leads to it. `make` gets MqttOptions; `base` are those that all links share."""

    make: Callable[[MqttOptions], MqttLink]
    base: dict[str, Any]
    nowhere: Callable[[], MqttLink]
    version: int = 5
    name: str = field(default_factory=lambda: f"r{next(_unique)}")

    def link(self, client_id: str, *, user: str = SERVICE, password: str = SERVICE_PASSWORD, **more: Any) -> MqttLink:
        """A link that is not connected yet; its client id is this road's own."""
        options = {"username": user, "password": password} | self.base | more
        return self.make(MqttOptions(client_id=f"{self.name}-{client_id}", **options))

    async def linked(self, client_id: str, **more: Any) -> MqttLink:
        """A connected one."""
        link = self.link(client_id, **more)
        await link.connect()
        return link

    def topic(self, name: str) -> str:
        """A topic of this road's own."""
        return f"state/{self.name}/{name}"


Check = Callable[[Road], Awaitable[None]]


@dataclass
class Suite:
    """Checks, what a road must be able to do for each, and those that wait for whole seconds."""

    checks: list[Check] = field(default_factory=list)
    slow: list[Check] = field(default_factory=list)
    needs: dict[Check, frozenset[str]] = field(default_factory=dict)

    def check(self, *needs: str, slow: bool = False) -> Callable[[Check], Check]:
        """Add a check."""

        def add(check: Check) -> Check:
            (self.slow if slow else self.checks).append(check)
            self.needs[check] = frozenset(needs)
            return check

        return add


SUITE = Suite()
check = SUITE.check


async def soon(link: MqttLink) -> Delivery:
    """The next message, which must come."""
    delivery = await link.receive(asyncio.get_running_loop().time() + SOON_S)
    assert delivery is not None, "no message came"
    return delivery


async def several(link: MqttLink, count: int) -> list[Delivery]:
    return [await soon(link) for _ in range(count)]


async def there_and_back(link: MqttLink) -> None:
    """What this link sent before has reached the broker, and what the broker sent it before is here."""
    await link.subscribe(["state/nobody/there-and-back"])


async def only(link: MqttLink, sender: MqttLink, topic: str, payload: bytes = b"the only one") -> None:
    """Nothing is left for this link but what is sent now."""
    await sender.publish(topic, payload)
    assert (await soon(link)).payload == payload


# ---- connections and sessions


@check()
async def a_session_is_new_then_resumed_and_a_clean_start_ends_it(road: Road) -> None:
    link = road.link("a", **KEPT)
    assert await link.connect() is False
    await link.close()
    assert await link.connect() is True
    link.abort()
    assert await link.connect() is True
    await link.close()
    clean = road.link("a")
    assert await clean.connect() is False
    await clean.close()
    assert await link.connect() is False
    await link.close()


@check()
async def a_refused_port_is_the_roads_fault(road: Road) -> None:
    link = road.nowhere()
    with pytest.raises(LinkError):
        await link.connect()
    with pytest.raises(LinkError):
        await link.receive()
    await link.close()


@check()
async def a_wrong_password_is_refused_with_its_code(road: Road) -> None:
    link = road.link("a", password="wrong")
    with pytest.raises(PeerError) as refused:
        await link.connect()
    assert refused.value.code in (0x86, 0x87)
    with pytest.raises(LinkError):
        await link.publish(road.topic("t"), b"")
    await link.close()


@check()
async def close_and_abort_are_safe_at_any_time(road: Road) -> None:
    link = road.link("a")
    link.abort()
    await link.close()
    await link.connect()
    await link.close()
    await link.close()
    link.abort()
    await link.connect()
    link.abort()
    link.abort()
    await link.close()
    for act in (link.publish("state/a", b""), link.subscribe(["state/a"]), link.receive()):
        with pytest.raises(LinkError):
            await act


@check()
async def a_second_client_of_one_id_takes_over(road: Road) -> None:
    first = await road.linked("a")
    await first.subscribe([road.topic("t")])
    other = await road.linked("b")
    for n in range(3):
        await other.publish(road.topic("t"), bytes([n]))
    await there_and_back(other)
    second = await road.linked("a")
    assert [d.payload for d in await several(first, 3)] == [b"\0", b"\1", b"\2"]  # what came before is received
    with pytest.raises(LinkError):
        await soon(first)
    await second.subscribe([road.topic("t")])
    await only(second, other, road.topic("t"))
    await asyncio.gather(first.close(), second.close(), other.close())


@check()
async def the_will_speaks_after_an_abort_not_after_a_close(road: Road) -> None:
    will = (road.topic("will"), b"gone")
    heir, link = await road.linked("heir"), await road.linked("a", will=will)
    await heir.subscribe([will[0]])
    await link.close()
    await only(heir, heir, will[0])
    await link.connect()
    link.abort()
    assert (await soon(heir)).payload == b"gone"
    await heir.close()


# ---- messages


@check()
async def messages_of_both_qualities_arrive_in_order(road: Road) -> None:
    a, b = await road.linked("a"), await road.linked("b")
    await b.subscribe([road.topic("+"), road.topic("deeper/#")])
    for qos in (0, 1):
        for n in range(200):
            await a.publish(road.topic("t"), b"%d" % n, qos=qos)
        got = await several(b, 200)
        assert [d.payload for d in got] == [b"%d" % n for n in range(200)]
        assert {(d.topic, d.qos, d.retain, d.dup) for d in got} == {(road.topic("t"), qos, False, False)}
        assert len({d.packet_id for d in got}) == (200 if qos else 1)
        for delivery in got:
            delivery.ack()
    await b.subscribe([road.topic("plain/t")], qos=0)
    await a.publish(road.topic("plain/t"), b"", qos=1)
    assert (await soon(b)).qos == 0
    await asyncio.gather(a.close(), b.close())


@check()
async def what_was_published_before_a_close_is_not_lost(road: Road) -> None:
    reader, writer = road.link("reader"), road.link("writer")
    await reader.connect()
    await reader.subscribe(["state/said/#"])
    await writer.connect()
    for i in range(50):
        await writer.publish(f"state/said/{i}", b"last words")
    await writer.close()
    assert [d.topic for d in await several(reader, 50)] == [f"state/said/{i}" for i in range(50)]
    await reader.close()


@check()
async def what_was_published_is_unacknowledged_until_the_broker_has_it(road: Road) -> None:
    link = await road.linked("a", **KEPT)
    await link.publish(road.topic("t"), b"", qos=0)
    assert link.unacknowledged == 0
    for n in range(5):
        await link.publish(road.topic("t"), bytes([n]))
    await there_and_back(link)
    assert link.unacknowledged == 0
    await link.close()


@check("large")
async def large_messages_arrive_whole(road: Road) -> None:
    a, b = await road.linked("a"), await road.linked("b")
    await b.subscribe([road.topic("t")])
    sent = [bytes([n]) * 200_000 for n in range(10)]
    for payload in sent:
        await a.publish(road.topic("t"), payload)
    assert [d.payload for d in await several(b, 10)] == sent
    await asyncio.gather(a.close(), b.close())


@check()
async def what_is_not_acknowledged_comes_again_with_dup(road: Road) -> None:
    a, b = await road.linked("a"), await road.linked("b", **KEPT)
    await b.subscribe([road.topic("t")])
    for n in range(3):
        await a.publish(road.topic("t"), bytes([n]))
    first, _, third = await several(b, 3)
    first.ack()
    first.ack()
    await there_and_back(b)
    b.abort()
    third.ack()  # nobody hears it
    assert await b.connect() is True
    again = await several(b, 2)
    assert [(d.payload, d.dup) for d in again] == [(b"\1", True), (b"\2", True)]
    for delivery in again:
        delivery.ack()
    await there_and_back(b)
    await b.close()
    assert await b.connect() is True
    await only(b, a, road.topic("t"))
    await asyncio.gather(a.close(), b.close())


@check()
async def a_kept_session_gets_what_it_missed_and_a_clean_one_does_not(road: Road) -> None:
    a, kept, clean = await road.linked("a"), await road.linked("kept", **KEPT), await road.linked("clean")
    for link in (kept, clean):
        await link.subscribe([road.topic("t")])
    kept.abort()
    await clean.close()
    await there_and_back(a)
    for n in range(10):
        await a.publish(road.topic("t"), bytes([n]))
    await there_and_back(a)
    assert await kept.connect() is True
    got = await several(kept, 10)
    assert [d.payload for d in got] == [bytes([n]) for n in range(10)]
    assert await clean.connect() is False
    await clean.subscribe([road.topic("t")])
    await only(clean, a, road.topic("t"))
    await asyncio.gather(a.close(), kept.close(), clean.close())


@check()
async def a_retained_message_waits_for_the_subscriber(road: Road) -> None:
    a, b = await road.linked("a"), await road.linked("b")
    await a.publish(road.topic("t"), b"kept", retain=True)
    await there_and_back(a)
    await b.subscribe([road.topic("t")])
    got = await soon(b)
    assert (got.payload, got.retain) == (b"kept", True)
    await a.publish(road.topic("t"), b"", retain=True)
    assert (await soon(b)).retain is False  # it was sent because it happened
    await b.subscribe([road.topic("t")])
    await only(b, a, road.topic("t"))
    await asyncio.gather(a.close(), b.close())


@check()
async def a_publisher_that_was_cut_loses_nothing(road: Road) -> None:
    a, b = await road.linked("a", **KEPT), await road.linked("b")
    await b.subscribe([road.topic("t")])
    for n in range(20):
        await a.publish(road.topic("t"), bytes([n]))
    a.abort()
    assert await a.connect() is True
    await a.publish(road.topic("t"), b"last")
    got: list[bytes] = []
    while not got or got[-1] != b"last":
        got.append((await soon(b)).payload)
    assert list(dict.fromkeys(got)) == [*(bytes([n]) for n in range(20)), b"last"]  # at least once, in order
    await asyncio.gather(a.close(), b.close())


@check("no-local")
async def no_local_spares_the_sender_its_own_words(road: Road) -> None:
    a, b = await road.linked("a"), await road.linked("b")
    await a.subscribe([road.topic("t")], no_local=True)
    await a.publish(road.topic("t"), b"own")
    await there_and_back(a)
    await only(a, b, road.topic("t"))
    await asyncio.gather(a.close(), b.close())


@check("refuses-subscriptions")
async def a_subscription_to_anothers_topics_is_refused(road: Road) -> None:
    link = await road.linked("thing", user="thing-1", password=thing_password(RUN_KEY, "thing-1"))
    for foreign in ("state/thing-2/t", "state/+/t", "#"):
        with pytest.raises(PeerError) as refused:
            await link.subscribe([foreign])
        assert refused.value.code == 0x87
    await link.subscribe(["state/thing-1/#"])  # and the link lives on
    await link.close()


@check()
async def a_thing_hears_and_says_its_own_alone(road: Road) -> None:
    own, foreign = f"state/thing-1/{road.name}", f"state/thing-2/{road.name}"
    link = await road.linked("thing", user="thing-1", password=thing_password(RUN_KEY, "thing-1"))
    service = await road.linked("service")
    for topic in (f"{foreign}/t", f"state/+/{road.name}/t"):
        with contextlib.suppress(PeerError):  # some brokers refuse it, some deliver nothing
            await link.subscribe([topic])
    await link.subscribe([f"{own}/+"])
    await service.publish(f"{foreign}/t", b"for the other")
    await only(link, service, f"{own}/t")
    await service.subscribe([f"state/+/{road.name}/report"])
    await link.publish(f"{foreign}/report", b"forged")
    with contextlib.suppress(LinkError):  # mosquitto 2.0 with unlimited queues answers PUBACK 0x87 and closes
        await link.subscribe([f"{own}/+"])
    await link.connect()
    await only(service, link, f"{own}/report")
    await asyncio.gather(link.close(), service.close())


# ---- receiving


@check()
async def receiving_ends_at_its_time_and_loses_nothing(road: Road) -> None:
    loop = asyncio.get_running_loop()
    a, b = await road.linked("a"), await road.linked("b")
    await b.subscribe([road.topic("t")])
    for wait_s in (-1.0, 0.0, 0.05, 0.02):
        began = loop.time()
        assert await b.receive(began + wait_s) is None
        assert max(wait_s, 0.0) <= loop.time() - began < max(wait_s, 0.0) + 0.5
    waiting = asyncio.ensure_future(b.receive())
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await only(b, a, road.topic("t"))
    late = asyncio.ensure_future(b.receive(loop.time() + SOON_S))
    await asyncio.sleep(0.01)
    await a.publish(road.topic("t"), b"while waiting")
    delivery = await late
    assert delivery is not None
    assert delivery.payload == b"while waiting"
    await asyncio.gather(a.close(), b.close())


@check()
async def who_is_woken_receives_nothing_and_loses_nothing(road: Road) -> None:
    loop = asyncio.get_running_loop()
    a, b = await road.linked("a"), await road.linked("b")
    await b.subscribe([road.topic("t")])
    b.wake()  # nobody waits
    for until in (None, loop.time() + SOON_S):
        waiting = asyncio.ensure_future(b.receive(until))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        b.wake()
        b.wake()
        assert await asyncio.wait_for(waiting, SOON_S / 2) is None
    await only(b, a, road.topic("t"))
    waiting = asyncio.ensure_future(b.receive())
    await asyncio.sleep(0.01)
    b.wake()
    b.abort()
    await asyncio.gather(waiting, return_exceptions=True)
    with pytest.raises(LinkError):
        await b.receive()
    await asyncio.gather(a.close(), b.close())


@check()
async def after_a_cut_what_came_is_received_then_the_loss(road: Road) -> None:
    a, b = await road.linked("a"), await road.linked("b")
    await b.subscribe([road.topic("t")])
    for n in range(3):
        await a.publish(road.topic("t"), bytes([n]))
    await there_and_back(a)
    await there_and_back(b)
    b.abort()
    assert [d.payload for d in await several(b, 3)] == [b"\0", b"\1", b"\2"]
    for act in (b.receive(), b.publish(road.topic("t"), b""), b.subscribe([road.topic("t")])):
        with pytest.raises(LinkError):
            await act
    await b.connect()
    waiting = asyncio.ensure_future(b.receive())
    await asyncio.sleep(0.01)
    b.abort()
    with pytest.raises(LinkError):
        await waiting
    await asyncio.gather(a.close(), b.close())


@check("stall")
async def a_stalled_link_hears_and_says_nothing_until_it_comes_back(road: Road) -> None:
    loop = asyncio.get_running_loop()
    a, b = await road.linked("a"), await road.linked("b")
    for link in (a, b):
        await link.subscribe([road.topic("t")], no_local=True)
    b.stall(True)
    await a.publish(road.topic("t"), b"to the silent one")
    await b.publish(road.topic("t"), b"from the silent one")
    assert await b.receive(loop.time() + 0.1) is None
    assert await a.receive(loop.time() + 0.1) is None
    b.stall(False)
    assert (await soon(b)).payload == b"to the silent one"
    assert (await soon(a)).payload == b"from the silent one"
    await asyncio.gather(a.close(), b.close())


# ---- what takes whole seconds


@check(slow=True)
async def an_idle_link_is_kept_alive(road: Road) -> None:
    a, b = await road.linked("a"), await road.linked("b", keep_alive_s=1)
    await b.subscribe([road.topic("t")])
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await b.receive(began + 3.2) is None
    assert 3.2 <= loop.time() - began < 3.7
    await only(b, a, road.topic("t"))
    await asyncio.gather(a.close(), b.close())


@check(slow=True)
async def a_wait_of_seconds_ends_at_its_time_without_a_keep_alive_too(road: Road) -> None:
    link, loop = await road.linked("a", keep_alive_s=0), asyncio.get_running_loop()
    began = loop.time()
    far = asyncio.ensure_future(link.receive(began + 60))
    await asyncio.sleep(0)
    far.cancel()
    await asyncio.wait([far])
    for wait_s in (2.4, 4.7):
        assert await link.receive(began + wait_s) is None
        assert wait_s <= loop.time() - began < wait_s + 0.5
    await link.close()


@check("session-expiry", slow=True)
async def a_session_lives_as_long_as_was_asked_for(road: Road) -> None:
    short = road.link("short", clean_start=False, session_expiry_s=1)
    long = road.link("long", clean_start=True, session_expiry_s=60)
    none = road.link("none", clean_start=False, session_expiry_s=0)
    for link in (short, long, none):
        assert await link.connect() is False
        await link.close()
    assert await none.connect() is False
    await asyncio.sleep(2.6)
    assert await short.connect() is False
    resumed = road.link("long", **KEPT)
    assert await resumed.connect() is True
    await asyncio.gather(short.close(), resumed.close(), none.close())
