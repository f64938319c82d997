"""The numbers of a run: what summary.json holds and what the terminal shows."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.update import State
from simulator.model.verdict import Finding, Judgement, Verdict
from simulator.trace.reader import Trace, describe
from simulator.trace.targets import Mask, Targets

SCHEMA_VERSION = 2
MARKS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.UNKNOWN: "?", Verdict.INVALID: "!"}
QUANTILES = ("min", "med", "p90", "p95", "p99", "max")
_PHASES = ("downloading", "verifying", "installing", "rebooting", "confirming", "rolling-back", "reporting")
_SHARES = (50, 90, 95, 99, 100)
_BEFORE, _AFTER = 4, 2

Seconds = npt.NDArray[np.float64]


def converged_s(trace: Trace, targets: Targets) -> Seconds:
    """For each target the seconds from its rollout's begin until it had converged; NaN where it did not."""
    at = targets.converged_us
    return np.where(at >= 0, at / 1e6, np.nan) - began_s(trace, targets)


def began_s(trace: Trace, targets: Targets) -> Seconds:
    """For each target when its rollout began, in seconds since the run began; NaN where it did not."""
    began = np.full(len(trace.words("job")) + 1, np.nan)
    begun = trace.kind(Kind.ROLLOUT).where("status", "begin")
    began[begun["job"]] = begun["t_us"] / 1e6
    return np.asarray(began[targets.rollout])


def to_share(times: Seconds) -> dict[str, float | None]:
    """Seconds until these shares of the targets had converged; None where they never did."""
    finished, size = np.sort(times[~np.isnan(times)]), len(times)
    needed = {share: -(-size * share // 100) for share in _SHARES}
    return {f"{s}%": float(finished[n - 1]) if size and n <= len(finished) else None for s, n in needed.items()}


def durations(trace: Trace, targets: Targets) -> dict[str, Seconds]:
    """What took how long, in seconds, one value for each time it happened."""
    phases = trace.kind(Kind.PHASE)
    found = {
        "connect": _spans(trace.kind(Kind.CONNECT).where("status", "new", "resumed")["span_us"]),
        "offer to delta": _from_offer_to_delta(trace),
        **{name: _spans(phases.where("phase", name)["span_us"]) for name in _PHASES},
        "whole update": _spans(trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED")["span_us"]),
    }
    return {name: values for name, values in found.items() if len(values)}


def _spans(span_us: npt.NDArray[Any]) -> Seconds:
    return np.asarray(span_us[span_us >= 0] / 1e6)


def _from_offer_to_delta(trace: Trace) -> Seconds:
    """From when each offer was due to when the device first learned of it."""
    sent = trace.kind(Kind.OFFER).where("status", "sent")
    heard = trace.kind(Kind.DELTA).where("status", "start", "supersede", "installed")
    due, first = (np.full(len(trace.words("job")) + 1, -1) for _ in range(2))
    due[sent["job"]] = sent["t_us"] - sent["span_us"]
    first[heard["job"][::-1]] = heard["t_us"][::-1]  # the earliest is written last
    both = (due[:-1] >= 0) & (first[:-1] >= 0)
    return np.asarray((first[:-1] - due[:-1])[both] / 1e6)


def quantiles(values: Seconds) -> dict[str, float]:
    """count, min, med, p90, p95, p99, max."""
    at = np.quantile(values, [0, 0.5, 0.9, 0.95, 0.99, 1]).tolist()
    return {"count": len(values), **dict(zip(QUANTILES, at, strict=True))}


def summarise(manifest: dict[str, Any], trace: Trace, judgement: Judgement) -> dict[str, Any]:
    """The whole of summary.json. Devices that never finished stay in every denominator."""
    targets = Targets(trace)
    times = converged_s(trace, targets)
    served = trace.kind(Kind.SERVED)
    incomplete = bool(judgement.incomplete or judgement.died)
    return {
        "schema": SCHEMA_VERSION,
        "scenario": manifest.get("scenario", {}).get("name", ""),
        "seed": manifest.get("seed"),
        "world": manifest.get("world"),
        "version": manifest.get("version"),
        "verdict": judgement.verdict.value,
        "exit_code": judgement.exit_code,
        "invalid": list(judgement.invalid),
        "incomplete": list(judgement.incomplete),
        "died": list(judgement.died),
        "missing": _missing(manifest, trace, targets) if incomplete else [],
        "findings": [_finding(trace, finding) for finding in judgement.findings],
        "limits": [limit._asdict() | {"held": limit.held} for limit in judgement.limits],
        "targets": len(targets),
        "outcomes": targets.outcomes(),
        "stuck": int(np.isnan(times).sum()),
        "converged_s": to_share(times),
        "rollouts": {name: _part(targets, times, ours) for name, ours in targets.rollouts().items()},
        "cohorts": {name: _part(targets, times, ours) for name, ours in cohorts(trace, targets).items()},
        "faults": faults(trace, targets),
        "phases_s": {name: quantiles(values) for name, values in durations(trace, targets).items()},
        "events": len(trace),
        "span_s": float(trace.column("t_us")[-1]) / 1e6 if len(trace) else 0.0,
        "bytes_served": int(served["size"].clip(min=0).sum()),
        "repeat": manifest.get("repeat", ""),
    }


def faults(trace: Trace, targets: Targets) -> list[dict[str, Any]]:
    """Each fault that was asked for: the server that it was `on`, or how many devices it struck, how often, and from when
    to when, in seconds since the first rollout began; None for a time that never came."""
    since = began_s(trace, targets)
    zero_s = float(np.nanmin(since)) if not np.isnan(since).all() else 0.0
    turns, found = trace.kind(Kind.FAULT), []
    for nth in np.unique(turns["size"]).tolist():
        ours = turns.only(turns["size"] == nth)
        did = ours.where("status", "did")
        begin, end = (ours.where("status", turn)["t_us"] / 1e6 - zero_s for turn in ("begin", "end"))
        told = [json.loads(detail) for detail in ours.where("status", "begin").texts("detail") if detail]
        found.append(
            {
                "fault": ours.texts("phase")[0],
                "on": told[0]["server"] if told else "",
                "devices": len(np.unique(did["thing"])),
                "strikes": len(did),
                "begin_s": float(begin[0]) if len(begin) else None,
                "end_s": float(end[-1]) if len(end) else None,
            }
        )
    return found


def struck(fault: dict[str, Any]) -> str:
    """Whom a fault struck, and how often."""
    if fault["on"]:
        return f"on the {fault['on']}"
    return f"{many(fault['devices'], 'device')}, {many(fault['strikes'], 'strike')}"


def cohorts(trace: Trace, targets: Targets) -> dict[str, Mask]:
    """Cohort -> which targets are of it, by name."""
    words = trace.words("detail")
    named = {words[code] if code >= 0 else "": targets.cohort == code for code in np.unique(targets.cohort).tolist()}
    return dict(sorted(named.items()))


def _part(targets: Targets, times: Seconds, ours: Mask) -> dict[str, Any]:
    return {"targets": int(ours.sum()), "outcomes": targets.outcomes(ours), "converged_s": to_share(times[ours])}


def _finding(trace: Trace, finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "title": finding.title,
        "verdict": finding.verdict.value,
        "safety": finding.safety,
        "summary": finding.summary,
        "things": list(finding.things),
        "events": list(finding.events),
        "evidence": evidence(trace, finding.events[0]) if finding.events else [],
    }


def evidence(trace: Trace, row: int) -> list[str]:
    """The event, marked, among those of the same thing around it."""
    thing = trace.row(row).get("thing", "")
    rows = trace.thing(thing).rows if thing else np.array([row])
    at = int(np.searchsorted(rows, row))
    around = rows[max(0, at - _BEFORE) : at + _AFTER + 1].tolist()
    lines = [describe(trace.row(number), named=not thing) for number in around]
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    return [f"{'>' if number == row else ' '} {line[indent:]}" for number, line in zip(around, lines, strict=True)]


def _missing(manifest: dict[str, Any], trace: Trace, targets: Targets) -> list[str]:
    """What an incomplete run lacks, in sentences."""
    fleet = manifest.get("scenario", {}).get("fleet", {})
    asked = len(fleet.get("only", ())) or fleet.get("devices", 0)
    started = np.unique(trace.kind(Kind.BOOT)["thing"])
    retired = np.unique(trace.kind(Kind.RETIRED)["thing"])
    unended = len(targets) - sum(count for state, count in targets.outcomes().items() if State(state).ended)
    counts = (
        (asked - len(started), f"of {asked:,} devices were never started"),
        (len(np.setdiff1d(started, retired)), f"of {len(started):,} devices' records break off"),
        (unended, f"of {len(targets):,} targets had not ended"),
    )
    said = [f"{count:,} {what}" for count, what in counts if count > 0]
    over = set(trace.kind(Kind.ROLLOUT).where("status", "end").texts("job"))
    said += [f"{name} had not ended" for name in targets.rollouts() if name not in over]
    return said if len(targets) else [*said, "no rollout had begun"]


def text(summary: dict[str, Any], report: str) -> str:
    """The end of a run, for a terminal."""
    lines = [f"{summary['verdict']}  {summary['scenario']}  seed {summary['seed']}", ""]
    lines += [f"  {reason}" for reason in reasons(summary)]
    lines.append(f"  {spelled(summary)}")
    if len(summary["rollouts"]) > 1:
        parts = summary["rollouts"].items()
        lines += [f"    {name}: {spelled(part)}" for name, part in parts]
    lines += [f"  {fault['fault']}: {struck(fault)}" for fault in summary["faults"]]
    times = "  ".join(f"{share} {seconds(s)}" for share, s in summary["converged_s"].items())
    lines.append(f"  converged after  {times}" + (f"  ({summary['stuck']:,} stuck)" if summary["stuck"] else ""))
    lines += ["", f"  {'seconds':<14}{'count':>10}" + "".join(f"{h:>10}" for h in QUANTILES)]
    for name, q in summary["phases_s"].items():
        lines.append(f"  {name:<14}{q['count']:>10,}" + "".join(f"{q[h]:>10.3f}" for h in QUANTILES))
    lines.append("")
    for limit in summary["limits"]:
        mark = "✓" if limit["held"] else "!"
        lines.append(f"  {mark} {limit['name']}: {plain(limit['value'])}, allowed {allowed(limit)}")
    for f in summary["findings"]:
        lines.append(f"  {MARKS[Verdict(f['verdict'])]} {f['check']:<20} {f['summary']}")
        lines += [f"      {line}" for line in f["evidence"]]
    lines += ["", f"  report  {report}"]
    if summary["verdict"] != "PASS":
        lines.append(f"  repeat  {summary['repeat']}")
        if summary["world"] == "virtual":
            lines.append(f"  replay  {shlex.join(['fleetsim', 'replay', str(Path(report).parent)])}")
    return "\n".join([*lines, f"  seed    {summary['seed']}"])


def reasons(summary: dict[str, Any]) -> list[str]:
    """Why the run does not count, in sentences."""
    return [
        *summary["died"],
        *(f"the load generator was the bottleneck: {reason}" for reason in summary["invalid"]),
        *(f"not complete: {reason}" for reason in [*summary["incomplete"], *summary["missing"]]),
    ]


def allowed(limit: dict[str, Any]) -> str:
    """A limit's bound."""
    return f"{'at most' if limit['at_most'] else 'at least'} {plain(limit['allowed'])}"


def seconds(value: float | None) -> str:
    """A time with its unit; None is one that never came."""
    if value is None:
        return "not reached"
    return f"{value:.3f} s" if value < 10 else f"{value:,.1f} s"


def plain(value: float) -> str:
    """A number with at most four decimals."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def spelled(part: dict[str, Any]) -> str:
    """Targets by state, in words."""
    counts = ", ".join(f"{count:,} {state.lower().replace('_', ' ')}" for state, count in part["outcomes"].items())
    return f"{part['targets']:,} target{'' if part['targets'] == 1 else 's'}: {counts or 'none'}"
