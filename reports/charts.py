"""The pictures of a report, as SVG that stands inside a page."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

from reports.summary import Seconds, began_s, cohorts, converged_s, faults
from simulator.model.events import Kind
from simulator.trace.reader import Trace
from simulator.trace.targets import Targets

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
_STYLES = ("-", "--", "-.", ":")
_POINTS = 1000
_UNITS = ((3 * 3600.0, "hours", 3600.0), (600.0, "minutes", 60.0), (0.0, "seconds", 1.0))
_LEGEND_MAX = 12


def convergence(trace: Trace) -> str:
    """The share of each cohort's targets that converged, over time; those that never do stay in the whole."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    targets = Targets(trace)
    times = converged_s(trace, targets)
    end = _end(trace, targets, times)
    unit, size = next((name, size) for least, name, size in _UNITS if end >= least)
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "fleetsim",
        "font.family": "sans-serif",
        "font.size": 10,
    }
    with plt.rc_context(settings):
        figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
        for nth, (cohort, ours) in enumerate(cohorts(trace, targets).items()):
            x, y = _curve(times[ours], end)
            label = _printable(f"{cohort or 'all'} ({int(ours.sum()):,})")
            style: dict[str, Any] = {"color": _COLOURS[nth % 6], "linestyle": _STYLES[nth // 6 % 4], "label": label}
            axes.step(x / size, y, where="post", gid=f"cohort-{nth}", **style)
        _dress(axes, unit, end / size)
        _shade(axes, trace, targets, size)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        plt.close(figure)
    return _inline(out.getvalue())


def _end(trace: Trace, targets: Targets, times: Seconds) -> float:
    """Where the picture ends: behind the last that converged, or with the record where a rollout had not ended."""
    over = np.isin(targets.rollout, trace.kind(Kind.ROLLOUT).where("status", "end")["job"]).all()
    if over and not np.isnan(times).all():
        return float(np.nanmax(times)) * 1.03 + 1e-3
    since = began_s(trace, targets)
    if np.isnan(since).all():
        return 1.0
    return max(float(trace.column("t_us")[-1]) / 1e6 - float(np.nanmin(since)), 1e-3)


def _curve(times: Seconds, end: float) -> tuple[Seconds, Seconds]:
    """Time and percentage, in at most so many points, from 0 to `end`."""
    done = np.sort(times[~np.isnan(times)])
    reached = 100 * np.arange(1, len(done) + 1) / max(1, len(times))
    if len(done) > _POINTS:
        kept = np.linspace(0, len(done) - 1, _POINTS).astype(int)
        done, reached = done[kept], reached[kept]
    last = reached[-1] if len(reached) else 0.0
    return np.concatenate([[0.0], done, [end]]), np.concatenate([[0.0], reached, [last]])


def _dress(axes: Any, unit: str, end: float) -> None:
    axes.set(xlabel=f"{unit} since the rollout began", ylabel="converged [%]", xlim=(0, end), ylim=(0, 103))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if 1 < len(axes.lines) <= _LEGEND_MAX:
        axes.legend(loc="lower right", title="cohort (targets)", frameon=True)


def _shade(axes: Any, trace: Trace, targets: Targets, size: float) -> None:
    """The windows of faults that began while the rollout ran, as far as they are in the picture."""
    last = axes.get_xlim()[1]
    turns = [(f["fault"], f["begin_s"], f["end_s"]) for f in faults(trace, targets) if f["begin_s"] is not None]
    timed = [turn for turn in turns if 0 < turn[1] / size < last]
    for nth, (name, begin, end) in enumerate(timed):
        until = last if end is None else min(end / size, last)
        axes.axvspan(begin / size, until, color="#777777", alpha=0.15, linewidth=0, gid=f"fault-{nth}")
        label = axes.text(begin / size, 100 - 7 * (nth % 8), f" {_printable(name)}", fontsize=8, va="top")
        label.set_in_layout(False)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text).replace("$", r"\$")


def _inline(svg: str) -> str:
    """The SVG without what only a file of its own needs."""
    return re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
