"""The conductor of a live run: starts and ends all its processes, and leads them through the stages.

Who starts whom. The conductor is the process of `fleetsim run` itself. It starts the servers one after the other, since
each is told where the ones before it listen: broker, storage, replica, application. Then it starts the shards, each with a
part of the fleet. All processes are spawned first, so that they load at the same time; a part is started when it has its
configuration and has said that it is ready. Shards then wait for `go`. What differs between `fleetsim run` and Locust is in
the *desk*: where shards and servers are started, who operates the rollouts, what a person sees.

Who ends whom. The conductor watches all its parts: the death of one that no fault has killed ends the run (`PartDied`).
At the end it closes each part's stdin, the shards' first, then application, replica and storage, and the broker's. A part
ends when its stdin does, so a conductor that was killed takes its parts with it
(mosquitto, which is not ours, ends by the kernel's signal at its parent's death, where `setpriv` is installed). What has not ended in time is killed.
SIGINT and SIGTERM reach the conductor alone; they end the run early, and what was recorded is judged all the same.

Every process records into a file of its own below parts/, by one clock (CLOCK_MONOTONIC since the run's beginning; another
host's is compared first). The conductor records the stages, and what it knows of servers that do not record themselves.
"""

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
from simulator.faults.catalogue import rule_of
from simulator.faults.rules import OnRoad, OnServer
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
from simulator.worlds.live.desk import Desk, take_note
from simulator.worlds.live.health import OtherProcess
from simulator.worlds.live.options import Options, broker_address, listen_address, refuse_no_address, refuse_remote
from simulator.worlds.live.processes import Child, Clock
from simulator.worlds.live.protocol import Event, Go, SwitchFault
from simulator.worlds.live.servers import Stack, StackListener
from simulator.worlds.progress import Now
from simulator.worlds.stages import Ending, Stop, conduct

_DEED_S = 5.0  # an operator's last deed has been done by then
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
    own = dict.fromkeys(KILLED, scenario.target.kind == "reference") | {"broker": scenario.target.own_broker}
    for nth, fault in enumerate(scenario.faults):
        rule = rule_of(fault, nth)
        if isinstance(rule, OnServer) and not own.get(rule.server, True):
            raise ScenarioError(
                f"faults.{nth}: {fault.fault}: the {rule.server} is not fleetsim's own, and is left alone"
            )


def _refuse_stalling_what_cannot(scenario: Scenario, options: Options) -> None:
    for nth, fault in enumerate(scenario.faults):
        rule = rule_of(fault, nth)
        if options.link == "library" and isinstance(rule, OnRoad) and rule.state == "dark":
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
        listener = _RunListener(record, desk, Now(len(scenario.targets())))
        stack = Stack(scenario, options, path, zero_ns, epoch, listener=listener)
        world = LiveWorld(stack, listener, sources)
        attending = asyncio.ensure_future(desk.attend(stop, epoch + zero_ns / 1e9))
        try:
            async with _metrics(scenario, options, listener.now):
                return await conduct(world, scenario, _staged(record, listener.now, desk), stop)
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


class _RunListener(StackListener):
    """What the stack's parts tell goes to the desk and into `now`; clocks that differ go into the record."""

    def __init__(self, record: Record, desk: Desk, now: Now) -> None:
        self.record, self.desk, self.now = record, desk, now
        self.steps = desk.steps

    def server(self, name: str, stack: Stack) -> Child:
        """Where the desk wants it."""
        return self.desk.server(name, stack)

    def receive(self, name: str, event: Event) -> None:
        """An event of this part's."""
        take_note(self.now, name, event)
        self.desk.receive(name, event)

    def compared(self, name: str, clock: Clock) -> None:
        """This part's host has a clock of its own."""
        facts = {"process": name, "host": clock.host, "offset_us": clock.offset_ns // 1000}
        self.record(Kind.CLOCK, span_us=clock.error_ns // 1000, detail=orjson.dumps(facts).decode())


class LiveWorld:
    """The stages of a run (`stages.World`) on real processes; shards' devices bind the addresses `sources`."""

    def __init__(self, stack: Stack, listener: _RunListener, sources: list[str | None]) -> None:
        self._scenario, self._options, self._stack = stack.scenario, stack.options, stack
        self._listener, self._desk, self._sources = listener, listener.desk, sources
        self._began = time.monotonic()
        self._states: dict[str, RolloutState] = {}  # of the rollouts that have begun, as last asked
        self._mosquitto = OtherProcess("mosquitto", listener.record)
        self._chores: list[asyncio.Task[None]] = []
        self._shards = self._desk.shards(stack)

    async def start(self) -> None:
        """Servers, then shards, all ready behind the barrier."""
        count = len(self._shards)
        await self._stack.start(self._shards)
        await asyncio.gather(*(self._start_shard(shard.name, nth, count) for nth, shard in enumerate(self._shards)))
        self._chores.append(asyncio.ensure_future(self._tick()))

    async def _start_shard(self, name: str, index: int, count: int) -> None:
        await self._stack.child(self._stack.configs.shard(name, index, count, self._sources))

    async def ramp(self) -> None:
        """All shards at once; each starts its own devices when they are due."""
        for shard in self._shards:
            shard.send(Go())
        await asyncio.sleep(length(self._scenario.fleet.ramp, self._scenario.fleet.devices))

    async def roll_out(self) -> None:
        """Upload the artifacts, have the rollouts begun, ask until they have ended."""
        http = self._http(pooled=True)
        try:
            rollouts = self._rollouts(http)
            async with asyncio.TaskGroup() as work:
                for scenario in self._scenario.rollouts:
                    artifact, over = await self._upload(http, scenario), asyncio.Event()
                    work.create_task(self._desk.operate(scenario, artifact, rollouts, over))
                    work.create_task(self._follow(scenario, rollouts, over))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        finally:
            await http.close()

    async def _follow(self, scenario: Scenario, rollouts: RemoteRollouts, over: asyncio.Event) -> None:
        """Ask how the rollout stands until it has ended, or is paused when its operator will do nothing more."""
        name, loop = scenario.rollout.name, asyncio.get_running_loop()
        idle_s = max((at for at, _ in scenario.operator().deeds), default=-_DEED_S) + _DEED_S
        begun: float | None = None
        while True:
            await asyncio.sleep(_POLL_S)
            with contextlib.suppress(NoSuch):
                state = self._states[name] = await rollouts.state(name)
                begun = loop.time() if begun is None else begun
                if state.status == "ended" or (state.halted and loop.time() - begun >= idle_s):
                    break
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
            shard.send(SwitchFault(nth, on))

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
        return RemoteRollouts(http, self._stack.at.application, self._options.token)

    def succeeded(self) -> float:
        """The share of the targets that have succeeded, as the application told last."""
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
                self._listener.receive("mosquitto", self._mosquitto.look(self._stack.mosquitto.pid))

    def _show(self) -> None:
        self._desk.tick(time.monotonic() - self._began, self._states)

    async def stop(self) -> None:
        """Devices first, then what they talked to."""
        for chore in self._chores:
            chore.cancel()
        if self._stack.at.broker.host:
            detail = orjson.dumps(await self._stack.describe_broker()).decode()
            self._listener.record(Kind.BROKER, detail=detail)
        await self._stack.stop()
        self._show()  # what the parts told last
        self._desk.stage("judge")
