"""A run as Markdown, for the summary of a CI job: verdict, what is not PASS, counts, times, and how to repeat it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from reports.words import MARKS, reasons, seconds, spelled, stops, struck, tally
from simulator.model.verdict import Verdict

_PHASES = ("whole update", "offer to delta", "downloading", "installing")
_QUANTILES = ("med", "p95", "p99", "max")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&@$])")


def of_run(summary: dict[str, Any]) -> str:
    """The whole of summary.md."""
    verdict = summary["verdict"]
    lines = [f"## {MARKS[Verdict(verdict)]} {verdict}: {plain(summary['scenario'])}", ""]
    lines += [f"- {plain(sentence)}" for sentence in (*reasons(summary), *stops(summary))]
    lines += [f"- {plain(spelled(summary))}"]
    lines += [f"- fault {plain(fault['fault'])}: {struck(fault)}" for fault in summary["faults"]]
    lines += ["", *_checks(summary), *_times(summary)]
    ran = f"seed {summary['seed']}, {summary['world']} world, fleetsim {summary['version']}"
    return "\n".join([*lines, plain(ran), "", "Repeat it:", "", *code(summary["repeat"]), ""])


def _checks(summary: dict[str, Any]) -> list[str]:
    """What speaks against the run, with its evidence, and how many checks passed or had nothing to look at."""
    others = [f for f in summary["findings"] if Verdict(f["verdict"]).against]
    counts = f"{tally(summary).capitalize()}."
    if not others:
        return [counts, ""]
    rows = [(f"{MARKS[Verdict(f['verdict'])]} {f['verdict']}", f["check"], f["summary"]) for f in others]
    shown = [line for f in others if f["evidence"] for line in [f"{plain(f['check'])}:", "", *code(*f["evidence"]), ""]]
    return [*table(("", "check", "finding"), rows), "", *shown, counts, ""]


def _times(summary: dict[str, Any]) -> list[str]:
    """Until so many had converged, and how long the steps took."""
    shares, lines = summary["converged_s"], []
    if summary["targets"]:
        lines += table(("converged", *shares), [("after", *(seconds(at) for at in shares.values()))])
    phases = {name: summary["phases_s"][name] for name in _PHASES if name in summary["phases_s"]}
    if phases:
        rows = [(name, f"{q['count']:,}", *(seconds(q[h]) for h in _QUANTILES)) for name, q in phases.items()]
        lines += ["", *table(("step", "count", *_QUANTILES), rows)]
    return [*lines, ""]


# ---- small things


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines; texts are escaped."""
    lines = [heads, ["---"] * len(heads), *([plain(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def plain(text: str) -> str:
    """The text on one line, with nothing in it that Markdown or HTML would obey."""
    return _SPECIAL.sub(r"\\\1", " ".join(_shown(text).split()))


def code(*lines: str) -> list[str]:
    """A block of code, fenced by more backticks than there are in it."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, *(" ".join(_shown(line).splitlines()) for line in lines), fence]


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() or c.isspace() else "�" for c in text)
