"""Brokers with one bug each: the named check finds it, and without the bug all pass."""

from simulator.broker.core import Broker
from simulator.broker.packets import Publish
from tests.planted.party import fails, passes
from tests.worlds.virtually import scenario


class DeafBroker(Broker):
    """Loses what is meant for one device's delta topic."""

    def receive(self, conn, packet, now):
        out = super().receive(conn, packet, now)
        return [o for o in out if not (isinstance(o[1], Publish) and o[1].topic == "state/device-3/update/delta")]


def test_l2_a_broker_that_loses_deltas():
    made = scenario(devices=6, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    assert fails("L2-convergence", made, broker=DeafBroker) == {"device-3"}
    passes(made)


def test_l3_a_broker_that_loses_deltas():
    made = scenario(devices=6, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    assert fails("L3-learns", made, broker=DeafBroker) == {"device-3"}
    passes(made)


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
