"""The report: one self-contained HTML file, verdict first."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from reports.summary import MARKS, converged_at
from simulator.model.events import Kind
from simulator.model.verdict import Verdict
from simulator.trace.reader import Trace, describe

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}
.PASS{color:#00694c}.FAIL{color:#a83b00}.UNKNOWN,.INVALID{color:#6b4e00}
pre,code{background:#f4f4f4;padding:.1rem .3rem;white-space:pre-wrap;font-size:.85rem}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}
"""


def convergence_chart(trace: Trace) -> str:
    """The share of each cohort that converged, over time, as SVG; devices that never finish stay in the whole."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    targets = trace.kind(Kind.TARGET)
    cohort_of = dict(zip(targets.texts("thing"), targets.texts("detail"), strict=True))
    done = converged_at(trace)
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for colour, cohort in zip(_COLOURS * 10, sorted(set(cohort_of.values())), strict=False):
        members = [thing for thing, c in cohort_of.items() if c == cohort]
        times = np.sort([done[thing] for thing in members if thing in done])
        shares = 100 * np.arange(len(times) + 1) / len(members)
        if len(times) > 2000:
            keep = np.linspace(0, len(times) - 1, 2000).astype(int)
            times, shares = times[keep], shares[np.concatenate(([0], keep + 1))]
        axes.step([0, *times], shares, where="post", color=colour, label=cohort or "all")
    axes.set(
        title="Share of the targets that run the new software and were acknowledged",
        xlabel="seconds since the rollout began",
        ylabel="converged [%]",
        ylim=(0, 102),
    )
    axes.grid(alpha=0.3)
    if len(axes.lines) > 1:
        axes.legend(loc="lower right")
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    return out.getvalue().partition("<svg")[1] + out.getvalue().partition("<svg")[2]


def write_report(path: Path, manifest: dict[str, Any], trace: Trace, summary: dict[str, Any]) -> None:
    """Write the page."""
    verdict = summary["verdict"]
    reasons = [f["summary"] for f in summary["findings"] if f["verdict"] == verdict] if verdict != "PASS" else []
    said = "Every check passed." if verdict == "PASS" else "; ".join([*summary["incomplete"], *reasons])
    parts = [
        f"<h1><span class={verdict}>{verdict}</span> {escape(summary['scenario'])}</h1><p>{escape(said)}</p>",
        _facts(manifest, summary),
        "<h2>Checks and thresholds</h2>",
        _table(
            ("", "check", "finding"),
            [(MARKS[Verdict(f["verdict"])], f["check"], f"{f['title']}: {f['summary']}") for f in summary["findings"]],
        ),
        "<h2>Convergence</h2>",
        convergence_chart(trace) if summary["targets"] else "<p>No rollout began.</p>",
        _table(
            ("share of the targets", "after"),
            [(k, "never" if s is None else f"{s:.1f} s") for k, s in summary["converged_s"].items()],
        ),
        "<h2>Outcomes</h2>",
        _table(("state", "targets"), [(k, str(n)) for k, n in summary["outcomes"].items()]),
        "<h2>Latency by phase, in seconds</h2>",
        _phases(summary),
        _failed(trace),
    ]
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(summary['scenario'])}: {verdict}</title>"
    path.write_text(f"{page}<style>{_STYLE}</style><body>{''.join(parts)}", encoding="utf-8")


def _facts(manifest: dict[str, Any], summary: dict[str, Any]) -> str:
    rows = [
        ("to repeat", summary["repeat"]),
        ("seed", str(summary["seed"])),
        ("world", str(summary["world"])),
        ("fleetsim", str(summary["version"])),
        ("broker", str(manifest.get("broker", ""))),
        ("host", str(manifest.get("host", ""))),
        ("events", f"{summary['events']:,}"),
    ]
    return _table(("", ""), rows)


def _phases(summary: dict[str, Any]) -> str:
    heads = ("min", "med", "p90", "p95", "p99", "max")
    rows = [(n, str(q["count"]), *(f"{q[h]:.3f}" for h in heads)) for n, q in summary["phases_s"].items()]
    return _table(("phase", "count", *heads), rows)


def _failed(trace: Trace) -> str:
    """The first devices that did not succeed, each with its last events."""
    ends = trace.kind(Kind.EXECUTION)
    last = dict(zip(ends.texts("thing"), ends.texts("status"), strict=True))
    failed = [thing for thing, state in last.items() if state != "SUCCEEDED"][:10]
    if not failed:
        return ""
    stories = []
    for thing in failed:
        lines = "\n".join(describe(trace.row(row)) for row in trace.thing(thing).rows[-25:].tolist())
        stories.append(
            f"<details><summary>{escape(thing)}: {escape(last[thing])}</summary><pre>{escape(lines)}</pre></details>"
        )
    return "<h2>Devices that did not succeed (the first ten)</h2>" + "".join(stories)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def numeric(value: str) -> str:
        return " class=n" if value.replace(".", "").replace(",", "").isdigit() else ""

    head = "".join(f"<th>{escape(h)}</th>" for h in heads) if any(heads) else ""
    body = "".join("<tr>" + "".join(f"<td{numeric(v)}>{escape(v)}</td>" for v in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def write_devices(path: Path, trace: Trace) -> None:
    """A row for each target: outcome, when it converged, attempts, bytes."""
    ends, pieces = trace.kind(Kind.EXECUTION), trace.kind(Kind.DOWNLOAD)
    last = dict(zip(ends.texts("thing"), ends.texts("status"), strict=True))
    attempts: dict[str, int] = {}
    for thing in ends.where("status", "IN_PROGRESS").texts("thing"):
        attempts[thing] = attempts.get(thing, 0) + 1
    got: dict[str, int] = {}
    for thing, size in zip(pieces.texts("thing"), pieces["size"].tolist(), strict=True):
        got[thing] = got.get(thing, 0) + max(0, size)
    done = converged_at(trace)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("thing", "outcome", "converged_s", "attempts", "bytes"))
        for thing in trace.kind(Kind.TARGET).texts("thing"):
            state = last.get(thing, "QUEUED")
            rows.writerow((thing, state, done.get(thing, ""), attempts.get(thing, 0), got.get(thing, 0)))


def write_junit(path: Path, summary: dict[str, Any]) -> None:
    """A test case for each check and threshold."""
    from xml.etree import ElementTree as Xml

    findings = summary["findings"]
    counts = {v: str(sum(f["verdict"] == v for f in findings)) for v in ("FAIL", "UNKNOWN")}
    name = f"fleetsim.{summary['scenario']}"
    suite = Xml.Element(
        "testsuite", name=name, tests=str(len(findings)), failures=counts["FAIL"], skipped=counts["UNKNOWN"]
    )
    for f in findings:
        case = Xml.SubElement(suite, "testcase", classname=name, name=f["check"])
        if f["verdict"] == "FAIL":
            Xml.SubElement(case, "failure", message=f["summary"])
        elif f["verdict"] == "UNKNOWN":
            Xml.SubElement(case, "skipped", message=f["summary"])
    Xml.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
