"""What each process of a live run does: broker, storage, replica, application, shard; and of a self-test: null."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from simulator.application import api as rollouts_api
from simulator.application.engine import Application
from simulator.application.local import LocalRollouts
from simulator.application.probe import Probe
from simulator.broker.access import Access, thing_password
from simulator.broker.core import Broker
from simulator.broker.null import NullBackend
from simulator.broker.server import BrokerServer
from simulator.device.fleet import run_fleet
from simulator.device.ramp import Shard
from simulator.dialects.base import ProbeDialect
from simulator.faults.harm import Nemesis
from simulator.links.asgi import serve
from simulator.links.base import HttpLink, HttpOptions, MqttLink, MqttOptions, Wires
from simulator.links.http import LeanHttp
from simulator.links.mqtt import LeanMqtt
from simulator.links.tls import context
from simulator.links.urls import local
from simulator.model.errors import LinkError, PeerError, ScenarioError
from simulator.model.scenario import Profile
from simulator.replica import database as databases
from simulator.replica.api import replica_face
from simulator.replica.service import BackendService
from simulator.storage import store as stores
from simulator.storage.api import storage_face
from simulator.storage.core import Storage
from simulator.storage.service import recording
from simulator.storage.shelf import Shelf
from simulator.worlds import setup
from simulator.worlds.live.part import Part, Role

_COUNT_S = 0.1  # the null backend tells its counts this often
_VERSION_S = 0.5  # for a broker to say what it is
_SECURE = ("mqtts", "wss")
_SESSION_S = 300  # for which a broker keeps what came while a service was away
_CONNECTING = 64  # at once from one process: a broker's listen backlog is often 100


async def broker(part: Part) -> None:
    """The embedded broker."""
    scenario = part.scenario
    access = Access(setup.run_key(scenario), setup.services(scenario), setup.topics(scenario.target).rights())
    core = Broker(access.login, access.may)
    server = BrokerServer(core)
    port = await server.start(part.config["host"], part.config["port"])
    try:
        part.tell("ready", port=port)
        while True:
            await asyncio.sleep(1.0)
            part.tell("broker", **core.describe())
    finally:
        await server.stop()


async def storage(part: Part) -> None:
    """Artifacts, and their HTTP face."""
    config, scenario = part.config, part.scenario
    loop = asyncio.get_running_loop()
    kept, shelf = Storage("", setup.storage_key(scenario)), Shelf(Path(config["artifacts"]))
    shelf.load(kept)
    app = storage_face(
        storage=kept,
        serve=recording(kept.serve, part.record, lambda: loop.time() + part.epoch),
        now=lambda: loop.time() + part.epoch,
        token=config["token"],
        max_artifact_bytes=scenario.target.artifact_bound,
        keep=shelf.keep,
    )
    async with serve(app, config["host"], config["http_port"]) as port:
        kept.base = f"http://{config['host']}:{port}"
        part.tell("ready", port=port)
        await loop.create_future()


async def replica(part: Part) -> None:
    """Replica, database and their HTTP face."""
    config, scenario = part.config, part.scenario
    place = stores.Place(config["storage"], setup.storage_key(scenario), Path(config["artifacts"]))
    dialect, core = setup.replica_of(scenario.target, stores.kind_of(scenario.target.storage).open(place))
    database = databases.named(config["database"]).open()
    link, options = _service_link(part, setup.BACKEND)
    service = BackendService(link, dialect, core, database, part.record, part.epoch)
    await service.load()
    ready = asyncio.Event()
    app = replica_face(
        read=service.read,
        health=lambda: {"replicas": len(core.rows), "subscribed": ready.is_set()},
        token=config["token"],
    )
    try:
        await _reach(link, options)
        async with serve(app, config["host"], config["http_port"]) as port, _running(service.run(ready)) as work:
            await _first(ready, work)
            part.tell("ready", port=port)
            await work
    finally:
        database.close()


async def application(part: Part) -> None:
    """Rollouts and their HTTP face."""
    config, scenario = part.config, part.scenario
    link, options = _service_link(part, setup.APPLICATION)
    dialect = setup.application_dialect(scenario.target)
    engine = Application(link, dialect, part.record, seed=scenario.seed, epoch=part.epoch)
    part.health.unsent = lambda: engine.unsent
    ready = asyncio.Event()
    app = rollouts_api.app(LocalRollouts(engine, prefix=f"{config['run']}."), token=config["token"])
    await _reach(link, options)
    broker = "" if scenario.target.own_broker else await _version(options)
    async with serve(app, config["host"], config["http_port"]) as port, _running(engine.run(ready)) as work:
        await _first(ready, work)
        part.tell("ready", port=port, broker=broker)
        if (asking := setup.probe_dialect(scenario)) is not None:
            async with _running(_probe(part, asking, options, engine.begun)) as probe:
                await asyncio.wait([work, probe], return_when=asyncio.FIRST_EXCEPTION)
                await asyncio.gather(work, probe)
        await work


async def _probe(part: Part, dialect: ProbeDialect, options: MqttOptions, begin: asyncio.Event) -> None:
    """Beside the application, and under its user; it ends by itself."""
    target = part.scenario.target
    options = replace(options, client_id=f"{options.client_id}-probe", clean_start=True, session_expiry_s=0)
    await Probe(_mqtt(options), dialect, part.record, target, epoch=part.epoch).run(begin)


async def null(part: Part) -> None:
    """What answers devices at the least cost, in place of all servers; it offers when the conductor says so."""
    config, scenario = part.config, part.scenario
    dialect = setup.replica_dialect(scenario.target)
    content = setup.artifact_bytes(scenario)
    server = NullBackend(dialect, (content, content[::-1] + b"."), part.epoch)
    try:
        part.tell("ready", port=await server.start(config["host"]))
        await part.go.wait()
        async with _running(server.offer(config["rate"], config["seconds"])) as offering:
            while True:
                await asyncio.sleep(_COUNT_S)
                part.tell("null", due=server.due, sent=server.sent, updates=server.updates, offered=offering.done())
    finally:
        server.stop()


async def shard(part: Part) -> None:
    """Some of the devices; they start when the conductor says so."""
    config, scenario = part.config, part.scenario
    roads, mine = _Roads(part), Shard(config["index"], config["count"])
    nemesis = Nemesis(scenario, part.record)
    part.switch = nemesis.switch
    part.tell("ready")
    await part.go.wait()
    fleet = run_fleet(scenario, mine, roads.road, part.record, nemesis, epoch=part.epoch)
    async with _running(fleet) as work:
        part.recorder.flush()
        gc.freeze()
        await work


class Gate(asyncio.Semaphore):
    """How many may connect at once; `waiting` is how many are due and held back."""

    waiting = 0

    async def acquire(self) -> Literal[True]:
        """Wait for a turn."""
        self.waiting += 1
        try:
            return await super().acquire()
        finally:
            self.waiting -= 1


class _Roads:
    """Makes the devices' links; what devices can share, they share."""

    def __init__(self, part: Part) -> None:
        self._fleet, self._config = part.scenario.fleet, part.config
        self._external = part.scenario.target.kind == "external"
        self._key = setup.run_key(part.scenario)
        self._gate = Gate(_CONNECTING)
        part.health.unsent = lambda: self._gate.waiting
        self._sources: list[str | None] = part.config["sources"] or [None]
        self._tls = _tls(part)
        self._broker = _broker(part, self._tls)
        library = part.config["link"] == "library"
        self._https = [self._http(source, library) for source in self._sources]
        self._mqtt: Callable[[MqttOptions], MqttLink] = _library_mqtt if library else LeanMqtt
        self._made = 0

    def _http(self, source: str | None, library: bool) -> HttpLink:
        options = HttpOptions(self._config["pooled"], frozenset(self._config["hosts"]), self._tls, source)
        return _library_http(options) if library else LeanHttp(options)

    def road(self, thing: str, profile: Profile) -> Wires:
        """A thing's two links."""
        nth, self._made = self._made % len(self._sources), self._made + 1
        client_id, username, password = self._fleet.login(thing)
        if not self._external:
            username, password = thing, thing_password(self._key, thing)
        options = replace(
            self._broker,
            client_id=client_id,
            username=username,
            password=password,
            source=self._sources[nth],
            gate=self._gate,
        )
        here = local(self._config["host"]) and not self._external
        address = self._sources[nth] or (self._config["host"] if here else "")
        return Wires(self._mqtt(setup.session_options(options, profile)), self._https[nth], address)


def _library_mqtt(options: MqttOptions) -> MqttLink:
    from simulator.links.library import LibraryMqtt

    return LibraryMqtt(options)


def _library_http(options: HttpOptions) -> HttpLink:
    from simulator.links.library import LibraryHttp

    return LibraryHttp(options)


def _tls(part: Part) -> ssl.SSLContext | None:
    """What TLS needs, where any was asked for. Raises ScenarioError for unreadable files."""
    asked = part.config["tls"]
    return context(**asked) if any(asked.values()) or part.config["broker"]["scheme"] in _SECURE else None


def _broker(part: Part, tls: ssl.SSLContext | None) -> MqttOptions:
    """How the broker is reached, by a client that has no name yet."""
    to = part.config["broker"]
    return MqttOptions(
        to["host"], to["port"], "", scheme=to["scheme"], path=to["path"], tls=tls if to["scheme"] in _SECURE else None
    )


def _service_link(part: Part, name: str) -> tuple[MqttLink, MqttOptions]:
    """The link of replica or application, which outlives short losses of its connection."""
    user, password = name, setup.services(part.scenario)[name]
    if part.scenario.target.kind == "external":
        user, password = part.config["broker"]["user"], part.config["broker"]["password"]
    options = replace(
        _broker(part, _tls(part)),
        client_id=f"{name}-{part.config['run']}",  # another run on this broker is not to be taken over
        username=user,
        password=password,
        clean_start=False,
        session_expiry_s=_SESSION_S,
    )
    return _mqtt(options), options


def _mqtt(options: MqttOptions) -> MqttLink:
    return _library_mqtt(options) if options.scheme in ("ws", "wss") else LeanMqtt(options)


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _reach(link: MqttLink, options: MqttOptions) -> None:
    """Connect once, and say plainly why not. Raises ScenarioError."""
    try:
        await link.connect()
    except (LinkError, PeerError) as error:
        raise ScenarioError(f"target.broker {options.scheme}://{options.host}:{options.port}: {error}") from None


async def _version(options: MqttOptions) -> str:
    """What the broker says it is, such as "mosquitto version 2.0.11"; empty where it says nothing."""
    client_id = f"{options.client_id}-version"
    link = _mqtt(replace(options, client_id=client_id, clean_start=True, session_expiry_s=0))
    said = None
    with contextlib.suppress(LinkError, PeerError):
        await link.connect()
        await link.subscribe(["$SYS/broker/version"], qos=0)
        said = await link.receive(asyncio.get_running_loop().time() + _VERSION_S)
    await link.close()
    return said.payload.decode(errors="replace") if said else ""


async def _first(ready: asyncio.Event, work: asyncio.Task[None]) -> None:
    """Wait until it is ready; what ends before is raised."""
    waiter = asyncio.ensure_future(ready.wait())
    await asyncio.wait([waiter, work], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if work.done():
        work.result()


ROLES: dict[str, Role] = {
    "broker": broker,
    "storage": storage,
    "replica": replica,
    "application": application,
    "shard": shard,
    "null": null,
}
