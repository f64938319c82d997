"""Was the load generator the bottleneck? Each limit, its value beside it, and what is outside of the warm-up."""

import json

import pytest

from simulator.checks.validity import started, validity
from simulator.model.scenario import Scenario
from tests.checks.traces import trace, update

SCENARIO = Scenario.model_validate({"limits": {"warm_up": "1s"}, "fleet": {"devices": 2}})


def health(t_us, lags, process="shard-0", cpu=0.5):
    facts = {"process": process, "loop_lag_us": lags, "cpu_share": cpu, "rss_bytes": 1}
    return ("health", "", {"t_us": t_us, "detail": json.dumps(facts)})


def judged(*events):
    return validity(trace(("stage", "", {"phase": "ramp", "t_us": 0}), *events), SCENARIO)


def values(found):
    return {limit.name: (limit.value, limit.allowed, limit.held) for limit in found.limits}


def test_loop_lag_counts_after_the_warm_up_and_for_our_own_processes_alone():
    found = judged(health(500_000, [900_000]), health(2_000_000, [1000, 3000]), health(2_000_000, [9e6], "mosquitto"))
    assert values(found) == {"loop lag p99 of shard-0, s": (pytest.approx(0.00298), 0.1, True)}
    assert found.reasons == ()


def test_a_loop_that_lags_makes_the_run_invalid_and_names_the_busiest():
    found = judged(
        health(10, [], cpu=0.39), health(2_000_000, [500_000], cpu=0.99), health(2_000_000, [], "broker", cpu=0.3)
    )
    assert values(found)["loop lag p99 of shard-0, s"] == (0.5, 0.1, False)
    lag, cause = "loop lag p99 of shard-0: 0.5 s, allowed 0.1 s", "shard-0 used most CPU"
    assert found.reasons == (f"{lag}; {cause}, 69% of a core in the mean of the run, 99% at most",)


@pytest.mark.parametrize(("late_us", "held"), [(90_000, True), (110_000, False)])
def test_lateness_of_starts_and_offers(late_us, held):
    late = {"t_us": 2_000_000, "status": "cold", "span_us": late_us}
    assert values(judged(("boot", "a", late)))["schedule lateness p99, s"] == (late_us / 1e6, 0.1, held)
    late["status"] = "sent"
    assert values(judged(("offer", "a", late)))["schedule lateness p99, s"] == (late_us / 1e6, 0.1, held)
    assert values(judged(("boot", "a", late | {"t_us": 10, "status": "cold"}))) == {}


def test_a_slow_update_allows_a_twentieth_of_itself():
    found = judged(("boot", "a", {"t_us": 2_000_000, "status": "cold", "span_us": 400_000}),
                   ("execution", "a", {"t_us": 3_000_000, "status": "SUCCEEDED", "span_us": 10_000_000}))  # fmt: skip
    assert values(found)["schedule lateness p99, s"] == (0.4, 0.5, True)


def offered(*events):
    return values(validity(trace(*events), SCENARIO)).get("offered of what was scheduled")


def test_what_was_scheduled_and_never_offered():
    one = update()
    assert offered(*one) == (1.0, 0.99, True)
    two = [e if e[0] != "counters" else ("counters", "", {**e[2], "size": 2}) for e in one]
    assert offered(*two, ("target", "d-1", {"job": "rollout-1", "digest": "x"})) == (0.5, 0.99, False)
    assert offered(*update(counters=None)) is None


def test_canceled_targets_were_never_due():
    canceled = {"detail": '{"SUCCEEDED":1,"CANCELED":1}', "size": 2}
    assert offered(*update(counters=canceled), ("target", "d-1", {"job": "rollout-1"})) == (1.0, 0.99, True)


def test_each_rollouts_offers_count_for_its_own_targets():
    second = update(job="q", rollout="rollout-2", version="3", digest="3" * 64, boot=None)
    assert offered(*update(), *second) == (1.0, 0.99, True)
    unoffered = [e for e in second if e[0] != "offer"]
    assert offered(*update(), *unoffered) == (0.5, 0.99, False)


def test_offers_of_a_rollout_under_way_and_of_no_target_count_for_none_that_ended():
    half = [*update(counters={"size": 2, "detail": '{"SUCCEEDED":2}'}), ("offer", "d-9", {"status": "sent"})]
    second = update(job="q", rollout="rollout-2", version="3", digest="3" * 64, boot=None, counters=None)
    assert offered(*half) == offered(*half, *second) == (0.5, 0.99, False)


def test_fewer_devices_than_asked_are_said():
    assert started(trace(*update()), SCENARIO) == ("1 of 2 devices were started",)
    assert started(trace(*update(), *update("d-1", "r.d-1.0")), SCENARIO) == ()


def killed(begin, end, server="broker", nth=0):
    detail = json.dumps({"server": server})
    return [("fault", "", {"t_us": t, "status": status, "size": nth, "detail": detail})
            for status, t in (("begin", begin), ("end", end))]  # fmt: skip


S = 1_000_000


@pytest.mark.parametrize(
    ("due", "sent", "late"),
    [
        (20 * S, 41 * S, 0),  # while it was killed
        (20 * S, 45 * S, 0),  # the application has tried again by then
        (20 * S, 46 * S, S),
        (9 * S, 41 * S, S),  # what was late before stays late
        (9 * S, 10 * S, S),
        (46 * S, 47 * S, S),
        (8 * S, 48 * S, 5 * S),
    ],
)
@pytest.mark.parametrize("more", [[], killed(12 * S, 30 * S, nth=1), killed(1, 90 * S, "backend", 1)])
def test_an_offer_is_not_late_as_long_as_none_can_go(due, sent, late, more):
    offer = ("offer", "a", {"t_us": sent, "status": "sent", "span_us": sent - due})
    found = values(judged(*killed(10 * S, 40 * S), *more, offer))["schedule lateness p99, s"]
    assert found == (late / S, 0.1, late == 0)


def test_who_had_his_turn_in_an_outage_that_outlasted_it_was_never_due():
    lost = {"offer": None, "counters": {"detail": '{"TIMED_OUT":1}'}, "ended": {"status": "TIMED_OUT"}}
    assert offered(*update(**lost)) == (0.0, 0.99, False)
    assert offered(*update(**lost), *killed(1, 100)) is None
    both = [*update(counters={"size": 2, "detail": '{"SUCCEEDED":1,"TIMED_OUT":1}'}),
            ("target", "d-1", {"job": "rollout-1", "version": "2", "digest": "n" * 64}),
            ("execution", "d-1", {"job": "r.d-1.0", "status": "IN_PROGRESS", "digest": "n" * 64, "t_us": 50 * S})]  # fmt: skip
    assert offered(*both) == (0.5, 0.99, False)
    assert offered(*both, *killed(20 * S, 40 * S)) == (0.5, 0.99, False)
    assert offered(*both, *killed(20 * S, 48 * S)) == (1.0, 0.99, True)
