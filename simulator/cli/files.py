"""What a verb leaves behind of a run: its files for people and machines, and the end of what it prints."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def report_of(path: Path, judgement: Any, *, as_json: bool, quiet: bool) -> None:
    """Write the run's files for people and machines, and print the end."""
    from reports.run import summary
    from reports.words import stops

    numbers = write_files(path, judgement)
    if as_json:
        print(json.dumps(numbers, indent=2))
    elif quiet:
        print("  ".join([numbers["verdict"], *stops(numbers)]))
    else:
        print(summary.as_text(numbers, str(path / "report.html")))


def write_files(path: Path, judgement: Any) -> dict[str, Any]:
    """The numbers, of which the run's files were written."""
    from reports import files
    from simulator.trace import rundir

    numbers = files.write_all(rundir.open_run(path), judgement)
    append_to_step_summary(path / "summary.md")
    return numbers


def append_to_step_summary(file: Path) -> None:
    """Append the file to the summary of the CI job that GitHub shows, if there is one."""
    if where := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(where, "a", encoding="utf-8") as summary:
                summary.write(file.read_text(encoding="utf-8") + "\n")
        except OSError as error:  # what was found counts all the same
            print(f"fleetsim: GITHUB_STEP_SUMMARY: {where}: {error.strerror}", file=sys.stderr)


def say_nothing(line: str) -> None:
    """In place of print, where nothing is to be printed."""
