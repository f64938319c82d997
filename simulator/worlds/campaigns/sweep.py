"""`fleetsim sweep`: one scenario at several loads, a run each; what each measured is kept as soon as it is there, so
that a sweep that was stopped goes on from its directory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simulator.model import quantity
from simulator.model.errors import PartDied, ScenarioError
from simulator.model.quantity import many
from simulator.model.scenario import RolloutSpec, Scenario
from simulator.model.verdict import Judgement
from simulator.trace import rundir
from simulator.worlds import run as running
from simulator.worlds import signals
from simulator.worlds.live import health, machine
from simulator.worlds.manifest import manifest_of

if TYPE_CHECKING:
    from simulator.worlds.live.options import Options

FILE, SCHEMA_VERSION = "sweep.json", 1
_SERVERS = 5  # processes beside the devices' own: conductor, application, replica, storage, broker
_LOOK_S = 1.0  # how long it is looked what else this machine does, before a run
_HOLDS = {"waves": "waves", "maximum_concurrent": "maximumConcurrent", "exponential_rate": "exponentialRate"}
_SAME = ("schema", "scenario", "version", "seed", "axis", "unpaced", "options")

Axis = Literal["devices", "rates"]
Measure = Callable[[Path, Judgement], dict[str, Any]]  # what is kept of a run


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: the scenario at each load (devices, or offers a second), each so many times."""

    axis: Axis
    scenarios: dict[float, Scenario]
    repeat: int
    unpaced: bool
    options: Options
    command: str  # the sweep's own
    again: Callable[[float, int], str]  # the command for one load and seed

    def turns(self) -> Iterator[tuple[float, int]]:
        """(load, nth time): all loads once before any again, so that what changes with time falls on all of them."""
        return ((load, nth) for nth in range(self.repeat) for load in self.scenarios)

    def spelled(self, load: float) -> str:
        """A load with its unit."""
        return many(int(load), "device") if self.axis == "devices" else f"{load:g}/s"

    def facts(self) -> dict[str, Any]:
        """What sweep.json says before anything was measured."""
        first = next(iter(self.scenarios.values()))
        manifest, spec = manifest_of(first, ""), first.rollout
        block, key = ("fleet", "devices") if self.axis == "devices" else ("rollout", "maximumPerMinute")
        manifest["scenario"][block].pop(key, None)
        paced = self.axis == "devices" and spec.maximum_per_minute is not None
        return {
            "schema": SCHEMA_VERSION,
            **{name: manifest[name] for name in ("scenario", "version", "python", "host", "seed")},
            "cores": os.cpu_count() or 1,
            "options": {name: getattr(self.options, name) for name in ("link", "processes", "pooled")},
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "axis": self.axis,
            "loads": list(self.scenarios),
            "repeat": self.repeat,
            "unpaced": self.unpaced,
            "holds": [*(["maximumPerMinute"] if paced else []), *(w for n, w in _HOLDS.items() if getattr(spec, n))],
            "pace_per_s": (spec.maximum_per_minute or 0) / 60 if paced else None,
        }


def loads_of(devices: str | None, rates: str | None) -> tuple[Axis, list[float], int | None]:
    """The axis, its loads in order, and the fleet's size where it is told beside rates. Raises ScenarioError."""
    counts, paces = _list("--devices", devices, _count), _list("--rates", rates, quantity.rate)
    if not counts and not paces:
        raise ScenarioError("say what to vary: --devices 500,1000,2000, or --rates 60/s,120/s")
    if len(counts) > 1 and paces:
        raise ScenarioError(
            "vary one thing: --devices 500,1000 or --rates 60/s,120/s; with --rates, give one number of devices"
        )
    if paces:
        return "rates", paces, int(counts[0]) if counts else None
    return "devices", counts, None


def _list(flag: str, text: str | None, parse: Callable[[str], float]) -> list[float]:
    try:
        return sorted({parse(word.strip()) for word in text.split(",")}) if text is not None else []
    except ValueError as error:
        raise ScenarioError(f"{flag} {text}: {error}") from None


def _count(word: str) -> float:
    if not word.isdecimal() or not 0 < int(word) <= 10**9:
        raise ValueError(f"{word!r} is not a number of devices; write 500,1000,2000")
    return int(word)


def at_load(scenario: Scenario, axis: Axis, load: float, *, unpaced: bool) -> Scenario:
    """The scenario at this load; over devices its fleet has that size already. Raises ScenarioError."""
    if axis == "rates" and len(scenario.operators) > 1:
        raise ScenarioError(
            f"--rates: {len(scenario.operators)} operators run a rollout each, and each would get the whole rate"
        )
    changes: dict[str, Any] = {}
    if unpaced:
        changes = {name: RolloutSpec.model_fields[name].default for name in ("maximum_per_minute", *_HOLDS)}
    elif axis == "rates" and scenario.rollout.exponential_rate is not None:
        raise ScenarioError("rollout.exponentialRate changes the rate during the run; add --unpaced to remove it")
    if axis == "rates":
        changes["maximum_per_minute"] = load * 60
    return scenario.model_copy(update={"rollout": scenario.rollout.model_copy(update=changes)})


def place(out: Path | None, scenario: str) -> Path:
    """The sweep's directory, which there may be already: the one that was asked for, or a fresh one."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return out or Path("runs", "sweep", rundir.folder(scenario), stamp)


def sweep(plan: Plan, where: Path, measure: Measure, tell: Callable[[str], None], *, quiet: bool) -> dict[str, Any]:
    """Run what is not there yet; all that was asked and measured. Raises ScenarioError where nothing was started."""
    state = _SweepState(plan, where)
    turns = [turn for turn in plan.turns() if not state.has(*turn)]
    signals.heed()
    kept = plan.repeat * len(plan.scenarios) - len(turns)
    if kept:
        tell(f"  {many(kept, 'point')} of {where} {'was' if kept == 1 else 'were'} measured before")
    for done, (load, nth) in enumerate(turns):
        tell(f"  {done + 1} of {len(turns)}: {plan.spelled(load)}{f', run {nth + 1} at this load' if nth else ''}")
        try:
            ended = _one(plan, state, load, nth, measure, tell, quiet=quiet)
            signals.insist()
        except KeyboardInterrupt:
            ended = "interrupted"
        except PartDied as error:
            state.died = True
            ended = str(error)
        except ScenarioError as error:
            if not state.points:
                raise
            ended = str(error)
        if ended:
            state.end(f"at {plan.spelled(load)}: {ended}")
            break
    return state.all()


def _one(
    plan: Plan, state: _SweepState, load: float, nth: int, measure: Measure, tell: Callable[[str], None], *, quiet: bool
) -> str:
    """Run one point and keep it; why the sweep cannot go on, empty where it can."""
    scenario = plan.scenarios[load]
    scenario = scenario.model_copy(update={"seed": scenario.seed + nth})
    live = scenario.world == "live"
    machine.check_memory(scenario.fleet.devices, _SERVERS + plan.options.processes if live else 1, scenario.world)
    busy = health.busy_cores(_LOOK_S) if live else None
    out = state.where / (f"devices-{load:.0f}" if plan.axis == "devices" else f"rate-{load:g}")
    path, judgement = running.run(scenario, out, plan.again(load, scenario.seed), plan.options, quiet=quiet)
    facts = measure(path, judgement)
    if "interrupted" in judgement.incomplete:
        return "interrupted"
    place = {"load": load, "nth": nth, "seed": scenario.seed, "run": str(path.relative_to(state.where))}
    rate = facts["updates_per_s" if plan.axis == "devices" else "held_per_s"]
    tell(f"      {facts['verdict']}" + (f", {rate:,.1f} updates a second" if rate is not None else ""))
    state.keep(place | facts | {"busy_before": None if busy is None else round(busy, 2)})
    return "; ".join(judgement.died)


class _SweepState:
    """A sweep's directory: what was asked, and the points that were measured."""

    def __init__(self, plan: Plan, where: Path) -> None:
        self.where, self._facts, self.died = where, plan.facts(), False
        self._file, self._ended = where / FILE, ""
        self._command = plan.command
        before = self._read()
        self.points: list[dict[str, Any]] = [p for p in before.get("points", []) if p["exit_code"] != 4]
        if before:
            self._compare(before)
            self._facts["began"] = before["began"]
            self._facts["loads"] = sorted({*before["loads"], *self._facts["loads"]})
            self._facts["repeat"] = max(before["repeat"], self._facts["repeat"])

    def _read(self) -> dict[str, Any]:
        try:
            earlier = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ScenarioError(f"{self._file} cannot be read: {error}") from None
        if not isinstance(earlier, dict) or not {*_SAME, "points", "loads", "repeat", "began"} <= set(earlier):
            raise ScenarioError(f"{self._file} is not the file of a sweep; choose another directory with --out")
        return earlier

    def _compare(self, before: dict[str, Any]) -> None:
        """Points of another scenario, or measured in another way, do not lie on one curve."""
        facts = json.loads(json.dumps(self._facts, default=str))
        if other := [name for name in _SAME if before[name] != facts[name]]:
            raise ScenarioError(
                f"{self.where} holds a sweep with a different {' and '.join(other)}; choose another directory with --out"
            )

    def has(self, load: float, nth: int) -> bool:
        """Whether this point was measured."""
        return any((point["load"], point["nth"]) == (load, nth) for point in self.points)

    def keep(self, point: dict[str, Any]) -> None:
        """One more; it is on disk when this returns."""
        self.points.append(point)
        self._write()

    def end(self, why: str) -> None:
        """The sweep ends before its last point."""
        self._ended = why
        self._write()

    def _write(self) -> None:
        try:
            self.where.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ScenarioError(f"{self.where} cannot be created: {error.strerror}") from None
        rundir.write_json(self._file, self.all())

    def all(self) -> dict[str, Any]:
        """sweep.json, as far as it is known without reading anything into it."""
        return {**self._facts, "command": self._command, "ended": self._ended, "died": self.died, "points": self.points}
