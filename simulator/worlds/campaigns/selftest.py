"""`fleetsim run --self-test`: what this machine can drive, by the shards alone against a backend that costs next to
nothing. Each load runs in processes of its own, until the generator's limits of validity are passed."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from simulator.checks.validity import validity
from simulator.device.ramp import length
from simulator.links.loop import run_live
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Profile, Scenario
from simulator.model.verdict import Limit
from simulator.trace import rundir
from simulator.trace.reader import Trace
from simulator.trace.recorder import Recorder, StreamFile
from simulator.worlds.live import machine
from simulator.worlds.live.health import cpu_s, resident_bytes
from simulator.worlds.live.options import Options
from simulator.worlds.live.processes import Child
from simulator.worlds.live.protocol import BrokerAddress, Event, Go, NullCounts, ProgressCounts
from simulator.worlds.live.servers import Stack, StackListener

RAMP = 500  # devices a second and process
_FIRST = 1000  # devices of the first load
_BUDGET_S = 45.0  # no load is begun later
_EVERY_S = 10.0  # a device is offered an update this often
_HOLD_S = 5.0  # of a load, which are measured
_LEAD_S = 15.0  # at most, until as many updates end as begin
_DRAIN_S = 3.0  # at most, for updates to end when no more are offered
_BUSY = 0.85  # who uses so much of a core, or all of so much of this machine, is what bounds
_WAITS = 0.2  # of a second
_AIM = 0.9  # of a core, with the next load
_GROWTH = (1.25, 4.0)
_FINE = 1.3  # what counts and what does not are no further apart in the end


class Load(NamedTuple):
    """Deltas a second, for `lead_s` and then for `hold_s`, which are measured."""

    rate: float
    lead_s: float
    hold_s: float = _HOLD_S


class Counts(NamedTuple):
    """What the conductor saw of a load: when it was measured (on the record's clock), CPU by process in that time, by
    how much the shards' memory grew; and what the null backend says: deltas due and sent, updates that ended."""

    window_us: tuple[int, int]
    cpu_s: dict[str, float]
    grown_bytes: int
    due: int
    sent: int
    updates: int


class Measured(NamedTuple):
    """One load: what the shards carried, what it cost them, each process's share of a core, why it does not count
    (empty: it does) and what used most. `reported` are all updates whose end devices reported, `updates` those that the
    null backend heard of."""

    devices: int
    deltas_per_s: float
    updates_per_s: float
    cpu_us_per_update: float | None
    kib_per_device: float
    cores: dict[str, float]
    reported: int
    updates: int
    reasons: tuple[str, ...]
    bound: str


class Capacity(NamedTuple):
    """All loads, the largest that counts, and what bound it."""

    steps: tuple[Measured, ...]
    largest: Measured | None
    bound: str

    @property
    def exit_code(self) -> int:
        """0, or 2 where no load counts."""
        return 0 if self.largest else 2


# ---- what a load is


def bare(scenario: Scenario) -> Scenario:
    """The scenario's devices and software, without what it runs against and what goes wrong there."""
    target = {"kind": "reference", "broker": "embedded", "artifact_url": None, "bind_address": False}
    return scenario.model_copy(
        update={
            "target": scenario.target.model_copy(update=target),
            "faults": (),
            "swarm": 0,
            "operators": (),
            "world": "live",
        }
    )


def load_of(scenario: Scenario) -> Load:
    """An update for each device every ten seconds, or more rarely where it would be busy for more than half the time."""
    fleet = scenario.fleet
    profiles = [scenario.profile(fleet.profile_of(cohort)) for cohort in fleet.cohort_counts()]
    lasts_s = max(_update_s(profile, scenario.rollout.size) for profile in profiles)
    return Load(len(fleet.present) / max(_EVERY_S, 2 * lasts_s), min(1 + 1.5 * lasts_s, _LEAD_S))


def _update_s(profile: Profile, size: int) -> float:
    """How long an update takes on a device like this, about."""
    bandwidth = profile.bandwidth.at(0.5)
    still_s = sum(stage.at(0.5) for stage in (profile.verify, profile.install, profile.reboot))
    return still_s + 12 * profile.latency.at(0.5) + (size / bandwidth if bandwidth else 0.0)


# ---- one load


def measure(scenario: Scenario, options: Options, load: Load) -> Measured:
    """Drive one load with processes of its own. Raises ScenarioError, PartDied."""
    scenario = bare(scenario)
    with tempfile.TemporaryDirectory(prefix="fleetsim-") as name:
        path = Path(name)
        counts = run_live(lambda: _drive(scenario, options, load, path))
        trace, _ = rundir.collect(path)
    return judged(trace, scenario, counts)


async def _drive(scenario: Scenario, options: Options, load: Load, path: Path) -> Counts:
    zero_ns = time.monotonic_ns()
    listener = _Counting()
    stack = Stack(scenario, options, path, zero_ns, time.time() - time.monotonic(), listener=listener)
    try:
        null, *shards = (stack.local(name) for name in ("null", *(f"shard-{i}" for i in range(options.processes))))
        await stack.spawn([null, *shards])
        watch = asyncio.ensure_future(stack.watch())
        work = asyncio.ensure_future(_driven(stack, listener, null, shards, load, path, zero_ns))
        try:
            await asyncio.wait([watch, work], return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
            return await work
        finally:
            watch.cancel()
            work.cancel()
            await asyncio.gather(watch, work, return_exceptions=True)
    finally:
        await stack.stop()


class _Counting(StackListener):
    """Keeps the null backend's counts; `warm` once each of the parts `cold` has recorded, `drained` once all updates ended."""

    def __init__(self) -> None:
        self.counts = NullCounts(0, 0, 0, False)
        self.cold: set[str] = set()
        self.warm, self.drained = asyncio.Event(), asyncio.Event()

    def receive(self, name: str, event: Event) -> None:
        """Counts of the null backend, or of what a part recorded."""
        if isinstance(event, NullCounts):
            self.counts = event
            if event.offered and event.updates == event.sent:
                self.drained.set()
        elif isinstance(event, ProgressCounts) and "events" in event.counts:
            self.cold.discard(name)
            if not self.cold:
                self.warm.set()


async def _driven(
    stack: Stack, listener: _Counting, null: Child, shards: list[Child], load: Load, path: Path, zero_ns: int
) -> Counts:
    listener.cold = {shard.name for shard in shards}
    await _ready(stack, shards, load)
    await listener.warm.wait()  # what the first flush of a record loads is no device's
    fleet, pids = stack.scenario.fleet, stack.pids()
    with StreamFile(path / "parts" / "conductor.arrow") as stream:
        recorder = Recorder(time.monotonic_ns, stream, zero=zero_ns, per_us=1000)
        empty = sum(resident_bytes(shard.pid) for shard in shards)
        recorder.record(Kind.STAGE, phase="ramp")
        for shard in shards:
            shard.send(Go())
        await asyncio.sleep(length(fleet.ramp, fleet.devices))
        recorder.record(Kind.STAGE, phase="rollout")
        null.send(Go())
        await asyncio.sleep(load.lead_s)
        began_us, before = _now_us(zero_ns), {name: cpu_s(pid) for name, pid in pids.items()}
        await asyncio.sleep(load.hold_s)
        ended_us, after = _now_us(zero_ns), {name: cpu_s(pid) for name, pid in pids.items()}
        grown = sum(resident_bytes(shard.pid) for shard in shards) - empty
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listener.drained.wait(), _DRAIN_S)
        recorder.flush()
    used = {name: after[name] - before[name] for name in pids}
    counts = listener.counts
    return Counts((began_us, ended_us), used, grown, counts.due, counts.sent, counts.updates)


def _now_us(zero_ns: int) -> int:
    return (time.monotonic_ns() - zero_ns) // 1000


async def _ready(stack: Stack, shards: list[Child], load: Load) -> None:
    """The null backend, then the shards, all behind the barrier."""
    ready = await stack.child(stack.configs.null(load.rate, load.lead_s + load.hold_s))
    stack.at.broker = BrokerAddress(host=stack.options.bind, port=ready.port)
    devices, ports = len(stack.scenario.fleet.present), machine.ephemeral_ports()
    sources = machine.sources(devices, stack.options.ifaddr, loopback=True, ports=ports)
    configs = [stack.configs.shard(shard.name, nth, len(shards), sources) for nth, shard in enumerate(shards)]
    await asyncio.gather(*map(stack.child, configs))


# ---- what it says


def judged(trace: Trace, scenario: Scenario, counts: Counts) -> Measured:
    """A load's measures, and whether it is within the generator's limits of validity."""
    began_us, ended_us = counts.window_us
    span_s = (ended_us - began_us) / 1e6
    reports = trace.kind(Kind.REPORT).where("status", "SUCCESS", "FAILURE")
    reports = reports.only(reports["size"] == 1)
    begun = trace.kind(Kind.DELTA).where("status", "start")
    ended, deltas = (_within(view["t_us"], counts.window_us) for view in (reports, begun))
    devices = len(scenario.fleet.present)
    cores = {name: used / span_s for name, used in counts.cpu_s.items()}
    shards_s = sum(used for name, used in counts.cpu_s.items() if name.startswith("shard"))
    return Measured(
        devices,
        deltas / span_s,
        ended / span_s,
        shards_s / ended * 1e6 if ended else None,
        counts.grown_bytes / 1024 / devices,
        cores,
        len(reports),
        counts.updates,
        _reasons(trace, scenario, counts),
        bound(cores, _waits(trace, counts.window_us), os.cpu_count() or 1),
    )


def _within(t_us: np.ndarray, window_us: tuple[int, int]) -> int:
    return int(((t_us >= window_us[0]) & (t_us < window_us[1])).sum())


def _waits(trace: Trace, window_us: tuple[int, int]) -> dict[str, float]:
    """The largest share of a second in which each process was ready and had no core, as far as the kernel tells."""
    health = trace.kind(Kind.HEALTH)
    health = health.only((health["t_us"] >= window_us[0]) & (health["t_us"] < window_us[1]))
    waits: dict[str, float] = {}
    for facts in map(orjson.loads, health.texts("detail")):
        name = facts["process"]
        waits[name] = max(waits.get(name, 0.0), facts.get("wait_share", 0.0))
    return waits


def _reasons(trace: Trace, scenario: Scenario, counts: Counts) -> tuple[str, ...]:
    devices = len(scenario.fleet.present)
    connected = len(np.unique(trace.kind(Kind.CONNECT).where("status", "new", "resumed")["thing"]))
    sent = counts.sent / counts.due if counts.due else 0.0
    reasons = [
        *validity(trace, scenario).limits,
        Limit("devices connected", connected / devices, 1.0, at_most=False),
        Limit("deltas sent of those due", sent, scenario.limits.offered, at_most=False),
    ]
    return tuple(f"{limit.name}: {limit.value:.3g}, allowed {limit.allowed:.3g}" for limit in reasons if not limit.held)


def bound(cores: dict[str, float], waits: dict[str, float], of: int) -> str:
    """What used most: a process whose core is full, this machine's cores, which others may use too, or nothing that can
    be seen here."""
    name = max(cores, key=lambda process: cores[process])
    used, total = f"{name}, {cores[name]:.0%} of a core", sum(cores.values())
    if cores[name] >= _BUSY:
        return used
    if total >= _BUSY * of:
        return f"this machine's {many(of, 'core')}, all in use; most by {used}"
    late = max(waits, key=lambda process: waits[process], default="")
    if late and waits[late] >= _WAITS:
        return (
            f"what else runs on this machine: {late} was ready and had no core for up to {waits[late]:.0%} of a second"
        )
    return f"neither a core nor the machine: most was used by {used}"


# ---- all loads


def self_test(
    at: Callable[[int], Scenario], most: int | None, options: Options, tell: Callable[[str], None]
) -> Capacity:
    """Measure `at(devices)` for more and more devices, at most `most` (None: what this machine allows). `tell` hears a
    line of each. Raises ScenarioError, PartDied."""
    limit = machine.raise_open_files()
    if most is None:
        most = machine.most_devices(options.processes, limit)
    machine.check_files(most, options.processes, embedded=True, limit=limit)
    began, steps = time.monotonic(), list[Measured]()
    tell(_HEAD)
    while time.monotonic() - began < _BUDGET_S and (devices := following(steps, most, options.processes)):
        scenario = at(devices)
        steps.append(measure(scenario, options, load_of(scenario)))
        tell(_row(steps[-1]))
    return capacity(steps, most)


def following(steps: Sequence[Measured], most: int, least: int = 1) -> int:
    """The devices of the next load; 0 where no more is to be learned."""
    good = max((step.devices for step in steps if not step.reasons), default=0)
    bad = min((step.devices for step in steps if step.reasons), default=0)
    if not steps:
        return min(max(_FIRST, least), most)
    if not good:
        return bad // 2 if bad // 2 >= least else 0
    if bad > good:
        return round(math.sqrt(good * bad)) if bad / good > _FINE else 0
    largest = next(step for step in steps if step.devices == good)
    low, high = _GROWTH
    growth = min(high, max(low, _AIM / max(largest.cores.values())))
    return 0 if bad or good >= most else min(most, round(good * growth))


def capacity(steps: Sequence[Measured], most: int) -> Capacity:
    """The largest load that counts; what bound it was seen in the smallest that does not, beyond it."""
    good = max((step for step in steps if not step.reasons), key=lambda step: step.devices, default=None)
    least = good.devices if good else 0
    bad = min((step for step in steps if step.reasons and step.devices > least), key=lambda s: s.devices, default=None)
    if bad is not None:
        return Capacity(tuple(steps), good, f"{bad.bound} (with {many(bad.devices, 'device')}: {bad.reasons[0]})")
    if good is not None and good.devices >= most:
        return Capacity(tuple(steps), good, f"nothing yet: {many(most, 'device')} are all that were to be had")
    return Capacity(tuple(steps), good, "nothing yet: the time was up")


# ---- for people and machines

_HEAD = f"{'devices':>9} {'deltas/s':>9} {'updates/s':>9} {'CPU/update':>11} {'KiB/device':>11}  most used"


def _row(step: Measured) -> str:
    cpu = f"{step.cpu_us_per_update:,.0f} µs" if step.cpu_us_per_update is not None else "-"
    numbers = f"{step.devices:>9,} {step.deltas_per_s:>9,.1f} {step.updates_per_s:>9,.1f} {cpu:>11}"
    used = " ".join(f"{name} {share:.0%}" for name, share in step.cores.items())
    verdict = "".join(f"\n{'':>9} INVALID: {reason}" for reason in step.reasons)
    return f"{numbers} {step.kib_per_device:>11.1f}  {used}{verdict}"


def as_text(capacity: Capacity) -> str:
    """The end, for a person."""
    best = capacity.largest
    if best is None:
        return f"could not be measured: {capacity.bound}"
    cpu = f", {best.cpu_us_per_update:,.0f} µs of CPU an update" if best.cpu_us_per_update is not None else ""
    carries = f"{many(best.devices, 'device')} and {best.deltas_per_s:,.0f} deltas/s{cpu}"
    return f"  carries   {carries}, {best.kib_per_device:.1f} KiB a device\n  bound by  {capacity.bound}"


def summary(capacity: Capacity, name: str, processes: int) -> dict[str, Any]:
    """The same for machines; `largest` is null where nothing could be measured."""
    return {
        "schema": 1,
        "scenario": name,
        "processes": processes,
        "cores": os.cpu_count() or 1,
        "steps": [step._asdict() for step in capacity.steps],
        "largest": capacity.largest and capacity.largest._asdict(),
        "bound": capacity.bound,
        "exit_code": capacity.exit_code,
    }
