"""How pictures look: colours, lines and axes, and the SVG that stands inside a page."""

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
    """In which unit an axis of time is told that ends there, and how many seconds that is."""
    return next((name, size) for least, name, size in _UNITS if end_s >= least)


def drawn(paints: Sequence[Callable[[Any], None]], title: str, height: float = 3.6, columns: int = 1) -> str:
    """One picture of axes in so many columns, each painted by its function."""
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
    """A colour and a line of its own; `turn` picks the line."""
    return {"color": COLOURS[nth % 7], "linestyle": _STYLES[(nth // 7 if turn is None else turn) % 4]}


def bar(nth: int) -> dict[str, Any]:
    """A part of a bar: a colour and a hatching of its own."""
    colours = (*COLOURS, _GREY)
    return {"facecolor": colours[nth % 8], "hatch": _HATCHES[nth % 8], "edgecolor": "white"}


def plain(axes: Any) -> None:
    """A grid behind, and no frame where no axis is."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def of_times(axes: Any) -> None:
    """A logarithmic axis of times, below; without a formula for a label, which takes a third of a second to set."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5) if high < _NARROW * low else (1,))
    axes.xaxis.set_major_formatter(lambda seconds, _: _tick(seconds))
    axes.xaxis.set_minor_formatter("")


def _tick(seconds: float) -> str:
    unit, size = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s / 2), ("µs", 1e-6))
    return f"{seconds / size:g} {unit}"


def all_labels(looks: Mapping[str, dict[str, Any]]) -> tuple[list[Any], list[str]]:
    """A legend of all parts by their looks, whichever bar has them."""
    from matplotlib.patches import Patch

    return [Patch(label=name, **look) for name, look in looks.items()], list(looks)


def beside(axes: Any, *labels: Any) -> None:
    """A legend to the right of the axes."""
    axes.legend(*labels, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)


def above(axes: Any) -> None:
    """A legend over the axes, in one row: it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, ncols=len(axes.lines), frameon=False, borderpad=0)


def note(axes: Any, x: float, y: float, text: str, transform: Any = None, **look: Any) -> None:
    """A few words just to the right of a place; `transform` says what of it is a share of the axes. They may reach out
    of the picture, and take no room from it."""
    at = axes.transData if transform is None else transform
    label = axes.annotate(text, (x, y), xycoords=at, xytext=(3, 0), textcoords="offset points", fontsize=8, **look)
    label.set_in_layout(False)


def printable(text: str) -> str:
    """The text, without what a picture cannot show or would take for a formula."""
    return "".join(c if c.isprintable() else "�" for c in text).replace("$", r"\$")


def _inline(svg: str) -> str:
    """The SVG without what only a file of its own needs: names of its own among them, but for those that it refers to
    and ours."""
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
    used = set(re.findall(r"#([\w-]+)", svg))
    return re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used or re.fullmatch(_NAMED, m[1]) else "", svg)


def curve(times: Seconds, end: float) -> tuple[Seconds, Seconds]:
    """Time and percentage, in at most so many points, from 0 to `end`."""
    done = np.sort(times[~np.isnan(times)])
    reached = 100 * np.arange(1, len(done) + 1) / max(1, len(times))
    kept = few(len(done))
    done, reached = done[kept], reached[kept]
    last = reached[-1] if len(reached) else 0.0
    return np.concatenate([[0.0], done, [end]]), np.concatenate([[0.0], reached, [last]])


def few(count: int, most: int = _POINTS) -> Any:
    """Places of at most so many of the values, the first and the last among them."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(int)
