"""The conformance suite of MQTT links, on every road there is: link, broker, protocol version and loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from simulator.broker.access import Access
from simulator.broker.core import Broker
from simulator.broker.mosquitto import Mosquitto, free_port
from simulator.broker.server import BrokerServer
from simulator.dialects.meanings import Meaning, Means
from simulator.faults.harm import Harms
from simulator.faults.wires import FaultyMqtt
from simulator.links.base import MqttOptions
from simulator.links.clock import run_virtual
from simulator.links.library import LibraryMqtt
from simulator.links.loop import LiveLoop
from simulator.links.memory import MemoryBroker, MemoryMqtt
from simulator.links.mqtt import LeanMqtt
from simulator.model.scenario import Scenario
from tests.certificate import make_certificate
from tests.conformance import mqtt, mqtt_wire
from tests.conformance.mqtt import RUN_KEY, SERVICE, SERVICE_PASSWORD, Check, Road

CHECKS, SLOW = mqtt.SUITE.checks + mqtt_wire.SUITE.checks, mqtt.SUITE.slow + mqtt_wire.SUITE.slow
NEEDS = mqtt.SUITE.needs | mqtt_wire.SUITE.needs
SERVICES = {SERVICE: SERVICE_PASSWORD}
RIGHTS = ("state/{thing}/#",)
EVERYTHING = frozenset(
    {"large", "no-local", "receive-maximum", "refuses-subscriptions", "scripted", "session-expiry", "stall"}
)


@dataclasses.dataclass(frozen=True)
class Way:
    """One combination, and what it cannot do, with the reason."""

    link: Any  # of MqttOptions; in memory, of the fabric and them
    broker: str  # memory, embedded, mosquitto, mosquitto-ws, mosquitto-tls
    lacks: dict[str, str] = dataclasses.field(default_factory=dict)
    version: int = 5
    loop: Callable[[], asyncio.AbstractEventLoop] = LiveLoop


def through(wrap: Callable[[Any], Any], link: Any) -> Any:
    """A link within another."""

    def make(*arguments: Any) -> Any:
        return wrap(link(*arguments))

    make.stalls = link.stalls  # type: ignore[attr-defined]
    return make


def harmed(link: Any) -> FaultyMqtt:
    """A road on which the faults have not begun yet."""
    quiet = [{"fault": "F3-offline", "at": "1h"}, {"fault": "F24-blackhole", "step": "installing"}]
    scenario = Scenario.model_validate({"fleet": {"devices": 1}, "faults": quiet})
    harm = Harms(scenario, lambda *event, **columns: None).harm(0, "d")
    assert harm is not None
    return FaultyMqtt(link, harm, lambda topic, payload: Meaning(Means.OTHER, topic), lambda: link, 90.0)


NO_WIRE = {"scripted": "there is no wire", "receive-maximum": "there is no wire"}
NO_STALL = {"stall": "aiomqtt reads and pings by itself"}
IN_PLAIN = {"scripted": "the scripted broker speaks plain TCP: covered by the same link's plain way"}
DELIVERS_NOTHING = {"refuses-subscriptions": "mosquitto 2.0 grants a foreign filter and delivers nothing"}
NOT_LARGE = {"large": "mosquitto 2.0.11 over WebSocket stops within a large frame, whoever reads; see test_library.py"}
WAYS = {
    "memory": Way(MemoryMqtt, "memory", NO_WIRE),
    "memory-harmed": Way(through(harmed, MemoryMqtt), "memory", NO_WIRE),
    "lean-embedded": Way(LeanMqtt, "embedded"),
    "lean-embedded-harmed": Way(through(harmed, LeanMqtt), "embedded"),
    "lean-mosquitto": Way(LeanMqtt, "mosquitto", DELIVERS_NOTHING),
    "lean-mosquitto-tls": Way(LeanMqtt, "mosquitto-tls", IN_PLAIN | DELIVERS_NOTHING),
    "library-embedded": Way(LibraryMqtt, "embedded", NO_STALL),
    "library-mosquitto": Way(LibraryMqtt, "mosquitto", NO_STALL | DELIVERS_NOTHING),
    "library-mosquitto-asyncio": Way(
        LibraryMqtt, "mosquitto", NO_STALL | DELIVERS_NOTHING, loop=asyncio.new_event_loop
    ),
    "library-mosquitto-ws": Way(LibraryMqtt, "mosquitto-ws", NO_STALL | IN_PLAIN | DELIVERS_NOTHING | NOT_LARGE),
    "library-mosquitto-tls": Way(LibraryMqtt, "mosquitto-tls", NO_STALL | IN_PLAIN | DELIVERS_NOTHING),
    "library-3.1.1-mosquitto": Way(
        partial(LibraryMqtt, version=4),
        "mosquitto",
        NO_STALL
        | DELIVERS_NOTHING
        | {
            "no-local": "MQTT 3.1.1 does not know it",
            "session-expiry": "MQTT 3.1.1 does not know it",
            "receive-maximum": "MQTT 3.1.1 does not know it",
        },
        version=4,
    ),
}


def able(way: Way, check: Check) -> bool:
    return not NEEDS[check] & way.lacks.keys()


@dataclasses.dataclass
class Servers:
    """The real broker and what is needed to reach it."""

    mosquitto: Mosquitto
    websocket_port: int
    certificate: Path


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("mosquitto")
    cert, key = make_certificate(directory)
    pem = directory / "both.pem"
    pem.write_text(key.read_text() + cert.read_text())
    websocket_port = free_port()
    mosquitto = Mosquitto(
        directory / "work",
        run_key=RUN_KEY,
        things=["thing-1", "thing-2"],
        services=SERVICES,
        rights=RIGHTS,
        websocket_port=websocket_port,
    )
    mosquitto.start()
    try:
        yield Servers(mosquitto, websocket_port, pem)
    finally:
        mosquitto.stop()


@contextlib.asynccontextmanager
async def road_of(way: Way, servers: Servers) -> AsyncIterator[Road]:
    """The way's broker, and the road that leads to it."""
    nowhere: dict[str, Any] = {"host": "127.0.0.1", "port": free_port(), "client_id": "a", "keep_alive_s": 60}
    base: dict[str, Any] = {"host": "127.0.0.1", "connect_timeout_s": 5.0}
    async with contextlib.AsyncExitStack() as stack:
        if way.broker == "memory":
            access = Access(RUN_KEY, SERVICES, RIGHTS)
            fabric, down = MemoryBroker(Broker(access.login, access.may)), MemoryBroker(Broker())
            down.down = True
            here = Road(partial(way.link, fabric), base | {"port": 0}, partial(way.link, down, MqttOptions("", 0, "a")))
        else:
            if way.broker == "embedded":
                access = Access(RUN_KEY, SERVICES, RIGHTS)
                server = BrokerServer(Broker(access.login, access.may))
                base["port"] = await server.start("127.0.0.1", 0)
                stack.push_async_callback(server.stop)
            elif way.broker == "mosquitto":
                base["port"] = servers.mosquitto.port
            elif way.broker == "mosquitto-ws":
                base |= {"port": servers.websocket_port, "scheme": "ws"}
            else:
                port = await stack.enter_async_context(tls_in_front(servers))
                context = ssl.create_default_context(cafile=str(servers.certificate))
                base |= {"host": "localhost", "port": port, "scheme": "mqtts", "tls": context}
            here = Road(way.link, base, partial(way.link, MqttOptions(**nowhere)), version=way.version)
        yield here


@contextlib.asynccontextmanager
async def tls_in_front(servers: Servers) -> AsyncIterator[int]:
    """A TLS end before mosquitto; its port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(cast("asyncio.Task[None]", asyncio.current_task()))
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", servers.mosquitto.port)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    serving: list[asyncio.Task[None]] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(servers.certificate)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if serving:
            await asyncio.wait(serving, timeout=1.0)


async def alone(name: str, check: Check, servers: Servers) -> None:
    """One check on a road of its own."""
    async with road_of(WAYS[name], servers) as road:
        try:
            await check(road)
        except BaseException as error:
            error.add_note(f"on the way {name}")
            raise


def perform(name: str, servers: Servers, *pairs: tuple[str, Check]) -> None:
    """Run these (way, check) side by side on the loop of the way `name`; nothing may be left unsaid to the loop."""
    complaints: list[dict[str, Any]] = []

    async def main(loop: Any = None) -> None:
        if loop is None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await asyncio.gather(*(alone(way, check, servers) for way, check in pairs))

    if WAYS[name].broker == "memory":
        run_virtual(main, until_s=1000)
    else:
        with asyncio.Runner(loop_factory=WAYS[name].loop) as runner:
            runner.run(asyncio.wait_for(main(), 20.0))
    gc.collect()  # futures whose exceptions nobody saw complain when they go
    assert not complaints


@pytest.mark.parametrize(
    ("name", "check"),
    [pytest.param(n, c, id=f"{n}-{c.__name__}") for n, way in WAYS.items() for c in CHECKS if able(way, c)],
)
def test_link(name: str, check: Check, servers: Servers) -> None:
    perform(name, servers, (name, check))


@pytest.mark.parametrize("name", ["memory", "lean-mosquitto", "library-mosquitto-asyncio"])
def test_links_over_seconds(name: str, servers: Servers) -> None:
    """All ways of one loop at once, because these checks only wait."""
    virtual = WAYS[name].broker == "memory"
    alike = [n for n, w in WAYS.items() if (w.broker == "memory") == virtual and w.loop is WAYS[name].loop]
    perform(name, servers, *[(n, check) for n in alike for check in SLOW if able(WAYS[n], check)])


def test_every_exception_is_one() -> None:
    """A way lacks only what some check needs, and every check is run on some way of each kind of link."""
    needed = frozenset[str]().union(*NEEDS.values())
    assert needed == EVERYTHING
    for way in WAYS.values():
        assert way.lacks.keys() <= needed
    for check in (*CHECKS, *SLOW):
        for kind in ("lean", "library"):
            runs = any(able(way, check) for name, way in WAYS.items() if name.startswith(kind))
            assert runs or (kind == "library" and "stall" in NEEDS[check])


def test_a_way_that_cannot_stall_says_so() -> None:
    async def main() -> None:
        for name, way in WAYS.items():
            made: Any = way.link.func if isinstance(way.link, partial) else way.link
            assert ("stall" in way.lacks) != made.stalls, name

    asyncio.run(main())
