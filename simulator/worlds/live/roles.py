"""What each process of a live run does: broker, storage, replica, application, shard; and of a self-test: null."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator.application import api as rollouts_api
from simulator.application.engine import Application
from simulator.application.local import LocalRollouts
from simulator.application.probe import Probe
from simulator.broker.access import Access
from simulator.broker.core import Broker
from simulator.broker.null import NullBackend
from simulator.broker.server import BrokerServer
from simulator.device.fleet import run_fleet
from simulator.device.ramp import Shard
from simulator.dialects.base import ProbeDialect
from simulator.faults.harm import Harms
from simulator.links.asgi import serve
from simulator.links.base import MqttOptions
from simulator.replica import database as databases
from simulator.replica.api import replica_face
from simulator.replica.service import BackendService
from simulator.storage import store as stores
from simulator.storage.api import storage_face
from simulator.storage.core import Storage
from simulator.storage.service import recording
from simulator.storage.shelf import Shelf
from simulator.worlds import setup
from simulator.worlds.live import roads
from simulator.worlds.live.part import Part, Role, tell
from simulator.worlds.live.protocol import (
    ApplicationConfig,
    BrokerConfig,
    BrokerCounts,
    NullConfig,
    NullCounts,
    PartConfig,
    Ready,
    ReplicaConfig,
    ShardConfig,
    StorageConfig,
)

_COUNT_S = 0.1  # the null backend tells its counts this often


async def broker(part: Part[BrokerConfig]) -> None:
    """The embedded broker."""
    scenario = part.scenario
    access = Access(setup.run_key(scenario), setup.services(scenario), setup.topics(scenario.target).rights())
    core = Broker(access.login, access.may)
    server = BrokerServer(core)
    port = await server.start(part.config.host, part.config.port)
    try:
        tell(Ready(port))
        while True:
            await asyncio.sleep(1.0)
            tell(BrokerCounts(**core.describe()))
    finally:
        await server.stop()


async def storage(part: Part[StorageConfig]) -> None:
    """Artifacts, and their HTTP face."""
    config, scenario = part.config, part.scenario
    loop = asyncio.get_running_loop()
    kept, shelf = Storage("", setup.storage_key(scenario)), Shelf(Path(config.artifacts))
    shelf.load(kept)
    app = storage_face(
        storage=kept,
        serve=recording(kept.serve, part.record, lambda: loop.time() + config.epoch),
        now=lambda: loop.time() + config.epoch,
        token=config.token,
        max_artifact_bytes=scenario.target.artifact_bound,
        keep=shelf.keep,
    )
    async with serve(app, config.host, config.http_port) as port:
        kept.base = f"http://{config.host}:{port}"
        tell(Ready(port))
        await loop.create_future()


async def replica(part: Part[ReplicaConfig]) -> None:
    """Replica, database and their HTTP face."""
    config, scenario = part.config, part.scenario
    place = stores.Place(config.storage, setup.storage_key(scenario), Path(config.artifacts))
    dialect, core = setup.replica_of(scenario.target, stores.kind_of(scenario.target.storage).open(place))
    database = databases.named(config.database).open()
    link, options = roads.service_link(part, setup.BACKEND)
    service = BackendService(link, dialect, core, database, part.record, config.epoch)
    ready = asyncio.Event()
    app = replica_face(
        read=service.read,
        health=lambda: {"replicas": len(core.rows), "subscribed": ready.is_set()},
        token=config.token,
    )
    try:
        await service.load()
        await roads.reach(link, options)
        async with serve(app, config.host, config.http_port) as port, _running(service.run(ready)) as work:
            await _first(ready, work)
            tell(Ready(port))
            await work
    finally:
        database.close()


async def application(part: Part[ApplicationConfig]) -> None:
    """Rollouts and their HTTP face."""
    config, scenario = part.config, part.scenario
    link, options = roads.service_link(part, setup.APPLICATION)
    dialect = setup.application_dialect(scenario.target)
    engine = Application(link, dialect, part.record, seed=scenario.seed, epoch=config.epoch)
    part.health.count_unsent(lambda: engine.unsent)
    ready = asyncio.Event()
    app = rollouts_api.app(LocalRollouts(engine, prefix=f"{config.run}."), token=config.token)
    await roads.reach(link, options)
    broker = "" if scenario.target.own_broker else await roads.broker_version(options)
    async with serve(app, config.host, config.http_port) as port, _running(engine.run(ready)) as work:
        await _first(ready, work)
        tell(Ready(port, broker))
        if (asking := setup.probe_dialect(scenario)) is not None:
            async with _running(_probe(part, asking, options, engine.begun)) as probe:
                await asyncio.wait([work, probe], return_when=asyncio.FIRST_EXCEPTION)
                await asyncio.gather(work, probe)
        await work


async def _probe(
    part: Part[ApplicationConfig], dialect: ProbeDialect, options: MqttOptions, begin: asyncio.Event
) -> None:
    """Beside the application, and under its user; it ends by itself."""
    target = part.scenario.target
    options = replace(options, client_id=f"{options.client_id}-probe", clean_start=True, session_expiry_s=0)
    await Probe(roads.mqtt_link(options), dialect, part.record, target, epoch=part.config.epoch).run(begin)


async def null(part: Part[NullConfig]) -> None:
    """What answers devices at the least cost, in place of all servers; it offers when the conductor says so."""
    config, scenario = part.config, part.scenario
    dialect = setup.replica_dialect(scenario.target)
    content = setup.artifact_bytes(scenario)
    server = NullBackend(dialect, (content, content[::-1] + b"."), config.epoch)
    try:
        tell(Ready(await server.start(config.host)))
        await part.go.wait()
        async with _running(server.offer(config.rate, config.seconds)) as offering:
            while True:
                await asyncio.sleep(_COUNT_S)
                tell(NullCounts(server.due, server.sent, server.updates, offering.done()))
    finally:
        server.stop()


async def shard(part: Part[ShardConfig]) -> None:
    """Some of the devices; they start when the conductor says so."""
    config, scenario = part.config, part.scenario
    links, mine = roads.Roads(part), Shard(config.index, config.count)
    harms = Harms(scenario, part.record)
    async with _running(_switch(part, harms)) as switching:
        tell(Ready())
        await part.go.wait()
        fleet = run_fleet(scenario, mine, links.road, part.record, harms, epoch=config.epoch)
        async with _running(fleet) as work:
            part.recorder.flush()
            gc.freeze()
            await asyncio.wait([work, switching], return_when=asyncio.FIRST_COMPLETED)
            await (work if work.done() else switching)


async def _switch(part: Part[ShardConfig], harms: Harms) -> None:
    """Switch the scenario's faults as the conductor commands."""
    while True:
        command = await part.faults.get()
        harms.switch(command.nth, command.on)


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _first(ready: asyncio.Event, work: asyncio.Task[None]) -> None:
    """Wait until it is ready; what ends before is raised."""
    waiter = asyncio.ensure_future(ready.wait())
    await asyncio.wait([waiter, work], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if work.done():
        work.result()


ROLES: dict[type[PartConfig], Role[Any]] = {
    BrokerConfig: broker,
    StorageConfig: storage,
    ReplicaConfig: replica,
    ApplicationConfig: application,
    ShardConfig: shard,
    NullConfig: null,
}
