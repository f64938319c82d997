"""Brokers with one bug each: the named check finds it, and without the bug all pass."""

from simulator.broker.core import NOT_AUTHORIZED, Broker
from simulator.broker.packets import ConnAck, Publish
from tests.planted.party import fails, passes
from tests.worlds.virtually import scenario


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
