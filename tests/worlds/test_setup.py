"""What both worlds make of a scenario: its dialect and topics."""

import json
from dataclasses import replace

import pytest

from simulator.dialects.atlas.topics import TOPICS
from simulator.dialects.registry import DIALECTS
from simulator.model.capabilities import Capabilities
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario, Target
from simulator.worlds import setup
from tests.worlds.running import fleetsim


@pytest.mark.parametrize(
    ("topics", "says"),
    [
        ({"updat": "x/{thing}"}, "target.topics.updat: unknown name; did you mean update?"),
        ({"update": "state/update"}, "target.topics: topic template 'update' must hold {thing} once"),
    ],
)
def test_bad_topic_templates_are_the_scenarios_error(topics, says):
    with pytest.raises(ScenarioError) as refused:
        setup.topics(Target(topics=topics))
    assert str(refused.value).startswith(says)


def test_topics_of_ones_own_are_laid_over_the_defaults():
    made = setup.topics(Target(topics={"delta": "state/{thing}/wanted"}))
    assert (made.delta, made.update) == ("state/{thing}/wanted", TOPICS.update)
    assert setup.topics(Target()).rights() == ("state/{thing}/#",)


def test_a_dialect_that_there_is_not_is_the_scenario_s_error():
    with pytest.raises(ScenarioError) as refused:
        setup.dialect_of(Target(dialect="atlas-exmple"))
    assert str(refused.value) == "target.dialect: no such dialect: 'atlas-exmple'; did you mean 'atlas-example'?"
    with pytest.raises(ScenarioError, match="there are atlas, atlas-example"):
        setup.dialect_of(Target(dialect="hawkbit"))


def test_the_schema_names_the_dialects():
    code, out, _ = fleetsim("schema")
    assert code == 0
    target = json.loads(out)["$defs"]["Target"]
    assert target["properties"]["dialect"]["enum"] == list(DIALECTS)


def test_what_a_dialect_cannot_do_is_the_scenario_s_error(monkeypatch):
    with pytest.raises(ScenarioError, match=r"target.bind_address: in dialect atlas-example a device does not report"):
        setup.dialect_of(Target(dialect="atlas-example", bind_address=True))
    poor = replace(DIALECTS["atlas"], can=Capabilities(credentials=False))
    monkeypatch.setitem(DIALECTS, "poor", poor)
    setup.dialect_of(Target(dialect="poor"))
    with pytest.raises(ScenarioError, match=r"target.access: dialect poor has no credentials"):
        setup.dialect_of(Target(dialect="poor", access="credential"))


def test_a_dialect_without_a_probe_is_not_probed(monkeypatch):
    assert setup.probe_dialect(Scenario()).thing == Scenario().fleet.stranger
    assert setup.probe_dialect(Scenario.model_validate({"target": {"probe": False}})) is None
    monkeypatch.setitem(DIALECTS, "poor", replace(DIALECTS["atlas"], probe=None))
    assert setup.probe_dialect(Scenario.model_validate({"target": {"dialect": "poor"}})) is None
