"""Where each check has its occasion: in the scenario that the table of reports/README.md names for it."""

from functools import cache

import pytest

from simulator.checks.judge import CHECKS
from simulator.model.scenario import load_scenario
from simulator.trace.reader import Trace, in_order
from simulator.worlds import virtual
from simulator.worlds.judgement import judged
from simulator.worlds.shipped import shipped
from tests.test_tidy import REPORTS, rows

NAMED = {row[0].strip("`"): row[3].strip("`") for row in rows(REPORTS, "check")}


@cache
def verdicts(name):
    """check -> its finding, in this shipped scenario in virtual time, at 60 devices and seed 1."""
    made = load_scenario(shipped()[name], {"world": "virtual", "fleet.devices": 60, "seed": 1})
    batches = []
    virtual.run(made, batches.append)
    return {finding.check: finding for finding in judged(Trace(in_order(batches)), made, (), ()).findings}


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_has_its_occasion_in_the_scenario_that_readme_names(check):
    finding = verdicts(NAMED[check])[check]
    assert finding.verdict == "PASS", f"{NAMED[check]}: {finding.summary}"


def test_a_shipped_scenario_passes_and_says_how_many_checks_had_no_occasion():
    for name in dict.fromkeys(NAMED.values()):
        against = {check: finding.summary for check, finding in verdicts(name).items() if finding.verdict.against}
        assert against == {}, name
