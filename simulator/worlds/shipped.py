"""Scenario files: a path, or the name of a shipped one."""

from __future__ import annotations

from pathlib import Path

from simulator.model.errors import ScenarioError

SHIPPED = Path(__file__).resolve().parents[2] / "scenarios"


def find(name: str) -> Path:
    """The scenario's file: a path, or a shipped one's name. Raises ScenarioError."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = SHIPPED / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yaml")))
    raise ScenarioError(f"no such scenario: {name!r}; give a file, or one of {known}")
