"""What each process of a live run does: broker, backend, application, shard."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from simulator.application import api as rollouts_api
from simulator.application.drivers import Application
from simulator.backend import api as backend_api
from simulator.backend.broker import BrokerServer
from simulator.backend.database import SqliteDatabase
from simulator.backend.service import BackendService, recording
from simulator.backend.storage import Storage
from simulator.broker.access import Access, thing_password
from simulator.broker.core import Broker
from simulator.dialects.atlas import AtlasApplication
from simulator.fleet.fleet import run_fleet
from simulator.fleet.shard import Shard
from simulator.links.asgi import serve
from simulator.links.base import HttpLink, HttpOptions, MqttLink, MqttOptions, Wires
from simulator.links.http import LeanHttp
from simulator.links.mqtt import LeanMqtt
from simulator.links.tls import context
from simulator.model.errors import LinkError, PeerError, ScenarioError
from simulator.model.scenario import Profile
from simulator.worlds import setting
from simulator.worlds.part import Part, Role

_CONNECTING = 64  # at once from one process: a broker's listen backlog is often 100


async def broker(part: Part) -> None:
    """The embedded broker."""
    scenario = part.scenario
    access = Access(setting.run_key(scenario), setting.services(scenario), setting.topic_root(scenario.target))
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


async def backend(part: Part) -> None:
    """Replica, database, storage and their HTTP face."""
    config, scenario = part.config, part.scenario
    loop = asyncio.get_running_loop()
    storage = Storage("", setting.storage_key(scenario))
    dialect, replica = setting.replica_of(scenario.target, storage)
    database = SqliteDatabase(Path(config["database"]))
    link = LeanMqtt(_service_options(part, setting.BACKEND))
    service = BackendService(link, dialect, replica, database, part.record, part.epoch)
    ready = asyncio.Event()
    app = backend_api.app(
        storage=storage,
        serve=recording(storage, part.record, lambda: loop.time() + part.epoch),
        replica=replica,
        now=lambda: loop.time() + part.epoch,
        health=lambda: {"replicas": len(replica.rows), "subscribed": ready.is_set()},
        token=config["token"],
        max_artifact_bytes=scenario.target.artifact_bound,
    )
    try:
        async with _serving(app, config, storage) as port, _running(service.run(ready)) as work:
            await _first(ready, work)
            part.tell("ready", port=port)
            await work
    finally:
        database.close()


async def application(part: Part) -> None:
    """Rollouts and their HTTP face."""
    config, scenario = part.config, part.scenario
    options = _service_options(part, setting.APPLICATION)
    link: MqttLink = _library_mqtt(options) if options.scheme in ("ws", "wss") else LeanMqtt(options)
    dialect = AtlasApplication(topics=setting.topics(scenario.target), variant=scenario.target.dialect)
    engine = Application(link, dialect, part.record, seed=scenario.seed, epoch=part.epoch)
    ready = asyncio.Event()
    app = rollouts_api.app(rollouts_api.LocalRollouts(engine, prefix=config["prefix"]), token=config["token"])
    await _reach(link, options)
    async with _serving(app, config) as port, _running(engine.run(ready)) as work:
        await _first(ready, work)
        part.tell("ready", port=port)
        await work


async def shard(part: Part) -> None:
    """Some of the devices; they start when the conductor says so."""
    config, scenario = part.config, part.scenario
    part.tell("ready")
    await part.go.wait()
    roads = _Roads(part)
    fleet = run_fleet(scenario, Shard(config["index"], config["count"]), roads.road, part.record, epoch=part.epoch)
    async with _running(fleet) as work:
        part.record.flush()
        gc.freeze()
        await work


class _Roads:
    """Makes the devices' links; what devices can share, they share."""

    def __init__(self, part: Part) -> None:
        self._fleet, self._config = part.scenario.fleet, part.config
        self._external = part.scenario.target.kind == "external"
        self._key = setting.run_key(part.scenario)
        self._gate = asyncio.Semaphore(_CONNECTING)
        self._sources: list[str | None] = part.config["sources"] or [None]
        self._tls = context(**part.config["tls"]) if any(part.config["tls"].values()) else None
        if self._tls is None and self._config["broker"]["scheme"] in ("mqtts", "wss"):
            self._tls = context()
        library = part.config["link"] == "library"
        self._https = [self._http(source, library) for source in self._sources]
        self._mqtt: Callable[[MqttOptions], MqttLink] = _library_mqtt if library else LeanMqtt
        self._made = 0

    def _http(self, source: str | None, library: bool) -> HttpLink:
        options = HttpOptions(pooled=self._config["pooled"], source=source, tls=self._tls)
        return _library_http(options) if library else LeanHttp(options)

    def road(self, thing: str, profile: Profile) -> Wires:
        """A thing's two links."""
        nth, self._made = self._made % len(self._sources), self._made + 1
        client_id, username, password = self._fleet.login(thing)
        if not self._external:
            username, password = thing, thing_password(self._key, thing)
        broker = self._config["broker"]
        options = MqttOptions(
            broker["host"],
            broker["port"],
            client_id,
            username,
            password,
            source=self._sources[nth],
            gate=self._gate,
            scheme=broker["scheme"],
            path=broker["path"],
            tls=self._tls if broker["scheme"] in ("mqtts", "wss") else None,
        )
        return Wires(self._mqtt(setting.session_options(options, profile)), self._https[nth])


def _library_mqtt(options: MqttOptions) -> MqttLink:
    from simulator.links.library import LibraryMqtt

    return LibraryMqtt(options)


def _library_http(options: HttpOptions) -> HttpLink:
    from simulator.links.library import LibraryHttp

    return LibraryHttp(options)


def _service_options(part: Part, name: str) -> MqttOptions:
    broker = part.config["broker"]
    user, password = name, setting.services(part.scenario)[name]
    if part.scenario.target.kind == "external":
        user, password = broker["user"], broker["password"]
    return MqttOptions(broker["host"], broker["port"], name, user, password, clean_start=False, session_expiry_s=3600)


@contextlib.asynccontextmanager
async def _serving(app: Any, config: dict[str, Any], storage: Storage | None = None) -> AsyncIterator[int]:
    """The HTTP face, up; the port. Raises ScenarioError when the port is taken."""
    async with serve(app, config["host"], config["http_port"]) as port:
        if storage is not None:
            storage.base = f"http://{config['host']}:{port}"
        yield port


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


async def _first(ready: asyncio.Event, work: asyncio.Task[None]) -> None:
    """Wait until it is ready; what ends before is raised."""
    waiter = asyncio.ensure_future(ready.wait())
    await asyncio.wait([waiter, work], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if work.done():
        work.result()


ROLES: dict[str, Role] = {"broker": broker, "backend": backend, "application": application, "shard": shard}
