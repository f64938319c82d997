"""The conductor of a live run: stages, shards, the record."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from simulator.application.port import ArtifactFacts, NoSuch, RolloutState
from simulator.application.remote import RemoteRollouts
from simulator.application.rollout import WrongState
from simulator.device.ramp import length
from simulator.faults.packages import rules_of
from simulator.links.asgi import serve
from simulator.links.base import HttpOptions
from simulator.links.http import LeanHttp
from simulator.links.loop import run_live
from simulator.links.urls import local, parts_of
from simulator.model.errors import ScenarioError
from simulator.model.events import KILLED, Kind
from simulator.model.scenario import Scenario
from simulator.model.update import State
from simulator.trace.recorder import Record, Recorder, StreamFile
from simulator.worlds import setup, signals
from simulator.worlds.live import machine
from simulator.worlds.live.desk import Desk
from simulator.worlds.live.health import cpu_s, resident_bytes, wait_share, waited_s
from simulator.worlds.live.options import Options, broker_address, listen_address, refuse_no_address, refuse_remote
from simulator.worlds.live.processes import Clock
from simulator.worlds.live.servers import Stack
from simulator.worlds.progress import Now
from simulator.worlds.stages import Ending, Stop, conduct

_POLL_S = 0.1


def prepare(scenario: Scenario, options: Options) -> list[str | None]:
    """Refuse what this machine cannot do, before anything is started; the devices' source addresses."""
    fleet, target = scenario.fleet, scenario.target
    devices = len(fleet.present)
    if options.processes > devices:
        raise ScenarioError(f"--processes {options.processes} is more than the {devices} devices")
    if target.kind == "external" and target.own_broker:
        raise ScenarioError("target.kind external needs a target.broker URL, such as mqtt://host:1883")
    if target.kind == "external" and target.artifact_url is None:
        raise ScenarioError("target.kind external needs target.artifact_url: where devices find the new software")
    if not target.own_broker:
        broker_address(target.broker, options)
    if target.artifact_url is not None:
        refuse_remote("target.artifact_url", _host(target.artifact_url), options)
    if options.metrics is not None:
        listen_address("--metrics", options.metrics, options)
    _refuse_killing_what_is_not_ours(scenario)
    _refuse_stalling_what_cannot(scenario, options)
    limit = machine.raise_open_files()
    machine.check_files(devices, options.processes, embedded=target.broker == "embedded", limit=limit)
    refuse_no_address(options)
    here = target.own_broker and local(options.host("storage"))
    if target.bind_address and not here and not options.ifaddr:
        raise ScenarioError("target.bind_address: devices do not know their address; name it with --ifaddr")
    sharing = -(-devices // options.processes) if options.apart and not here else devices
    return machine.sources(sharing, options.ifaddr, loopback=here, ports=machine.ephemeral_ports())


def _refuse_killing_what_is_not_ours(scenario: Scenario) -> None:
    ours = dict.fromkeys(KILLED, scenario.target.kind == "reference") | {"broker": scenario.target.own_broker}
    for nth, fault in enumerate(scenario.faults):
        server = rules_of(fault, nth).server
        if not ours.get(server, True):
            raise ScenarioError(f"faults.{nth}: {fault.fault}: the {server} is not fleetsim's own, and is left alone")


def _refuse_stalling_what_cannot(scenario: Scenario, options: Options) -> None:
    for nth, fault in enumerate(scenario.faults):
        if options.link == "library" and rules_of(fault, nth).road == "dark":
            raise ScenarioError(f"faults.{nth}: {fault.fault}: the library link cannot stall; leave out --link library")


def _host(url: str) -> str:
    """An http URL's host. Raises ScenarioError for anything else."""
    parts = parts_of(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ScenarioError(f"target.artifact_url: {url!r} is no http:// or https:// URL")
    return parts.hostname


def run(scenario: Scenario, options: Options, path: Path, desk: Desk, sources: list[str | None]) -> Ending:
    """Run a scenario on real parts; the record's parts are left below path/parts."""
    try:
        return run_live(lambda: _run(scenario, options, path, desk, sources))
    finally:
        signals.heed()  # the loop leaves them as a fresh process has them


async def _run(scenario: Scenario, options: Options, path: Path, desk: Desk, sources: list[str | None]) -> Ending:
    desk.begin(scenario, path)
    zero_ns = time.monotonic_ns()
    epoch = time.time() - time.monotonic()
    stop = Stop()
    loop = asyncio.get_running_loop()

    def end() -> None:
        signals.note()
        stop.set()

    for number in signals.BOTH:
        loop.add_signal_handler(number, end)
    with StreamFile(path / "parts" / "conductor.arrow") as stream:
        recorder = Recorder(time.monotonic_ns, stream, zero=zero_ns, per_us=1000)
        record = recorder.record
        world = _World(scenario, options, Stack(scenario, options, path, zero_ns, epoch), record, desk, sources)
        attending = asyncio.ensure_future(desk.attend(stop, epoch + zero_ns / 1e9))
        try:
            async with _metrics(scenario, options, world.now):
                return await conduct(world, scenario, _staged(record, world.now, desk), stop)
        finally:
            attending.cancel()
            recorder.flush()


def _staged(record: Record, now: Now, desk: Desk) -> Record:
    """The record, of which the stages are known while they last."""

    def staged(kind: str, thing: str = "", **columns: Any) -> None:
        if kind == Kind.STAGE:
            now.stage = columns["phase"]
            desk.stage(now.stage)
        record(kind, thing, **columns)

    return staged


@contextlib.asynccontextmanager
async def _metrics(scenario: Scenario, options: Options, now: Now) -> AsyncIterator[None]:
    """What is known of the run, served to Prometheus where it was asked for."""
    if options.metrics is None:
        yield
        return
    from simulator.worlds.live import metrics

    host, port = listen_address("--metrics", options.metrics, options)
    async with serve(metrics.app(scenario, now), host, port) as port:
        where = f"[{host}]" if ":" in host else host
        print(f"metrics  http://{where}:{port}/metrics", file=sys.stderr, flush=True)
        yield


class _World:
    def __init__(
        self,
        scenario: Scenario,
        options: Options,
        stack: Stack,
        record: Record,
        desk: Desk,
        sources: list[str | None],
    ) -> None:
        self._scenario, self._options, self._stack = scenario, options, stack
        self._record, self._desk, self._sources = record, desk, sources
        self._began = time.monotonic()
        self._states: dict[str, RolloutState] = {}  # of the rollouts that have begun, as last asked
        self._cpu: dict[str, float] = {}
        self._waited: dict[str, float | None] = {}
        self._chores: list[asyncio.Task[None]] = []
        self.now = Now(len(scenario.targets()))
        stack.hear, stack.steps, stack.compare = self._heard, desk.steps, self._compare
        stack.make = lambda name: desk.server(name, stack.local, stack.heard)
        self._shards = desk.shards(stack.local, stack.heard)

    def _heard(self, name: str, event: dict[str, Any]) -> None:
        self.now.heard(name, event)
        self._desk.heard(name, event)

    async def start(self) -> None:
        """Servers, then shards, all ready behind the barrier."""
        count = len(self._shards)
        await self._stack.start(self._shards)
        await asyncio.gather(*(self._start_shard(shard.name, nth, count) for nth, shard in enumerate(self._shards)))
        self._chores.append(asyncio.ensure_future(self._tick()))

    async def _start_shard(self, name: str, index: int, count: int) -> None:
        await self._stack.child(name, self._stack.shard_config(name, index, count, self._sources))

    def _compare(self, name: str, clock: Clock) -> None:
        facts = {"process": name, "host": clock.host, "offset_us": clock.offset_ns // 1000}
        self._record(Kind.CLOCK, span_us=clock.error_ns // 1000, detail=orjson.dumps(facts).decode())

    async def ramp(self) -> None:
        """All shards at once; each starts its own devices when they are due."""
        for shard in self._shards:
            shard.send({"command": "go"})
        await asyncio.sleep(length(self._scenario.fleet.ramp, self._scenario.fleet.devices))

    async def roll_out(self) -> None:
        """Upload the artifacts, have the rollouts begun, ask until they have ended."""
        http = self._http(pooled=True)
        try:
            rollouts = self._rollouts(http)
            async with asyncio.TaskGroup() as work:
                for one in self._scenario.rollouts:
                    artifact, over = await self._upload(http, one), asyncio.Event()
                    work.create_task(self._desk.operate(one, artifact, rollouts, over))
                    work.create_task(self._follow(one.rollout.name, rollouts, over))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        finally:
            await http.close()

    async def _follow(self, name: str, rollouts: RemoteRollouts, over: asyncio.Event) -> None:
        while name not in self._states or self._states[name].status != "ended":
            await asyncio.sleep(_POLL_S)
            with contextlib.suppress(NoSuch):
                self._states[name] = await rollouts.state(name)
        over.set()

    async def _upload(self, http: LeanHttp, scenario: Scenario) -> ArtifactFacts:
        version = scenario.rollout.version
        if scenario.target.artifact_url is not None:
            return ArtifactFacts(
                version=version, url=scenario.target.artifact_url, sha256=scenario.target.artifact_sha256
            )
        store = self._stack.store(http)
        artifact = await store.put(self._scenario.rollout.name, version, setup.artifact_bytes(scenario))
        return ArtifactFacts(version=version, url=artifact.url, size=artifact.size_bytes, sha256=artifact.sha256)

    def harm(self, nth: int, on: bool) -> None:
        """Each shard on its own devices."""
        for shard in self._shards:
            shard.send({"command": "fault", "nth": nth, "on": on})

    async def kill(self, name: str) -> None:
        """As `kill -9` does."""
        await self._stack.kill(name)

    async def revive(self, name: str) -> None:
        """Over what it had on disk."""
        await self._stack.revive(name)

    async def cancel(self) -> None:
        """Through the application's API."""
        for name in self._states:
            with contextlib.suppress(WrongState):
                await self._rollouts(self._http()).abort(name)

    def _http(self, *, pooled: bool = False) -> LeanHttp:
        return LeanHttp(HttpOptions(pooled, frozenset(self._options.hosts)))

    def _rollouts(self, http: LeanHttp) -> RemoteRollouts:
        return RemoteRollouts(http, self._stack.application_url, self._options.token)

    def succeeded(self) -> float:
        """As the application last said."""
        states = self._states.values()
        return sum(s.states.get(State.SUCCEEDED, 0) for s in states) / max(1, sum(s.size for s in states))

    async def watch(self) -> None:
        """Raise PartDied as soon as a part ends."""
        await self._stack.watch()

    async def _tick(self) -> None:
        """Once a second: the live line, and the health of what is not ours to ask."""
        while True:
            await asyncio.sleep(1.0)
            self._show()
            if self._stack.mosquitto is not None and self._stack.mosquitto.pid:
                self._note_server("mosquitto", self._stack.mosquitto.pid)

    def _show(self) -> None:
        self._desk.tick(time.monotonic() - self._began, self._states)

    def _note_server(self, name: str, pid: int) -> None:
        used = cpu_s(pid)
        share = used - self._cpu.get(name, used)
        self._cpu[name] = used
        waited = waited_s(pid)
        waiting = wait_share(self._waited.get(name, waited), waited, 1.0)
        self._waited[name] = waited
        facts = {"cpu_share": round(share, 3), **waiting, "rss_bytes": resident_bytes(pid)}
        self._heard(name, {"event": "health", **facts})
        self._record(Kind.HEALTH, detail=orjson.dumps({"process": name, **facts}).decode())

    async def stop(self) -> None:
        """Devices first, then what they talked to."""
        for chore in self._chores:
            chore.cancel()
        if self._stack.broker:
            detail = orjson.dumps(await self._stack.describe_broker()).decode()
            self._record(Kind.BROKER, detail=detail)
        await self._stack.stop()
        self._show()  # what the parts said last
        self._desk.stage("judge")
