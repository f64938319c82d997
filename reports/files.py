"""Writes the files of a finished run, and of a comparison, into a directory.

A run leaves summary.json, devices.csv, junit.xml, summary.md and report.html; a comparison leaves comparison.json,
comparison.md and comparison.html. The numbers come from `reports.run` and `reports.comparison`; here they only get the
format of each file. The command line calls `write_all` after a run and `write_comparison` after a comparison.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np

from reports.comparison import page as comparison_page
from reports.comparison import text as comparison_text
from reports.comparison.compare import Side, compare
from reports.comparison.differences import Tolerances
from reports.run import markdown, page
from reports.run.summary import summarise
from reports.run.times import began_s, converged_s
from reports.words import reasons, stops
from simulator.model.events import Kind
from simulator.model.update import State
from simulator.model.verdict import Judgement, Verdict
from simulator.trace.reader import Trace
from simulator.trace.rundir import Run, write_json
from simulator.trace.targets import Targets

DEVICE_COLUMNS = ("thing", "rollout", "cohort", "outcome", "reason", "offered_s", "converged_s", "attempts", "bytes")
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def write_all(run: Run, judgement: Judgement) -> dict[str, Any]:
    """Write all files of a run into its directory. Returns what summary.json holds."""
    numbers = summarise(run.manifest, run.trace, judgement)
    write_json(run.path / "summary.json", numbers)
    write_devices(run.path / "devices.csv", run.trace)
    write_junit(run.path / "junit.xml", numbers)
    (run.path / "summary.md").write_text(markdown.of_run(numbers), encoding="utf-8", errors="replace")
    page.write_report(run.path / "report.html", run.manifest, run.trace, numbers)
    return numbers


def write_comparison(path: Path, sides: Sequence[Side], allowed: Tolerances) -> dict[str, Any]:
    """Write all files of a comparison into the directory `path`. Returns what comparison.json holds."""
    comparison = compare(sides, allowed)
    write_json(path / "comparison.json", comparison)
    (path / "comparison.md").write_text(comparison_text.of_comparison(comparison), encoding="utf-8", errors="replace")
    comparison_page.write_page(path / "comparison.html", sides, comparison)
    return comparison


def write_devices(path: Path, trace: Trace) -> None:
    """Write devices.csv: one row for each target, with DEVICE_COLUMNS. `offered_s` and `converged_s` are seconds since
    the target's rollout began (empty: it never happened), `attempts` how often an update of it was begun, `bytes` how
    many bytes its device downloaded for it."""
    targets, executions = trace.once(Targets), trace.kind(Kind.EXECUTION)
    of, size = targets.of_execution, len(targets)
    begun = (of >= 0) & (executions["status"] == trace.code("status", State.IN_PROGRESS))
    offered = np.full(size, np.nan)
    offered[of[begun][::-1]] = executions["t_us"][begun][::-1] / 1e6  # the first is written last
    downloads = trace.kind(Kind.DOWNLOAD)
    whose = targets.of_jobs(downloads)
    got = np.bincount(whose[whose >= 0], downloads["size"].clip(min=0)[whose >= 0], minlength=size)
    states, details = trace.words("status"), trace.words("detail")
    reasons = np.where(targets.last >= 0, trace.column("detail")[targets.last], -1) if size else targets.last
    columns = (
        targets.view.texts("thing"),
        targets.view.texts("job"),
        targets.view.texts("detail"),
        [states[code] if code >= 0 else State.QUEUED.value for code in targets.state.tolist()],
        [details[code] if code >= 0 else "" for code in reasons.tolist()],
        _seconds_texts(offered - began_s(trace, targets)),
        _seconds_texts(trace.once(converged_s, targets)),
        np.bincount(of[begun], minlength=size).tolist(),
        got.astype(np.int64).tolist(),
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(DEVICE_COLUMNS)
        rows.writerows(zip(*columns, strict=True))


def _seconds_texts(seconds: np.ndarray) -> list[str]:
    return ["" if s != s else f"{s:.6f}" for s in seconds.tolist()]


def write_junit(path: Path, summary: dict[str, Any]) -> None:
    """Write junit.xml as Jenkins and GitLab read it: a test case for each check and threshold, and one called `run` for
    the run itself. FAIL is a failure. UNKNOWN and INVALID are errors: neither is a pass. A check that had no occasion, or
    could not be judged, is skipped, with the reason."""
    name = _xml(f"fleetsim.{summary['scenario']}")
    against = reasons(summary)
    bad = summary["verdict"] if summary["verdict"] in (Verdict.INVALID, Verdict.UNKNOWN) else Verdict.UNKNOWN
    cases = [_case(name, f["check"], f["verdict"], f["summary"], f["evidence"]) for f in summary["findings"]]
    run = _case(name, "run", bad if against else Verdict.PASS, "; ".join(against), [], summary["span_s"])
    if summary["stopped"]:
        Xml.SubElement(run, "system-out").text = _xml("\n".join(stops(summary)))
    cases.append(run)
    names = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    counts = {name: str(sum(case.find(kind) is not None for case in cases)) for name, kind in names.items()}
    took = f"{summary['span_s']:.3f}"
    suite = Xml.Element("testsuite", {"name": name, "tests": str(len(cases)), **counts, "time": took})
    if summary["began"]:
        suite.set("timestamp", _xml(summary["began"][:19]))  # Jenkins takes two suites of one name and time for one
    properties = Xml.SubElement(suite, "properties")
    for key in ("seed", "world", "version", "repeat"):
        Xml.SubElement(properties, "property", name=key, value=_xml(str(summary[key])))
    suite.extend(cases)
    Xml.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def _case(suite: str, check: str, verdict: str, message: str, evidence: list[str], took_s: float = 0.0) -> Xml.Element:
    """One test case. GitLab shows the text alone, Jenkins the message above the text: the message stands in both."""
    case = Xml.Element("testcase", classname=suite, name=_xml(check), time=f"{took_s:.3f}")
    if Verdict(verdict).silent:
        Xml.SubElement(case, "skipped", message=_xml(f"{verdict.lower()}: {message}"))
    elif verdict != Verdict.PASS:
        kind = "failure" if verdict == Verdict.FAIL else "error"
        element = Xml.SubElement(case, kind, message=_xml(message), type=verdict)
        element.text = _xml("\n".join([message or verdict, *evidence]))
    return case


def _xml(text: str) -> str:
    return _NO_XML.sub("�", text)
