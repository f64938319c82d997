"""Brokers with one bug each: the named check finds it, and without the bug all pass."""

import pytest
from msgspec.structs import replace

from simulator.broker.core import NOT_AUTHORIZED, TAKEN_OVER, Broker
from simulator.broker.packets import ConnAck, Connect, Disconnect, PubAck, Publish
from simulator.model.events import Kind
from tests.planted.party import THREE, fails, passes
from tests.worlds.virtually import judged, scenario


class DeafBroker(Broker):
    """Loses what is meant for one device's delta topic."""

    def receive(self, conn, packet, now):
        out = super().receive(conn, packet, now)
        return [o for o in out if not (isinstance(o[1], Publish) and o[1].topic == "state/device-3/update/delta")]


class Grudging(Broker):
    """Lets device-3 in once, and never again."""

    def _connect(self, conn, packet, now, out):
        if packet.username == "device-3" and now > 20:
            out.append((conn, ConnAck(NOT_AUTHORIZED)))
        else:
            super()._connect(conn, packet, now, out)


def test_l8_a_broker_that_refuses_a_device_after_an_outage():
    made = scenario(devices=6, rollout={"maximumPerMinute": 60, "timeoutConfig": {"inProgressTimeout": "5m"}},
                    faults=[{"fault": "F4-broker-killed", "at": "2s", "for": "1m"}], settle="5m")  # fmt: skip
    assert fails("L8-return", made, broker=Grudging) == {"device-3"}
    passes(made)


def test_l2_a_broker_that_loses_deltas():
    made = scenario(devices=6, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    assert fails("L2-convergence", made, broker=DeafBroker) == {"device-3"}
    passes(made)


def test_l3_a_broker_that_loses_deltas():
    made = scenario(devices=6, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    assert fails("L3-learns", made, broker=DeafBroker) == {"device-3"}
    passes(made)


# ---- one connection for each client id

RIVALS = {"fault": "F25-duplicate-client-id", "at": "1s"}
BACK_AGAIN = {"fault": "F25-half-open", "at": "1s"}


class Lax(Broker):
    """Lets a connection be that was taken over."""

    def receive(self, conn, packet, now):
        out = super().receive(conn, packet, now)
        return [o for o in out if not (isinstance(o[1], Disconnect) and o[1].code == TAKEN_OVER)]


class Generous(Lax):
    """Sends the next message of a taken-over client to its old connection too, and closes that only then."""

    def __init__(self, *rights):
        super().__init__(*rights)
        self.old = {}

    def receive(self, conn, packet, now):
        if isinstance(packet, Connect) and (session := self._sessions.get(packet.client_id)) and session.conn:
            self.old[packet.client_id] = session.conn
        out = super().receive(conn, packet, now)
        if isinstance(packet, Publish):  # to the replica, which answers in the same turn
            thing = packet.topic.split("/")[1]
            if packet.topic.endswith("/delta") and (old := self.old.pop(thing, None)):
                out += [(old, replace(packet, qos=0, packet_id=None)), (old, Disconnect(TAKEN_OVER))]
        return out


@pytest.mark.parametrize("fault", [RIVALS, BACK_AGAIN])
def test_s19_a_broker_that_does_not_close_the_old_connection(fault):
    made = scenario(devices=3, faults=[fault], rollout={"maximumPerMinute": 2}, settle="30s")
    assert fails("S19-one-session", made, broker=Lax) <= THREE
    passes(made)


@pytest.mark.parametrize("fault", [RIVALS, BACK_AGAIN])
def test_s19_a_broker_that_delivers_to_the_old_connection(fault):
    made = scenario(devices=3, faults=[fault], rollout={"maximumPerMinute": 10})
    assert fails("S19-one-session", made, broker=Generous)
    passes(made)


# ---- what a session keeps


class Forgetful(Broker):
    """Keeps nothing for whoever is away."""

    def _send(self, session, message, qos, retain, out):
        if session.conn is not None:
            super()._send(session, message, qos, retain, out)


class Brief(Broker):
    """Forgets a session as soon as its connection has ended."""

    def _leave(self, conn, session, now, out):
        session.expiry_s = 0
        super()._leave(conn, session, now, out)


class Careless(Broker):
    """Counts what it has sent as delivered."""

    def _connect(self, conn, packet, now, out):
        if (session := self._sessions.get(packet.client_id)) is not None:
            session.inflight = None
        super()._connect(conn, packet, now, out)


def away(clean_start=False, **blocks):
    """Devices that come and go."""
    profile = {"clean_start": clean_start, "session_expiry": "1h", "online": {"uniform": ["40s", "80s"]},
               "offline": {"uniform": ["20s", "60s"]}, "latency": "2s"}  # fmt: skip
    pace = {"rollout": {"maximumPerMinute": 20}, "settle": "3m"}
    return scenario(devices=30, profile="away", profiles={"away": profile}, **pace, **blocks)


@pytest.mark.parametrize("bug", [Forgetful, Brief, Careless])
def test_s20_a_broker_that_loses_what_a_session_kept(bug):
    assert fails("S20-offline-queue", away(), broker=bug)
    passes(away())
    passes(away(clean_start=True), broker=bug)  # whom nothing was promised


def test_s20_a_broker_that_forgets_at_once_breaks_no_promise_to_whoever_asks_for_a_second():
    fault = {"fault": "F3-offline", "at": "20s", "for": "40s", "with": {"session": "expired"}}
    passes(away(faults=[fault]), broker=Brief)


class Full(Broker):
    """Has no room for what is meant for somebody who is away, and says so."""

    def receive(self, conn, packet, now):
        if isinstance(packet, Publish) and packet.topic.endswith("/delta"):
            held = self._sessions.get(packet.topic.split("/")[1])
            if held is not None and held.conn is None:
                return [(conn, PubAck(packet.packet_id, 0x97))]
        return super().receive(conn, packet, now)


def test_s20_a_broker_that_refuses_what_it_cannot_keep_promises_nothing():
    trace, findings = judged(away(), broker=Full)
    assert "lost" in trace.kind(Kind.ACKNOWLEDGED).texts("status")
    assert findings == {}


class HalfDeafBroker(Broker):
    """Loses each answer that is meant for one device."""

    def receive(self, conn, packet, now):
        out = super().receive(conn, packet, now)
        return [o for o in out if not (isinstance(o[1], Publish) and self._for_device_3(*o))]

    def _for_device_3(self, to, packet):
        return packet.topic == "state/device-3/update/accepted" and to._options.username == "device-3"


def test_l5_a_broker_that_loses_answers():
    made = scenario(devices=6, settle="1m")
    assert fails("L5-answered", made, broker=HalfDeafBroker) == {"device-3"}
    passes(made)
