"""Compares runs with the first of them, the baseline: makes comparison.json.

`side` keeps of one run what a comparison needs, so that its trace can be dropped before the next is read. `compare` takes
these sides and the tolerances and returns the whole document as a dict: for each run after the first, every figure with its
difference, the checks whose verdict changed, whether that is a regression, and why the runs can hardly be compared, if so.
The command line calls `side` for each run; `reports.files` calls `compare`. `reports.schemas` describes each key.
"""

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
_SUMMARY_KEYS = (
    "outcomes",
    "targets",
    "stuck",
    "converged_s",
    "phases_s",
    "fan_out",
    "throughput",
    "effort",
    "messages",
)
_OF_MANIFEST = ("version", "python", "host", "scenario")
_NO_WARNING = ("scenario.seed", "scenario.name", "scenario.description", "scenario.world", "scenario.fleet.devices")
_BLOCKS_MOST = 5


class ComparisonVerdict(StrEnum):
    """The result of a comparison."""

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
    """What the charts show of a run, as arrays. Times are in seconds since its rollout began; `took_s` maps each step to how
    long it took, sorted; `bytes` were downloaded at `bytes_s`."""

    converged_s: Seconds
    end_s: float
    took_s: dict[str, Seconds]
    heard_s: Seconds
    bytes_s: Seconds
    bytes: Seconds


@dataclass(frozen=True, slots=True)
class Side:
    """What a comparison needs of one run, without its trace. `failed`: the checks that make it FAIL. `counts`: it is valid
    and complete."""

    path: Path
    manifest: Mapping[str, Any]
    summary: dict[str, Any]
    failed: frozenset[str]
    counts: bool
    sample: Sample
    curves: Curves


def side(path: Path, manifest: dict[str, Any], trace: Trace, judgement: Judgement) -> Side:
    """Keep of a run what a comparison needs, so that no two traces are in memory at once."""
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
    """The whole of comparison.json: each run after the first against the first. Two to RUNS_MOST runs."""
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
        "not_passed": {f["check"]: f["verdict"] for f in summary["findings"] if Verdict(f["verdict"]).against},
        **{key: summary[key] for key in _SUMMARY_KEYS},
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
    """A check that newly fails is a regression, even if the run is not valid. Figures decide only if both runs count."""
    changes = [row["change"] for row in (*checks, *rows)]
    if Change.WORSE in changes:
        return ComparisonVerdict.REGRESSION
    return ComparisonVerdict.UNKNOWN if void or Change.UNSURE in changes or _too_few(rows) else ComparisonVerdict.NONE


def _too_few(rows: list[dict[str, Any]]) -> bool:
    """Whether a figure has not even the TO_HAVE values that a median needs, or no figure can be compared at all. A
    percentile that needs more values than there are does not count here: that is said beside it."""
    few = any(row["change"] == Change.FEW and row["values"] < TO_HAVE for row in rows)
    return few or all(row["change"] in (Change.FEW, Change.ABSENT) for row in rows)


def _why(checks: list[dict[str, Any]], rows: list[dict[str, Any]], verdict: ComparisonVerdict) -> list[str]:
    """Why the verdict is what it is, in sentences."""
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
    if check in other.failed and had in (Verdict.PASS, Verdict.NO_OCCASION) and base.counts:
        return Change.WORSE
    silent = has is not None and Verdict(has).silent  # nothing happened that could have broken the promise
    return Change.SAME if silent and not (had is not None and Verdict(had).against) else Change.UNSURE


# ---- figures


def _row(difference: Difference, allowed: Tolerances, *, decided: bool) -> dict[str, Any]:
    """A figure as comparison.json has it. Unless `decided`, a run does not count, and the figure can decide nothing."""
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
    reason = {
        Change.FEW: f"{many(difference.values, 'value')}, but at least {difference.figure.least:,} are needed",
        Change.ABSENT: "one of the two runs has no such value",
    }.get(
        change, f"{figure_text(row, 'run')}, was {figure_text(row, 'baseline')}: {changed(row)}, allowed {bound(row)}"
    )
    return row | {"why": f"{difference.name}: {reason}"}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def figure_text(row: Mapping[str, Any], which: str) -> str:
    """The figure's value in one of the runs as text, with its unit; `which` is `baseline` or `run`."""
    value = row[which]
    if value is None:
        return "not reached" if "converged" in row["figure"] else "-"
    if row["unit"] == "s":
        return seconds(value)
    return f"{value:.2%}" if row["unit"] == "share" else f"{value:,.3f}" if value < 10 else f"{value:,.1f}"


def changed(row: Mapping[str, Any]) -> str:
    """By how much the figure changed, and the interval in which that lies, as text: `+5.0% (+3.1 to +7.2)`."""
    if row["difference"] is None:
        return "infinite" if row["change"] != Change.ABSENT else "-"
    low, high = ("∞" if row[end] is None else _signed(row[end]) for end in ("low", "high"))
    return f"{_signed(row['difference'])}{_unit(row)} ({low} to {high})"


def bound(row: Mapping[str, Any]) -> str:
    """The tolerance of the figure as text, with the sign of what is worse: `+10.0%`."""
    return _signed(-row["allowed"] if row["less_is_worse"] else row["allowed"]) + _unit(row)


def _unit(row: Mapping[str, Any]) -> str:
    return " points" if row["unit"] == "share" else "%"


def _signed(share: float) -> str:
    """A share in percent or points, with its sign; 0 has none."""
    shown = round(share * 100, 1)
    return f"{shown:+,.1f}".replace("-", "−") if shown else "0.0"


# ---- may they be compared?


def _warnings(base: Side, other: Side) -> list[str]:
    """Why the two runs can hardly be compared, in sentences."""
    if base.path.resolve() == other.path.resolve():
        return ["both are the same run"]
    baseline, run = (_facts(side) for side in (base, other))
    warnings = [
        f"different {what}: {baseline[what]} in the baseline, {run[what]} in this run"
        for what in baseline
        if baseline[what] != run[what]
    ]
    keys = [key for key, *_ in _settings(base, other) if key.startswith("scenario.") and key not in _NO_WARNING]
    blocks = list(dict.fromkeys(".".join(key.split(".")[1:3]) for key in keys))
    if blocks and baseline["scenario"] == run["scenario"]:
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


def _apart(key: str, baseline: Any, run: Any) -> Iterator[tuple[str, str, str]]:
    """Where two settings differ, each part by its dotted key; a part that only one has stays whole."""
    if isinstance(baseline, list) and isinstance(run, list) and len(baseline) == len(run):
        baseline, run = (dict(enumerate(part)) for part in (baseline, run))
    if isinstance(baseline, dict) and isinstance(run, dict):
        for name in {**baseline, **run}:
            yield from _apart(f"{key}.{name}", baseline.get(name), run.get(name))
    elif baseline != run:
        yield key, _spelled(baseline), _spelled(run)


def _spelled(setting: Any) -> str:
    if setting is None:
        return ""
    return setting if isinstance(setting, str) else json.dumps(setting)
