"""One run from scenario to judgement, with its directory: what `fleetsim run` does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from reports.run import figures
from simulator.checks import judge
from simulator.faults.catalogue import rule_of
from simulator.faults.rules import of_connections
from simulator.faults.swarm import with_swarm
from simulator.model.errors import PartDied, ScenarioError
from simulator.model.events import Kind
from simulator.model.masks import masked
from simulator.model.scenario import Fault, Scenario, Target
from simulator.model.verdict import Judgement
from simulator.replica import database
from simulator.storage import store
from simulator.trace import rundir
from simulator.trace.recorder import Sink, StreamFile
from simulator.worlds import setup, signals, virtual
from simulator.worlds.judgement import judged, scenario_of
from simulator.worlds.manifest import broker_of, manifest_of
from simulator.worlds.progress import Line, follow

if TYPE_CHECKING:  # the live world takes as long to import as all the rest: a virtual run does without it
    from simulator.worlds.live.desk import Desk
    from simulator.worlds.live.options import Options


def sensible(scenario: Scenario) -> None:
    """Raises ScenarioError for what the scenario file alone does not tell: names of checks and faults, what `sensible_target`
    looks at, files."""
    judge.sensible(scenario)
    figures.sensible(scenario)
    sensible_target(scenario.target, live=scenario.world == "live")
    if scenario.world == "virtual":
        sensible_in_virtual_time(scenario)
    connected = setup.dialect_of(scenario.target).can.sessions
    for nth, fault in enumerate(scenario.faults):
        if of_connections(rule_of(fault, nth)) and not connected:
            raise ScenarioError(
                f"faults.{nth}.fault: {fault.fault} harms MQTT connections; devices of dialect {scenario.target.dialect} "
                "have none"
            )
    if scenario.rollout.file is not None and not Path(scenario.rollout.file).is_file():
        raise ScenarioError(f"rollout.file: {scenario.rollout.file}: no such file")


def sensible_in_virtual_time(scenario: Scenario) -> None:
    """Raises ScenarioError where the target is somebody else's: in virtual time nothing of it would take part, and any
    verdict would be on our own servers."""
    target = scenario.target
    if target.kind == "external":
        raise ScenarioError(
            "target.kind: an external backend cannot take part in virtual time; use world live, or target.kind reference"
        )
    for key, url in (("broker", "" if target.own_broker else target.broker), ("artifact_url", target.artifact_url)):
        if url:
            raise ScenarioError(f"target.{key}: {masked(url)} cannot take part in virtual time; use world live")


def sensible_target(target: Target, live: bool) -> None:
    """Raises ScenarioError for a dialect or artifact store that there is not, for topics and settings that are not the
    dialect's, and, of a live run, for a database that there is not and a dialect without live services."""
    setup.topics(target)
    store.kind_of(target.storage)
    if live:
        setup.application_dialect(target)
        database.named(target.database)


def with_faults(scenario: Scenario, names: Sequence[str]) -> Scenario:
    """The scenario with these faults besides, on all devices from the start. Raises ScenarioError for one that there is
    not, or that needs more to be said."""
    more = [Fault(fault=name) for name in names]
    for fault in more:
        try:
            rule_of(fault, 0)
        except ScenarioError as error:
            raise ScenarioError(f"--fault: {str(error).partition(': ')[2]}") from None
    return scenario.model_copy(update={"faults": (*scenario.faults, *more)})


def run(
    scenario: Scenario, out: Path, repeat: str, options: Options, *, quiet: bool = False, desk: Desk | None = None
) -> tuple[Path, Judgement]:
    """Run it, judge it, write its directory. A live run without a desk has a terminal's. Raises ScenarioError before
    anything was started."""
    scenario = with_swarm(scenario)
    sensible(scenario)
    if scenario.world == "virtual" and options.metrics is not None:
        raise ScenarioError("--metrics: a virtual run's clock is not Prometheus's; it needs --world live")
    if scenario.world == "live":
        from simulator.worlds.live import conductor
        from simulator.worlds.live import desk as desks

        sources = conductor.prepare(scenario, options)
    manifest = manifest_of(scenario, repeat)
    signals.heed()
    before = rundir.latest(out)
    with signals.held():  # no directory without a manifest
        path = rundir.create(out, scenario.name)
        rundir.write_json(path / "manifest.json", manifest)
    line = Line(len(scenario.targets()), sys.stderr, on=sys.stderr.isatty() and not quiet)
    incomplete: tuple[str, ...] = ()
    died: tuple[str, ...] = ()
    try:
        if scenario.world == "live":
            ending = conductor.run(scenario, options, path, desk or desks.Terminal(line, options.processes), sources)
        else:
            with StreamFile(path / "parts" / "virtual.arrow") as stream:
                ending = virtual.run(scenario, _both(stream, follow(line)))
        if "died" in ending:
            died = (ending["died"],)
        elif not ending["complete"]:
            incomplete = (ending["reason"],)
    except KeyboardInterrupt:
        incomplete = ("interrupted",)
    except PartDied as error:
        died = (str(error),)
    except ScenarioError:
        if not len(rundir.collect(path)[0].kind(Kind.STAGE)):
            rundir.discard(out, path, before)
        raise
    except OSError as error:
        died = (f"the record could not be written: {error.strerror or error}",)
    finally:
        line.clear()
    try:
        trace, _ = rundir.collect(path)
        manifest |= {"complete": not incomplete and not died, "incomplete": [*incomplete], "died": [*died]}
        manifest["broker"] = broker_of(trace) or manifest["broker"]
        rundir.write_json(path / "manifest.json", manifest)
    except OSError as error:
        raise PartDied(f"{path}: the record could not be finished: {error.strerror or error}") from None
    return path, judged(trace, scenario, incomplete, died)


def _both(first: Sink, second: Sink) -> Sink:
    def sink(batch: pa.RecordBatch) -> None:
        first(batch)
        second(batch)
        signals.insist()

    return sink


def to_run_again(run: rundir.Run) -> Scenario:
    """The scenario of a recorded run, which makes sense to this version. Raises ScenarioError with its file's name."""
    scenario = scenario_of(run)
    try:
        sensible(scenario)
    except ScenarioError as error:
        raise ScenarioError(f"{run.path / 'manifest.json'}: {error}") from None
    return scenario
