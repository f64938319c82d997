"""Reduces one run of a sweep to a point: its throughput, its latencies, and how much CPU was used meanwhile.

`point` takes the run and its summary.json and returns a dict, one entry of `points` in sweep.json; `fields.py` describes
each key. Rates are per second, latencies in seconds, CPU in cores (1.0 is one core fully used). The command line calls it
after each run of a sweep.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import numpy as np

from reports.run import flow
from reports.run.times import Spans, since_due, zero_s
from reports.words import named, reasons
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.trace.reader import Trace
from simulator.trace.rundir import Run
from simulator.trace.targets import Seconds, Targets

STEPS = {"offer_to_delta_s": "offer to delta", "downloading_s": "downloading", "whole_update_s": "whole update"}
_LEAST_S = 0.1  # what comes within less tells no rate
_HELD_S, _HELD = 1.0, 30  # nor do fewer updates, or a shorter time, tell whether a rate was achieved


def point(run: Run, numbers: dict[str, Any]) -> dict[str, Any]:
    """One point of sweep.json, from a run's record and its summary.json (`numbers`). The sweep itself adds which run
    it was."""
    ended = since_due(run.trace, run.trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED"))[1]
    ends, span = np.sort(ended.at_s), _held(ended)
    cpu, together = _cpu(run.trace, ends)
    broken = [f["check"] for f in numbers["findings"] if f["safety"] and f["verdict"] == "FAIL"]
    unsure = [f["check"] for f in numbers["findings"] if f["verdict"] == "UNKNOWN"]
    why = [*broken, *reasons(numbers)] or unsure
    updates = _since_begin(run.trace, ends)
    counts = not broken and updates is not None and numbers["verdict"] in ("PASS", "FAIL")
    return {
        "verdict": numbers["verdict"],
        "exit_code": numbers["exit_code"],
        "safe": not broken,
        "invalid": numbers["invalid"],
        "counts": counts,
        "why": "" if counts else "; ".join(why) or "too few updates succeeded to measure a rate",
        "broker": named(run.manifest.get("broker", {})),
        "targets": numbers["targets"],
        "succeeded": numbers["outcomes"].get("SUCCEEDED", 0),
        "deltas_per_s": _fan_out(numbers),
        "updates_per_s": updates,
        "steady_per_s": flow.slope(ends),
        "held_per_s": _among(ends, *span) / (span[1] - span[0]) if span else None,
        "under_way": _under_way(run.trace, *(span or flow.middle(ends))) if len(ends) else None,
        **{key: _quantiles(numbers["phases_s"].get(step)) for key, step in STEPS.items()},
        "cpu": cpu,
        "cpu_all": together,
    }


def _fan_out(numbers: dict[str, Any]) -> float | None:
    """Devices a second that heard of the rollout; None if all heard nearly at once, because one batch has no rate."""
    for spread in numbers["fan_out"].values():
        if (slope := spread["slope"]) is not None and 0.8 * spread["devices"] / slope >= _LEAST_S:
            return float(slope)
    return None


def _quantiles(quantiles: dict[str, float] | None) -> dict[str, float] | None:
    return {"median": quantiles["med"], "p99": quantiles["p99"]} if quantiles else None


def _since_begin(trace: Trace, ends: Seconds) -> float | None:
    """Updates a second, from the rollout's begin until nine in ten of those that succeeded had done so. The last tenth is
    left out: a few slow devices would hide what the system can do."""
    if not len(ends):
        return None
    took_s = flow.middle(ends)[1] - zero_s(trace, trace.once(Targets))
    return (len(ends) - len(ends) // 10) / took_s if took_s > 0 else None


def _held(ended: Spans) -> tuple[float, float] | None:
    """The time (begin, end) in which updates end as fast as they are offered, if nothing holds them up. It begins with
    the first offer plus the longest time that one of the first tenth of the updates took, and ends with the last offer.
    None if it is too short to tell a rate, or too few updates end in it."""
    if not len(ended.at_s):
        return None
    due = ended.at_s - ended.took_s
    early = np.argsort(due)[: -(-len(due) // 10)]
    low, high = float(due.min() + ended.took_s[early].max()), float(due.max())
    return (low, high) if high - low >= _HELD_S and _among(ended.at_s, low, high) >= _HELD else None


def _among(at: Seconds, low: float, high: float) -> int:
    return int(((at > low) & (at <= high)).sum())


def _under_way(trace: Trace, low: float, high: float) -> float:
    """The mean number of executions under way from `low` to `high`, in seconds since the run began."""
    at, count = flow.under_way(trace)
    edges = np.concatenate([[low], at[(at > low) & (at < high)], [high]])
    level = count[np.searchsorted(at, edges[:-1], "right") - 1]
    return float(np.average(level, weights=np.diff(edges))) if high > low else float(level[0])


def _cpu(trace: Trace, ends: Seconds) -> tuple[dict[str, dict[str, float | None]], dict[str, float] | None]:
    """The CPU used while the rollout ran, in cores: for each process, and for all together (None: nothing was measured)."""
    since, until = zero_s(trace, trace.once(Targets)), flow.middle(ends)[1] if len(ends) else np.inf
    used, waited = (defaultdict[str, list[float]](list) for _ in range(2))
    all_of: dict[int, float] = defaultdict(float)
    health = trace.kind(Kind.HEALTH)
    for t_us, detail in zip(health["t_us"].tolist(), health.texts("detail"), strict=True):
        if since <= t_us / 1e6 - 0.5 <= until:  # the middle of its second
            facts = json.loads(detail)
            used[facts["process"]].append(facts["cpu_share"])
            waited[facts["process"]] += [facts["wait_share"]] if "wait_share" in facts else []
            all_of[round(t_us / 1e6)] += facts["cpu_share"]
    each = {name: _shares(shares, waited[name]) for name, shares in sorted(used.items())}
    together = sum(float(np.mean(shares)) for shares in used.values())
    return each, {"mean": together, "most": max(all_of.values())} if each else None


def _shares(used: list[float], waited: list[float]) -> dict[str, float | None]:
    return {"mean": float(np.mean(used)), "most": max(used), "waited": float(np.mean(waited)) if waited else None}


def spelled(load: float, axis: str) -> str:
    """A load as text with its unit: devices, or offers a second."""
    return many(int(load), "device") if axis == "devices" else f"{load:g}/s"
