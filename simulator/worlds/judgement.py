"""The judgement of a trace, fresh or recorded earlier, for `fleetsim run`, `check` and `report`: the findings of its checks,
and why it may not count. What these come to, verdict and exit code, is decided in model/verdict.py."""

from __future__ import annotations

from pydantic import ValidationError

from reports.run import figures
from simulator.checks.judge import judge
from simulator.checks.validity import started, validity
from simulator.dialects.registry import dialect_of
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario
from simulator.model.verdict import Judgement
from simulator.trace.reader import Trace
from simulator.trace.rundir import Run


def judged(trace: Trace, scenario: Scenario, incomplete: tuple[str, ...], died: tuple[str, ...]) -> Judgement:
    """The judgement of a trace: its checks, whether it is valid, and whether it is all that was asked for. Raises ScenarioError
    for a dialect that there is not."""
    can = dialect_of(scenario.target.dialect).can
    health = validity(trace, scenario)
    short = started(trace, scenario) if not incomplete and not died else ()
    findings = (*judge(trace, scenario, can), *figures.judge(trace, scenario))
    return Judgement(findings, health.reasons, (*incomplete, *short), died, health.limits)


def scenario_of(run: Run) -> Scenario:
    """The scenario of a run that was recorded earlier. Raises ScenarioError where it is none."""
    try:
        return Scenario.model_validate(run.manifest["scenario"])
    except ValidationError as error:
        raise ScenarioError(f"{run.path / 'manifest.json'}: its scenario is not valid: {error}") from None


def judge_again(run: Run, checks: tuple[str, ...]) -> Judgement:
    """The judgement of a run that was recorded earlier."""
    scenario = scenario_of(run)
    if checks:
        scenario = scenario.model_copy(update={"checks": checks})
    incomplete = tuple(run.manifest.get("incomplete", ()))
    died = tuple(run.manifest.get("died", ()))
    if not run.complete or (not run.manifest.get("complete") and not incomplete and not died):
        incomplete = (*incomplete, "the run did not end properly")
    return judged(run.trace, scenario, incomplete, died)
