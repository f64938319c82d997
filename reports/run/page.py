"""The report: one self-contained HTML file, verdict first."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from reports import html
from reports.run.charts import Charts
from reports.run.effort import waterfall
from reports.run.failures import slowest
from reports.run.sequence import sequence
from reports.run.times import QUANTILES, converged_s
from reports.words import MARKS, clocks, limited, named, reasons, seconds, stops, struck, tally
from simulator.model.update import State
from simulator.model.verdict import Verdict
from simulator.trace.reader import Trace, describe
from simulator.trace.targets import Targets

_CONVERGED = "A target has converged when its device runs the new software, by the device's own record, and the backend knows it."
_FAN_OUT = (
    "How each desired state spread: when the devices heard of it, after its rollout began; devices a second are those "
    "between the tenth and the ninetieth percent that heard."
)
_STORIES, _LINES, _SLOWEST, _REASONS = 10, 25, 5, 15
_SMALL = 1000  # targets
_COHORTS_MAX = 20


def write_report(path: Path, manifest: dict[str, Any], trace: Trace, summary: dict[str, Any]) -> None:
    """Write the page."""
    title = f"{summary['verdict']}: {summary['scenario']}"
    charts = Charts(trace)
    parts = [
        _head(manifest, summary),
        _facts(summary),
        _checks(summary),
        "<h2>Convergence</h2>",
        f"<p>{_CONVERGED}</p>{charts.convergence()}" if summary["targets"] else "<p>No rollout began.</p>",
        _shares(summary) if summary["targets"] else "",
        charts.by_wave(),
        _outcomes(summary),
        _failures(summary),
        _faults(summary),
        _throughput(summary, charts),
        _phases(summary, charts),
        _effort(summary, charts),
        _limits(summary, charts),
        _stories(trace),
        _slow(trace),
        _setting(manifest, summary),
    ]
    html.write_page(path, title, parts)


def _head(manifest: dict[str, Any], summary: dict[str, Any]) -> str:
    """The verdict, and why it is not PASS."""
    verdict = summary["verdict"]
    description = manifest.get("scenario", {}).get("description", "")
    sentences = [*reasons(summary), *stops(summary)]
    sentences += [f"{f['check']}: {f['summary']}" for f in summary["findings"] if f["verdict"] == "FAIL"]
    if len(sentences) == len(summary["stopped"]) and verdict != "PASS":
        sentences += [f"{f['check']}: {f['summary']}" for f in summary["findings"] if f["verdict"] == "UNKNOWN"]
    why = "".join(f"<li>{escape(line)}</li>" for line in sentences)
    listed = (f"<ul>{why}</ul>" if sentences else "") + f"<p>{escape(tally(summary)).capitalize()}.</p>"
    mark = MARKS[Verdict(verdict)]
    return (
        f'<header class="{verdict}"><h1>{mark} {verdict}: {escape(summary["scenario"])}</h1>'
        f"<p>{escape(description)}</p>{listed}</header>"
    )


def _facts(summary: dict[str, Any]) -> str:
    """The few numbers that most readers want."""
    targets, times = summary["targets"], summary["converged_s"]
    converged = targets - summary["stuck"]
    share = f" ({converged / targets:.1%})" if targets else ""
    facts = (
        (f"{targets:,}", "targets"),
        (f"{converged:,}{share}", "converged"),
        (seconds(times["50%"]), "until 50% had converged"),
        (seconds(times["99%"]), "until 99% had converged"),
        (html.amount(summary["bytes_received"]), "downloaded"),
    )
    return html.facts(facts)


def _checks(summary: dict[str, Any]) -> str:
    rows = []
    for f in summary["findings"]:
        sentence = f"<div>{escape(f['title'])}</div><div>{escape(f['summary'])}</div>"
        if f["evidence"]:
            sentence += f"<pre>{escape(chr(10).join(f['evidence']))}</pre>"
        verdict = Verdict(f["verdict"])
        rows.append((html.mark(MARKS[verdict], html.CLASSES.get(verdict, "doubt")), f["check"], html.Raw(sentence)))
    return "<h2>Checks and thresholds</h2>" + html.table(("", "check", "promise and finding"), rows, "marked checks")


def _shares(summary: dict[str, Any]) -> str:
    """Time to each share of the targets, of all and of each cohort."""
    parts = {"all": summary["converged_s"]}
    if len(summary["cohorts"]) > 1:
        parts |= {name: part["converged_s"] for name, part in _few(summary["cohorts"]).items()}
    heads = ("share of the targets", *(f"{name or '(none)'}, after" for name in parts))
    rows = [(share, *(seconds(part[share]) for part in parts.values())) for share in summary["converged_s"]]
    return html.table(heads, rows)


def _outcomes(summary: dict[str, Any]) -> str:
    """Counts by state, of all, of each rollout and of each cohort."""
    parts = {"targets": summary}
    for group in ("rollouts", "cohorts"):
        if len(summary[group]) > 1:
            parts |= {name or "(none)": part for name, part in _few(summary[group]).items()}
    states = [s.value for s in State if any(s.value in part["outcomes"] for part in parts.values())]
    rows = [
        (state.lower().replace("_", " "), *(html.share(part, state) for part in parts.values())) for state in states
    ]
    rows.append(("all", *(f"{part['targets']:,}" for part in parts.values())))
    return "<h2>Outcomes</h2>" + html.table(("state of the last attempt", *parts), rows)


def _faults(summary: dict[str, Any]) -> str:
    """What was done to the fleet on purpose."""
    if not summary["faults"]:
        return ""
    heads = ("fault", "struck", "began after", "ended after")
    rows = [
        (fault["fault"], struck(fault), *(_since(fault[turn]) for turn in ("begin_s", "end_s")))
        for fault in summary["faults"]
    ]
    return "<h2>Faults, since the rollout began</h2>" + html.table(heads, rows)


def _since(at_s: float | None) -> str:
    """When a fault turned; before the rollout is from the start."""
    if at_s is None:
        return "by the device's step"
    return "from the start" if at_s <= 0 else seconds(at_s)


def _few(parts: dict[str, Any]) -> dict[str, Any]:
    return dict(list(parts.items())[:_COHORTS_MAX])


def _failures(summary: dict[str, Any]) -> str:
    """Why targets did not succeed, the most frequent reasons first."""
    failures = summary["failures"]
    if not failures:
        return ""
    rows = [
        (f["state"].lower().replace("_", " "), f["phase"], f["reason"], f["cohort"], f"{f['targets']:,}")
        for f in failures[:_REASONS]
    ]
    left = sum(f["targets"] for f in failures[_REASONS:])
    rows += [("others", "", "", "", f"{left:,}")] if left else []
    return "<h2>What did not succeed, and why</h2>" + html.table(
        ("state", "last phase", "reason", "cohort", "targets"), rows
    )


def _throughput(summary: dict[str, Any], charts: Charts) -> str:
    """How much went through: rates, totals, and how far and fast each desired state spread."""
    span_s = summary["rolled_out_s"]
    rows = []
    for name, step in summary["throughput"].items():
        size = html.amount if name == "bytes downloaded" else html.count
        mean = size(step["total"] / span_s) if span_s else "-"
        rows.append((name, size(step["total"]), mean, size(step["peak_per_s"])))
    spread = [
        (name, f"{f['devices']:,}", *(seconds(f[at]) for at in ("first_s", "median_s", "last_s")),
         html.count(f["slope"]) if f["slope"] is not None else "-")
        for name, f in summary["fan_out"].items() if f["devices"]
    ]  # fmt: skip
    if not summary["targets"]:
        return ""
    heads = ("rollout", "devices that heard of it", "first after", "median after", "last after", "devices a second")
    text = (
        "<h2>Throughput</h2>"
        + charts.throughput()
        + html.table(("step", "in all", "a second, in the mean", "most in one second"), rows)
    )
    return text + (f"<p>{_FAN_OUT}</p>" + html.table(heads, spread) if spread else "")


def _phases(summary: dict[str, Any], charts: Charts) -> str:
    rows = [(n, f"{q['count']:,}", *(seconds(q[h]) for h in QUANTILES)) for n, q in summary["phases_s"].items()]
    table = html.table(("phase", "count", *QUANTILES), rows) if rows else "<p>No device got as far as to be timed.</p>"
    return f"<h2>Latency by phase</h2>{table}{charts.latency()}{charts.distributions()}"


def _effort(summary: dict[str, Any], charts: Charts) -> str:
    """Where time and bytes went."""
    if not summary["effort"]:
        return ""
    rows = []
    for what, effort_ in summary["effort"].items():
        size = html.amount if what.startswith("bytes") else html.count
        times = "-" if effort_["times"] is None else f"{effort_['times']:.3f}"
        rows.append((what, size(effort_["done"]), size(effort_["needed"]), times))
    messages = [(what, f"{count:,}", _each(count, summary)) for what, count in summary["messages"].items()]
    total = sum(summary["messages"].values())
    messages.append(("all", f"{total:,}", _each(total, summary)))
    return (
        "<h2>Where time and bytes went</h2>"
        + charts.waterfall()
        + html.table(("what was done", "in all", "needed", "for each needed"), rows)
        + html.table(("messages of the devices", "in all", "for each update that succeeded"), messages)
    )


def _each(count: int, summary: dict[str, Any]) -> str:
    done = summary["outcomes"].get(State.SUCCEEDED.value, 0)
    return f"{count / done:.2f}" if done else "-"


def _limits(summary: dict[str, Any], charts: Charts) -> str:
    """Whether the load generator was good enough, each value beside its limit."""
    rows = [
        (html.mark("✓", "ok") if limit["held"] else html.mark("!", "doubt"), *limited(limit))
        for limit in summary["limits"]
    ]
    verdict = (
        "the load generator kept its schedule" if not summary["invalid"] else "the load generator was the bottleneck"
    )
    if not rows:
        return "<h2>Validity</h2><p>Nothing was measured of the load generator.</p>"
    lag = next((limit["allowed"] for limit in summary["limits"] if limit["name"].startswith("loop lag")), None)
    table = html.table(("", "what", "measured", "allowed"), rows, "marked")
    return f"<h2>Validity: {verdict}</h2>{table}{charts.health(lag)}"


def _stories(trace: Trace) -> str:
    """The first targets that did not converge, each with its last events."""
    targets = trace.once(Targets)
    failed = (targets.converged_us < 0).nonzero()[0]
    if not len(failed):
        return ""
    states = trace.words("status")
    stories = []
    for at in failed[:_STORIES].tolist():
        state = states[targets.state[at]] if targets.state[at] >= 0 else State.QUEUED.value
        stories.append(_story(trace, targets, at, state.lower().replace("_", " ")))
    shown = f"{len(failed):,}" if len(failed) <= _STORIES else f"the first {_STORIES} of {len(failed):,}"
    return f"<h2>Targets that did not converge ({shown}), each with its last events</h2>" + "".join(stories)


def _slow(trace: Trace) -> str:
    """The targets that took longest, and in a small run one update as it went."""
    targets = trace.once(Targets)
    slow = slowest(trace, targets, _SLOWEST)
    if not len(slow):
        return ""
    took = trace.once(converged_s, targets)
    stories = [_story(trace, targets, at, f"converged after {seconds(float(took[at]))}") for at in slow.tolist()]
    text = f"<h2>The slowest of those that converged ({len(slow)}), each with its last events</h2>" + "".join(stories)
    course = trace.once(waterfall).get("median") if len(targets) <= _SMALL else None
    drawn = sequence(trace, course.job) if course is not None else ""
    if course is not None and drawn:
        text += f"<details open><summary>The median update, message by message: {escape(course.thing)}</summary>{drawn}</details>"
    return text


def _story(trace: Trace, targets: Targets, at: int, heading: str) -> str:
    thing = trace.words("thing")[targets.thing[at]]
    lines = "\n".join(describe(trace.row(row)) for row in trace.thing(thing).rows[-_LINES:].tolist())
    return f"<details><summary>{escape(thing)}: {escape(heading)}</summary><pre>{escape(lines)}</pre></details>"


def _setting(manifest: dict[str, Any], summary: dict[str, Any]) -> str:
    """How the run was made, and how to make it again."""
    rows = [
        ("command to repeat it", str(summary["repeat"])),
        ("seed", str(summary["seed"])),
        ("world", f"{summary['world']}, {summary['span_s']:,.1f} s of fleet time"),
        ("broker", broker(manifest.get("broker", {}))),
        ("fleetsim", f"{summary['version']}, Python {manifest.get('python', '?')}"),
        ("machine", str(manifest.get("host", ""))),
        *(("other hosts", clock) for clock in clocks(summary)),
        ("began", str(manifest.get("began", ""))),
        ("events recorded", f"{summary['events']:,}"),
    ]
    return "<h2>How it was run</h2>" + html.setting(rows, manifest.get("scenario", {}))


def broker(facts: dict[str, Any]) -> str:
    """The broker in words: its name, its version, and what it counted."""
    counts = ", ".join(
        f"{name.replace('_', ' ')} {count:,}" if isinstance(count, int) else f"{name.replace('_', ' ')} {count}"
        for name, count in facts.items()
        if name not in ("name", "version")
    )
    return f"{named(facts)} ({counts})" if counts else named(facts)
