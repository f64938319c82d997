"""What manifest.json says of a run: versions, seed, host, the resolved scenario, and the command that repeats it.

It is written before the run begins, so that a run that is killed can be read too; passwords in it are masked."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from typing import Any

from simulator import __version__
from simulator.model.events import Kind
from simulator.model.masks import masked
from simulator.model.scenario import Scenario
from simulator.trace.reader import Trace


def manifest_of(scenario: Scenario, repeat: str) -> dict[str, Any]:
    """What the run directory says of the run before it has begun; passwords are masked."""
    resolved = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    broker = resolved["target"]["broker"] = masked(scenario.target.broker)
    if scenario.fleet.password is not None:
        resolved["fleet"]["password"] = "***"
    return {
        "schema": 1,
        "version": __version__,
        "python": platform.python_version(),
        "seed": scenario.seed,
        "world": scenario.world,
        "broker": {"name": "embedded core, in memory" if scenario.world == "virtual" else broker},
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "repeat": masked(repeat),
        "scenario": resolved,
        "complete": False,
    }


def broker_of(trace: Trace) -> dict[str, Any]:
    """The broker's name, version and counts, as the trace has them."""
    details = trace.kind(Kind.BROKER).texts("detail")
    return dict(json.loads(details[-1])) if details else {}
