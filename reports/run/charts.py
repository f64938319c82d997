"""The pictures of a report, as SVG that stands inside a page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from reports.drawing import (
    COLOURS,
    SINCE,
    above,
    all_labels,
    bar,
    beside,
    curve,
    drawn,
    few,
    note,
    of_times,
    plain,
    printable,
    style,
    time_unit,
)
from reports.run import effort, flow
from reports.run.summary import faults
from reports.run.times import PHASES, Spans, cohorts, converged_s, durations, end_s, waves, zero_s
from simulator.model.events import Kind
from simulator.trace.reader import Trace
from simulator.trace.targets import Mask, Seconds, Targets

_DOTS = 500
_LEGEND_MAX = 12
# each keeps its look, whichever of the others a run has; few have rolled back
_COMMON = tuple(name for name in PHASES if name != "rolling-back")
_STEPS = ("connect", "offer to delta", *_COMMON, "whole update", "rolling-back")
_PARTS = ("until heard of", *_COMMON, "between phases", "rolling-back")
_OVER_TIME = ("offer to delta", "downloading", "whole update")

Series = dict[str, tuple[Seconds, Seconds]]


class Charts:
    """Draws the pictures of one trace; all share a time axis. Each is empty where there is nothing to show."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self._targets = trace, trace.once(Targets)
        self._times = trace.once(converged_s, self._targets)
        self._end_s = end_s(trace, self._targets, self._times)
        self._zero_s = zero_s(trace, self._targets)
        self._unit, self._size = time_unit(self._end_s)

    # ---- convergence

    def convergence(self) -> str:
        """The share of each cohort's targets that converged, over time; those that never do stay in the whole."""
        return self._converged(cohorts(self._trace, self._targets), "cohort", self._shade)

    def by_wave(self) -> str:
        """The same for each wave, where there are several."""
        parts = waves(self._trace, self._targets)
        return self._converged(parts, "wave", lambda axes: None) if len(parts) > 1 else ""

    def _converged(self, parts: dict[str, Mask], noun: str, more: Callable[[Any], None]) -> str:
        if not len(self._targets):
            return ""

        def paint(axes: Any) -> None:
            for nth, (name, mask) in enumerate(parts.items()):
                x, y = curve(self._times[mask], self._end_s)
                label = printable(f"{name or 'all'} ({int(mask.sum()):,})")
                axes.step(x / self._size, y, where="post", gid=f"{noun}-{nth}", label=label, **style(nth))
                if never := int(np.isnan(self._times[mask]).sum()):  # Kaplan and Meier's mark of those left
                    axes.plot(x[-1:] / self._size, y[-1:], "+", color=COLOURS[nth % 7], markersize=9, clip_on=False)
                    axes.annotate(
                        f"{never:,} not", (x[-1] / self._size, y[-1]), (-6, 0), textcoords="offset points",
                        ha="right", va="bottom", fontsize=8,
                    )  # fmt: skip
            self._on_time(axes, "converged [%]")
            axes.set_ylim(0, 103)
            if 1 < len(parts) <= _LEGEND_MAX:
                axes.legend(loc="best", title=f"{noun} (targets)", frameon=True)
            more(axes)

        never = int(np.isnan(self._times).sum())
        never_text = f"; {never:,} of {len(self._times):,} had not when the record ends" if never else ""
        whose = f"of each {noun}'s" if len(parts) > 1 else "of the"
        return drawn([paint], f"Share {whose} targets that converged{never_text}")

    def _shade(self, axes: Any) -> None:
        """The windows of faults that began while the rollout ran, as far as they are in the picture."""
        last, size = axes.get_xlim()[1], self._size
        harm = faults(self._trace, self._targets)
        turns = [(f["fault"], f["begin_s"], f["end_s"]) for f in harm if f["begin_s"] is not None]
        timed = [turn for turn in turns if 0 < turn[1] / size < last]
        for nth, (name, begin, end) in enumerate(timed):
            until = last if end is None else min(end / size, last)
            axes.axvspan(begin / size, until, color="#777777", alpha=0.15, linewidth=0, gid=f"fault-{nth}")
            note(axes, begin / size, 100 - 7 * (nth % 8), printable(name), va="top")

    # ---- how much, and how long

    def throughput(self) -> str:
        """Each step's rate, bytes downloaded a second, and executions under way."""
        if not len(self._targets):
            return ""
        spans = flow.bins(self._end_s)
        middle = (spans.edges[:-1] + spans.width_s / 2) / self._size

        def rates(axes: Any) -> None:
            for nth, (name, at) in enumerate(flow.steps(self._trace).items()):
                y = flow.rate(at - self._zero_s, spans)
                if y.any():
                    axes.plot(middle, y, label=name, gid=f"rate-{nth}", **style(nth, turn=nth))
            self._on_time(axes, "events a second")
            if axes.lines:
                above(axes)

        def load(axes: Any) -> None:
            at, size = flow.bytes_of(self._trace)
            axes.fill_between(middle, flow.rate(at - self._zero_s, spans, size) / 1e6, step="mid", color=COLOURS[5])
            self._on_time(axes, "downloaded [MB/s]")

        def backlog(axes: Any) -> None:
            at, count = flow.under_way(self._trace)
            kept = few(len(at))
            axes.step((at[kept] - self._zero_s) / self._size, count[kept], where="post", color=COLOURS[0])
            self._on_time(axes, "executions under way")

        title = f"Steps and bytes a second, in spans of {spans.width_s:g} s, and what was under way"
        return drawn([rates, load, backlog], title, height=2.4)

    def latency(self) -> str:
        """How long some steps took, by when they ended: each, or some of them where they are many, and quantiles."""
        shown = {name: spans for name, spans in self._durations().items() if name in _OVER_TIME}
        paints = [partial(self._took, name=name, steps=spans) for name, spans in shown.items()]
        return drawn(paints, "How long steps took, over the time at which they ended", height=2.2) if shown else ""

    def _took(self, axes: Any, name: str, steps: Spans) -> None:
        at = (steps.at_s - self._zero_s) / self._size
        kept = few(len(at), _DOTS)
        label = "each" if len(kept) == len(at) else f"{len(kept):,} of {len(at):,}"
        axes.plot(at[kept], steps.took_s[kept], ".", color=COLOURS[0], alpha=0.5, markersize=4, label=label)
        for nth, (share, x, y) in enumerate(self._quantiles(steps)):
            axes.plot(x, y, label=share, **style(nth + 1, turn=nth))
        self._on_time(axes, f"{name} [s]")
        if axes.lines:
            axes.legend(loc="best", fontsize=8)

    def _quantiles(self, steps: Spans) -> list[tuple[str, Seconds, Seconds]]:
        """Median, 95th and 99th percentile over spans of time, where these hold enough to tell."""
        spans = flow.bins(self._end_s, 12)
        which = ((steps.at_s - self._zero_s) // spans.width_s).astype(int)
        groups = [(n, steps.took_s[which == n]) for n in np.unique(which).tolist()]
        enough = [(n, took) for n, took in groups if len(took) >= 10]
        if len(enough) < 2:
            return []
        x = np.array([(n + 0.5) * spans.width_s / self._size for n, _ in enough])
        return [
            (f"p{share}", x, np.array([np.percentile(took, share) for _, took in enough])) for share in (50, 95, 99)
        ]

    def distributions(self) -> str:
        """For each step, which share of the times it took was at most so long; on a logarithmic axis."""
        took_s = {name: spans.took_s for name, spans in self._durations().items()}
        took_s = {name: np.sort(took[took > 0]) for name, took in took_s.items() if (took > 0).any()}
        if not took_s:
            return ""

        def paint(axes: Any) -> None:
            for name, took in took_s.items():
                kept, nth = few(len(took), 300), _STEPS.index(name)
                axes.step(
                    took[kept], 100 * (kept + 1) / len(took), where="post", label=name, **style(nth, turn=nth // 3)
                )
            axes.set(ylabel="took at most so long [%]", ylim=(0, 103))
            of_times(axes)
            plain(axes)
            beside(axes)

        return drawn([paint], "How long each step took: the share of all times that was at most so long")

    def waterfall(self) -> str:
        """Where the time of the median and of the 99th percentile's update went."""
        courses = self._trace.once(effort.waterfall)
        if not courses:
            return ""
        there = {name for course in courses.values() for name in course.parts_s}
        looks = {name: bar(nth) for nth, name in enumerate(_PARTS) if name in there}

        def paint(axes: Any) -> None:
            for row, course in enumerate(courses.values()):
                left = 0.0
                for name, look in looks.items():
                    seconds = course.parts_s.get(name, 0.0)
                    axes.barh(row, seconds, left=left, height=0.6, **look)
                    left += seconds
            axes.set_yticks(range(len(courses)), [f"{which}\n{printable(c.thing)}" for which, c in courses.items()])
            axes.invert_yaxis()
            axes.set_xlabel("seconds since the offer was due")
            plain(axes)
            beside(axes, *all_labels(looks))

        return drawn([paint], "Where the time went: the median update, and that of the 99th percentile", height=2.2)

    # ---- the load generator

    def health(self, lag_allowed_s: float | None) -> str:
        """Each process's lag and CPU over time; above the limit of lag the run is invalid."""
        reports = self._health()
        lag, cpu, memory = (_series(reports, fact) for fact in (_worst_lag_ms, _cpu_percent, _memory_mb))
        if not cpu:
            return ""
        late = flow.lateness(self._trace)

        def lags(axes: Any) -> None:
            for nth, (process, (at, value)) in enumerate(lag.items()):
                axes.plot(at / self._size, value, label=process, **style(nth))
            axes.plot((late.at_s - self._zero_s) / self._size, late.took_s * 1e3, "k:", label="schedule lateness")
            if lag_allowed_s is not None:
                top = max(lag_allowed_s * 1e3, axes.get_ylim()[1]) * 1.2
                axes.axhspan(lag_allowed_s * 1e3, top, color="#D55E00", alpha=0.12, linewidth=0)
                text = "INVALID if the p99 of a shard, the application or the schedule lies up here"
                note(axes, 0.98, lag_allowed_s * 1e3, text, axes.get_yaxis_transform(), ha="right", va="bottom")
                axes.set_ylim(0, top)
            axes.set_ylabel("lag, worst of\na second [ms]")
            plain(axes)
            beside(axes)

        def used(axes: Any, series: Series, label: str) -> None:
            for nth, (process, (at, value)) in enumerate(series.items()):
                axes.plot(at / self._size, value, label=process, **style(nth))
            axes.set(ylabel=label, xlabel=f"{self._unit} {SINCE}", ylim=(0, None))
            plain(axes)
            beside(axes)

        paints = [
            lags,
            lambda axes: used(axes, cpu, "CPU [% of a core]"),
            lambda axes: used(axes, memory, "memory [MB]"),
        ]
        return drawn(paints, "The load generator and the servers that it started: lag, CPU and memory", height=2.0)

    def _health(self) -> list[tuple[float, dict[str, Any]]]:
        """What each process told of itself, and when."""
        view = self._trace.kind(Kind.HEALTH)
        at = view["t_us"] / 1e6 - self._zero_s
        return [(when, json.loads(detail)) for when, detail in zip(at.tolist(), view.texts("detail"), strict=True)]

    def _durations(self) -> dict[str, Spans]:
        return self._trace.once(durations, self._targets)

    def _on_time(self, axes: Any, label: str) -> None:
        axes.set(xlabel=f"{self._unit} {SINCE}", ylabel=label, xlim=(0, self._end_s / self._size), ylim=(0, None))
        plain(axes)


def _series(reports: list[tuple[float, dict[str, Any]]], fact: Callable[[dict[str, Any]], float | None]) -> Series:
    """Process -> when, and how much of this fact."""
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for at, facts in reports:
        if (value := fact(facts)) is not None:
            series[facts["process"]].append((at, value))
    return {name: (np.array(points)[:, 0], np.array(points)[:, 1]) for name, points in series.items()}


def _worst_lag_ms(facts: dict[str, Any]) -> float | None:
    return max(facts["loop_lag_us"]) / 1e3 if facts.get("loop_lag_us") else None


def _cpu_percent(facts: dict[str, Any]) -> float:
    return float(facts["cpu_share"]) * 100


def _memory_mb(facts: dict[str, Any]) -> float:
    return float(facts["rss_bytes"]) / 1e6
