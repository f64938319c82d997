"""When each target converged, and how long each step of an update took, in seconds.

Most functions read a run's `Trace` and its `Targets`. A result is either an array with one value for each target
(in the order of `Targets`; NaN: it never happened), or `Spans`, with one value for each time that a step happened.
`cohorts` and `waves` say which targets belong together. The summary, the pages, comparisons and sweeps take their times
from here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.model.events import Kind
from simulator.trace.reader import Codes, Trace, View
from simulator.trace.targets import Mask, Seconds, Targets

QUANTILES = ("min", "med", "p90", "p95", "p99", "max")
PHASES = ("downloading", "verifying", "installing", "rebooting", "confirming", "rolling-back", "reporting")
_SHARES = (50, 90, 95, 99, 100)


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


def zero_s(trace: Trace, targets: Targets) -> float:
    """When the first rollout began, in seconds since the run began; 0 where none did."""
    since = began_s(trace, targets)
    return 0.0 if np.isnan(since).all() else float(np.nanmin(since))


def end_s(trace: Trace, targets: Targets, times: Seconds) -> float:
    """Where the time axis of a chart ends, in seconds since the rollout began. If all rollouts ended and a target converged:
    just after the last one that did. Otherwise: where the record ends."""
    over = np.isin(targets.rollout, trace.kind(Kind.ROLLOUT).where("status", "end")["job"]).all()
    if over and not np.isnan(times).all():
        return float(np.nanmax(times)) * 1.03 + 1e-3
    since = began_s(trace, targets)
    if np.isnan(since).all():
        return 1.0
    return max(float(trace.column("t_us")[-1]) / 1e6 - float(np.nanmin(since)), 1e-3)


def to_share(times: Seconds) -> dict[str, float | None]:
    """Seconds until these shares of the targets had converged; None where they never did."""
    finished, size = np.sort(times[~np.isnan(times)]), len(times)
    needed = {share: -(-size * share // 100) for share in _SHARES}
    return {f"{s}%": float(finished[n - 1]) if size and n <= len(finished) else None for s, n in needed.items()}


class Spans(NamedTuple):
    """One value for each time that something happened: when it ended, in seconds since the run began, and how long it
    took."""

    at_s: Seconds
    took_s: Seconds


def durations(trace: Trace, targets: Targets) -> dict[str, Spans]:
    """Step -> how long it took, each time that it happened; steps that never happened are left out. What an offer begins
    is counted from when the offer was due: if it was sent late, the delay is part of the time."""
    phases = trace.kind(Kind.PHASE)
    by_step = {
        "connect": _spans(trace.kind(Kind.CONNECT).where("status", "new", "resumed")),
        "offer to delta": _from_due(trace, heard_of_offer(trace)),
        **{name: _spans(phases.where("phase", name)) for name in PHASES},
        "whole update": _from_due(trace, trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED")),
    }
    return {name: spans for name, spans in by_step.items() if len(spans.at_s)}


def heard_of_offer(trace: Trace) -> View:
    """The deltas by which a device learned something new (their status is start, supersede or installed)."""
    return trace.kind(Kind.DELTA).where("status", "start", "supersede", "installed")


def _spans(view: View) -> Spans:
    """Without those that nobody measured."""
    view = view.only(view["span_us"] >= 0)
    return Spans(view["t_us"] / 1e6, view["span_us"] / 1e6)


def _from_due(trace: Trace, ends: View) -> Spans:
    return since_due(trace, ends)[1]


def since_due(trace: Trace, ends: View) -> tuple[Codes, Spans]:
    """Of each job that was offered and has an event among `ends`: its code, and the span from when its offer was due until
    the first of these events."""
    sent = trace.kind(Kind.OFFER).where("status", "sent")
    due_us, end_us = (np.full(len(trace.words("job")) + 1, -1) for _ in range(2))
    due_us[sent["job"]] = sent["t_us"] - sent["span_us"].clip(min=0)
    end_us[ends["job"][::-1]] = ends["t_us"][::-1]  # the earliest is written last
    jobs = np.flatnonzero((due_us[:-1] >= 0) & (end_us[:-1] >= 0))
    return jobs, Spans(end_us[jobs] / 1e6, (end_us[jobs] - due_us[jobs]) / 1e6)


def quantiles(values: Seconds) -> dict[str, float]:
    """How many values there are (`count`), and their QUANTILES. There must be at least one value."""
    at = np.quantile(values, [0, 0.5, 0.9, 0.95, 0.99, 1]).tolist()
    return {"count": len(values), **dict(zip(QUANTILES, at, strict=True))}


def cohorts(trace: Trace, targets: Targets) -> dict[str, Mask]:
    """Cohort -> mask of its targets, sorted by the cohort's name."""
    words = trace.words("detail")
    named = {words[code] if code >= 0 else "": targets.cohort == code for code in np.unique(targets.cohort).tolist()}
    return dict(sorted(named.items()))


def waves(trace: Trace, targets: Targets) -> dict[str, Mask]:
    """Wave -> mask of its targets, in the order in which waves were opened. A rollout takes its targets in the order in
    which they are given, so each wave holds the next ones. If there are several rollouts, the name of a wave begins with
    its rollout's. A target that no wave took is in none."""
    moves, rollouts = trace.kind(Kind.ROLLOUT).where("status", "wave"), targets.rollouts()
    masks: dict[str, Mask] = {}
    for name, mask in rollouts.items():
        opened = moves.where("job", name)
        ends = np.cumsum(opened["size"])
        nth = np.where(mask, np.searchsorted(ends, np.cumsum(mask) - 1, "right"), -1)
        prefix = f"{name}: " if len(rollouts) > 1 else ""
        masks |= {f"{prefix}{label}": nth == at for at, label in enumerate(opened.texts("detail"))}
    return masks
