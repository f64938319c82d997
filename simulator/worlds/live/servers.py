"""Broker, storage, replica and application as child processes: started, ready, stopped. `fleetsim serve` is this alone."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from simulator import __version__
from simulator.broker.mosquitto import Mosquitto
from simulator.links.base import HttpLink
from simulator.model.errors import PartDied
from simulator.model.scenario import Scenario
from simulator.replica import database
from simulator.replica.database import DatabaseName
from simulator.storage.store import ArtifactStore, Place, kind_of
from simulator.worlds import setup
from simulator.worlds.live.options import Options, broker_address
from simulator.worlds.live.processes import Child, Clock, LocalChild

SHARDS = {"application": 1, "replica": 2, "broker": 3, "null": 3, "storage": 4}  # who records as which
_FIRST_SHARD = 10  # the fleet's begin here


def _artifacts(database: DatabaseName, directory: Path) -> Path:
    """The directory of artifacts, which storage and replica share: either may be down. It is beside the database, so that a
    replica that starts again over its database finds them there too."""
    return Path(f"{database.path or directory / 'storage'}.artifacts")


def mosquitto_for(scenario: Scenario, options: Options, directory: Path) -> Mosquitto:
    """A mosquitto that knows the scenario's things and services, and whose files are in `directory`."""
    return Mosquitto(
        directory,
        host=options.bind,
        port=options.broker_port,
        run_key=setup.run_key(scenario),
        things=scenario.fleet.names(),
        services=setup.services(scenario),
        rights=setup.topics(scenario.target).rights(),
    )


class Stack:
    """The servers of a live run, whose files are below `directory`. `zero_ns` is the run's beginning on
    CLOCK_MONOTONIC, `epoch` what that clock lacks to Unix time; without `traced` they record nothing."""

    def __init__(
        self, scenario: Scenario, options: Options, directory: Path, zero_ns: int, epoch: float, *, traced: bool = True
    ) -> None:
        self.scenario, self.options, self._directory = scenario, options, directory
        self._zero_ns, self._epoch, self._traced = zero_ns, epoch, traced
        self._run = secrets.token_hex(4)  # unlike any other run's on its broker, one of the same instant too
        self.children: dict[str, Child] = {}
        self.mosquitto: Mosquitto | None = None
        self.broker: dict[str, Any] = {}
        self.backend_url = self.storage_url = self.application_url = ""
        self._lives: dict[str, int] = {}  # of a server that was killed: how often it was started
        self.broker_said: dict[str, Any] = {}
        self.steps = False  # whether the parts count steps
        self.hear: Callable[[str, dict[str, Any]], None] = lambda name, event: None
        self.make = self.local  # a server, not started yet
        self.compare: Callable[[str, Clock], None] = lambda name, clock: None  # hears of another host's
        self._database = database.named(scenario.target.database).within(directory / "backend")
        self._store = kind_of(scenario.target.storage)
        self._artifacts = _artifacts(self._database, directory / "backend")

    def config(self, name: str, role: str, shard: int, **more: Any) -> dict[str, Any]:
        """What a part is told at its start."""
        return {
            "name": name,
            "role": role,
            "shard": shard,
            "trace": str(self._directory / "parts" / f"{name}.arrow") if self._traced else os.devnull,
            "scenario": self.scenario.model_dump(mode="json", by_alias=True),
            "zero_ns": self._zero_ns,
            "epoch": self._epoch,
            "run": self._run,
            "host": self.options.host(name),
            "broker": self.broker,
            "token": self.options.token,
            "steps": self.steps,
            "tls": self.options.tls(),
            **more,
        }

    async def child(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Start a part, which records by its host's clock as if that were ours; what it said when it was ready."""
        clock = await self.children[name].clock()
        if clock.host:
            self.compare(name, clock)
        zero_ns, epoch = config["zero_ns"] + clock.offset_ns, config["epoch"] - clock.offset_ns / 1e9
        return await self.children[name].start({**config, "zero_ns": zero_ns, "epoch": epoch})

    def heard(self, name: str, event: dict[str, Any]) -> None:
        """A part said this."""
        if event["event"] == "broker":
            self.broker_said = event
        else:
            self.hear(name, event)

    def local(self, name: str) -> Child:
        """A part that is a process of this one's."""
        life = f"-{self._lives[name]}" if name in self._lives else ""
        return LocalChild(name, self._directory / "parts" / f"{name}{life}.log", self.heard)

    async def start(self, others: Sequence[Child] = ()) -> None:
        """Broker, storage, replica, application, one after the other; `others` only get ready. Raises ScenarioError, PartDied."""
        target = self.scenario.target
        ours = [
            *(["broker"] if target.broker == "embedded" else []),
            *(["storage"] if target.kind == "reference" and self._store.process else []),
            *(["replica"] if target.kind == "reference" else []),
        ]
        await self.spawn([*map(self.make, (*ours, "application")), *others])
        await self._start_broker()
        if target.kind == "reference":
            (self._directory / "backend").mkdir(exist_ok=True)
            if self._store.process:
                ready = await self.child("storage", self._storage_config())
                self.storage_url = f"http://{self.options.host('storage')}:{ready['port']}"
            ready = await self.child("replica", self._replica_config())
            self.backend_url = f"http://{self.options.host('replica')}:{ready['port']}"
        config = self.config(
            "application", "application", SHARDS["application"], http_port=self.options.application_port
        )
        ready = await self.child("application", config)
        if ready["broker"]:
            name, _, version = ready["broker"].partition(" version ")
            self.broker_said = {"name": name, "version": version}
        self.application_url = f"http://{self.options.host('application')}:{ready['port']}"

    async def spawn(self, children: Sequence[Child]) -> None:
        """Have these started; they get ready to be configured."""
        (self._directory / "parts").mkdir(parents=True, exist_ok=True)
        self.children = {child.name: child for child in children}
        await asyncio.gather(*(child.spawn() for child in children))

    def shard_config(self, name: str, index: int, count: int, sources: list[str | None]) -> dict[str, Any]:
        """What a shard of the fleet is told at its start; its devices bind these addresses."""
        more = {
            "index": index,
            "count": count,
            "link": self.options.link,
            "pooled": self.options.pooled,
            "sources": sources,
            "hosts": self.options.hosts,
            "host": self.options.host("storage"),
        }
        return self.config(name, "shard", _FIRST_SHARD + index, **more)

    async def _start_broker(self) -> None:
        how = self.scenario.target.broker
        if how == "embedded":
            ready = await self.child("broker", self._broker_config())
            self.broker = {"scheme": "mqtt", "host": self.options.host("broker"), "port": ready["port"]}
        elif how == "mosquitto":
            self.mosquitto = mosquitto_for(self.scenario, self.options, self._directory / "mosquitto")
            await asyncio.to_thread(self.mosquitto.start)
            self.broker = {"scheme": "mqtt", "host": self.options.bind, "port": self.mosquitto.port}
        else:
            self.broker = broker_address(how, self.options)
        self.broker = {"path": "/mqtt", "user": None, "password": None} | self.broker

    def _broker_config(self) -> dict[str, Any]:
        return self.config("broker", "broker", SHARDS["broker"], port=self.broker.get("port", self.options.broker_port))

    def _storage_config(self) -> dict[str, Any]:
        port = urlsplit(self.storage_url).port or self.options.storage_port
        return self.config("storage", "storage", SHARDS["storage"], http_port=port, artifacts=str(self._artifacts))

    def _replica_config(self) -> dict[str, Any]:
        port = urlsplit(self.backend_url).port or self.options.backend_port
        more = {"database": str(self._database), "artifacts": str(self._artifacts), "storage": self.storage_url}
        return self.config("replica", "replica", SHARDS["replica"], http_port=port, **more)

    def store(self, http: HttpLink) -> ArtifactStore:
        """The artifact store, for uploads over this link."""
        key = setup.storage_key(self.scenario)
        return self._store.open(Place(self.storage_url, key, self._artifacts, http, self.options.token))

    async def describe_broker(self) -> dict[str, Any]:
        """Name, version and counts, for the record; mosquitto is asked for its own, so this comes before `stop`."""
        if self.mosquitto is not None:
            counts = await asyncio.to_thread(self.mosquitto.counts)
            return {"name": "mosquitto", "version": self.mosquitto.version, **counts}
        said = {k: v for k, v in self.broker_said.items() if k != "event"}
        if self.scenario.target.broker == "embedded":
            return {"name": "embedded", "version": __version__} | said
        return {"name": "external", "version": ""} | said

    def pids(self) -> dict[str, int]:
        """name -> process number of what was started."""
        pids = {name: child.pid for name, child in self.children.items()}
        if self.mosquitto is not None:
            pids["mosquitto"] = self.mosquitto.pid
        return pids

    async def kill(self, name: str) -> None:
        """Kill the broker, the storage or the replica as `kill -9` does."""
        if name == "broker" and self.mosquitto is not None:
            await asyncio.to_thread(self.mosquitto.kill)
        else:
            await self.children.pop(name).kill()

    async def revive(self, name: str) -> None:
        """Start it again, where it was and over what it had on disk."""
        if name == "broker" and self.mosquitto is not None:
            await asyncio.to_thread(self.mosquitto.start)
            return
        self._lives[name] = life = self._lives.get(name, 1) + 1
        configs = {"broker": self._broker_config, "storage": self._storage_config, "replica": self._replica_config}
        config = configs[name]()
        if self._traced:
            config["trace"] = str(self._directory / "parts" / f"{name}-{life}.arrow")
        self.children[name] = self.make(name)
        await self.children[name].spawn()
        await self.child(name, config)

    async def watch(self) -> None:
        """Raise PartDied as soon as one of them ends."""
        while True:
            ended = [child for child in self.children.values() if child.ended.done()]
            if ended:
                raise PartDied("; ".join(child.epitaph() for child in ended))
            if self.mosquitto is not None and self.mosquitto.poll() is not None:
                raise PartDied(f"mosquitto died: {self.mosquitto.last_words()}")
            await asyncio.wait(
                [child.ended for child in self.children.values()] or [asyncio.ensure_future(asyncio.sleep(0.5))],
                timeout=0.5,
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def stop(self) -> None:
        """Stop all, those first that were started last; what was ours alone is cleared away."""
        names = list(self.children)
        for group in (
            [n for n in names if n not in SHARDS],
            ["application"],
            ["replica", "storage"],
            ["broker", "null"],
        ):
            stops: list[Coroutine[Any, Any, None]] = [self.children[n].stop() for n in group if n in self.children]
            await asyncio.gather(*stops)
        if self.mosquitto is not None:
            await asyncio.to_thread(self.mosquitto.stop)
        for scratch in ("backend", "mosquitto"):
            shutil.rmtree(self._directory / scratch, ignore_errors=True)
