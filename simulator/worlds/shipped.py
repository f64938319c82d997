"""Scenario files: a path, or the name of a shipped one; and what may stand in them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from simulator.dialects.registry import DIALECTS
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario

SHIPPED = Path(__file__).resolve().parents[2] / "scenarios"
GROUPS = {"field": "bugs known from the field, each named after its public thread"}


def shipped() -> dict[str, Path]:
    """name -> file of each shipped scenario; those of a group carry its name before theirs, and come last."""
    files = [*sorted(SHIPPED.glob("*.yaml")), *sorted(SHIPPED.glob("*/*.yaml"))]
    return {path.relative_to(SHIPPED).with_suffix("").as_posix(): path for path in files}


def find(name: str) -> Path:
    """The scenario's file: a path, or a shipped one's name. Raises ScenarioError."""
    path, known = Path(name), shipped()
    if path.is_file():
        return path
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"give a file, or one of {', '.join(known)}"
    raise ScenarioError(f"no such scenario: {name!r}; {hint}")


def scenario_schema() -> dict[str, Any]:
    """The JSON Schema of scenario files, with the names of the dialects that there are, which the model does not know."""
    schema: dict[str, Any] = Scenario.model_json_schema(by_alias=True)
    schema["$defs"]["Target"]["properties"]["dialect"]["enum"] = list(DIALECTS)
    return schema
