"""The files of a finished run: what other tools read, devices.csv and junit.xml, beside the summary and the report."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np

from reports import page
from reports.summary import reasons, summarise
from reports.times import began_s, converged_s
from simulator.model.events import Kind
from simulator.model.update import State
from simulator.model.verdict import Judgement
from simulator.trace.reader import Trace
from simulator.trace.rundir import Run, write_json
from simulator.trace.targets import Targets

DEVICE_COLUMNS = ("thing", "rollout", "cohort", "outcome", "reason", "offered_s", "converged_s", "attempts", "bytes")
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def write_all(run: Run, judgement: Judgement) -> dict[str, Any]:
    """Write all of a run's files into its directory; what summary.json holds."""
    numbers = summarise(run.manifest, run.trace, judgement)
    write_json(run.path / "summary.json", numbers)
    write_devices(run.path / "devices.csv", run.trace)
    write_junit(run.path / "junit.xml", numbers)
    page.write_report(run.path / "report.html", run.manifest, run.trace, numbers)
    return numbers


def write_devices(path: Path, trace: Trace) -> None:
    """A row for each target: outcome, seconds from its rollout's begin to its first offer and to convergence, attempts
    and bytes downloaded."""
    targets, executions = trace.once(Targets), trace.kind(Kind.EXECUTION)
    of, size = targets.of_execution, len(targets)
    begun = (of >= 0) & (executions["status"] == trace.code("status", State.IN_PROGRESS))
    offered = np.full(size, np.nan)
    offered[of[begun][::-1]] = executions["t_us"][begun][::-1] / 1e6  # the first is written last
    downloads = trace.kind(Kind.DOWNLOAD)
    whose = targets.of_jobs(downloads)
    got = np.bincount(whose[whose >= 0], downloads["size"].clip(min=0)[whose >= 0], minlength=size)
    states, details = trace.words("status"), trace.words("detail")
    said = np.where(targets.last >= 0, trace.column("detail")[targets.last], -1) if size else targets.last
    columns = (
        targets.view.texts("thing"),
        targets.view.texts("job"),
        targets.view.texts("detail"),
        [states[code] if code >= 0 else State.QUEUED.value for code in targets.state.tolist()],
        [details[code] if code >= 0 else "" for code in said.tolist()],
        _told(offered - began_s(trace, targets)),
        _told(converged_s(trace, targets)),
        np.bincount(of[begun], minlength=size).tolist(),
        got.astype(np.int64).tolist(),
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(DEVICE_COLUMNS)
        rows.writerows(zip(*columns, strict=True))


def _told(seconds: np.ndarray) -> list[str]:
    return ["" if s != s else f"{s:.6f}" for s in seconds.tolist()]


def write_junit(path: Path, summary: dict[str, Any]) -> None:
    """A test case for each check and threshold, and one for the run itself. UNKNOWN is an error: it is no pass."""
    cases = [(f["check"], f["verdict"], f["summary"], f["evidence"]) for f in summary["findings"]]
    against = reasons(summary)
    cases.append(("run", "UNKNOWN" if against else "PASS", "; ".join(against), []))
    name = f"fleetsim.{summary['scenario']}"
    verdicts = [verdict for _, verdict, _, _ in cases]
    counts: dict[str, Any] = {"failures": str(verdicts.count("FAIL")), "errors": str(verdicts.count("UNKNOWN"))}
    suite = Xml.Element("testsuite", name=_xml(name), tests=str(len(cases)), time=f"{summary['span_s']:.3f}", **counts)
    for check, verdict, said, evidence in cases:
        case = Xml.SubElement(suite, "testcase", classname=_xml(name), name=check)
        if verdict != "PASS":
            kind = "failure" if verdict == "FAIL" else "error"
            Xml.SubElement(case, kind, message=_xml(said)).text = _xml("\n".join(evidence))
    Xml.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def _xml(text: str) -> str:
    return _NO_XML.sub("�", text)
