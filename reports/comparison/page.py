"""The page of a comparison: one self-contained HTML file, what it comes to first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from reports import html
from reports.comparison import charts as comparison_charts
from reports.comparison.compare import ComparisonVerdict, Side, bound, changed, figure_text
from reports.comparison.differences import LEAST_S, Change
from reports.comparison.text import CHANGE_MARKS, MARKS, came_of, heading, headings, sureness
from reports.words import seconds
from simulator.model.update import State

_CLASSES = {ComparisonVerdict.REGRESSION: "FAIL", ComparisonVerdict.NONE: "PASS", ComparisonVerdict.UNKNOWN: "UNKNOWN"}
_CHANGE_CLASSES = {Change.WORSE: "bad", Change.BETTER: "ok", Change.SAME: "ok"}
_QUANTILES = ("med", "p95", "p99")


def write_page(path: Path, sides: Sequence[Side], comparison: dict[str, Any]) -> None:
    """Write the page."""
    runs = comparison["runs"]
    curves = {run["name"]: side.curves for run, side in zip(runs, sides, strict=True)}
    parts = [
        _head(comparison),
        _runs(runs),
        *(_against(other) for other in comparison["comparisons"]),
        f"<h2>How to read it</h2>{_reading(comparison)}",
        "<h2>Convergence</h2>" + comparison_charts.convergence(curves) + _shares(runs),
        _outcomes(runs),
        "<h2>Latency by phase</h2>" + comparison_charts.distributions(curves) + _phases(runs),
        "<h2>Throughput</h2>" + comparison_charts.throughput(curves) + _throughput(runs),
        _efforts(runs),
        *(_settings(other) for other in comparison["comparisons"]),
        _repeat(runs),
    ]
    html.write_page(path, f"{comparison['verdict']}: {', '.join(headings(comparison))}", parts)


def _head(comparison: dict[str, Any]) -> str:
    """What it comes to, and why."""
    verdict = ComparisonVerdict(comparison["verdict"])
    items = []
    for other in comparison["comparisons"]:
        lines = [f"<b>Warning:</b> {escape(warning)}" for warning in other["warnings"]]
        lines += [escape(reason) for reason in other["why"]]
        lines = lines or ["No figure is worse than the tolerance allows, and no check fails that passed before."]
        listed = "".join(f"<li>{line}</li>" for line in lines)
        items.append(
            f"<p>{escape(heading(other))}</p><ul>{listed}</ul>"
            if len(comparison["comparisons"]) > 1
            else f"<ul>{listed}</ul>"
        )
    title = f"{MARKS[verdict]} {verdict}: {escape(', '.join(headings(comparison)))}"
    return f'<header class="{_CLASSES[verdict]}"><h1>{title}</h1>{"".join(items)}</header>'


def _runs(runs: list[dict[str, Any]]) -> str:
    heads = ("", "run", "verdict", "scenario", "seed", "world", "devices", "fleetsim", "began")
    rows = [
        (run["name"], _long(run["path"]), run["verdict"], _long(run["scenario"]), str(run["seed"]), str(run["world"]),
         f"{run['devices']:,}", str(run["version"]), html.Raw(escape(run["began"][:19].replace("T", " "))))
        for run in runs
    ]  # fmt: skip
    return html.table(heads, rows, "words") + "<p>A is the baseline.</p>"


def _long(text: str) -> html.Raw:
    """A cell that may break anywhere, and stands to the left."""
    return html.Raw(f"<td class=long>{escape(text)}</td>")


def _against(other: dict[str, Any]) -> str:
    """The figures of a run against the baseline's, and the checks that changed."""
    heads = ("", "figure", "A", other["run"], "change (interval)", "allowed", "verdict")
    rows = [
        (
            _mark(row),
            _long(row["figure"]),
            figure_text(row, "baseline"),
            figure_text(row, "run"),
            changed(row),
            bound(row),
            came_of(row),
        )
        for row in other["figures"]
    ]
    figures = html.table(heads, rows, "words") if rows else "<p>There is nothing to compare.</p>"
    return f"<h2>{escape(heading(other))}</h2>{figures}{comparison_charts.intervals(other['figures'])}{_checks(other)}"


def _mark(row: dict[str, Any]) -> html.Raw:
    change = Change(row["change"])
    return html.mark(CHANGE_MARKS.get(change, ""), _CHANGE_CLASSES.get(change, "doubt"))


def _checks(other: dict[str, Any]) -> str:
    if not other["checks"]:
        return "<p>No check or threshold changed its verdict.</p>"
    rows = [
        (_mark(check), check["check"], check["baseline"] or "not judged", check["run"] or "not judged",
         _long(check["why"].partition(": ")[2].partition(": ")[2]))
        for check in other["checks"]
    ]  # fmt: skip
    return html.table(("", "check that changed its verdict", "A", other["run"], "finding"), rows, "words")


def _reading(comparison: dict[str, Any]) -> str:
    """What the intervals and tolerances mean."""
    paired = [other["run"] for other in comparison["comparisons"] if other["paired"]]
    sentences = [
        f"A figure is a regression if its whole interval is worse than A by more than {comparison['tolerance']:.1%}. For the "
        f"share that did not succeed, the limit is {comparison['tolerance_failed'] * 100:.1f} percentage points. If only a "
        "part of the interval is beyond the limit, the verdict is 'cannot tell'. Two times that differ by less than "
        f"{LEAST_S * 1e3:g} ms count as equal.",
        sureness(comparison),
        "If something happened to no target in either run, its interval has no width.",
        "A quantile is judged only if at least 10 values lie on each side of it; otherwise it is only shown.",
    ]
    if paired:
        sentences.append(
            f"A and {', '.join(paired)} have the same targets, so each sample takes the same targets from both runs."
        )
    return "".join(f"<p>{escape(line)}</p>" for line in sentences)


# ---- the runs beside each other


def _beside(
    head: str, runs: list[dict[str, Any]], names: Sequence[str], cell: Callable[[dict[str, Any], str], str]
) -> str:
    """A row for each name, a column for each run."""
    heads = (head, *(run["name"] for run in runs))
    return html.table(heads, [(name, *(cell(run, name) for run in runs)) for name in names])


def _all(runs: list[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run[key]))


def _shares(runs: list[dict[str, Any]]) -> str:
    names = _all(runs, "converged_s")
    return _beside(
        "share of the targets that converged, and after how long",
        runs,
        names,
        lambda run, name: seconds(run["converged_s"][name]),
    )


def _outcomes(runs: list[dict[str, Any]]) -> str:
    states = [state.value for state in State if any(state.value in run["outcomes"] for run in runs)]
    heads = ("state of the last attempt", *(run["name"] for run in runs))
    rows = [(state.lower().replace("_", " "), *(html.share(run, state) for run in runs)) for state in states]
    return "<h2>Outcomes</h2>" + html.table(heads, rows) if states else ""


def _phases(runs: list[dict[str, Any]]) -> str:
    heads = ("phase", *(f"{run['name']}, {quantile}" for quantile in _QUANTILES for run in runs))
    rows = []
    for name in _all(runs, "phases_s"):
        phases = [run["phases_s"].get(name) for run in runs]
        rows.append((name, *(seconds(q[quantile]) if q else "-" for quantile in _QUANTILES for q in phases)))
    return html.table(heads, rows) if rows else ""


def _throughput(runs: list[dict[str, Any]]) -> str:
    def cell(run: dict[str, Any], name: str) -> str:
        step = run["throughput"].get(name, {"total": 0, "peak_per_s": 0})
        size = html.amount if name == "bytes downloaded" else html.count
        return f"{size(step['total'])} ({size(step['peak_per_s'])})"

    return _beside("in total (most in one second)", runs, _all(runs, "throughput"), cell) + _spread(runs)


def _spread(runs: list[dict[str, Any]]) -> str:
    """How each desired state spread."""
    heads = ("", "rollout", "devices that heard of it", "first after", "median after", "last after", "devices a second")
    rows = [
        (run["name"], _long(name), f"{f['devices']:,}", *(seconds(f[at]) for at in ("first_s", "median_s", "last_s")),
         "-" if f["slope"] is None else html.count(f["slope"]))
        for run in runs for name, f in run["fan_out"].items()
    ]  # fmt: skip
    return html.table(heads, rows, "words") if rows else ""


def _efforts(runs: list[dict[str, Any]]) -> str:
    def times(run: dict[str, Any], what: str) -> str:
        times_done = run["effort"].get(what, {}).get("times")
        return "-" if times_done is None else f"{times_done:.3f}"

    def each(run: dict[str, Any], what: str) -> str:
        done = run["outcomes"].get(State.SUCCEEDED.value, 0)
        return f"{run['messages'].get(what, 0) / done:.2f}" if done else "-"

    names = _all(runs, "effort")
    efforts = _beside("how often it was done for each time it was needed", runs, names, times)
    messages = _beside("messages for each update that succeeded", runs, _all(runs, "messages"), each)
    return f"<h2>Where time and bytes went</h2>{efforts}{messages}" if names else ""


def _settings(other: dict[str, Any]) -> str:
    heads = ("setting", "A", other["run"])
    if not other["settings"]:
        return f"<h2>Settings that differ between A and {other['run']}</h2><p>Nothing.</p>"
    rows = [(key, _long(had), _long(has)) for key, had, has in other["settings"]]
    return f"<h2>Settings that differ between A and {other['run']}</h2>" + html.table(heads, rows, "even")


def _repeat(runs: list[dict[str, Any]]) -> str:
    rows = [(run["name"], html.Raw(f"<code>{escape(run['repeat'])}</code>")) for run in runs]
    return "<h2>To run them again</h2>" + html.table(("", ""), rows)
