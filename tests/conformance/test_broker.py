"""The conformance suite of brokers on all three: the core in memory, its socket face, and mosquitto."""

import asyncio
import contextlib

import pytest

from simulator.broker.access import Access
from simulator.broker.core import Broker
from simulator.broker.mosquitto import Mosquitto
from simulator.broker.server import BrokerServer
from simulator.links.clock import run_virtual
from simulator.links.loop import LiveLoop
from tests.conformance.broker import CHECKS, NEEDS, CoreClient, Place, SocketClient
from tests.conformance.mqtt import RUN_KEY, SERVICE, SERVICE_PASSWORD

SERVICES = {SERVICE: SERVICE_PASSWORD}
RIGHTS = ("state/{thing}/#",)
LACKS = {
    "memory": {"keep-alive": "a core has no connections that could fall silent"},
    "embedded": {},
    "mosquitto": {
        "keep-alive": "2.0 looks every five seconds only",
        "says-why": "2.0 closes without a DISCONNECT, and forgets the will of a session that goes on",
        "receive-maximum": "2.0.11 goes beyond it after the first PUBACK",
    },
}


def able(way):
    return [check for check in CHECKS if NEEDS[check] not in LACKS[way]]


def a_core():
    access = Access(RUN_KEY, SERVICES, RIGHTS)
    return Broker(access.login, access.may)


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory):
    made = Mosquitto(
        tmp_path_factory.mktemp("mosquitto"),
        run_key=RUN_KEY,
        things=["thing-1", "thing-2"],
        services=SERVICES,
        rights=RIGHTS,
    )
    made.start()
    yield made
    made.stop()


async def over_sockets(port, check):
    async def reach():
        return SocketClient(*await asyncio.open_connection("127.0.0.1", port))

    await check(Place(reach))


async def in_memory(check):
    core = a_core()

    async def reach():
        return CoreClient(core)

    await check(Place(reach))


@contextlib.asynccontextmanager
async def embedded():
    server = BrokerServer(a_core())
    try:
        yield await server.start("127.0.0.1", 0)
    finally:
        await server.stop()


async def on_embedded(check):
    async with embedded() as port:
        await over_sockets(port, check)


def run_live(main):
    with asyncio.Runner(loop_factory=LiveLoop) as runner:
        runner.run(asyncio.wait_for(main, 20.0))


@pytest.mark.parametrize("check", able("memory"))
def test_the_core_in_memory(check):
    run_virtual(lambda loop: in_memory(check))


@pytest.mark.parametrize("check", able("embedded"))
def test_the_embedded_broker(check):
    run_live(on_embedded(check))


@pytest.mark.parametrize("check", able("mosquitto"))
def test_mosquitto(check, mosquitto):
    run_live(over_sockets(mosquitto.port, check))
