"""The schemas of what runs leave: real files are what they say, and they say each key that there is."""

import json

import jsonschema
import pytest

from reports.run import summary
from reports.schemas import SCHEMAS
from simulator.checks.judge import judge
from simulator.model.verdict import Finding, Judgement, Limit, Verdict
from tests.checks.traces import failure, trace, update
from tests.reports.run.test_faults import HARMED
from tests.worlds.virtually import run, scenario

CHECK = jsonschema.Draft202012Validator(SCHEMAS["summary"])


def summed(made, judgement=None, manifest=None):
    found = judgement or Judgement(judge(made, scenario()))
    return json.loads(json.dumps(summary.summarise(manifest or {}, made, found)))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def test_a_real_summary_is_what_the_schema_says(left):
    CHECK.validate(left[0])
    assert set(SCHEMAS["summary"]["properties"]) == set(left[0])
    assert all(left[0][key] for key in ("waterfall", "failures", "effort", "messages", "cohorts", "limits"))


def test_faults_are_in_the_schema():
    numbers = summed(run(HARMED))
    assert numbers["faults"]
    CHECK.validate(numbers)


@pytest.mark.parametrize(
    "events",
    [[], update()[:2], update(confirm=None, ended={"status": "TIMED_OUT"}), failure(), update(report={"version": "9"})],
    ids=["nothing", "only a target", "nobody finished", "a failure", "a broken promise"],
)
def test_every_end_has_a_summary_that_is_valid(events):
    CHECK.validate(summed(trace(*events)))
    void = Judgement((Finding("c", "t", Verdict.UNKNOWN, "?"),), ("lag",), ("interrupted",), (), (Limit("lag", 2, 1),))
    CHECK.validate(summed(trace(*events), void))


def test_what_is_not_in_the_schema_is_no_summary(left):
    for changed in ({"more": 1}, {"verdict": "FINE"}, {"outcomes": {"DONE": 1}}, {"converged_s": {"50%": "soon"}}):
        with pytest.raises(jsonschema.ValidationError):
            CHECK.validate({**left[0], **changed})
