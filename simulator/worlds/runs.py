"""One run from scenario to judgement, with its directory: what `fleetsim run` and `fleetsim check` do."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from simulator import __version__
from simulator.checks.judge import judge, named
from simulator.model.errors import FleetsimError, ScenarioError
from simulator.model.scenario import Scenario
from simulator.model.verdict import Judgement
from simulator.trace import rundir
from simulator.trace.reader import in_order
from simulator.trace.recorder import StreamFile
from simulator.worlds import virtual


def manifest_of(scenario: Scenario, repeat: str) -> dict[str, Any]:
    """What the run directory says of the run before it has begun."""
    resolved = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "schema": 1,
        "version": __version__,
        "python": platform.python_version(),
        "seed": scenario.seed,
        "world": scenario.world,
        "broker": "embedded core, in memory",
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "repeat": repeat,
        "scenario": resolved,
        "complete": False,
    }


def run(
    scenario: Scenario, out: Path, repeat: str, progress: Callable[[pa.RecordBatch], None]
) -> tuple[Path, Judgement]:
    """Run it, judge it, leave its directory. Raises ScenarioError before anything was started."""
    named(scenario.checks)
    if scenario.world != "virtual":
        raise ScenarioError("world: live is not in this version yet; run with --world virtual")
    if scenario.rollout.file is not None and not Path(scenario.rollout.file).is_file():
        raise ScenarioError(f"rollout.file: {scenario.rollout.file}: no such file")
    path = rundir.create(out, scenario.name)
    manifest = manifest_of(scenario, repeat)
    rundir.write_json(path / "manifest.json", manifest)
    incomplete: tuple[str, ...] = ()
    died: tuple[str, ...] = ()
    try:
        with StreamFile(path / "parts" / "virtual.arrow") as stream:

            def sink(batch: pa.RecordBatch) -> None:
                stream(batch)
                progress(batch)

            outcome = virtual.run(scenario, sink)
        if not outcome["complete"]:
            incomplete = (outcome["reason"],)
    except KeyboardInterrupt:
        incomplete = ("interrupted",)
    except OSError as error:
        died = (f"the record could not be written: {error.strerror or error}",)
    try:
        trace, _ = rundir.collect(path)
        manifest |= {"complete": not incomplete and not died, "incomplete": [*incomplete, *died]}
        rundir.write_json(path / "manifest.json", manifest)
    except OSError as error:
        raise FleetsimError(f"{path}: the record could not be finished: {error.strerror or error}") from None
    return path, replace(Judgement(judge(trace, scenario)), incomplete=incomplete, died=died)


def judge_again(run: rundir.Run, checks: tuple[str, ...]) -> Judgement:
    """The judgement of a run that was recorded earlier."""
    scenario = Scenario.model_validate(run.manifest["scenario"])
    if checks:
        scenario = scenario.model_copy(update={"checks": checks})
    incomplete = tuple(run.manifest.get("incomplete", ()))
    if not run.complete or (not run.manifest.get("complete") and not incomplete):
        incomplete = (*incomplete, "the run did not end properly")
    return Judgement(judge(run.trace, scenario), incomplete=incomplete)


def trace_of(scenario: Scenario) -> pa.Table:
    """The trace of a virtual run, in memory."""
    batches: list[pa.RecordBatch] = []
    virtual.run(scenario, batches.append)
    return in_order(batches)


def progress_line(stream: Any = sys.stderr) -> Callable[[pa.RecordBatch], None]:
    """One live line on a terminal, nothing elsewhere."""
    seen = 0

    def show(batch: pa.RecordBatch) -> None:
        nonlocal seen
        seen += batch.num_rows
        at = batch.column(0)[-1].as_py() / 1e6
        stream.write(f"\r{at:10.1f} s of fleet time  {seen:,} events")
        stream.flush()

    return show if stream.isatty() else (lambda batch: None)
