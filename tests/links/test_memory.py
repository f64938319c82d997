"""The memory links over the broker's core."""

import pytest

from simulator.broker.access import Access, thing_password
from simulator.broker.core import Broker
from simulator.links.base import MqttOptions
from simulator.links.clock import run_virtual
from simulator.links.memory import MemoryBroker, MemoryMqtt
from simulator.links.memory_http import MemoryHttp
from simulator.model.errors import LinkError, PeerError, TransferError
from simulator.model.io import Request, Response


def with_broker(scenario, broker=None):
    async def main(loop):
        fabric = MemoryBroker(broker or Broker())
        return await scenario(lambda client_id, **more: MemoryMqtt(fabric, MqttOptions("m", 0, client_id, **more)))

    return run_virtual(main, until_s=1000)


def test_messages_arrive_in_order_and_only_once_acknowledged():
    async def scenario(make):
        a, b = make("a"), make("b")
        await a.connect()
        await b.connect()
        await b.subscribe(["t/+"])
        for n in range(50):
            await a.publish("t/x", str(n).encode())
        got = [await b.receive() for _ in range(50)]
        for delivery in got:
            delivery.ack()
        return [d.payload for d in got]

    assert with_broker(scenario) == [str(n).encode() for n in range(50)]


def test_a_persistent_session_keeps_what_came_while_away_and_resends_with_dup():
    async def scenario(make):
        a = make("a")
        b = make("b", clean_start=False, session_expiry_s=60)
        await a.connect()
        assert not await b.connect()
        await b.subscribe(["t"])
        await a.publish("t", b"1")
        first = await b.receive()
        b.abort()  # never acknowledged
        await a.publish("t", b"2")
        assert await b.connect()
        again, second = await b.receive(), await b.receive()
        return first.dup, again.payload, again.dup, second.payload, second.dup

    assert with_broker(scenario) == (False, b"1", True, b"2", False)


def test_receive_ends_at_its_deadline_and_fails_when_the_connection_is_lost():
    async def scenario(make):
        a, b = make("same"), make("same")
        await a.connect()
        assert await a.receive(5.0) is None
        await b.connect()  # takes the client id over
        with pytest.raises(LinkError, match="8e"):
            await a.receive()

    with_broker(scenario)


def test_wrong_password_and_foreign_topics_are_refused():
    access = Access("key", {"backend": "pw"}, ["state/{thing}/#"])

    async def scenario(make):
        with pytest.raises(PeerError) as refused:
            await make("d", username="d", password="wrong").connect()
        assert refused.value.code == 0x86
        device = make("d", username="d", password=thing_password("key", "d"))
        await device.connect()
        await device.subscribe(["state/d/update/delta"])
        for foreign in ("state/e/update/delta", "state/+/update/delta", "#"):
            with pytest.raises(PeerError):
                await device.subscribe([foreign])
        backend = make("backend", username="backend", password="pw")
        await backend.connect()
        await backend.subscribe(["state/+/update"])
        await device.publish("state/e/update", b"forged")
        await device.publish("state/d/update", b"own")
        assert (device.unacknowledged, device.refused) == (0, 1)
        return (await backend.receive()).payload

    assert with_broker(scenario, Broker(access.login, access.may)) == b"own"


def refused(request):
    raise LinkError("connection refused")


def test_http_bounds_redirects_and_truncation():
    answers = {
        "/a": Response(200, (("content-length", "5"),), b"hello"),
        "/short": Response(200, (("content-length", "9"),), b"hello"),
        "/moved": Response(302, (("location", "/a"),)),
        "/round": Response(302, (("location", "/round"),)),
    }

    async def main(loop):
        http = MemoryHttp(lambda request: answers[request.url])
        assert (await http.request(Request("GET", "/moved"))).body == b"hello"
        for url, bound in (("/short", 99), ("/a", 4)):
            with pytest.raises(TransferError):
                await http.request(Request("GET", url), bound=bound)
        with pytest.raises(LinkError, match="redirects"):
            await http.request(Request("GET", "/round"))
        http = MemoryHttp(refused)
        with pytest.raises(LinkError, match="refused"):
            await http.request(Request("GET", "/a"))

    run_virtual(main)
