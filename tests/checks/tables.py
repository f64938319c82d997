"""Tables of hand-written traces, check by check: what passes, what fails where, what is UNKNOWN; and of what passes, in
which cases nothing happens that could break the promise."""

import pytest

from simulator.checks.judge import CHECKS
from simulator.model.scenario import Scenario
from tests.checks.traces import trace


def cases(table, no_occasion=None):
    """The table's rows as pytest's parameters: (check, case); and of what passes which verdict, where `no_occasion` names
    the cases in which nothing happens."""
    return [
        pytest.param(check, case, *verdict(no_occasion, check, name), id=f"{check}: {name}")
        for check in table
        for name, case in table[check].items()
    ]


def verdict(no_occasion, check, name):
    if no_occasion is None:
        return ()
    return ("NO OCCASION" if name in no_occasion.get(check, ()) else "PASS",)


def judged(check, case):
    """The check's finding on a case: events, or (events, scenario as a mapping)."""
    events, scenario = case if isinstance(case, tuple) else (case, {})
    return CHECKS[check](trace(*events), Scenario.model_validate(scenario))


def assert_passes(check, case, verdict="PASS"):
    found = judged(check, case)
    assert (found.verdict, found.things, found.events) == (verdict, (), ()), found.summary
    assert found.summary


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


def proofs(passes, fails, lacks, no_occasion=None):
    """The tests of three tables, for a module to call test_passes, test_fails_... and test_unknown_without. `no_occasion`
    is check -> the names of those that pass for want of an occasion."""
    for check, names in (no_occasion or {}).items():
        assert names <= set(passes[check]), (check, names - set(passes[check]))

    def proof(table, prove):
        @pytest.mark.parametrize(("check", "case"), cases(table))
        def test(check, case):
            prove(check, case)

        return test

    @pytest.mark.parametrize(("check", "case", "verdict"), cases(passes, no_occasion or {}))
    def test_passes(check, case, verdict):
        assert_passes(check, case, verdict)

    return test_passes, proof(fails, assert_fails), proof(lacks, assert_unknown)
