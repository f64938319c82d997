"""A dialect is an entry in the registry: one that a test adds goes through whole updates, from a scenario that names it."""

import pytest

from simulator.dialects.registry import DIALECTS
from simulator.faults.swarm import with_swarm
from simulator.model.errors import ScenarioError
from simulator.model.events import Kind
from simulator.model.verdict import Verdict
from simulator.worlds import setup
from simulator.worlds.judgement import judged as judged_in_its_dialect
from simulator.worlds.run import sensible
from tests.standins.asking import ASKING
from tests.standins.terse import TERSE
from tests.worlds.virtually import run, scenario


def findings(trace, made):
    return {f.check: f.verdict for f in judged_in_its_dialect(trace, made, (), ()).findings}


@pytest.fixture
def terse(monkeypatch):
    monkeypatch.setitem(DIALECTS, "terse", TERSE)
    return {"dialect": "terse"}


def test_a_dialect_of_other_words_and_topics_goes_through_whole_updates(terse):
    made = scenario(devices=20, target=terse)
    trace = run(made)
    assert len(trace.kind(Kind.CONFIRM)) == 20
    assert trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED").texts("thing") == trace.kind(Kind.CONFIRM).texts(
        "thing"
    )
    assert not [check for check, verdict in findings(trace, made).items() if verdict.against]


def test_its_devices_fail_and_come_back_like_any_others(terse):
    made = scenario(devices=20, profile="flaky", target=terse)
    trace = run(made)
    assert 10 < len(trace.kind(Kind.CONFIRM)) <= 20
    assert [check for check, verdict in findings(trace, made).items() if verdict.against] == []
    assert len(trace.kind(Kind.PROBE)) == 0  # it has no probe


def test_its_topics_are_the_scenarios_to_change_by_its_own_names(terse):
    own = {name: f"{{thing}}/{name}" for name in TERSE.topics.names()}
    made = scenario(devices=3, target={**terse, "topics": own})
    setup.topics(made.target)
    assert len(run(made).kind(Kind.CONFIRM)) == 3


@pytest.fixture
def asking(monkeypatch):
    monkeypatch.setitem(DIALECTS, "asking", ASKING)
    return {"dialect": "asking"}


def test_a_dialect_that_polls_a_service_of_its_own_goes_through_whole_updates(asking):
    made = scenario(devices=10, target=asking)
    trace = run(made)
    assert len(trace.kind(Kind.CONFIRM)) == 10
    assert len(trace.kind(Kind.EXECUTION).where("status", "SUCCEEDED")) == 10
    assert len(trace.kind(Kind.CONNECT)) == 0
    assert not [check for check, verdict in findings(trace, made).items() if verdict.against]


def test_its_service_may_be_away_for_a_while(asking):
    faults = [{"fault": "F8-backend-killed", "at": "3s", "for": "20s"}]
    made = scenario(devices=10, target=asking, faults=faults)
    trace = run(made)
    assert min(trace.kind(Kind.CONFIRM)["t_us"]) > 20_000_000
    assert len(trace.kind(Kind.CONFIRM)) == 10
    assert [check for check, verdict in findings(trace, made).items() if verdict is Verdict.FAIL] == []


def test_a_service_of_its_own_runs_in_virtual_time_only(asking):
    made = scenario(target=asking).model_copy(update={"world": "live"})
    with pytest.raises(ScenarioError, match=r"target\.dialect: asking has a service of its own, which runs in virtual"):
        sensible(made)


@pytest.mark.parametrize(
    "name", ["F3-offline", "F24-blackhole", "F1-duplicate", "F4-broker-killed", "F26-stale-command"]
)
def test_a_fault_of_mqtt_is_refused_where_devices_have_no_connection(asking, name):
    made = scenario(target=asking, faults=[{"fault": "F9-cut"}, {"fault": name, "at": "3s"}])
    with pytest.raises(
        ScenarioError, match=rf"faults\.1\.fault: {name} harms MQTT connections; devices of dialect asking"
    ):
        sensible(made)


def test_a_swarm_draws_no_fault_of_mqtt_where_devices_have_no_connection(asking):
    for seed in range(20):
        sensible(with_swarm(scenario(target=asking, seed=seed, swarm=5)))


def test_an_operator_s_deeds_reach_the_service(asking):
    made = scenario(devices=10, target=asking, operators=[{"abortAfter": "1s"}])
    trace = run(made)
    assert set(trace.kind(Kind.EXECUTION).texts("status")) >= {"CANCELED"}
