"""Verbs that show something and change nothing: `trace`, `scenarios`, `schema`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli.parameters import RunPath
from simulator.model.errors import ScenarioError

if TYPE_CHECKING:
    pass


def trace(run: RunPath, device: Annotated[str, typer.Argument(help="the thing's name, or a job's")]) -> None:
    """Print one device's timeline as text."""
    from simulator.trace import rundir
    from simulator.trace.reader import timeline

    for line in timeline(rundir.open_run(run).trace, device):
        print(line)


def scenarios() -> None:
    """List the shipped scenarios."""
    from simulator.model.scenario import load_scenario
    from simulator.worlds.shipped import GROUPS, shipped

    group = ""
    for name, path in shipped().items():
        if group != (group := name.rpartition("/")[0]):
            print(f"\n{GROUPS[group]}:")
        print(f"{name:<{38 if group else 12}} {load_scenario(path).description}")


def schema(
    of: Annotated[str, typer.Argument(help="scenario, summary, comparison, sweep or trace")] = "scenario",
) -> None:
    """Print the JSON Schema of scenario files, of summary.json or comparison.json, the fields of sweep.json, or the
    trace's columns and event kinds."""
    if of == "scenario":
        from simulator.worlds.shipped import scenario_schema

        described = scenario_schema()
    elif of in ("summary", "comparison"):
        from reports.schemas import SCHEMAS

        described = SCHEMAS[of]
    elif of == "trace":
        from simulator.model.events import COLUMNS, KINDS, SCHEMA_VERSION

        kinds = {name: meaning._asdict() for name, meaning in KINDS.items()}
        described = {"version": SCHEMA_VERSION, "columns": COLUMNS, "kinds": kinds}
    elif of == "sweep":
        from reports.sweep.fields import FIELDS
        from simulator.worlds.campaigns import sweep as sweeping

        described = {"version": sweeping.SCHEMA_VERSION, "fields": FIELDS}
    else:
        raise ScenarioError(f"no schema of {of!r}; there are scenario, summary, comparison, sweep, trace")
    print(json.dumps(described, indent=2))
