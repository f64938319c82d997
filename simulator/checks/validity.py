"""Was the load generator itself the bottleneck? Then the run is INVALID, whatever the backend did."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from simulator.checks.outages import excused_us
from simulator.model.events import Kind
from simulator.model.scenario import SERVICE_RECONNECT, Scenario
from simulator.model.update import State
from simulator.model.verdict import Limit
from simulator.trace.reader import Trace
from simulator.trace.targets import Mask, Targets

_AGAIN_US = round(SERVICE_RECONNECT.cap * 1e6)  # at the latest the application has tried again to connect by then


class Validity(NamedTuple):
    """The limits, and in sentences those that were passed, with the process that used most CPU as the likely cause."""

    limits: tuple[Limit, ...]
    reasons: tuple[str, ...]


def validity(trace: Trace, scenario: Scenario) -> Validity:
    """Judge the generator: lateness against the schedule, lag of each loop, share of what was due that was offered."""
    settings, stages = scenario.limits, trace.kind(Kind.STAGE)["t_us"].tolist()
    since_us = (stages[0] if stages else 0) + round(settings.warm_up * 1e6)
    lags: dict[str, list[int]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    health = trace.kind(Kind.HEALTH)
    for at, detail in zip(health["t_us"].tolist(), health.texts("detail"), strict=True):
        facts = json.loads(detail)
        cpu[facts["process"]].append(facts["cpu_share"])
        if at >= since_us:
            lags[facts["process"]] += facts.get("loop_lag_us", ())
    limits = [
        Limit(f"loop lag p99 of {process}, s", float(np.percentile(lag, 99)) / 1e6, settings.loop_lag_p99)
        for process, lag in lags.items()
        if lag and process.startswith(("shard", "application"))
    ]
    late = _lateness_us(trace, since_us)
    if len(late):
        allowed = max(settings.lateness_p99, settings.lateness_share * _median_latency_s(trace))
        limits.append(Limit("schedule lateness p99, s", float(np.percentile(late, 99)) / 1e6, allowed))
    offered = _offered(trace)
    if offered is not None:
        limits.append(Limit("offered of what was scheduled", offered, settings.offered, at_most=False))
    busy = max(cpu, key=lambda process: float(np.mean(cpu[process])), default="")
    used = f"{np.mean(cpu[busy]):.0%} of a core in the mean of the run, {max(cpu[busy]):.0%} at most" if busy else ""
    cause = f"; {busy} used most CPU, {used}" if busy else ""
    return Validity(tuple(limits), tuple(_passed(limit) + cause for limit in limits if not limit.held))


def _passed(limit: Limit) -> str:
    what, unit = limit.name.removesuffix(", s"), " s" if limit.name.endswith(", s") else ""
    return f"{what}: {limit.value:.3g}{unit}, allowed {limit.allowed:.3g}{unit}"


def started(trace: Trace, scenario: Scenario) -> tuple[str, ...]:
    """Why less was sent than asked: fewer devices than the scenario's."""
    cold = len(np.unique(trace.kind(Kind.BOOT).where("status", "cold")["thing"]))
    asked = len(scenario.fleet.present)
    return () if cold >= asked else (f"{cold} of {asked} devices were started",)


def _lateness_us(trace: Trace, since_us: int) -> np.ndarray:
    """Of each device's start and each offer, against its schedule; but no offer can go while the broker is killed
    on purpose, nor before the application is connected again."""
    spans_us = []
    for view in (trace.kind(Kind.BOOT).where("status", "cold"), trace.kind(Kind.OFFER).where("status", "sent")):
        view = view.only((view["t_us"] >= since_us) & (view["span_us"] >= 0))
        t_us, span_us = view["t_us"], view["span_us"]
        spans_us.append(span_us - excused_us(trace, t_us - span_us, t_us, _AGAIN_US))
    return np.concatenate(spans_us)


def _median_latency_s(trace: Trace) -> float:
    spans = trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED")["span_us"]
    return float(np.median(spans)) / 1e6 if len(spans) else 0.0


def _offered(trace: Trace) -> float | None:
    """Share of the targets due that were offered, in rollouts that ended; those canceled were never due, nor those
    whose turn came, and ended, when the broker was killed on purpose."""
    final = trace.kind(Kind.COUNTERS).where("status", "final")
    if not len(final):
        return None
    counts = [json.loads(detail) for detail in final.texts("detail")]
    due = int(final["size"].sum()) - sum(c.get("CANCELED", 0) + c.get("QUEUED", 0) for c in counts)
    targets = trace.once(Targets)
    offered = targets.of(trace.kind(Kind.OFFER).where("status", "sent"))
    made, over = targets.marked(offered), np.isin(targets.rollout, final["job"])
    due -= int((_kept_from(trace, targets) & over & ~made).sum())
    return int((made & over).sum()) / due if due > 0 else None


def _kept_from(trace: Trace, targets: Targets) -> Mask:
    """Which targets' turns came when no offer could go."""
    begun = trace.kind(Kind.EXECUTION).where("status", State.IN_PROGRESS)
    t_us = begun["t_us"]
    return targets.marked(targets.of(begun)[excused_us(trace, t_us, t_us + 1, _AGAIN_US) > 0])
