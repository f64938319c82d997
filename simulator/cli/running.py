"""`fleetsim run`: a scenario, its run directory, its report and its verdict."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from simulator.cli.files import report_of, say_nothing, write_files
from simulator.cli.parameters import ScenarioName, laid_over, loaded, options_of, with_flags
from simulator.model.errors import ScenarioError
from simulator.model.quantity import many
from simulator.worlds.flags import flags_of, repeating

if TYPE_CHECKING:
    from simulator.model.scenario import Scenario


@with_flags("run")
def run(scenario: ScenarioName, **flags: Any) -> None:
    """Run a scenario: a run directory with its trace, a report and a verdict."""
    if flags["self_test"]:
        raise typer.Exit(_self_tested(scenario, flags))
    made = loaded(scenario, laid_over(flags), flags["fault"] or (), flags["operators"])
    if flags["check_determinism"]:
        from simulator.worlds.reproduce.replay import differing, twice

        differs = twice(made)
        print(f"same trace twice, seed {made.seed}" if differs is None else differing(differs, "first", "second"))
        raise typer.Exit(differs is not None)
    if flags["led"] is not None:
        raise typer.Exit(_led(made, flags))
    from simulator.worlds import run as one_run

    copies, quiet, as_json = _copies(flags), flags["quiet"], flags["json"]
    if not quiet and not as_json:
        fleet = many(made.fleet.devices, "device")
        print(f"{made.name}: {fleet}, {made.world} world, seed {made.seed}", flush=True)
    repeat = shlex.join(
        ["fleetsim", "run", scenario, *repeating("run", {**flags, "seed": None}), "--seed", str(made.seed)]
    )
    path, judgement = one_run.run(made, flags["out"], repeat, options_of(flags), quiet=quiet)
    report_of(path, judgement, as_json=as_json, quiet=quiet)
    for name, copy in copies.items():
        shutil.copyfile(path / name, copy)
    raise typer.Exit(judgement.exit_code)


def _copies(flags: Mapping[str, Any]) -> dict[str, Path]:
    """Which of a run's files are also wanted where. Raises ScenarioError, before anything runs, where a directory is
    missing."""
    wanted = (
        ("--html", "report.html", flags["html"]),
        ("--junit", "junit.xml", flags["junit"]),
        ("--csv", "devices.csv", flags["csv"] and Path(f"{flags['csv']}_devices.csv")),
    )
    for flag, _, place in wanted:
        if place and not place.parent.is_dir():
            raise ScenarioError(f"{flag}: there is no directory {place.parent}; make it, or name another")
    return {name: place for _, name, place in wanted if place}


def _led(scenario: Scenario, flags: Mapping[str, Any]) -> int:
    """A run that Locust leads; the exit code."""
    from reports.run import summary
    from simulator.worlds import run as one_run
    from simulator.worlds.live import leading, led

    if scenario.world != "live":
        raise ScenarioError(f"{scenario.name}: Locust drives the live world; add --world live, or use fleetsim run")
    if not flags["led"]:
        raise ScenarioError(f"{scenario.name}: no worker is there for the devices, only some that carry servers")
    carriers = dict(carrier.split("=", 1) for carrier in flags["carried"] or ())
    options = options_of({**flags, "processes": flags["led"], "carried": carriers})
    options.apart = True
    repeat, desk = f"{flags['command'] or ''} --seed {scenario.seed}", led.Led(flags["led"], options.carried)
    path, judgement = one_run.run(scenario, flags["out"], repeat, options, quiet=True, desk=desk)
    numbers = write_files(path, judgement)
    text = summary.as_text(numbers, str(path / "report.html"))
    led.tell(leading.Ended(numbers["verdict"], judgement.exit_code, str(path), text))
    return judgement.exit_code


_NOT_SELF_TESTED = ("broker", "database", "storage", "fault", "operators", "metrics", "csv", "html", "junit",
                    "check_determinism")  # fmt: skip


def _self_tested(scenario: str, flags: Mapping[str, Any]) -> int:
    """Measure what this machine can drive, and print it; the exit code."""
    from simulator.worlds.campaigns import selftest

    if unfit := next(
        (flag.option for flag in flags_of("run") if flag.dest in _NOT_SELF_TESTED and flags[flag.dest]), None
    ):
        raise ScenarioError(f"{unfit}: --self-test drives the devices alone, against a null backend; leave {unfit} out")
    options, silent = options_of(flags), flags["json"] or flags["quiet"]
    tell = say_nothing if silent else partial(print, flush=True)
    ramp = flags["ramp"] or f"{selftest.RAMP * options.processes}/s"

    def at(devices: int) -> Scenario:
        return loaded(scenario, laid_over({**flags, "devices": devices, "ramp": ramp}))

    name = at(max(1, flags["devices"] or options.processes)).name
    tell(f"{name}: self-test, --processes {options.processes}")
    tested = selftest.self_test(at, flags["devices"], options, tell)
    summary = selftest.summary(tested, name, options.processes)
    print(json.dumps(summary, indent=2) if flags["json"] else selftest.as_text(tested))
    return tested.exit_code
