"""The pictures of a comparison: the runs over each other, and how far the figures are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from reports.comparison.compare import Curves
from reports.comparison.differences import Change
from reports.drawing import COLOURS, SINCE, curve, drawn, few, of_times, plain, style, time_unit
from reports.run import flow
from simulator.trace.targets import Seconds

_POINTS = 300
_LOOKS = {Change.WORSE: (COLOURS[1], "X"), Change.BETTER: (COLOURS[2], "o"), Change.UNSURE: (COLOURS[4], "s")}
_OTHERWISE = (COLOURS[6], "o")
_LEAST_S = 1e-6  # which a logarithmic axis shows
_FAR = 10.0  # what changed by more than tenfold is drawn at the edge

Runs = dict[str, Curves]


def convergence(runs: Runs) -> str:
    """The share of the targets that had converged, over time."""
    if not any(len(side.converged_s) for side in runs.values()):
        return ""

    def paint(axes: Any, unit: str, size: float) -> None:
        for nth, (name, side) in enumerate(runs.items()):
            x, y = curve(side.converged_s, side.end_s)
            axes.step(x / size, y, where="post", label=f"{name} ({len(side.converged_s):,} targets)", **_line(nth))
        axes.set(xlabel=f"{unit} {SINCE}", ylabel="converged [%]", ylim=(0, 103))
        axes.legend(loc="lower right")

    return drawn([_timed(runs, paint)], "Share of the targets that converged")


def throughput(runs: Runs) -> str:
    """How many devices heard of the new software in a second, and how much was downloaded."""
    spans = flow.bins(max(side.end_s for side in runs.values()))

    def paint(axes: Any, unit: str, size: float, *, label: str, rate: Callable[[Curves], Seconds]) -> None:
        for nth, (name, side) in enumerate(runs.items()):
            axes.step(spans.edges[:-1] / size, rate(side), where="post", label=name, **_line(nth))
        axes.set(xlabel=f"{unit} {SINCE}", ylabel=label, ylim=(0, None))
        axes.legend(loc="upper right")

    rates: dict[str, Callable[[Curves], Seconds]] = {
        "deltas a second": lambda side: flow.rate(side.heard_s, spans),
        "downloaded [MB/s]": lambda side: flow.rate(side.bytes_s, spans, side.bytes) / 1e6,
    }
    paints = [_timed(runs, partial(paint, label=label, rate=rate)) for label, rate in rates.items()]
    return drawn(paints, f"Throughput, averaged over {spans.width_s:g} s", height=2.3)


def _timed(runs: Runs, paint: Callable[[Any, str, float], None]) -> Callable[[Any], None]:
    """Painted on the time axis that all pictures share."""
    end = max(side.end_s for side in runs.values())
    unit, size = time_unit(end)

    def painted(axes: Any) -> None:
        paint(axes, unit, size)
        axes.set_xlim(0, end / size)
        plain(axes)

    return painted


def distributions(runs: Runs) -> str:
    """For each step, which share of the times it took was at most so long; logarithmic."""
    names = list(dict.fromkeys(name for side in runs.values() for name, took in side.took_s.items() if took[-1] > 0))
    if not names:
        return ""

    def paint(axes: Any, step: str) -> None:
        for nth, (name, side) in enumerate(runs.items()):
            took = side.took_s.get(step)
            if took is not None:
                kept = few(len(took), _POINTS)
                x, y = took[kept].clip(min=_LEAST_S), 100 * (kept + 1) / len(took)
                axes.step([x[0], *x], [0.0, *y], where="post", label=name, **_line(nth))
        axes.set_title(step, fontsize=10, loc="left")
        axes.set(ylim=(0, 103))
        of_times(axes)
        plain(axes)
        axes.legend(loc="lower right", fontsize=8)

    title = "How long each step took: the share [%] of all times up to a given time"
    return drawn([partial(paint, step=name) for name in names], title, height=2.1, columns=2)


def intervals(rows: Sequence[dict[str, Any]]) -> str:
    """By how much each figure changed, with its interval; the tolerance is shaded. Shares of failures have other units
    and are left to the table."""
    shown = [row for row in rows if row["unit"] != "share" and row["change"] not in (Change.FEW, Change.ABSENT)]
    if not shown:
        return ""

    def paint(axes: Any) -> None:
        for at, row in enumerate(shown):
            colour, marker = _LOOKS.get(Change(row["change"]), _OTHERWISE)
            point, low, high = (_within(row[key]) for key in ("difference", "low", "high"))
            axes.plot([low, high], [at, at], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([point], [at], marker, color=colour, markersize=6, clip_on=False)
        allowed = 100 * shown[0]["allowed"]
        axes.axvspan(-allowed, allowed, color="#777777", alpha=0.15, linewidth=0)
        axes.axvline(0, color="#222222", linewidth=0.8)
        axes.set_yticks(range(len(shown)), [row["figure"] for row in shown])
        axes.invert_yaxis()
        axes.set_xlabel("change from the baseline [%]; the tolerance is shaded")
        ends = [_within(row[key]) for row in shown for key in ("difference", "low", "high")]
        least = max(2 * allowed, 1.0)
        axes.set_xlim(min(1.1 * min(ends), -least), max(1.1 * max(ends), least))
        plain(axes)

    return drawn([paint], "How much each figure changed, with its interval", height=0.8 + 0.27 * len(shown))


def _within(share: float | None) -> float:
    """In percent; what has no bound, or is beyond the picture, at its edge."""
    return 100 * _FAR if share is None else 100 * float(np.clip(share, -_FAR, _FAR))


def _line(nth: int) -> dict[str, Any]:
    """The baseline is dashed, so that a run that covers it lets it be seen."""
    return style(nth) | ({"linestyle": "--", "zorder": 3} if nth == 0 else {})
