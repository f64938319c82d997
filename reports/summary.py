"""The numbers of a run: what summary.json holds and what the terminal shows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.model.events import Kind
from simulator.model.verdict import Judgement, Verdict
from simulator.trace.reader import Trace

SCHEMA_VERSION = 1
MARKS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.UNKNOWN: "?", Verdict.INVALID: "!"}
_PHASES = ("downloading", "verifying", "installing", "rebooting", "confirming", "rolling-back", "reporting")


def converged_at(trace: Trace) -> dict[str, float]:
    """thing -> seconds since the rollout began at which its execution succeeded; only those that did."""
    began = rollout_began(trace)
    done = trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED")
    return {t: us / 1e6 - began for t, us in zip(done.texts("thing"), done["t_us"].tolist(), strict=True)}


def rollout_began(trace: Trace) -> float:
    """Seconds since the run began; 0 where no rollout began."""
    begun = trace.kind(Kind.ROLLOUT).where("status", "begin")
    return float(begun["t_us"][0]) / 1e6 if len(begun) else 0.0


def outcomes(trace: Trace) -> dict[str, int]:
    """State -> number of targets, by each target's latest execution; targets without one are QUEUED."""
    targets = trace.kind(Kind.TARGET).texts("thing")
    executions = trace.kind(Kind.EXECUTION)
    last = dict(zip(executions.texts("thing"), executions.texts("status"), strict=True))
    return dict(sorted(Counter(last.get(thing, "QUEUED") for thing in targets).items()))


def durations(trace: Trace) -> dict[str, npt.NDArray[np.float64]]:
    """What took how long, in seconds, one value for each time it happened."""
    found: dict[str, npt.NDArray[np.float64]] = {}
    connects = trace.kind(Kind.CONNECT).where("status", "new", "resumed")
    found["connect"] = _spans(connects["span_us"])
    found["delta"] = _from_offer_to_delta(trace)
    phases = trace.kind(Kind.PHASE)
    for name in _PHASES:
        found[name] = _spans(phases.where("phase", name)["span_us"])
    found["whole update"] = _spans(trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED")["span_us"])
    return {name: values for name, values in found.items() if len(values)}


def _spans(span_us: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return span_us[span_us >= 0].astype(np.float64) / 1e6


def _from_offer_to_delta(trace: Trace) -> npt.NDArray[np.float64]:
    """From when the offer was due to when the device first learned of it."""
    sent = trace.kind(Kind.OFFER).where("status", "sent")
    due = dict(zip(sent.texts("job"), (sent["t_us"] - sent["span_us"]).tolist(), strict=True))
    deltas = trace.kind(Kind.DELTA).where("status", "start", "supersede", "installed")
    heard: dict[str, int] = {}
    for job, t_us in zip(deltas.texts("job"), deltas["t_us"].tolist(), strict=True):
        heard.setdefault(job, t_us)
    return np.array([(t_us - due[job]) / 1e6 for job, t_us in heard.items() if job in due])


def quantiles(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """count, min, med, p90, p95, p99, max."""
    at = np.quantile(values, [0, 0.5, 0.9, 0.95, 0.99, 1]).tolist()
    return {"count": len(values), **dict(zip(("min", "med", "p90", "p95", "p99", "max"), at, strict=True))}


def summarise(manifest: dict[str, Any], trace: Trace, judgement: Judgement) -> dict[str, Any]:
    """The whole of summary.json. Devices that never finished stay in every denominator."""
    targets = len(trace.kind(Kind.TARGET))
    finished = np.sort(np.array(list(converged_at(trace).values())))
    to_share: dict[str, float | None] = {}
    for share in (50, 90, 95, 99, 100):
        needed = -(-targets * share // 100)
        to_share[f"{share}%"] = float(finished[needed - 1]) if targets and needed <= len(finished) else None
    served = trace.kind(Kind.SERVED)
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
        "findings": [
            {
                "check": f.check,
                "title": f.title,
                "verdict": f.verdict.value,
                "summary": f.summary,
                "things": list(f.things),
                "events": list(f.events),
            }
            for f in judgement.findings
        ],
        "targets": targets,
        "outcomes": outcomes(trace),
        "stuck": targets - len(finished),
        "converged_s": to_share,
        "phases_s": {name: quantiles(values) for name, values in durations(trace).items()},
        "events": len(trace),
        "bytes_served": int(served["size"].clip(min=0).sum()) if len(served) else 0,
        "repeat": manifest.get("repeat", ""),
    }


def text(summary: dict[str, Any], report: str) -> str:
    """The end of a run, for a terminal."""
    lines = [f"{summary['verdict']}  {summary['scenario']}  seed {summary['seed']}", ""]
    lines += [f"  {reason}" for reason in summary["died"]]
    lines += [f"  the load generator was the bottleneck: {reason}" for reason in summary["invalid"]]
    lines += [f"  not complete: {reason}" for reason in summary["incomplete"]]
    counts = ", ".join(f"{n} {state.lower()}" for state, n in summary["outcomes"].items()) or "none"
    lines.append(f"  {summary['targets']} targets: {counts}")
    times = "  ".join(f"{share} {_seconds(s)}" for share, s in summary["converged_s"].items())
    lines.append(f"  converged after  {times}" + (f"  ({summary['stuck']} stuck)" if summary["stuck"] else ""))
    lines += [
        "",
        f"  {'seconds':<14}{'count':>8}" + "".join(f"{h:>10}" for h in ("min", "med", "p90", "p95", "p99", "max")),
    ]
    for name, q in summary["phases_s"].items():
        values = "".join(f"{q[h]:>10.3f}" for h in ("min", "med", "p90", "p95", "p99", "max"))
        lines.append(f"  {name:<14}{q['count']:>8}{values}")
    lines.append("")
    for f in summary["findings"]:
        lines.append(f"  {MARKS[Verdict(f['verdict'])]} {f['check']:<20} {f['summary']}")
    lines += ["", f"  report  {report}"]
    if summary["verdict"] != "PASS":
        lines.append(f"  repeat  {summary['repeat']}")
    return "\n".join([*lines, f"  seed    {summary['seed']}"])


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}s"
