"""Verbs that read recorded runs: `check` judges one again, `report` writes its files again or compares several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.cli.files import append_to_step_summary, report_of
from simulator.cli.parameters import RunPath
from simulator.model.errors import ScenarioError
from simulator.model.quantity import share

if TYPE_CHECKING:
    pass


def check(
    run: RunPath,
    only: Annotated[list[str] | None, typer.Option("--check", help="only this check; may be given again")] = None,
) -> None:
    """Judge a recorded run again."""
    from reports.run import summary
    from simulator.trace import rundir
    from simulator.worlds import judgement as judging

    opened = rundir.open_run(run)
    judgement = judging.judge_again(opened, tuple(only or ()))
    print(summary.as_text(summary.summarise(opened.manifest, opened.trace, judgement), str(run / "report.html")))
    raise typer.Exit(judgement.exit_code)


def report(
    runs: Annotated[list[Path], typer.Argument(help="a run directory; of several, the first is the baseline")],
    tolerance: Annotated[
        str | None, typer.Option(help="how much worse than the baseline's times, sizes and rates may be; none: 10%")
    ] = None,
    tolerance_failed: Annotated[
        str | None, typer.Option(help="by how many points more of the targets may not succeed; none: 1%")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="where a comparison goes; none: runs/compare/TIME")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print summary.json or comparison.json")] = False,
) -> None:
    """Write a recorded run's files again: report, summary, devices.csv and junit.xml. Of two or more runs: compare each
    with the first, its baseline. Exit codes then: 1 a regression (a check newly fails, or a figure's whole interval is
    worse by more than the tolerance), 0 none, 2 where that cannot be told."""
    from simulator.trace import rundir
    from simulator.worlds import judgement as judging

    if len(runs) > 1:
        raise typer.Exit(_compared(runs, _tolerances(tolerance, tolerance_failed), out, as_json=as_json))
    given = {"--tolerance": tolerance, "--tolerance-failed": tolerance_failed, "--out": out}
    if unfit := [flag for flag, value in given.items() if value is not None]:
        raise ScenarioError(f"{', '.join(unfit)}: for a comparison; name two runs or more")
    judgement = judging.judge_again(rundir.open_run(runs[0]), ())
    report_of(runs[0], judgement, as_json=as_json, quiet=False)
    raise typer.Exit(judgement.exit_code)


def _tolerances(relative: str | None, points: str | None) -> Any:
    from reports.comparison.differences import Tolerances

    given = {"--tolerance": ("relative", relative), "--tolerance-failed": ("points", points)}
    tolerances = Tolerances()
    for flag, (name, value) in given.items():
        try:
            tolerances = tolerances if value is None else tolerances._replace(**{name: share(value)})
        except ValueError as error:
            raise ScenarioError(f"{flag}: {error}") from None
    return tolerances


def _compared(paths: list[Path], allowed: Any, out: Path | None, *, as_json: bool) -> int:
    """Compare the runs, leave the comparison's directory, print the end; the exit code."""
    from reports import files
    from reports.comparison import compare
    from reports.comparison import text as comparison_text
    from simulator.trace import rundir
    from simulator.worlds import judgement as judging

    if len(paths) > compare.RUNS_MOST:
        raise ScenarioError(f"{len(paths)} runs are too many to compare; at most {compare.RUNS_MOST}")
    sides = []
    for path in paths:  # one trace after the other: no two are in memory
        opened = rundir.open_run(path)
        sides.append(compare.side(path, opened.manifest, opened.trace, judging.judge_again(opened, ())))
        del opened
    where = out or rundir.fresh(Path("runs", "compare"))
    where.mkdir(parents=True, exist_ok=True)
    comparison = files.write_comparison(where, sides, allowed)
    append_to_step_summary(where / "comparison.md")
    print(
        json.dumps(comparison, indent=2)
        if as_json
        else comparison_text.as_text(comparison, str(where / "comparison.html"))
    )
    return int(comparison["exit_code"])
