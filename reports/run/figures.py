"""Thresholds on any figure of a run: `phases.reporting.p99: "< 2s"`, `cohorts.field.converged.p95: "< 10m"`, `wasted_bytes: "< 1MiB"`.

A figure has a path: the names by which summary.json holds it, joined by dots. Case, spaces, `-` and `_` make no difference,
a time's `_s` may be left out, and `p95` may stand for `95%`. `figures` gives the tree of all figures of a trace, `judge` the
finding of each threshold of a scenario on one of them. (The shares `converged`, `succeeded` and `failed` of all targets are
judged by simulator/checks/fleet.py.)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from reports.run.summary import summarise
from reports.words import seconds
from simulator.model.errors import ScenarioError
from simulator.model.quantity import COMPARE
from simulator.model.scenario import SHARES, Scenario
from simulator.model.update import State
from simulator.model.verdict import Finding, Judgement, Verdict
from simulator.trace.reader import Trace

_WASTED = "bytes downloaded"
_SHORT = {"delta": "offer to delta", "update": "whole update"}
_FAILED = (State.FAILED, State.REJECTED, State.TIMED_OUT)
ROOTS = (
    "targets", "outcomes", "converged", "succeeded", "failed", "stuck", "rolled_out", "phases", "delta", "update", "throughput",
    "effort", "messages", "wasted_bytes", "bytes_received", "bytes_served", "events", "rollouts", "cohorts", "waves",
)  # fmt: skip
"""The first names of paths. Below rollouts, cohorts and waves stands a name, and then one of the first five."""


class Figure(NamedTuple):
    """A value in its unit: `s`, `share`, `bytes`, `/s`, or "" for a count. `whole`: of how many a count is a part, 0 where it
    is none. None: there is no value."""

    value: float | None
    unit: str = ""
    whole: int = 0


Tree = Mapping[str, Any]


def figures(trace: Trace) -> Tree:
    """The figures of a trace by their names, level by level; each leaf is a Figure."""
    numbers = summarise({}, trace, Judgement(()))
    effort = {what: _effort(what, counted) for what, counted in numbers["effort"].items()}
    phases = {step: _quantiles(q) for step, q in numbers["phases_s"].items()}
    wasted = numbers["effort"].get(_WASTED)
    return {
        **_part(numbers),
        "stuck": Figure(numbers["stuck"], whole=numbers["targets"]),
        "rolled_out": Figure(numbers["rolled_out_s"], "s"),
        "phases": phases,
        **{name: phases[step] for name, step in _SHORT.items() if step in phases},
        "throughput": {what: _rate(what, rate) for what, rate in numbers["throughput"].items()},
        "effort": effort,
        "messages": {what: Figure(count) for what, count in numbers["messages"].items()},
        "wasted_bytes": Figure(wasted["done"] - wasted["needed"] if wasted else None, "bytes"),
        "bytes_received": Figure(numbers["bytes_received"], "bytes"),
        "bytes_served": Figure(numbers["bytes_served"], "bytes"),
        "events": Figure(numbers["events"]),
        **{
            whole: {name: _part(part) for name, part in numbers[whole].items()}
            for whole in ("rollouts", "cohorts", "waves")
        },
    }


def _part(part: Mapping[str, Any]) -> Tree:
    """Of all targets, or of those of a rollout, cohort or wave."""
    targets, outcomes = part["targets"], part["outcomes"]

    def share(*states: State) -> Figure:
        return Figure(sum(outcomes.get(state, 0) for state in states) / targets if targets else None, "share")

    return {
        "targets": Figure(targets),
        "outcomes": {state.value: Figure(outcomes.get(state, 0), whole=targets) for state in State},
        "converged": {name: _time(at, targets) for name, at in part["converged_s"].items()},
        "succeeded": share(State.SUCCEEDED),
        "failed": share(*_FAILED),
    }


def _time(at_s: float | None, targets: int) -> Figure:
    """When a share of the targets had converged: never is later than any limit."""
    return Figure(at_s if at_s is not None else float("inf") if targets else None, "s")


def _quantiles(q: Mapping[str, float]) -> Tree:
    return {name: Figure(value, "" if name == "count" else "s") for name, value in q.items()}


def _rate(what: str, rate: Mapping[str, float]) -> Tree:
    in_bytes = "bytes" in what
    return {"total": Figure(rate["total"], "bytes" if in_bytes else ""), "peak_per_s": Figure(rate["peak_per_s"], "/s")}


def _effort(what: str, counted: Mapping[str, float]) -> Tree:
    unit = "bytes" if "bytes" in what else ""
    return {
        "done": Figure(counted["done"], unit),
        "needed": Figure(counted["needed"], unit),
        "times": Figure(counted["times"]),
    }


# ---- a threshold on one of them


def sensible(scenario: Scenario) -> None:
    """Raises ScenarioError for a threshold on what is no figure of any run."""
    roots = {_plain(root): root for root in ROOTS}
    for path in scenario.thresholds:
        first = path.partition(".")[0]
        if _plain(first) not in roots:
            near = difflib.get_close_matches(first, ROOTS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"a path begins with {', '.join(ROOTS)}"
            raise ScenarioError(f"thresholds.{path}: there is no such figure; {hint}")


def judge(trace: Trace, scenario: Scenario) -> list[Finding]:
    """The findings of the scenario's thresholds on figures of its runs."""
    wanted = {path: limit for path, limit in scenario.thresholds.items() if path not in SHARES}
    if not wanted:
        return []
    tree = figures(trace)
    return [_finding(tree, path, *limit) for path, limit in wanted.items()]


def _finding(tree: Tree, path: str, compare: str, unit: str, limit: float) -> Finding:
    def finding(verdict: Verdict, summary: str) -> Finding:
        return Finding(f"threshold-{path}", f"{path} {compare} {_shown(limit, unit)}", verdict, summary, safety=False)

    at: Any = tree
    names = path.split(".")
    while names and isinstance(at, Mapping):
        key, names = _step(at, names)
        if key is None:
            return finding(Verdict.UNKNOWN, f"this run has no {names[0]!r}; there are {', '.join(at)}")
        at = at[key]
    if isinstance(at, Mapping) or names:
        more = f"there are {', '.join(at)}" if isinstance(at, Mapping) else f"leave out .{'.'.join(names)}"
        return finding(Verdict.UNKNOWN, f"{path} is no single figure; {more}")
    value, own = at.value, at.unit
    if unit == "share" and at.whole and value is not None:
        value, own = value / at.whole, "share"
    if value is None:
        return finding(Verdict.UNKNOWN, "there is no value")
    if unit and unit != own:
        return finding(
            Verdict.UNKNOWN, f"it is {_shown(value, own)}, which {_shown(limit, unit)} does not compare with"
        )
    held = COMPARE[compare](value, limit)
    return finding(
        Verdict.PASS if held else Verdict.FAIL, f"{_shown(value, own)}, wanted {compare} {_shown(limit, unit or own)}"
    )


def _step(at: Tree, names: list[str]) -> tuple[str | None, list[str]]:
    """The key that the first of the names mean, as many as possible, for a name may hold dots; and what is left of them."""
    keys = {_plain(key): key for key in at}
    for count in range(len(names), 0, -1):
        if (key := keys.get(_plain(".".join(names[:count])))) is not None:
            return key, names[count:]
    return None, names


def _plain(name: str) -> str:
    name = re.sub(r"[\s_-]+", "-", name.strip().lower()).removesuffix("-s")
    name = re.sub(r"^(\d+)%$", r"p\1", name)
    return {"p50": "med", "median": "med", "p100": "max"}.get(name, name)


def _shown(value: float, unit: str) -> str:
    if unit == "s":
        return "never" if value == float("inf") else seconds(value)
    if unit == "share":
        return f"{value:.2%}"
    number = f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"
    return f"{number}{' bytes' if unit == 'bytes' else unit}"
