"""Verbs that run a scenario many times: `explore` over seeds, `sweep` over loads."""

from __future__ import annotations

import json
import shlex
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from simulator.cli.files import say_nothing
from simulator.cli.parameters import ScenarioName, laid_over, loaded, options_of, with_flags
from simulator.model.masks import masked
from simulator.worlds.flags import repeating

if TYPE_CHECKING:
    from simulator.model.scenario import Scenario


@with_flags("explore")
def explore(scenario: ScenarioName, **flags: Any) -> None:
    """Run a scenario in virtual time under many seeds, those known to fail first; group what fails and keep it in
    corpus.json. Exit codes: 1 something failed, 2 nothing did but not every run proves it, 0 all passed."""
    from simulator.trace.rundir import folder
    from simulator.worlds.campaigns import explore as exploring

    made = loaded(scenario, {"world": "virtual"})
    first = made.seed if flags["first_seed"] is None else flags["first_seed"]
    seeds = range(first, first + flags["seeds"])
    where = flags["out"] or Path("runs", "explore", folder(made.name))
    explored = exploring.explore(made, scenario, seeds, flags["processes"], where, quiet=flags["json"]).summary()
    print(json.dumps(explored, indent=2) if flags["json"] else exploring.as_text(explored))
    raise typer.Exit(explored["exit_code"])


@with_flags("sweep")
def sweep(scenario: ScenarioName, **flags: Any) -> None:
    """Run a scenario at several loads, of devices or of offers a second, and report throughput and latency against load:
    the knee, the law of scaling, what saturated. Exit codes: 1 a run broke a promise, 4 a part of ours died, 2 less was
    measured than asked or, with INVALID points, nothing can be told, else 0."""
    from reports.sweep import capacity
    from reports.sweep import page as sweep_page
    from simulator.trace import rundir
    from simulator.worlds.campaigns import sweep as sweeping

    axis, loads, fleet = sweeping.loads_of(flags["devices"], flags["rates"])
    unpaced, silent = flags["unpaced"], flags["quiet"] or flags["json"]

    def at(load: float) -> Scenario:
        size = fleet if axis == "rates" else int(load)
        return sweeping.at_load(loaded(scenario, laid_over({**flags, "devices": size})), axis, load, unpaced=unpaced)

    def command(**changed: Any) -> str:
        return shlex.join(["fleetsim", "sweep", scenario, *repeating("sweep", {**flags, **changed})])

    def again(load: float, seed: int) -> str:
        value = f"{load:.0f}" if axis == "devices" else f"{load:g}/s"
        return command(**{axis: value}, repeat=1, seed=seed, out=None)

    scenarios = {load: at(load) for load in loads}
    first = scenarios[loads[0]]
    where = sweeping.place(flags["out"], first.name)
    plan = sweeping.Plan(
        axis=axis,
        scenarios=scenarios,
        repeat=flags["repeat"],
        unpaced=unpaced,
        options=options_of(flags),
        command=masked(command(out=where)),
        again=again,
    )
    tell = say_nothing if silent else partial(print, flush=True)
    tell(f"{first.name}: {len(loads)} loads over {axis}, {first.world} world, seed {first.seed}")
    swept = capacity.judged(sweeping.sweep(plan, where, _point, tell, quiet=silent))
    rundir.write_json(where / sweeping.FILE, swept)
    page = where / "sweep.html"
    sweep_page.write_sweep(page, swept)
    if flags["html"]:
        shutil.copyfile(page, flags["html"])
    print(json.dumps(swept, indent=2) if flags["json"] else "\n" + capacity.as_text(swept, str(page)))
    raise typer.Exit(swept["exit_code"])


def _point(path: Path, judgement: Any) -> dict[str, Any]:
    """Write a run's files; what a sweep keeps of it."""
    from reports import files
    from reports.sweep import points
    from simulator.trace import rundir

    opened = rundir.open_run(path)
    return points.point(opened, files.write_all(opened, judgement))
