"""Tables of hand-written traces, check by check: what passes, what fails where, what is UNKNOWN."""

import pytest

from simulator.checks.judge import CHECKS
from simulator.model.scenario import Scenario
from tests.checks.traces import trace


def cases(table):
    """The table's rows as pytest's parameters: (check, case)."""
    return [pytest.param(check, case, id=f"{check}: {name}") for check in table for name, case in table[check].items()]


def judged(check, case):
    """The check's finding on a case: events, or (events, scenario as a mapping)."""
    events, scenario = case if isinstance(case, tuple) else (case, {})
    return CHECKS[check](trace(*events), Scenario.model_validate(scenario))


def assert_passes(check, case):
    found = judged(check, case)
    assert (found.verdict, found.things, found.events) == ("PASS", (), ()), found.summary


def assert_fails(check, case):
    """A case of failure: (events or (events, scenario), things, what of the first offending event)."""
    made, things, offender = case
    found = judged(check, made)
    assert (found.check, found.verdict) == (check, "FAIL"), found.summary
    assert list(found.things) == things
    events = made[0] if isinstance(made, tuple) else made
    kind, _, fields = events[found.events[0]]
    assert offender.items() <= {"kind": kind, **fields}.items(), found.summary
    assert "; first at " in found.summary


def assert_unknown(check, case):
    found = judged(check, case)
    assert found.verdict == "UNKNOWN", found.summary
    assert found.summary


def proofs(passes, fails, lacks):
    """The tests of three tables, for a module to call test_passes, test_fails_... and test_unknown_without."""

    def proof(table, prove):
        @pytest.mark.parametrize(("check", "case"), cases(table))
        def test(check, case):
            prove(check, case)

        return test

    return proof(passes, assert_passes), proof(fails, assert_fails), proof(lacks, assert_unknown)
