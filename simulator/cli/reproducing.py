"""Verbs that run a recorded run again: `replay` and `shrink`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.cli.parameters import RunPath
from simulator.model.errors import ScenarioError

if TYPE_CHECKING:
    pass


def replay(
    run: RunPath,
    device: Annotated[str | None, typer.Option(help="only this device, by its name or index, against its tape")] = None,
    world: Annotated[str | None, typer.Option(help="virtual: carry a device of a live run over")] = None,
) -> None:
    """Run a recorded virtual run again and compare: SAME (exit code: the original's), DIFFERENT (2) with the first event
    that differs, or FIXED (0): what had failed passes. With --device, that device alone, in milliseconds. Of a live run,
    with --world virtual: does the device that failed fail again? REPRODUCED (the original's) or NOT REPRODUCED (2)."""
    from simulator.trace import rundir
    from simulator.worlds.reproduce import carry, one_device
    from simulator.worlds.reproduce import replay as replaying

    if world not in (None, "virtual"):
        raise ScenarioError(f"--world {world}: a run is replayed in the virtual world")
    opened = rundir.open_run(run)
    again: Any
    if world and opened.manifest["scenario"].get("world") == "live":
        print(carry.as_text(again := carry.carry(opened, device)))
    elif device is not None:
        again = one_device.replay_device(opened, device)
        print(one_device.as_text(again) if isinstance(again, one_device.Alone) else replaying.as_text(again))
    else:
        print(replaying.as_text(again := replaying.replay(opened)))
    raise typer.Exit(again.exit_code)


def shrink(
    run: RunPath,
    only: Annotated[str | None, typer.Option("--check", help="the check to go by; none: the first that failed")] = None,
    out: Annotated[
        Path | None, typer.Option(help="the scenario's file; none: shrunk.yaml in the run's directory")
    ] = None,
) -> None:
    """Find the fewest devices, the fewest faults and the shortest times with which a failed virtual run still fails the
    same check (exit code 2 if it does not fail again), as a scenario of its own, with a device's timeline."""
    from simulator.trace import rundir
    from simulator.trace.reader import timeline
    from simulator.worlds.reproduce import shrink as shrinking

    opened, file = rundir.open_run(run), out or run / "shrunk.yaml"
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ScenarioError(f"{file}: cannot be written; name another place with --out")
    shrunk = shrinking.shrink(opened, only, lambda line: print(f"  still: {line}", flush=True))
    if shrunk.finding is None or shrunk.again is None:
        print(f"{shrunk.check} does not fail again; fleetsim replay {run} shows the first event that differs")
        raise typer.Exit(2)
    file.write_text(shrinking.written(shrunk.scenario), encoding="utf-8")
    devices, faults = len(shrunk.scenario.fleet.present), len(shrunk.scenario.faults)
    print(f"{shrunk.check}: {shrunk.finding.summary}")
    print(f"  {devices} device{'s' * (devices != 1)}, {faults} fault{'s' * (faults != 1)}, after {shrunk.runs} runs")
    for thing in shrunk.finding.things[:1]:
        print(f"\n  {thing}:")
        print("\n".join(f"  {line}" for line in timeline(shrunk.again.trace, thing)))
    print(
        f"\n  scenario  {file}\n  repeat    fleetsim run {shlex.quote(str(file))}\n  seed      {shrunk.scenario.seed}"
    )
