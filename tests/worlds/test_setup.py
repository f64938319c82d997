"""What both worlds make of a scenario: its topics."""

import pytest

from simulator.dialects.atlas.topics import TOPICS
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Target
from simulator.worlds import setup


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
    assert setup.topic_root(Target()) == "state"
