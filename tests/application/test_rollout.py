"""The rollout engine, by numbers: pace, waves, aborts, timeouts, retries; counts always add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.application.rollout import Done, Pending, Rollout, WrongState
from simulator.model.scenario import RolloutSpec
from simulator.model.update import Artifact, Outcome, State


def make(size=10, **spec):
    targets = [(f"d-{n}", "even" if n % 2 == 0 else "odd") for n in range(size)]
    return Rollout(RolloutSpec.model_validate(spec), Artifact("2", "u"), targets)


def offers(rollout, now):
    found = []
    while isinstance(todo := rollout.op(now), list):
        found += [offer.execution for offer in todo]
    return found


def end(rollout, execution, state=State.SUCCEEDED, now=0.0):
    return rollout.observe(Outcome(execution.thing, execution.id, state), now)


def counts(rollout):
    return {state.value: n for state, n in rollout.counts_by_state().items() if n}


def test_all_at_once_without_a_rate_and_ends_when_all_have_ended():
    rollout = make()
    executions = offers(rollout, 0)
    assert len(executions) == 10
    for execution in executions:
        assert end(rollout, execution)
    assert isinstance(rollout.op(0), Done)
    assert counts(rollout) == {"SUCCEEDED": 10}


def test_a_constant_rate_never_exceeds_itself_in_any_minute():
    rollout, times, now = make(200, maximumPerMinute=30), [], 0.0
    while len(times) < 200:
        todo = rollout.op(now)
        if isinstance(todo, Pending):
            now = todo.wake_at
        else:
            times += [now] * len(todo)
    assert all(sum(t <= u < t + 60 for u in times) <= 30 for t in times)
    assert times[-1] == pytest.approx(199 * 2, abs=3)


def test_the_exponential_rate_follows_the_documented_curve():
    rollout = make(
        5000,
        maximumPerMinute=1000,
        exponentialRate={
            "baseRatePerMinute": 50,
            "incrementFactor": 2,
            "rateIncreaseCriteria": {"numberOfNotifiedThings": 1000},
        },
        timeoutConfig={"inProgressTimeout": 1e9},
    )
    now, done, rates = 0.0, 0, {}
    while done < 4000:
        todo = rollout.op(now)
        if isinstance(todo, Pending):
            now = todo.wake_at
        else:
            done += len(todo)
            rates.setdefault(done // 1000, rollout._pace.rate)
    assert [rates[n] for n in range(4)] == [50, 100, 200, 400]


def test_a_limit_of_executions_under_way():
    rollout = make(maximumConcurrent=3)
    first = offers(rollout, 0)
    assert len(first) == 3
    end(rollout, first[0])
    assert len(offers(rollout, 0)) == 1


def test_a_wave_opens_when_the_one_before_succeeded_and_not_earlier():
    rollout = make(waves=[{"share": "20%", "success": ">= 100%"}, {"share": "80%"}])
    first = offers(rollout, 0)
    assert len(first) == 2
    end(rollout, first[0])
    assert offers(rollout, 0) == []
    end(rollout, first[1])
    assert len(offers(rollout, 0)) == 8


def test_a_wave_with_too_many_errors_pauses_until_resumed():
    rollout = make(waves=[{"share": "20%", "success": ">= 100%", "error": "> 10%"}, {"share": "80%"}])
    first = offers(rollout, 0)
    end(rollout, first[0], State.FAILED)
    assert rollout.status == "paused"
    end(rollout, first[1])
    assert offers(rollout, 0) == []
    rollout.resume()
    assert len(offers(rollout, 0)) == 8


@pytest.mark.parametrize(("compare", "aborts"), [(">=", True), (">", False)])
def test_abort_exactly_at_the_threshold(compare, aborts):
    criterion = {"minNumberOfExecutedThings": 5, "thresholdPercentage": 40, "compare": compare}
    rollout = make(20, maximumConcurrent=5, abortConfig={"criteriaList": [criterion]})
    first = offers(rollout, 0)
    for n, execution in enumerate(first):
        assert rollout.status == "running"  # not before the minimum
        end(rollout, execution, State.FAILED if n < 2 else State.SUCCEEDED)
    assert (counts(rollout).get("CANCELED", 0) == 15) is aborts


def test_silence_times_out_exactly_and_running_renews_it():
    rollout = make(2, timeoutConfig={"inProgressTimeout": "10s"})
    silent, alive = offers(rollout, 0)
    end(rollout, alive, State.IN_PROGRESS, 5.0)
    rollout.op(9.999)
    assert counts(rollout) == {"IN_PROGRESS": 2}
    rollout.op(10.0)
    assert counts(rollout) == {"IN_PROGRESS": 1, "TIMED_OUT": 1}
    assert not end(rollout, silent, now=11.0)  # late: changes nothing
    rollout.op(15.0)
    assert counts(rollout) == {"TIMED_OUT": 2}


def test_a_retry_is_a_new_job():
    rollout = make(1, retryConfig={"failed": 1})
    (first,) = offers(rollout, 0)
    end(rollout, first, State.FAILED)
    (second,) = offers(rollout, 0)
    assert second.id != first.id
    end(rollout, second, State.FAILED)
    assert counts(rollout) == {"FAILED": 1}


def test_an_operator_pauses_resumes_and_aborts():
    rollout = make(maximumConcurrent=1)
    (first,) = offers(rollout, 0)
    rollout.pause()
    with pytest.raises(WrongState):
        rollout.pause()
    end(rollout, first)
    assert offers(rollout, 0) == []
    rollout.resume()
    (second,) = offers(rollout, 0)
    rollout.abort()
    assert counts(rollout) == {"SUCCEEDED": 1, "IN_PROGRESS": 1, "CANCELED": 8}
    end(rollout, second)
    assert isinstance(rollout.op(0), Done)


_STATES = st.sampled_from([State.SUCCEEDED, State.FAILED, State.IN_PROGRESS, State.REJECTED, State.UNKNOWN])


@given(st.lists(st.tuples(st.integers(0, 14), _STATES, st.floats(0, 30)), max_size=80))
def test_counts_add_up_whatever_comes(outcomes):
    rollout = make(
        12,
        waves=[{"share": "50%", "success": ">= 50%"}, {"share": "50%"}],
        retryConfig={"failed": 2, "timedOut": 1},
        timeoutConfig={"inProgressTimeout": "20s"},
    )
    now, known = 0.0, {}
    for number, state, after in outcomes:
        known.update({e.thing: e for e in offers(rollout, now)})
        now += after
        thing = f"d-{number}"
        rollout.observe(Outcome(thing, known[thing].id if thing in known else "foreign", state), now)
        assert sum(rollout.counts_by_state().values()) == 12
        assert all(n >= 0 for n in rollout.counts)
        assert [sum(column) for column in zip(*rollout.cohorts.values(), strict=True)] == rollout.counts
