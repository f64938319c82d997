"""One device of a virtual run alone: what it did, again, against the tape of what others did to it."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson
import pyarrow as pa

from simulator.device.fleet import Road, run_fleet
from simulator.device.ramp import Shard
from simulator.faults.harm import Harms
from simulator.links.base import MqttOptions, Wires
from simulator.links.clock import TimeLimit, VirtualLoop, run_virtual
from simulator.model.errors import ScenarioError
from simulator.model.events import KINDS, Kind
from simulator.model.scenario import Profile, Scenario
from simulator.model.verdict import Judgement
from simulator.trace.reader import Trace, View, first_difference, in_order
from simulator.trace.recorder import Record, Recorder, Sink
from simulator.trace.rundir import Run, folder
from simulator.worlds import judgement as judging
from simulator.worlds import setup, virtual
from simulator.worlds.parties import EPOCH
from simulator.worlds.reproduce import replay
from simulator.worlds.reproduce.player import Player
from simulator.worlds.reproduce.replay import Difference, Likeness
from simulator.worlds.reproduce.tape import Tape, from_json, to_json
from simulator.worlds.reproduce.taping import Taping

DEVICE_KINDS = tuple(kind for kind, meaning in KINDS.items() if meaning.by.startswith("device"))


class Taped(NamedTuple):
    """A device's tape, and how many seconds the whole run took that it was made of."""

    tape: Tape
    whole_s: float


def ordinal_of(scenario: Scenario, device: str) -> int:
    """The device of this name or index. Raises ScenarioError where there is none."""
    fleet = scenario.fleet
    for ordinal in fleet.present:
        if device in (fleet.name(ordinal), str(fleet.first_index + ordinal)):
            return ordinal
    first, last = fleet.name(fleet.present[0]), fleet.name(fleet.present[-1])
    raise ScenarioError(f"--device {device}: no such device; there are {len(fleet.present):,}, {first} to {last}")


def own_events(trace: Trace, thing: str, upto: int | None = None) -> pa.Table:
    """What a device itself recorded, of the first `upto` events; counted anew, whichever recorder wrote it."""
    rows = _own(trace, thing).rows
    table = trace.table.take(pa.array(rows if upto is None else rows[rows < upto]))
    counted = {"shard": pa.array(np.zeros(len(table), np.int16)), "seq": pa.array(np.arange(len(table)))}
    for name, values in counted.items():
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
    return table


def _own(trace: Trace, thing: str) -> View:
    events = trace.thing(thing)
    did = trace.among("kind", events["kind"], (Kind.FAULT,)) & trace.among("status", events["status"], ("did",))
    own = trace.among("kind", events["kind"], DEVICE_KINDS)
    offers = events.where("kind", Kind.OFFER)["token"]  # an answer to one of these is the application's
    return events.only(did | (own & ~np.isin(events["token"], offers[offers >= 0])))


# ---- the tape


def record_tape(scenario: Scenario, thing: str, until_s: float | None) -> tuple[Trace, Taped]:
    """The whole run once more, in memory, with its trace and this device's tape. Raises ScenarioError where the device
    was not there by then."""
    batches: list[pa.RecordBatch] = []
    recorders: list[Recorder] = []
    tapings: list[Taping] = []

    def taped(road: Road) -> Road:
        tapings.append(Taping(lambda: recorders[0].count))

        def listening(name: str, profile: Profile) -> Wires:
            wires = road(name, profile)
            return tapings[0].listen(wires) if name == thing else wires

        return listening

    def counted(clock: Callable[[], int], sink: Sink) -> Recorder:
        recorders.append(Recorder(clock, sink))
        return recorders[0]

    class Overheard(Harms):
        """Its turns are on the tape."""

        def switch(self, nth: int, on: bool) -> None:
            tapings[0].turn(nth, on)
            super().switch(nth, on)

    began = time.perf_counter()
    with contextlib.suppress(TimeLimit):  # as far as it was recorded
        virtual.run(
            scenario, batches.append, virtual.Parties(road=taped, nemesis=Overheard, recorder=counted), until_s=until_s
        )
    took_s = round(time.perf_counter() - began, 3)
    trace = Trace(in_order(batches))
    own = _own(trace, thing)
    if not len(own):
        raise ScenarioError(f"--device {thing}: it had not started when the record ends")
    end_us = int(own["t_us"][-1])
    ending = own["t_us"] == end_us
    ending &= trace.among("kind", own["kind"], (Kind.RETIRED, Kind.DOWNLOAD))  # a download under way is noted then
    return trace, Taped(tapings[0].finished(end_us, own.only(~ending)["seq"].tolist()), took_s)


def write_tape(path: Path, thing: str, taped: Taped, artifact: bytes) -> None:
    """A tape's file: JSON, a line for each entry; whole or not at all."""
    tape = taped.tape
    head = {"schema": 1, "thing": thing, "began_us": tape.began_us, "whole_s": taped.whole_s}
    rows = b",\n".join(orjson.dumps(to_json(entry, artifact)) for entry in tape.entries)
    part = path.with_name(path.name + ".part")
    part.write_bytes(orjson.dumps(head)[:-1] + b',"entries":[\n' + rows + b"\n]}\n")
    part.replace(path)


def read_tape(path: Path, thing: str, artifact: bytes) -> Taped | None:
    """The tape in a file; None where there is none of this thing. Raises ScenarioError for a damaged one."""
    if not path.is_file():
        return None
    try:
        document = orjson.loads(path.read_bytes())
        if (document["schema"], document["thing"]) != (1, thing):
            return None
        entries = [from_json(row, artifact) for row in document["entries"]]
        return Taped(Tape(document["began_us"], entries), document["whole_s"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ScenarioError(f"{path}: a damaged tape: {error!r}; remove it to have it made again") from None


# ---- the device


class Others(Protocol):
    """Who plays all others' parts to a device. `over` is done at the end, or with a sentence when they cannot go on."""

    over: asyncio.Future[str]

    def begin(self) -> None:
        """The device is about to start."""

    def wires(self, options: MqttOptions, address: str) -> Wires:
        """Its wires."""

    def recorded(self) -> None:
        """It has recorded an event."""


Turned = Callable[[int, bool], None]
"""Tells the device that the scenario's nth fault begins or ends."""


class Performance(NamedTuple):
    """What the device did alone: its events, where it departed from the tape, and how long it took in seconds."""

    events: pa.Table
    departs: str
    took_s: float


def perform(scenario: Scenario, ordinal: int, began_us: int, others: Callable[[Turned], Others]) -> Performance:
    """The device alone, whose fleet began then. What it raises ends it: a departure too."""
    alone = alone_in(scenario, ordinal)
    batches: list[pa.RecordBatch] = []
    recorders: list[Recorder] = []

    async def main(loop: VirtualLoop) -> str:
        recorders.append(Recorder(lambda: loop.now_us, batches.append))
        await asyncio.sleep(began_us / 1e6)
        return await _perform(alone, others, recorders[0].record)

    began = time.perf_counter()
    try:
        departs = run_virtual(main)
    except Exception as error:
        departs = ": ".join(replay.crash_of(error))
    for recorder in recorders:
        recorder.flush()
    took_s = time.perf_counter() - began
    return Performance(own_events(Trace(in_order(batches)), scenario.fleet.name(ordinal)), departs, took_s)


def alone_in(scenario: Scenario, ordinal: int) -> Scenario:
    """The scenario in which no other device is there."""
    return scenario.model_copy(update={"fleet": scenario.fleet.model_copy(update={"only": (ordinal,)})})


async def _perform(scenario: Scenario, others: Callable[[Turned], Others], record: Record) -> str:
    loop = asyncio.get_running_loop()
    player = others(lambda nth, on: harms.switch(nth, on))

    def recorded(*event: Any, **columns: Any) -> None:
        if not (player.over.done() and player.over.result()):  # past a departure there is nothing to compare
            record(*event, **columns)
            player.recorded()

    harms = Harms(scenario, recorded)
    player.begin()
    road = _road(scenario, player)
    fleet = loop.create_task(run_fleet(scenario, Shard(), road, recorded, harms, epoch=EPOCH), name="fleet")
    ends: list[asyncio.Future[Any]] = [fleet, player.over]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    fleet.cancel()
    await asyncio.gather(fleet, return_exceptions=True)
    if not fleet.cancelled():
        fleet.result()
    return player.over.result()


def _road(scenario: Scenario, player: Others) -> Road:
    def road(thing: str, profile: Profile) -> Wires:
        base = MqttOptions("tape", 0, scenario.fleet.login(thing)[0], thing)
        options = setup.session_options(base, profile)
        address = thing if scenario.target.bind_address else ""
        return player.wires(options, address)

    return road


# ---- the verb


class Alone(NamedTuple):
    """A recorded device beside itself alone. `departs` says where it left its tape; `kept` where the tape is, empty
    where it could not be written; `whole_s` how long the whole run took."""

    run: Run
    thing: str
    compared: int
    difference: Difference | None
    departs: str
    recorded: Judgement
    took_s: float
    whole_s: float
    kept: str

    @property
    def likeness(self) -> Likeness:
        """SAME or DIFFERENT: whether anything is mended, only the whole run can tell."""
        return Likeness.DIFFERENT if self.difference or self.departs else Likeness.SAME

    @property
    def exit_code(self) -> int:
        """The original's for the same events, else 2."""
        return self.recorded.exit_code if self.likeness is Likeness.SAME else 2


def replay_device(run: Run, device: str) -> Alone | replay.Replay:
    """Replay one device alone. Its tape is made once, by the whole run, and kept in the run's directory; where the
    whole run is not the same again, there is no tape, and that replay is what there is to tell. Raises ScenarioError."""
    scenario, beginning = replay.comparable(run)
    ordinal = ordinal_of(scenario, device)
    thing = scenario.fleet.name(ordinal)
    recorded = own_events(run.trace, thing, len(beginning.table))
    if not len(recorded):
        raise ScenarioError(f"{run.path}: no event of {thing} in its record")
    artifact, path = setup.artifact_bytes(scenario), run.path / f"tape-{folder(thing)}.json"
    taped = read_tape(path, thing, artifact)
    if taped is None:
        trace, taped = record_tape(scenario, thing, beginning.until_s)
        if beginning.first_difference(trace) is not None:
            return replay.replay(run)
        with contextlib.suppress(OSError):  # a directory that is only read
            write_tape(path, thing, taped, artifact)
    played = perform(scenario, ordinal, taped.tape.began_us, partial(Player, taped.tape))
    events = played.events if beginning.whole else played.events.slice(0, len(recorded))
    return Alone(
        run,
        thing,
        len(recorded),
        first_difference(recorded, events),
        played.departs,
        judging.judge_again(run, ()),
        played.took_s,
        taped.whole_s,
        str(path) if path.is_file() else "",
    )


def as_text(alone: Alone) -> str:
    """How a device's replay went, for a terminal."""
    lines = [
        f"{alone.likeness}  {alone.run.path}  {alone.thing} alone  seed {alone.run.manifest.get('seed')}",
        *replay.other_version(alone.run),
        f"  alone it took {alone.took_s:.3f} s, the whole run {alone.whole_s:.3f} s",
    ]
    if alone.kept:
        lines.append(f"  its tape is {alone.kept}")
    if alone.difference is not None:
        lines += [f"  {line}" for line in replay.differing(alone.difference, "recorded", "replayed").splitlines()]
    elif not alone.departs:
        lines.append(f"  all {alone.compared:,} events of the device are the same")
    if alone.departs:
        lines.append(f"  it departs from its tape: {alone.departs}")
    lines += replay.judged_as("recorded", alone.recorded)
    lines.append(f"  timeline  {shlex.join(['fleetsim', 'trace', str(alone.run.path), alone.thing])}")
    return "\n".join(lines)
