"""Draws the charts of all pages with matplotlib, as SVG text that stands inside the HTML.

`drawn` makes one picture. Its caller gives a function for each part of the picture, which paints on matplotlib axes. The
other functions give the colours, line styles, axes, legends and notes that all charts share, and reduce long curves to
few points. The charts of a run, of a comparison and of a sweep use them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from simulator.trace.targets import Seconds

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")  # Okabe and Ito
_GREY = "#999999"
_STYLES = ("-", "--", "-.", ":")
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
SINCE = "since the rollout began"
_UNITS = ((3 * 3600.0, "hours", 3600.0), (600.0, "minutes", 60.0), (0.0, "seconds", 1.0))
_POINTS = 1000
_NARROW = 100.0  # of a logarithmic axis that spans less, more than the powers of ten are named
_NAMED = r"(cohort|wave|fault|rate)-\d+"


def time_unit(end_s: float) -> tuple[str, float]:
    """The unit for a time axis that ends at `end_s`: its name, and how many seconds one of it is."""
    return next((name, size) for least, name, size in _UNITS if end_s >= least)


def drawn(paints: Sequence[Callable[[Any], None]], title: str, height: float = 3.6, columns: int = 1) -> str:
    """One picture as SVG text. Each function of `paints` paints axes of its own; these stand in `columns` columns, in rows
    that are `height` inches high."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": title,  # no two pictures of a page share a name
        "font.family": "sans-serif",
        "font.size": 10,
    }
    with rc_context(settings):
        rows = -(-len(paints) // columns)
        figure = Figure(figsize=(9, height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        for axes, paint in zip_longest(grid.flat, paints):
            if paint:
                paint(axes)
            else:
                axes.set_axis_off()
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        paper: Any = FigureCanvasSVG(figure)
        paper.print_svg(out, metadata=nothing)  # Figure.savefig would draw all twice
    return _inline(out.getvalue())


def style(nth: int, turn: int | None = None) -> dict[str, Any]:
    """How the curve number `nth` looks: its colour and its line style; `turn`, if given, picks the line style instead."""
    return {"color": COLOURS[nth % 7], "linestyle": _STYLES[(nth // 7 if turn is None else turn) % 4]}


def bar(nth: int) -> dict[str, Any]:
    """How part number `nth` of a bar looks: its colour and its hatching."""
    colours = (*COLOURS, _GREY)
    return {"facecolor": colours[nth % 8], "hatch": _HATCHES[nth % 8], "edgecolor": "white"}


def plain(axes: Any) -> None:
    """Put a grid behind what is painted, and leave out the frame at the top and at the right."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def of_times(axes: Any) -> None:
    """Make the x axis a logarithmic one of times in seconds. Its labels are plain text (`10 ms`), because matplotlib needs
    a third of a second to set formulas."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5) if high < _NARROW * low else (1,))
    axes.xaxis.set_major_formatter(lambda seconds, _: _tick(seconds))
    axes.xaxis.set_minor_formatter("")


def _tick(seconds: float) -> str:
    unit, size = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s / 2), ("µs", 1e-6))
    return f"{seconds / size:g} {unit}"


def all_labels(looks: Mapping[str, dict[str, Any]]) -> tuple[list[Any], list[str]]:
    """(handles, names) for a legend of all parts of the bars; `looks` maps a part's name to how it looks."""
    from matplotlib.patches import Patch

    return [Patch(label=name, **look) for name, look in looks.items()], list(looks)


def beside(axes: Any, *labels: Any) -> None:
    """A legend to the right of the axes."""
    axes.legend(*labels, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)


def above(axes: Any) -> None:
    """A legend over the axes, in one row: it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, ncols=len(axes.lines), frameon=False, borderpad=0)


def note(axes: Any, x: float, y: float, text: str, transform: Any = None, **look: Any) -> None:
    """Write a few words just to the right of the point (x, y). The point is in the units of the axes, or in those of
    `transform`, such as a share of the axes. The words make no room for themselves: they may reach out of the picture."""
    at = axes.transData if transform is None else transform
    label = axes.annotate(text, (x, y), xycoords=at, xytext=(3, 0), textcoords="offset points", fontsize=8, **look)
    label.set_in_layout(False)


def printable(text: str) -> str:
    """The text without characters that a picture cannot show, and with each $ marked so that it begins no formula."""
    return "".join(c if c.isprintable() else "�" for c in text).replace("$", r"\$")


def _inline(svg: str) -> str:
    """The SVG without what only a separate file needs: its namespaces, and the ids that nothing refers to. Our own ids,
    such as `wave-1`, stay."""
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
    used = set(re.findall(r"#([\w-]+)", svg))
    return re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used or re.fullmatch(_NAMED, m[1]) else "", svg)


def curve(times: Seconds, end: float) -> tuple[Seconds, Seconds]:
    """The curve of what was reached when: (times, percentages), from 0 to `end` seconds. `times` has one value for each
    target in seconds, NaN for one that never got there. Long curves are reduced to some 1,000 points."""
    done = np.sort(times[~np.isnan(times)])
    reached = 100 * np.arange(1, len(done) + 1) / max(1, len(times))
    kept = few(len(done))
    done, reached = done[kept], reached[kept]
    last = reached[-1] if len(reached) else 0.0
    return np.concatenate([[0.0], done, [end]]), np.concatenate([[0.0], reached, [last]])


def few(count: int, most: int = _POINTS) -> Any:
    """The indices of at most `most` out of `count` values, evenly spread, the first and the last among them."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(int)
