"""When each target converged, and how long each step took: in seconds, one number for each time that it happened."""

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
    """Where pictures end, in seconds since the rollout began: behind the last that converged, or with the record where a rollout had not ended."""
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
    """What took how long. What an offer begins is counted from when the offer was due, so that a stall is not hidden."""
    phases = trace.kind(Kind.PHASE)
    by_step = {
        "connect": _spans(trace.kind(Kind.CONNECT).where("status", "new", "resumed")),
        "offer to delta": _from_due(trace, heard_of_offer(trace)),
        **{name: _spans(phases.where("phase", name)) for name in PHASES},
        "whole update": _from_due(trace, trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED")),
    }
    return {name: spans for name, spans in by_step.items() if len(spans.at_s)}


def heard_of_offer(trace: Trace) -> View:
    """The deltas by which a device learned of what was not known to it."""
    return trace.kind(Kind.DELTA).where("status", "start", "supersede", "installed")


def _spans(view: View) -> Spans:
    """Without those that nobody measured."""
    view = view.only(view["span_us"] >= 0)
    return Spans(view["t_us"] / 1e6, view["span_us"] / 1e6)


def _from_due(trace: Trace, ends: View) -> Spans:
    return since_due(trace, ends)[1]


def since_due(trace: Trace, ends: View) -> tuple[Codes, Spans]:
    """The codes of the jobs for which such an event came, and from when each one's offer was due to the first of them."""
    sent = trace.kind(Kind.OFFER).where("status", "sent")
    due_us, end_us = (np.full(len(trace.words("job")) + 1, -1) for _ in range(2))
    due_us[sent["job"]] = sent["t_us"] - sent["span_us"].clip(min=0)
    end_us[ends["job"][::-1]] = ends["t_us"][::-1]  # the earliest is written last
    jobs = np.flatnonzero((due_us[:-1] >= 0) & (end_us[:-1] >= 0))
    return jobs, Spans(end_us[jobs] / 1e6, (end_us[jobs] - due_us[jobs]) / 1e6)


def quantiles(values: Seconds) -> dict[str, float]:
    """count, min, med, p90, p95, p99, max."""
    at = np.quantile(values, [0, 0.5, 0.9, 0.95, 0.99, 1]).tolist()
    return {"count": len(values), **dict(zip(QUANTILES, at, strict=True))}


def cohorts(trace: Trace, targets: Targets) -> dict[str, Mask]:
    """Cohort -> which targets are of it, by name."""
    words = trace.words("detail")
    named = {words[code] if code >= 0 else "": targets.cohort == code for code in np.unique(targets.cohort).tolist()}
    return dict(sorted(named.items()))


def waves(trace: Trace, targets: Targets) -> dict[str, Mask]:
    """Wave -> which targets are of it, in order; a rollout takes its targets in the order given. Of several rollouts
    each wave bears its rollout's name; what no wave took is of none."""
    moves, rollouts = trace.kind(Kind.ROLLOUT).where("status", "wave"), targets.rollouts()
    masks: dict[str, Mask] = {}
    for name, mask in rollouts.items():
        opened = moves.where("job", name)
        ends = np.cumsum(opened["size"])
        nth = np.where(mask, np.searchsorted(ends, np.cumsum(mask) - 1, "right"), -1)
        prefix = f"{name}: " if len(rollouts) > 1 else ""
        masks |= {f"{prefix}{label}": nth == at for at, label in enumerate(opened.texts("detail"))}
    return masks
