"""How much happened a second: how often each step happened, how many updates were under way, how fast a rollout spread.

Most functions read a run's `Trace`, some of them its `Targets` too. Times are arrays of seconds since the run began, unless
a function says that it counts from the rollout's begin; rates are events (or bytes) a second. The summary, the charts,
comparisons and sweeps use them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from reports.run.times import Spans, began_s, heard_of_offer
from simulator.model.events import Kind
from simulator.model.update import State
from simulator.trace.reader import Trace
from simulator.trace.targets import Seconds, Targets

_WIDTHS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


class TimeBins(NamedTuple):
    """Equal spans of time: their edges in seconds since the rollout began, and their width."""

    edges: Seconds
    width_s: float


def bins(end_s: float, most: int = 200) -> TimeBins:
    """At most `most` bins that cover the seconds from 0 to `end_s`; their width is one that people count in (1, 2, 5,
    10 s)."""
    width = next((w for w in _WIDTHS_S if end_s / w <= most), _WIDTHS_S[-1])
    return TimeBins(np.arange(max(1, int(np.ceil(end_s / width))) + 1, dtype=np.float64) * width, width)


def steps(trace: Trace) -> dict[str, Seconds]:
    """When each step happened, in seconds since the run began: every delta that a device heard, every download that
    ended, every report that was sent and accepted; offers when they were due, and when they were sent."""
    offers, answers = (
        trace.kind(Kind.OFFER).where("status", "sent"),
        trace.kind(Kind.ANSWER).where("status", "accepted"),
    )
    at_s = {
        "offers due": offers["t_us"] - offers["span_us"].clip(min=0),
        "offers sent": offers["t_us"],
        "deltas heard": trace.kind(Kind.DELTA)["t_us"],
        "downloads ended": trace.kind(Kind.DOWNLOAD).where("status", "200", "206")["t_us"],
        "reports sent": trace.kind(Kind.REPORT)["t_us"],
        "ends accepted": answers["t_us"][answers["job"] >= 0],
    }
    return {name: np.asarray(at / 1e6) for name, at in at_s.items()}


def rate(at: Seconds, spans: TimeBins, weights: Seconds | None = None) -> Seconds:
    """Events a second in each bin; with `weights`, the sum of their weights a second. `at` counts from where the bins do."""
    return np.asarray(np.histogram(at, spans.edges, weights=weights)[0] / spans.width_s)


def bytes_of(trace: Trace) -> tuple[Seconds, Seconds]:
    """When bytes had been downloaded, in seconds since the run began, and how many; by the devices' own record."""
    pieces = trace.kind(Kind.DOWNLOAD)
    pieces = pieces.only(pieces["size"] > 0)
    return np.asarray(pieces["t_us"] / 1e6), np.asarray(pieces["size"].astype(np.float64))


def under_way(trace: Trace) -> tuple[Seconds, Seconds]:
    """Executions that are offered and not ended: when their number changed, in seconds since the run began, and what it
    was from then on."""
    executions = trace.kind(Kind.EXECUTION)
    begun = executions["status"] == trace.code("status", State.IN_PROGRESS)
    ended = trace.among("status", executions["status"], tuple(state for state in State if state.ended))
    change = np.where(begun, 1, np.where(ended & _was_begun(trace), -1, 0))
    return np.asarray(executions["t_us"] / 1e6), np.asarray(np.cumsum(change).astype(np.float64))


def _was_begun(trace: Trace) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Of each execution's event, whether it had been offered before."""
    executions = trace.kind(Kind.EXECUTION)
    return executions.latest(executions.where("status", State.IN_PROGRESS), "thing", "job") >= 0


def lateness(trace: Trace) -> Spans:
    """For each second in which a device was started or an offer sent: how late the latest of them was, in seconds
    (`took_s`), against the schedule."""
    views = trace.kind(Kind.BOOT).where("status", "cold"), trace.kind(Kind.OFFER).where("status", "sent")
    at, late = (np.concatenate([view[column].clip(min=0) / 1e6 for view in views]) for column in ("t_us", "span_us"))
    seconds, which = np.unique(at.astype(np.int64), return_inverse=True)
    worst = np.zeros(len(seconds))
    np.maximum.at(worst, which, late)
    return Spans(seconds.astype(np.float64), worst)


def fan_out(trace: Trace, targets: Targets) -> dict[str, dict[str, float | int | None]]:
    """Rollout -> how its desired state spread: how many devices heard of it; the seconds from its begin until the first,
    the median and the last of them did (None: nobody did); and the slope between the tenth and the ninetieth percent of
    them, in devices a second."""
    after = trace.once(heard_s, targets)
    return {name: _spread(after[mask]) for name, mask in targets.rollouts().items()}


def heard_s(trace: Trace, targets: Targets) -> Seconds:
    """For each target the seconds from its rollout's begin until its device first heard of it; NaN where it did not."""
    heard = heard_of_offer(trace)
    of = targets.of_jobs(heard)
    first = np.full(len(targets), np.nan)
    first[of[of >= 0][::-1]] = heard["t_us"][of >= 0][::-1] / 1e6  # the earliest is written last
    return first - began_s(trace, targets)


def _spread(after_s: Seconds) -> dict[str, float | int | None]:
    at = np.sort(after_s[~np.isnan(after_s)])
    if not len(at):
        return {"devices": 0, "first_s": None, "median_s": None, "last_s": None, "slope": None}
    return {
        "devices": len(at),
        "first_s": float(at[0]),
        "median_s": float(np.median(at)),
        "last_s": float(at[-1]),
        "slope": slope(at),
    }


def middle(at: Seconds) -> tuple[float, float]:
    """From the tenth to the ninetieth percent of these times, which are at least one and in order."""
    left = len(at) // 10
    return float(at[left]), float(at[-left - 1])


def slope(at: Seconds) -> float | None:
    """How many a second between the tenth and the ninetieth percent of these times, which are in order; None where no
    time passes between them."""
    low, high = middle(at) if len(at) else (0.0, 0.0)
    return (len(at) - 2 * (len(at) // 10) - 1) / (high - low) if high > low else None


def throughput(trace: Trace, since_s: float) -> dict[str, dict[str, float]]:
    """Step -> how often it happened from `since_s` (seconds since the run began) on, as `total`, and the most in one second,
    as `peak_per_s`. `bytes downloaded` counts bytes in the same way."""
    peaks = {}
    at_bytes, size = bytes_of(trace)
    for name, at, weights in [*((n, at, None) for n, at in steps(trace).items()), ("bytes downloaded", at_bytes, size)]:
        later = (at >= since_s) | name.startswith("offers")  # one may have been due a moment before the record says so
        seconds = (at[later] - since_s).clip(min=0).astype(np.int64)
        counts = np.bincount(seconds, None if weights is None else weights[later]) if len(seconds) else np.zeros(1)
        peaks[name] = {"total": float(counts.sum()), "peak_per_s": float(counts.max())}
    return peaks
