"""Broker, storage, replica and application as child processes: started, ready, stopped. `fleetsim serve` is this alone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from simulator import __version__
from simulator.broker.mosquitto import Mosquitto
from simulator.links.base import HttpLink
from simulator.model.errors import PartDied
from simulator.model.scenario import Scenario
from simulator.storage.store import ArtifactStore, Place, kind_of
from simulator.worlds import setup
from simulator.worlds.live.configs import RECORDERS, Configs
from simulator.worlds.live.options import Options, broker_address
from simulator.worlds.live.processes import Child, Clock, LocalChild
from simulator.worlds.live.protocol import BrokerAddress, BrokerCounts, Event, PartConfig, Ready


def mosquitto_for(scenario: Scenario, options: Options, directory: Path) -> Mosquitto:
    """A mosquitto that knows the scenario's things and services, and whose files are in `directory`."""
    return Mosquitto(
        directory,
        host=options.bind,
        port=options.ports.broker,
        run_key=setup.run_key(scenario),
        things=scenario.fleet.names(),
        services=setup.services(scenario),
        rights=setup.topics(scenario.target).rights(),
    )


class StackListener:
    """What a stack asks, and tells, whoever started it. As it stands here: servers are processes of this one's, and
    nobody listens."""

    steps = False
    """Whether the parts count what each step of an update took."""

    def server(self, name: str, stack: Stack) -> Child:
        """A server of this name, not started yet."""
        return stack.local(name)

    def receive(self, name: str, event: Event) -> None:
        """The part of this name has told this event."""

    def compared(self, name: str, clock: Clock) -> None:
        """The part of this name runs on another host, whose clock was compared with ours."""


class Stack:
    """The servers of a live run, whose files are below `directory`. `zero_ns` is the run's beginning on
    CLOCK_MONOTONIC, `epoch` what that clock lacks to Unix time; without `traced` they record nothing."""

    def __init__(
        self,
        scenario: Scenario,
        options: Options,
        directory: Path,
        zero_ns: int,
        epoch: float,
        *,
        traced: bool = True,
        listener: StackListener | None = None,
    ) -> None:
        self.scenario, self.options, self._directory = scenario, options, directory
        self._listener = listener or StackListener()
        self.configs = Configs(scenario, options, directory, zero_ns, epoch, traced, self._listener.steps)
        self.at = self.configs.at
        self.children: dict[str, Child] = {}
        self.mosquitto: Mosquitto | None = None
        self._broker_facts: dict[str, Any] = {}  # the embedded broker's counts; name and version of a foreign one
        self._lives: dict[str, int] = {}  # of a server that was killed: how often it was started
        self._store = kind_of(scenario.target.storage)

    async def child(self, config: PartConfig) -> Ready:
        """Start a part, which records by its host's clock as if that were ours; what it told when it was ready."""
        child = self.children[config.name]
        clock = await child.clock()
        if clock.host:
            self._listener.compared(config.name, clock)
        return await child.start(config.by_clock(clock.offset_ns))

    def receive(self, name: str, event: Event) -> None:
        """A part has told this event."""
        if isinstance(event, BrokerCounts):
            self._broker_facts = msgspec.structs.asdict(event)
        else:
            self._listener.receive(name, event)

    def local(self, name: str) -> Child:
        """A part that is a process of this one's."""
        life = f"-{self._lives[name]}" if name in self._lives else ""
        return LocalChild(name, self._directory / "parts" / f"{name}{life}.log", self.receive)

    async def start(self, others: Sequence[Child] = ()) -> None:
        """Broker, storage, replica, application, one after the other; `others` only get ready. Raises ScenarioError, PartDied."""
        target = self.scenario.target
        own = [
            *(["broker"] if target.broker == "embedded" else []),
            *(["storage"] if target.kind == "reference" and self._store.process else []),
            *(["replica"] if target.kind == "reference" else []),
        ]
        await self.spawn([*(self._listener.server(name, self) for name in (*own, "application")), *others])
        await self._start_broker()
        if target.kind == "reference":
            (self._directory / "backend").mkdir(exist_ok=True)
            if self._store.process:
                self.at.storage = self._url("storage", await self.child(self.configs.server("storage")))
            self.at.backend = self._url("replica", await self.child(self.configs.server("replica")))
        ready = await self.child(self.configs.server("application"))
        if ready.broker:
            name, _, version = ready.broker.partition(" version ")
            self._broker_facts = {"name": name, "version": version}
        self.at.application = self._url("application", ready)

    def _url(self, name: str, ready: Ready) -> str:
        return f"http://{self.options.host(name)}:{ready.port}"

    async def spawn(self, children: Sequence[Child]) -> None:
        """Have these started; they get ready to be configured."""
        (self._directory / "parts").mkdir(parents=True, exist_ok=True)
        self.children = {child.name: child for child in children}
        await asyncio.gather(*(child.spawn() for child in children))

    async def _start_broker(self) -> None:
        how = self.scenario.target.broker
        if how == "embedded":
            ready = await self.child(self.configs.server("broker"))
            self.at.broker = BrokerAddress(host=self.options.host("broker"), port=ready.port)
        elif how == "mosquitto":
            self.mosquitto = mosquitto_for(self.scenario, self.options, self._directory / "mosquitto")
            await asyncio.to_thread(self.mosquitto.start)
            self.at.broker = BrokerAddress(host=self.options.bind, port=self.mosquitto.port)
        else:
            self.at.broker = BrokerAddress(**broker_address(how, self.options))

    def store(self, http: HttpLink) -> ArtifactStore:
        """The artifact store, for uploads over this link."""
        key = setup.storage_key(self.scenario)
        return self._store.open(Place(self.at.storage, key, self.configs.artifacts, http, self.options.token))

    async def describe_broker(self) -> dict[str, Any]:
        """Name, version and counts, for the record; mosquitto is asked for its own, so this comes before `stop`."""
        if self.mosquitto is not None:
            counts = await asyncio.to_thread(self.mosquitto.counts)
            return {"name": "mosquitto", "version": self.mosquitto.version, **counts}
        if self.scenario.target.broker == "embedded":
            return {"name": "embedded", "version": __version__} | self._broker_facts
        return {"name": "external", "version": ""} | self._broker_facts

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
        config = self.configs.server(name)
        config.trace = self.configs.trace(f"{name}-{life}")
        self.children[name] = self._listener.server(name, self)
        await self.children[name].spawn()
        await self.child(config)

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
            [n for n in names if n not in RECORDERS],
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
