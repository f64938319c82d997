"""Runs compared with the first of them, the baseline: which figures differ, how surely, and whether it is a regression."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reports.comparison import resampling
from reports.comparison.differences import CONFIDENCE, LEAST_S, Change, Difference, Tolerances, differences
from reports.comparison.samples import TO_HAVE, Sample, sample
from reports.run import flow
from reports.run.summary import summarise
from reports.run.times import converged_s, durations, end_s, zero_s
from reports.words import named, reasons, seconds
from simulator.model.quantity import many
from simulator.model.verdict import Judgement, Verdict
from simulator.trace.reader import Trace
from simulator.trace.targets import Seconds, Targets

SCHEMA_VERSION = 1
RUNS_MOST = len(string.ascii_uppercase)
_TOLD = ("outcomes", "targets", "stuck", "converged_s", "phases_s", "fan_out", "throughput", "effort", "messages")
_OF_MANIFEST = ("version", "python", "host", "scenario")
_SAID = ("scenario.seed", "scenario.name", "scenario.description", "scenario.world", "scenario.fleet.devices")
_BLOCKS_MOST = 5


class ComparisonVerdict(StrEnum):
    """What a comparison comes to."""

    REGRESSION = "REGRESSION"
    NONE = "NO REGRESSION"
    UNKNOWN = "UNKNOWN"


EXIT_CODES = {ComparisonVerdict.REGRESSION: 1, ComparisonVerdict.NONE: 0, ComparisonVerdict.UNKNOWN: 2}
_DECIDES = (
    ComparisonVerdict.REGRESSION,
    ComparisonVerdict.UNKNOWN,
    ComparisonVerdict.NONE,
)  # of several comparisons, the first that there is


class Curves(NamedTuple):
    """What is drawn of a run: times in seconds since its rollout began."""

    converged_s: Seconds
    end_s: float
    took_s: dict[str, Seconds]
    heard_s: Seconds
    bytes_s: Seconds
    bytes: Seconds


@dataclass(frozen=True, slots=True)
class Side:
    """One of the runs, without its trace. `failed`: the checks that make it FAIL; `counts`: it is valid and complete."""

    path: Path
    manifest: Mapping[str, Any]
    summary: dict[str, Any]
    failed: frozenset[str]
    counts: bool
    sample: Sample
    curves: Curves


def side(path: Path, manifest: dict[str, Any], trace: Trace, judgement: Judgement) -> Side:
    """All that is kept of a run, so that no two traces are in memory at once."""
    counts = not (judgement.invalid or judgement.incomplete or judgement.died)
    failed = frozenset(finding.check for finding in judgement.failed)
    return Side(path, manifest, summarise(manifest, trace, judgement), failed, counts, sample(trace), _curves(trace))


def _curves(trace: Trace) -> Curves:
    targets = trace.once(Targets)
    times, zero = trace.once(converged_s, targets), zero_s(trace, targets)
    heard = trace.once(flow.heard_s, targets)
    at, size = flow.bytes_of(trace)
    took = {name: np.sort(spans.took_s) for name, spans in trace.once(durations, targets).items()}
    return Curves(times, end_s(trace, targets, times), took, heard[~np.isnan(heard)], at - zero, size)


def compare(sides: Sequence[Side], allowed: Tolerances) -> dict[str, Any]:
    """The whole of comparison.json: each run after the first against the first; at most RUNS_MOST runs."""
    names = string.ascii_uppercase[: len(sides)]
    comparisons = [_against(sides[0], other, name, allowed) for name, other in zip(names[1:], sides[1:], strict=True)]
    verdict = next(v for v in _DECIDES if any(comparison["verdict"] == v for comparison in comparisons))
    return {
        "schema": SCHEMA_VERSION,
        "verdict": verdict.value,
        "exit_code": EXIT_CODES[verdict],
        "tolerance": allowed.relative,
        "tolerance_failed": allowed.points,
        "least_s": LEAST_S,
        "confidence": CONFIDENCE,
        "drawings": resampling.DRAWINGS,
        "runs": [_run(name, comparison) for name, comparison in zip(names, sides, strict=True)],
        "comparisons": comparisons,
    }


def _run(name: str, side: Side) -> dict[str, Any]:
    summary, manifest = side.summary, side.manifest
    return {
        "name": name,
        "path": str(side.path),
        **{key: summary[key] for key in ("scenario", "seed", "world", "version", "verdict", "repeat")},
        "host": manifest.get("host", ""),
        "began": manifest.get("began", ""),
        "devices": _devices(manifest),
        "counts": side.counts,
        "against": reasons(summary),
        "not_passed": {f["check"]: f["verdict"] for f in summary["findings"] if f["verdict"] != Verdict.PASS},
        **{key: summary[key] for key in _TOLD},
    }


def _devices(manifest: Mapping[str, Any]) -> int:
    fleet = manifest.get("scenario", {}).get("fleet", {})
    return len(fleet.get("only", ())) or int(fleet.get("devices", 0))


def _against(base: Side, other: Side, name: str, allowed: Tolerances) -> dict[str, Any]:
    """One run against the baseline."""
    checks = _checks(base, other)
    decided = base.counts and other.counts
    rows = [_row(difference, allowed, decided=decided) for difference in differences(base.sample, other.sample)]
    void = [f"the figures of {named} do not count: {'; '.join(reasons(difference.summary))}"
            for named, difference in (("A", base), (name, other)) if not difference.counts]  # fmt: skip
    verdict = _verdict(checks, rows, void)
    return {
        "run": name,
        "verdict": verdict.value,
        "why": [*void, *_why(checks, rows if decided else [], verdict)],
        "warnings": _warnings(base, other),
        "settings": _settings(base, other),
        "paired": resampling.paired(base.sample, other.sample),
        "checks": checks,
        "figures": rows,
    }


def _verdict(checks: list[dict[str, Any]], rows: list[dict[str, Any]], void: list[str]) -> ComparisonVerdict:
    """A newly failing check is one, whatever the load generator did; figures count in runs that count."""
    changes = [row["change"] for row in (*checks, *rows)]
    if Change.WORSE in changes:
        return ComparisonVerdict.REGRESSION
    return ComparisonVerdict.UNKNOWN if void or Change.UNSURE in changes or _too_few(rows) else ComparisonVerdict.NONE


def _too_few(rows: list[dict[str, Any]]) -> bool:
    """Whether there are not even the values that a median takes, or none at all. That a percentile takes more than there
    are is said beside it, and keeps nobody from telling the rest."""
    few = any(row["change"] == Change.FEW and row["values"] < TO_HAVE for row in rows)
    return few or all(row["change"] in (Change.FEW, Change.ABSENT) for row in rows)


def _why(checks: list[dict[str, Any]], rows: list[dict[str, Any]], verdict: ComparisonVerdict) -> list[str]:
    """What made it so, in sentences."""
    if verdict is ComparisonVerdict.REGRESSION:
        return [row["why"] for row in (*checks, *rows) if row["change"] == Change.WORSE]
    reasons = [f"cannot tell: {row['why']}" for row in (*checks, *rows) if row["change"] == Change.UNSURE]
    return (
        [*reasons, "there are too few targets for a verdict"]
        if verdict is ComparisonVerdict.UNKNOWN and _too_few(rows)
        else reasons
    )


# ---- checks


def _checks(base: Side, other: Side) -> list[dict[str, Any]]:
    """The checks and thresholds whose verdict changed, or that only one of the runs was judged by."""
    before, after = ({f["check"]: f for f in side.summary["findings"]} for side in (base, other))
    changes = []
    for check in {**before, **after}:
        had, has = (findings[check]["verdict"] if check in findings else None for findings in (before, after))
        if had == has and (check in base.failed) == (check in other.failed):
            continue
        change = _changed(check, had, has, base, other)
        summary = after[check]["summary"] if check in after else "not judged"
        why = f"{check}: {has or 'not judged'}, was {had or 'not judged'}: {summary}"
        changes.append({"check": check, "baseline": had, "run": has, "change": change.value, "why": why})
    return changes


def _changed(check: str, had: str | None, has: str | None, base: Side, other: Side) -> Change:
    if has == Verdict.PASS:
        return Change.BETTER if check in base.failed else Change.SAME
    if check in other.failed and had == Verdict.PASS and base.counts:
        return Change.WORSE
    return Change.UNSURE


# ---- figures


def _row(difference: Difference, allowed: Tolerances, *, decided: bool) -> dict[str, Any]:
    """A figure as comparison.json has it; what is decided by runs that do not count is nothing."""
    change = difference.judged(allowed)
    if not decided and change not in (Change.FEW, Change.ABSENT):
        change = Change.UNSURE
    row: dict[str, Any] = {
        "figure": difference.name,
        "unit": difference.figure.unit,
        "less_is_worse": difference.figure.less_is_worse,
        "baseline": _finite(difference.baseline),
        "run": _finite(difference.run),
        "difference": _finite(difference.change),
        "low": _finite(difference.low),
        "high": _finite(difference.high),
        "allowed": difference.allowed(allowed),
        "values": difference.values,
        "needed": difference.figure.least,
        "change": change.value,
    }
    fields = {
        Change.FEW: f"{many(difference.values, 'value')}, but at least {difference.figure.least:,} are needed",
        Change.ABSENT: "one of the two runs has no such value",
    }.get(change, f"{told(row, 'run')}, was {told(row, 'baseline')}: {changed(row)}, allowed {bound(row)}")
    return row | {"why": f"{difference.name}: {fields}"}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def told(row: Mapping[str, Any], which: str) -> str:
    """A figure of the `baseline` or of the `run`, with its unit."""
    value = row[which]
    if value is None:
        return "not reached" if "converged" in row["figure"] else "-"
    if row["unit"] == "s":
        return seconds(value)
    return f"{value:.2%}" if row["unit"] == "share" else f"{value:,.3f}" if value < 10 else f"{value:,.1f}"


def changed(row: Mapping[str, Any]) -> str:
    """By how much it changed, and the interval in which that lies."""
    if row["difference"] is None:
        return "infinite" if row["change"] != Change.ABSENT else "-"
    low, high = ("∞" if row[end] is None else _signed(row[end]) for end in ("low", "high"))
    return f"{_signed(row['difference'])}{_unit(row)} ({low} to {high})"


def bound(row: Mapping[str, Any]) -> str:
    """The tolerance."""
    return _signed(-row["allowed"] if row["less_is_worse"] else row["allowed"]) + _unit(row)


def _unit(row: Mapping[str, Any]) -> str:
    return " points" if row["unit"] == "share" else "%"


def _signed(share: float) -> str:
    """In percent or points; nothing has no sign."""
    shown = round(share * 100, 1)
    return f"{shown:+,.1f}".replace("-", "−") if shown else "0.0"


# ---- may they be compared?


def _warnings(base: Side, other: Side) -> list[str]:
    """Why the two runs can hardly be compared, in sentences."""
    if base.path.resolve() == other.path.resolve():
        return ["both are the same run"]
    one, two = (_facts(side) for side in (base, other))
    warnings = [
        f"different {what}: {one[what]} in the baseline, {two[what]} in this run"
        for what in one
        if one[what] != two[what]
    ]
    keys = [key for key, *_ in _settings(base, other) if key.startswith("scenario.") and key not in _SAID]
    blocks = list(dict.fromkeys(".".join(key.split(".")[1:3]) for key in keys))
    if blocks and one["scenario"] == two["scenario"]:
        more = f" and {len(blocks) - _BLOCKS_MOST} more" if len(blocks) > _BLOCKS_MOST else ""
        warnings.append(f"the scenario was changed between the runs: {', '.join(blocks[:_BLOCKS_MOST])}{more}")
    return warnings


def _facts(side: Side) -> dict[str, str]:
    """What two runs must have in common."""
    summary, manifest = side.summary, side.manifest
    return {
        "scenario": summary["scenario"],
        "number of devices": f"{_devices(manifest):,}",
        "world": str(summary["world"]),
        "host": str(manifest.get("host", "")),
        "broker": named(manifest.get("broker", {})),
    }


def _settings(base: Side, other: Side) -> list[tuple[str, str, str]]:
    """(setting, of the baseline, of the other run) where these differ; empty: not set."""
    return [setting for key in _OF_MANIFEST for setting in _apart(key, base.manifest.get(key), other.manifest.get(key))]


def _apart(key: str, one: Any, two: Any) -> Iterator[tuple[str, str, str]]:
    """Where two settings differ, each part by its dotted key; a part that only one has stays whole."""
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        one, two = (dict(enumerate(part)) for part in (one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        for name in {**one, **two}:
            yield from _apart(f"{key}.{name}", one.get(name), two.get(name))
    elif one != two:
        yield key, _spelled(one), _spelled(two)


def _spelled(setting: Any) -> str:
    if setting is None:
        return ""
    return setting if isinstance(setting, str) else json.dumps(setting)
