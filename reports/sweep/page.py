"""The page of a sweep: one self-contained HTML file, what it found first, then the curves and each point."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from reports.drawing import COLOURS, beside, drawn, note, plain, printable, style
from reports.html import Raw, facts, setting, table, write_page
from reports.sweep.capacity import busiest, headline, median_p99, medians, number, throughput, with_interval
from reports.sweep.points import STEPS, spelled
from reports.sweep.saturation import part_of
from reports.sweep.scaling import Estimate
from reports.words import MARKS
from simulator.model.verdict import Verdict

_OURS = ".points td:nth-child(-n+7){white-space:nowrap}"
_UNITS = {"devices": "devices", "rates": "offered a second"}
_INVALID = COLOURS[1]
_LAW = (
    "The Universal Scalability Law, X(N) = λN / (1 + σ(N-1) + κN(N-1)), through each run that counts: λ is the "
    "throughput at a load of one; σ is the share of the work that cannot be done in parallel; κ is the cost of the "
    "coordination between each pair. If κ is above 0, more load means less throughput in the end."
)
_HOW = {
    "devices": "Updates a second: the first 90% of the updates that succeeded, divided by the time from the start of the "
    "rollout until the last of these succeeded.",
    "rates": "Updates a second: the updates that succeeded while the rate was held, divided by that time. It begins "
    "when the slowest of the first 10% of the updates could have ended, and it ends with the last offer.",
}
_FAN_OUT = (
    "Deltas a second: how many devices a second heard of the new software, counted from when 10% of those that heard "
    "had heard until 90% had."
)
_USED = (
    "The first picture shows how much of a core each process used while the rollout ran: the mean as a solid line, its "
    "busiest second as a dashed line. The second shows how much of the time the process waited for a free core."
)
_ANY = {0: "PASS", 1: "FAIL", 2: "UNKNOWN", 4: "FAIL"}


def write_sweep(path: Path, sweep: dict[str, Any]) -> None:
    """Write the page of what sweep.json holds."""
    title = f"Capacity: {sweep['scenario']['name']}"
    parts = [
        f"<style>{_OURS}</style>",
        _head(title, sweep),
        _facts(sweep),
        _curves(sweep),
        _points(sweep),
        _law(sweep),
        _setting(sweep),
    ]
    write_page(path, title, parts)


def _head(title: str, sweep: dict[str, Any]) -> str:
    """What was found, and what of it cannot be told."""
    analysis = sweep["analysis"]
    sentences = [headline(sweep)]
    if sweep["ended"]:
        sentences.append(f"The sweep ended early, {sweep['ended']}. To go on: {sweep['command']}")
    names = {"knee": "Knee", "beyond": "Beyond", "saturated": "Saturated"}
    sentences += [f"{name}: {analysis[f'{key}_said']}." for key, name in names.items()]
    lines = "".join(f"<li>{escape(line)}</li>" for line in [*sentences, *analysis["notes"]])
    description = escape(sweep["scenario"].get("description", ""))
    kind = _ANY.get(sweep["exit_code"], "UNKNOWN")
    return f'<header class="{kind}"><h1>{escape(title)}</h1><p>{description}</p><ul>{lines}</ul></header>'


def _facts(sweep: dict[str, Any]) -> str:
    analysis, axis, points = sweep["analysis"], sweep["axis"], sweep["points"]
    most = analysis["most_per_s"]
    heard = [p["deltas_per_s"] for p in points if p["counts"] and p["deltas_per_s"] is not None]
    last = max((p["load"] for p in points if p["counts"]), default=None)
    shown = (
        (number(most), "updates a second, the highest"),
        ("-" if most is None else spelled(analysis["most_at"], axis), "the load that reached it"),
        (number(max(heard, default=None)), "deltas a second, the highest"),
        ("-" if last is None else spelled(last, axis), "where measurement ends"),
        (f"{analysis['counting']} of {len(points)}", "runs count"),
    )
    return facts(shown)


# ---- the curves


def _curves(sweep: dict[str, Any]) -> str:
    if not sweep["points"]:
        return "<p>Nothing was measured.</p>"
    over_devices = sweep["axis"] == "devices"
    paints = [partial(_updates, sweep=sweep), partial(_deltas, sweep=sweep)]
    if not over_devices:
        paints.insert(1, partial(_against_under_way, sweep=sweep))
    text = f"<h2>Throughput</h2><p>{_HOW[sweep['axis']]} {_FAN_OUT}</p>{drawn(paints, _of(sweep, 'Throughput'), height=3.0)}"
    latencies = [partial(_latency, sweep=sweep, key=key) for key in STEPS if _any(sweep, key)]
    if latencies:
        text += f"<h2>Latency</h2>{drawn(latencies, _of(sweep, 'Latency'), height=2.4)}"
    if any(p["cpu"] for p in sweep["points"]):
        used = [
            partial(_used, sweep=sweep, shares={"mean": "-", "most": "--"}, label="used [% of a core]"),
            partial(_used, sweep=sweep, shares={"waited": "-"}, label="waited for a core\n[% of the time]"),
        ]
        text += f"<h2>What was used</h2><p>{_USED}</p>{drawn(used, _of(sweep, 'CPU of each process'), height=2.4)}"
    return text


def _of(sweep: dict[str, Any], what: str) -> str:
    return f"{what} against {'the number of devices' if sweep['axis'] == 'devices' else 'the offered rate'}"


def _any(sweep: dict[str, Any], key: str) -> bool:
    return any(p[key] for p in sweep["points"])


def _updates(axes: Any, sweep: dict[str, Any]) -> None:
    """Updates a second, with the law's curve over devices, or beside what was offered."""
    if sweep["axis"] == "devices":
        _curve(axes, sweep)
    else:
        top = max(p["load"] for p in sweep["points"])
        axes.plot([0, top], [0, top], color="#777777", linewidth=0.8, label="as offered")
    _dots(axes, sweep, "load", throughput(sweep))
    if (knee := sweep["analysis"]["knee"]) is not None:
        axes.axvline(knee, color=COLOURS[2], linewidth=1, linestyle=":")
        note(axes, knee, 0.02, "knee", axes.get_xaxis_transform(), color=COLOURS[2])
    _finish(axes, sweep, "updates a second")


def _against_under_way(axes: Any, sweep: dict[str, Any]) -> None:
    """Updates a second by how many executions were under way at once, with the law's curve."""
    _curve(axes, sweep)
    _dots(axes, sweep, "under_way", throughput(sweep))
    _finish(axes, sweep, "updates a second", "under_way")
    axes.set_xlabel("executions under way (mean)")


def _deltas(axes: Any, sweep: dict[str, Any]) -> None:
    _dots(axes, sweep, "load", "deltas_per_s")
    _finish(axes, sweep, "deltas a second")


def _curve(axes: Any, sweep: dict[str, Any]) -> None:
    """The law where it was fitted, dashed beyond the last load that counts, within its interval."""
    law = sweep["analysis"]["law"]
    if law is None:
        return
    n, value, low, high = (np.array([row[name] for row in law["curve"]]) for name in ("N", "value", "low", "high"))
    within, beyond = n <= law["last"] * (1 + 1e-9), n >= law["last"] * (1 - 1e-9)
    within |= np.arange(len(n)) == np.argmax(beyond)
    axes.fill_between(n, low, high, color=COLOURS[0], alpha=0.12, linewidth=0, label="90% interval")
    axes.plot(n[within], value[within], color=COLOURS[0], label="the law")
    if beyond.sum() > 1:
        axes.plot(n[beyond], value[beyond], color=COLOURS[0], linestyle="--", label="extrapolated")
        axes.axvline(law["last"], color="#777777", linewidth=0.8)
        note(axes, law["last"], 0.98, "measurement ends", axes.get_xaxis_transform(), va="top")


def _dots(axes: Any, sweep: dict[str, Any], x: str, y: str) -> None:
    """Each run; those that do not count are hollow, and those of a bottleneck in the load generator crossed."""
    shown = [p for p in sweep["points"] if p[x] is not None and p[y] is not None]
    looks: tuple[tuple[str, Callable[[dict[str, Any]], bool], dict[str, Any]], ...] = (
        ("a run that counts", lambda p: p["counts"], {"marker": "o", "color": COLOURS[0]}),
        ("INVALID: generator too slow", lambda p: bool(p["invalid"]), {"marker": "x", "color": _INVALID}),
        ("does not count", lambda p: not p["counts"] and not p["invalid"],
         {"marker": "o", "markeredgecolor": _INVALID, "color": "none"}),
    )  # fmt: skip
    for label, of, look in looks:
        if points := [p for p in shown if of(p)]:
            axes.plot([p[x] for p in points], [p[y] for p in points], linestyle="", label=label, zorder=3, **look)


def _latency(axes: Any, sweep: dict[str, Any], key: str) -> None:
    for which, line, cross in (("median", "-", "x"), ("p99", "--", "+")):
        shown = [p | {key: p[key][which]} for p in sweep["points"] if p[key]]
        counting = [p for p in shown if p["counts"]]
        axes.plot(*medians(counting, key), linestyle=line, color=COLOURS[0], label=which)
        for of, look in ((True, {"marker": "o", "color": COLOURS[0]}), (False, {"marker": cross, "color": _INVALID})):
            points = [p for p in shown if p["counts"] is of]
            label = None if of else f"{which}, does not count"
            if points:
                axes.plot([p["load"] for p in points], [p[key] for p in points], linestyle="", label=label, **look)
    _logarithmic(axes)
    _finish(axes, sweep, f"{STEPS[key]} [s]")


def _logarithmic(axes: Any) -> None:
    """With ticks that people read."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _used(axes: Any, sweep: dict[str, Any], shares: dict[str, str], label: str) -> None:
    """Shares of a core, a line style for each, of each process."""
    for nth, name in enumerate(sorted({name for p in sweep["points"] for name in p["cpu"]})):
        for which, line in shares.items():
            shown = [p | {"used": 100 * (p["cpu"][name][which] or 0)} for p in sweep["points"] if name in p["cpu"]]
            part = "" if part_of(name) == name else f": {part_of(name)}"
            named = printable(f"{name}{part}") if line == "-" else None
            axes.plot(*medians(shown, "used"), label=named, marker=".", **style(nth) | {"linestyle": line})
    axes.axhline(100, color="#777777", linewidth=0.8)
    _finish(axes, sweep, label)


def _finish(axes: Any, sweep: dict[str, Any], label: str, over: str = "load") -> None:
    law = sweep["analysis"]["law"]
    furthest = max((p[over] for p in sweep["points"] if p[over] is not None), default=1)
    if law and (sweep["axis"] == "devices" or over == "under_way") and label.endswith("a second"):
        furthest = max(furthest, law["curve"][-1]["N"])
    axes.set(xlabel=_UNITS[sweep["axis"]], ylabel=label, xlim=(0, furthest * 1.05))
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, max(axes.get_ylim()[1], axes.dataLim.y1 * 1.06))
    plain(axes)
    if axes.get_legend_handles_labels()[0]:
        beside(axes)


# ---- the figures


def _points(sweep: dict[str, Any]) -> str:
    """Each run, with where its own report is."""
    heads = ("load", "verdict", "deltas a second", "updates a second", "under way",
             "offer to delta, median / p99", "whole update, median / p99", "busiest process")  # fmt: skip
    rows = []
    for p in sorted(sweep["points"], key=lambda p: (p["load"], p["nth"])):
        rows.append((
            Raw(f'<a href="{escape(p["run"])}/report.html">{spelled(p["load"], sweep["axis"])}</a>'), _verdict(p), number(p["deltas_per_s"]), number(p[throughput(sweep)]),
            number(p["under_way"]), median_p99(p["offer_to_delta_s"]), median_p99(p["whole_update_s"]), Raw(escape(busiest(p))),
        ))  # fmt: skip
    left = [(spelled(p["load"], sweep["axis"]), Raw(escape(p["why"]))) for p in sweep["points"] if p["why"]]
    text = f"<h2>Each run, with its own report</h2>{table(heads, rows, 'points')}" if rows else ""
    return text + (f"<h2>Runs that do not count, and why</h2>{table(('load', 'why'), left, 'setting')}" if left else "")


def _verdict(point: dict[str, Any]) -> Raw:
    verdict = Verdict(point["verdict"])
    return Raw(f"<td class={verdict}>{MARKS[verdict]} {verdict}</td>")


def _law(sweep: dict[str, Any]) -> str:
    """The law's parameters, or why there are none."""
    analysis = sweep["analysis"]
    law = analysis["law"]
    if law is None:
        return f"<h2>The law of scaling</h2><p>{escape(analysis['law_said'].capitalize())}.</p>"
    rows = [
        ("λ, updates a second at a load of one", with_interval(Estimate(**law["lambda"]))),
        ("σ, the share of the work that cannot be done in parallel", with_interval(Estimate(**law["sigma"]))),
        ("κ, the cost of coordination, for each pair", with_interval(Estimate(**law["kappa"]))),
        (
            f"{law['N']} at which throughput peaks",
            with_interval(Estimate(**law["peak"])) if law["peak"] else "cannot be told",
        ),
        ("how far the points lie from the law", f"{law['scatter']:.1%} (standard deviation)"),
    ]
    by = "" if law["N"] == "devices" else " N is the mean number of executions under way."
    return (
        f"<h2>The law of scaling</h2><p>{_LAW}{by}</p>"
        + table(("parameter", "value (90% interval)"), rows)
        + f"<p>{escape(analysis['beyond_said'].capitalize())}.</p>"
    )


def _setting(sweep: dict[str, Any]) -> str:
    """How it was measured, and how to measure it again."""
    options = ", ".join(f"{name} {_plainly(value)}" for name, value in sweep["options"].items())
    brokers = " and ".join(dict.fromkeys(p["broker"] for p in sweep["points"] if p["broker"]))
    rows = [
        ("command to repeat or continue it", sweep["command"]),
        ("seed", f"{sweep['seed']}" + (f", each load {sweep['repeat']} times" if sweep["repeat"] > 1 else "")),
        ("world", sweep["scenario"]["world"] + ("" if sweep["scenario"]["world"] == "virtual" else f" ({options})")),
        ("broker", brokers),
        (
            "the rollout's own pace",
            "taken out (--unpaced)" if sweep["unpaced"] else ", ".join(sweep["holds"]) or "none",
        ),
        ("fleetsim", f"{sweep['version']}, Python {sweep['python']}"),
        ("machine", str(sweep["host"])),
        ("began", sweep["began"]),
    ]
    return "<h2>How it was measured</h2>" + setting(rows, sweep["scenario"])


def _plainly(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
