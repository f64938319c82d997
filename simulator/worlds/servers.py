"""The servers of a virtual run: broker, storage and replica, in memory, each of which a fault may kill and revive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson

from simulator import __version__
from simulator.broker.access import Access, thing_password
from simulator.dialects.registry import SERVICE
from simulator.links.base import MqttOptions
from simulator.links.memory import MemoryBroker, MemoryMqtt
from simulator.links.memory_http import MemoryHttp
from simulator.model.dice import draw
from simulator.model.errors import LinkError, NotSimulated
from simulator.model.events import Kind
from simulator.model.io import Request, Response
from simulator.model.scenario import Scenario
from simulator.replica import database as databases
from simulator.replica.service import BackendService
from simulator.storage import store as stores
from simulator.storage.service import recording
from simulator.storage.store import ArtifactStore, Serve
from simulator.trace.recorder import Record
from simulator.worlds import setup
from simulator.worlds.parties import EPOCH, Parties
from simulator.worlds.tasks import Tasks

_STORAGE = "http://storage.test"


class Servers:
    """The backend of a scenario. `store` is where the new software goes; `tasks` runs the replica."""

    def __init__(self, scenario: Scenario, record: Record, parties: Parties, tasks: Tasks) -> None:
        self._scenario, self._record, self._parties, self._tasks = scenario, record, parties, tasks
        loop = asyncio.get_running_loop()
        self._key = setup.run_key(scenario)
        access = Access(self._key, setup.services(scenario), setup.topics(scenario.target).rights())
        self._fabric = MemoryBroker(parties.broker(access.login, access.may))
        self.store = _store(scenario, parties)
        self._serve = recording(_serving(self.store), record, lambda: loop.time() + EPOCH)
        commits = iter(range(1 << 62))
        delay, seed = scenario.target.commit_latency, scenario.seed
        database = parties.database or databases.in_virtual_time(databases.named(scenario.target.database)).open
        self._database = database(lambda: delay.at(draw(seed, "backend", "commit", next(commits))))
        self._replica: asyncio.Task[None] | None = None
        self._own = self._own_service()  # in the replica's place
        self._down: set[str] = set()  # of storage and own service

    def _own_service(self) -> Callable[[Request], Response] | None:
        target, loop = self._scenario.target, asyncio.get_running_loop()
        own = setup.dialect_of(target).own
        if own is None:
            return None
        grants = setup.grants_of(target, self.store)
        return own.service(download=grants.download, now=lambda: loop.time() + EPOCH)

    # ---- links to them

    def thing(self, thing: str, client_id: str) -> MqttOptions:
        """How a thing reaches the broker."""
        return MqttOptions("memory", 0, client_id, thing, thing_password(self._key, thing))

    def service(self, name: str, client_id: str = "") -> MemoryMqtt:
        """The link of a service, whose session the broker keeps; with a client id of its own, one that is not kept."""
        password = setup.services(self._scenario)[name]
        if client_id:
            return self.mqtt(MqttOptions("memory", 0, client_id, name, password))
        return self.mqtt(MqttOptions("memory", 0, name, name, password, clean_start=False, session_expiry_s=3600))

    def mqtt(self, options: MqttOptions) -> MemoryMqtt:
        """A link to the broker."""
        return MemoryMqtt(self._fabric, options)

    def http(self, address: str = "") -> MemoryHttp:
        """A link to the storage and to the dialect's own service, whose requests come from this address."""
        return MemoryHttp(lambda request: self._ask(request, address))

    def _ask(self, request: Request, address: str) -> Response:
        if self._own is not None and request.url.startswith(SERVICE):
            if "replica" in self._down:
                raise LinkError("connection refused")
            return self._own(request)
        if "storage" in self._down:
            raise LinkError("connection refused")
        return self._serve(request, address)

    # ---- their lives

    async def start_replica(self) -> None:
        """A replica over what the database holds; returns when it is subscribed. A dialect's own service needs none: it
        keeps what it knows."""
        if self._own is not None:
            self._down.discard("replica")
            return
        link, ready = self.service(setup.BACKEND), asyncio.Event()
        dialect, replica = setup.replica_of(self._scenario.target, self.store, self._parties.replica)
        service = BackendService(link, dialect, replica, self._database, self._record, EPOCH)
        await service.load()
        self._replica = self._tasks.keep(service.run(ready), "replica")
        self._replica.add_done_callback(lambda task: link.abort())
        await ready.wait()

    def kill(self, name: str) -> None:
        """The broker, the storage or the replica dies; nothing of it is told goodbye."""
        if name == "broker":
            self._fabric.kill()
        elif name == "storage" or self._own is not None:
            self._down.add(name)
        elif self._replica is not None:
            self._replica.cancel()
            self._replica = None

    async def revive(self, name: str) -> None:
        """The broker with nothing; the storage with its artifacts; the replica with what the database holds."""
        if name == "broker":
            self._fabric.revive()
        elif name == "storage":
            self._down.discard(name)
        else:
            await self.start_replica()

    def describe(self) -> None:
        """Record what the broker is, and what it has counted."""
        counts = self._fabric.core.counts
        detail = {"name": "embedded core, in memory", "version": __version__, **counts}
        self._record(Kind.BROKER, detail=orjson.dumps(detail).decode())


def _store(scenario: Scenario, parties: Parties) -> ArtifactStore:
    place = stores.Place(_STORAGE, setup.storage_key(scenario))
    if parties.storage is not None:
        return stores.InProcessStore(parties.storage(place.base, place.key))
    return stores.kind_of(scenario.target.storage).open(place)


def _serving(store: ArtifactStore) -> Serve:
    """How it answers downloads. Raises NotSimulated for one that leaves them to others."""
    if store.serve is None:
        raise NotSimulated("a storage whose downloads somebody else answers, in virtual time")
    return store.serve
