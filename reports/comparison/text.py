"""A comparison of runs as text: for a terminal, and as Markdown."""

from __future__ import annotations

import textwrap
from typing import Any

from reports.comparison.compare import ComparisonVerdict, bound, changed, figure_text
from reports.comparison.differences import Change
from reports.run import markdown
from reports.words import spelled

MARKS = {ComparisonVerdict.REGRESSION: "✗", ComparisonVerdict.NONE: "✓", ComparisonVerdict.UNKNOWN: "?"}
CHANGE_MARKS = {Change.WORSE: "✗", Change.BETTER: "✓", Change.SAME: "✓", Change.UNSURE: "?"}
_WIDTH = 100
_HEADS = ("baseline", "run", "change (interval)", "allowed", "verdict")


def as_text(comparison: dict[str, Any], page: str) -> str:
    """The comparison, for a terminal."""
    lines = [f"{comparison['verdict']}  {'; '.join(headings(comparison))}", ""]
    for run in comparison["runs"]:
        lines.append(f"  {run['name']}  {run['verdict']:<8} seed {run['seed']}  {spelled(run)}  {run['path']}")
    for other in comparison["comparisons"]:
        lines += ["", f"  {heading(other)}"]
        lines += [f"    ! warning: {warning}" for warning in other["warnings"]]
        lines += [f"    {reason}" for reason in other["why"]]
        cells = [("", *_HEADS), *(_cells(row) for row in other["figures"])]
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        for row, (name, *numbers, change) in zip([None, *other["figures"]], cells, strict=True):
            mark = CHANGE_MARKS.get(Change(row["change"]), " ") if row else " "
            columns = "  ".join(cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True))
            lines.append(f"  {mark} {name:<{widths[0]}}  {columns}  {change}".rstrip())
        lines += [f"  {CHANGE_MARKS[Change(check['change'])]} {check['why']}" for check in other["checks"]]
    closing = textwrap.wrap(sureness(comparison), _WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([*lines, "", *closing, "", f"  page    {page}"])


def of_comparison(comparison: dict[str, Any]) -> str:
    """The whole of comparison.md."""
    mark = MARKS[ComparisonVerdict(comparison["verdict"])]
    lines = [f"## {mark} {comparison['verdict']}: {markdown.plain('; '.join(headings(comparison)))}", ""]
    rows = [
        (run["name"], run["verdict"], run["scenario"], str(run["seed"]), spelled(run), run["path"])
        for run in comparison["runs"]
    ]
    lines += markdown.table(("", "verdict", "scenario", "seed", "targets", "run"), rows)
    for other in comparison["comparisons"]:
        lines += ["", f"### {MARKS[ComparisonVerdict(other['verdict'])]} {heading(other)}", ""]
        lines += [f"- **Warning**: {markdown.plain(warning)}" for warning in other["warnings"]]
        lines += [f"- {markdown.plain(reason)}" for reason in other["why"]]
        lines += [
            "",
            *markdown.table(("figure", "baseline", other["run"], *_HEADS[2:]), map(_marked, other["figures"])),
        ]
        checks = [(CHANGE_MARKS[Change(check["change"])], check["why"]) for check in other["checks"]]
        lines += ["", *markdown.table(("", "check"), checks)] if checks else []
    return "\n".join([*lines, "", markdown.plain(sureness(comparison)), ""])


def heading(other: dict[str, Any]) -> str:
    """Which runs are compared, and what that comes to."""
    return f"{other['run']} against A: {other['verdict']}"


def headings(comparison: dict[str, Any]) -> list[str]:
    """The scenarios that were run, each once."""
    return list(dict.fromkeys(run["scenario"] for run in comparison["runs"]))


def sureness(row: dict[str, Any]) -> str:
    """What the intervals say."""
    return (
        f"If two runs do not really differ, at most {1 - row['confidence']:.0%} of comparisons report a regression: with a "
        f"probability of {row['confidence']:.0%} all intervals are right (bootstrap with {row['drawings']:,} samples of the "
        "targets). The intervals cover how targets differ from each other. They do not cover how two runs differ because "
        "the machine was busy."
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return row["figure"], figure_text(row, "baseline"), figure_text(row, "run"), changed(row), bound(row), came_of(row)


def came_of(row: dict[str, Any]) -> str:
    """The verdict on a figure's change, in words."""
    if row["change"] == Change.FEW:
        return f"too few values: {row['values']:,} (needs {row['needed']:,})"
    return "no regression" if row["change"] == Change.SAME else str(row["change"])


def _marked(row: dict[str, Any]) -> tuple[str, ...]:
    *cells, change = _cells(row)
    return (*cells, f"{CHANGE_MARKS.get(Change(row['change']), '')} {change}".strip())
