"""The numbers of one run: makes summary.json from its manifest, its trace and its judgement.

`summarise` returns the whole document as a dict; `reports.schemas` describes each key. Times are in seconds, sizes in bytes.
`as_text` says the most important of it for a terminal. The page, the Markdown, junit.xml and comparisons are given this
document, so that a number is the same in all of them.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from reports import words
from reports.run import effort, flow
from reports.run.failures import failures
from reports.run.times import QUANTILES, cohorts, converged_s, durations, quantiles, to_share, waves, zero_s
from simulator.model.events import Kind
from simulator.model.update import State
from simulator.model.verdict import Finding, Judgement, Verdict
from simulator.trace.reader import Trace, describe
from simulator.trace.targets import Mask, Seconds, Targets

SCHEMA_VERSION = 3
_BEFORE, _AFTER = 4, 2
_FAILURES = 100


def summarise(manifest: dict[str, Any], trace: Trace, judgement: Judgement) -> dict[str, Any]:
    """The whole of summary.json. Shares are of all targets: those that never finished are counted too."""
    targets = trace.once(Targets)
    times = trace.once(converged_s, targets)
    served = trace.kind(Kind.SERVED)
    incomplete = bool(judgement.incomplete or judgement.died)
    return {
        "schema": SCHEMA_VERSION,
        "scenario": manifest.get("scenario", {}).get("name", ""),
        "seed": manifest.get("seed"),
        "world": manifest.get("world"),
        "version": manifest.get("version"),
        "began": manifest.get("began", ""),
        "verdict": judgement.verdict.value,
        "exit_code": judgement.exit_code,
        "invalid": list(judgement.invalid),
        "incomplete": list(judgement.incomplete),
        "died": list(judgement.died),
        "missing": _missing(manifest, trace, targets) if incomplete else [],
        "findings": [_finding(trace, finding) for finding in judgement.findings],
        "limits": [limit._asdict() | {"held": limit.held} for limit in judgement.limits],
        "targets": len(targets),
        "outcomes": targets.outcomes(),
        "stopped": _stopped(trace),
        "stuck": int(np.isnan(times).sum()),
        "converged_s": to_share(times),
        "rollouts": {name: _part(targets, times, mask) for name, mask in targets.rollouts().items()},
        "cohorts": {name: _part(targets, times, mask) for name, mask in cohorts(trace, targets).items()},
        "waves": {name: _part(targets, times, mask) for name, mask in waves(trace, targets).items()},
        "failures": [failure._asdict() for failure in failures(trace, targets)[:_FAILURES]],
        "faults": faults(trace, targets),
        "rolled_out_s": _rolled_out_s(trace, targets),
        "throughput": flow.throughput(trace, zero_s(trace, targets)),
        "fan_out": flow.fan_out(trace, targets),
        "waterfall": {which: course._asdict() for which, course in trace.once(effort.waterfall).items()},
        "effort": {
            what: counted._asdict() | {"times": counted.times} for what, counted in effort.efforts(trace).items()
        },
        "messages": effort.messages(trace),
        "phases_s": {name: quantiles(spans.took_s) for name, spans in trace.once(durations, targets).items()},
        "events": len(trace),
        "span_s": float(trace.column("t_us")[-1]) / 1e6 if len(trace) else 0.0,
        "bytes_served": int(served["size"].clip(min=0).sum()),
        "bytes_received": int(trace.kind(Kind.DOWNLOAD)["size"].clip(min=0).sum()),
        "clocks": _clocks(trace),
        "repeat": manifest.get("repeat", ""),
    }


def _stopped(trace: Trace) -> dict[str, str]:
    """The rollouts that were aborted, or that were paused when the record ends: rollout -> since when, and why."""
    moves, stopped, waves_begun = trace.kind(Kind.ROLLOUT), dict[str, str](), Counter[str]()
    for name, status, why in zip(*(moves.texts(column) for column in ("job", "status", "detail")), strict=True):
        waves_begun[name] += status == "wave"
        if status in ("pause", "abort"):
            what = {"pause": "paused", "abort": "aborted"}[status]
            stopped[name] = f"{what} in wave {waves_begun[name]}: {why}"
        elif status == "resume":
            stopped.pop(name, None)
    return stopped


def _rolled_out_s(trace: Trace, targets: Targets) -> float:
    """Seconds from when the first rollout began until the last one ended, or the record where one did not end."""
    if not len(targets):
        return 0.0
    ends = trace.kind(Kind.ROLLOUT).where("status", "end")["t_us"]
    last = ends[-1] if len(ends) == len(targets.rollouts()) else trace.column("t_us")[-1]
    return float(last) / 1e6 - zero_s(trace, targets)


def _clocks(trace: Trace) -> list[dict[str, Any]]:
    """The processes on other hosts: by how many seconds their clock was ahead, and how exactly that is known."""
    compared = trace.kind(Kind.CLOCK)
    pairs = zip(compared.texts("detail"), compared["span_us"].tolist(), strict=True)
    comparisons = [(json.loads(detail), error_us) for detail, error_us in pairs]
    return [
        {
            "process": facts["process"],
            "host": facts["host"],
            "offset_s": facts["offset_us"] / 1e6,
            "error_s": error_us / 1e6,
        }
        for facts, error_us in comparisons
    ]


def faults(trace: Trace, targets: Targets) -> list[dict[str, Any]]:
    """One entry for each fault in the record: the server that it was `on`, or how many devices it struck, and how often;
    and when it began and ended, in seconds since the first rollout began (None: it did not)."""
    turns, rows, zero = trace.kind(Kind.FAULT), [], zero_s(trace, targets)
    for nth in np.unique(turns["size"]).tolist():
        turns_of = turns.only(turns["size"] == nth)
        did = turns_of.where("status", "did")
        begin, end = (turns_of.where("status", turn)["t_us"] / 1e6 - zero for turn in ("begin", "end"))
        details = [json.loads(detail) for detail in turns_of.where("status", "begin").texts("detail") if detail]
        rows.append(
            {
                "fault": turns_of.texts("phase")[0],
                "on": details[0]["server"] if details else "",
                "devices": len(np.unique(did["thing"])),
                "strikes": len(did),
                "begin_s": float(begin[0]) if len(begin) else None,
                "end_s": float(end[-1]) if len(end) else None,
            }
        )
    return rows


def _part(targets: Targets, times: Seconds, mask: Mask) -> dict[str, Any]:
    return {"targets": int(mask.sum()), "outcomes": targets.outcomes(mask), "converged_s": to_share(times[mask])}


def _finding(trace: Trace, finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "title": finding.title,
        "verdict": finding.verdict.value,
        "safety": finding.safety,
        "summary": finding.summary,
        "things": list(finding.things),
        "events": list(finding.events),
        "evidence": evidence(trace, finding.events[0]) if finding.events else [],
    }


def evidence(trace: Trace, row: int) -> list[str]:
    """Lines of text for a person: the event in this row, marked with >, and some of the same thing before and after it."""
    thing = trace.row(row).get("thing", "")
    rows = trace.thing(thing).rows if thing else np.array([row])
    at = int(np.searchsorted(rows, row))
    around = rows[max(0, at - _BEFORE) : at + _AFTER + 1].tolist()
    lines = [describe(trace.row(number), named=not thing) for number in around]
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    return [f"{'>' if number == row else ' '} {line[indent:]}" for number, line in zip(around, lines, strict=True)]


def _missing(manifest: dict[str, Any], trace: Trace, targets: Targets) -> list[str]:
    """What an incomplete run lacks, in sentences."""
    fleet = manifest.get("scenario", {}).get("fleet", {})
    asked = len(fleet.get("only", ())) or fleet.get("devices", 0)
    started = np.unique(trace.kind(Kind.BOOT)["thing"])
    retired = np.unique(trace.kind(Kind.RETIRED)["thing"])
    unended = len(targets) - sum(count for state, count in targets.outcomes().items() if State(state).ended)
    counts = (
        (asked - len(started), f"of {asked:,} devices were never started"),
        (len(np.setdiff1d(started, retired)), f"of {len(started):,} devices' records break off"),
        (unended, f"of {len(targets):,} targets had not ended"),
    )
    sentences = [f"{count:,} {what}" for count, what in counts if count > 0]
    over = set(trace.kind(Kind.ROLLOUT).where("status", "end").texts("job"))
    sentences += [f"{name} had not ended" for name in targets.rollouts() if name not in over]
    return sentences if len(targets) else [*sentences, "no rollout had begun"]


def as_text(summary: dict[str, Any], report: str) -> str:
    """What is printed at the end of a run. `report` is the path of its page."""
    lines = [f"{summary['verdict']}  {summary['scenario']}  seed {summary['seed']}", ""]
    lines += [f"  {sentence}" for sentence in (*words.reasons(summary), *words.stops(summary))]
    lines.append(f"  {words.spelled(summary)}")
    if len(summary["rollouts"]) > 1:
        parts = summary["rollouts"].items()
        lines += [f"    {name}: {words.spelled(part)}" for name, part in parts]
    lines += [f"  {fault['fault']}: {words.struck(fault)}" for fault in summary["faults"]]
    times = "  ".join(f"{share} {words.seconds(s)}" for share, s in summary["converged_s"].items())
    lines.append(
        f"  converged after  {times}" + (f"  ({summary['stuck']:,} never converged)" if summary["stuck"] else "")
    )
    lines += ["", f"  {'step':<14}{'count':>10}" + "".join(f"{h:>11}" for h in QUANTILES)]
    for name, q in summary["phases_s"].items():
        lines.append(f"  {name:<14}{q['count']:>10,}" + "".join(f"{words.seconds(q[h]):>11}" for h in QUANTILES))
    lines.append("")
    for limit in summary["limits"]:
        mark = "✓" if limit["held"] else "!"
        lines.append("  {} {}: {}, allowed {}".format(mark, *words.limited(limit)))
    lines += [f"  {clock}" for clock in words.clocks(summary)]
    for f in summary["findings"]:
        lines.append(f"  {words.MARKS[Verdict(f['verdict'])]} {f['check']:<20} {f['summary']}")
        lines += [f"      {line}" for line in f["evidence"]]
    lines += ["", f"  {words.tally(summary)}"]
    lines += ["", f"  report  {report}"]
    if summary["verdict"] != "PASS":
        lines.append(f"  repeat  {summary['repeat']}")
        if summary["world"] == "virtual":
            lines.append(f"  replay  {shlex.join(['fleetsim', 'replay', str(Path(report).parent)])}")
    return "\n".join([*lines, f"  seed    {summary['seed']}"])
