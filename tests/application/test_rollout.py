"""The rollout engine, by numbers: pace, waves, aborts, timeouts, retries; counts always add up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.application.news import Done, Pending
from simulator.application.rollout import Rollout, WrongState
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


# ---- beginning and ending


def test_nothing_is_offered_before_it_begins():
    rollout = Rollout(RolloutSpec(), Artifact("2", "u"), [("d-0", "all")], begin_at=5.0)
    assert rollout.op(4.9) == Pending(5.0)
    assert rollout.status == "waiting"
    assert len(offers(rollout, 5.0)) == 1


def test_no_targets_is_an_end_at_once():
    rollout = make(0)
    assert rollout.op(0) == Done("all targets ended")
    assert [n.status for n in rollout.news()] == ["begin", "end"]


def test_a_thing_may_not_stand_among_the_targets_twice():
    with pytest.raises(ValueError, match="twice"):
        Rollout(RolloutSpec(), Artifact("2", "u"), [("d", "all"), ("d", "all")])


def test_a_call_gives_no_more_than_its_limit_and_zero_only_moves_the_clock():
    rollout = make(10, timeoutConfig={"inProgressTimeout": "1s"})
    assert [len(rollout.op(0, limit)) for limit in (4, 4, 4)] == [4, 4, 2]
    assert rollout.op(0, 4) == Pending(1.0)
    rollout.op(1.0, 0)
    assert counts(rollout) == {"TIMED_OUT": 10}


def test_job_ids_differ_by_thing_attempt_rollout_and_run_and_are_short():
    made = [
        Rollout(RolloutSpec(name=name, retryConfig={"failed": 1}), Artifact("2", "u"), [(t, "a") for t in things], prefix=prefix)
        for name, prefix in (("r", ""), ("s", ""), ("r", "x."), ("r.d", ""), ("n" * 60, ""))
        for things in (["d", "e", "d.1", "d.d", "t" * 80],)
    ]  # fmt: skip
    jobs = []
    for rollout in made:
        for execution in offers(rollout, 0):
            jobs.append(execution.id)
            end(rollout, execution, State.FAILED)
        jobs += [execution.id for execution in offers(rollout, 0)]
    assert len(jobs) == len(set(jobs)) == 5 * 5 * 2
    assert max(len(job.encode()) for job in jobs) <= 58


# ---- waves


def test_a_wave_without_targets_is_passed_over():
    rollout = make(3, waves=[{"share": "10%"}, {"share": "80%"}, {"share": "10%"}])
    first = offers(rollout, 0)
    assert len(first) == 3
    assert [n.size for n in rollout.news() if getattr(n, "status", "") == "wave"] == [0, 3]
    for execution in first:
        end(rollout, execution)
    assert isinstance(rollout.op(0), Done)


@pytest.mark.parametrize(("success", "successes"), [(">= 50%", 2), ("> 50%", 3), (">= 100%", 4), (">= 0%", 1)])
def test_a_wave_opens_exactly_at_its_threshold(success, successes):
    rollout = make(8, waves=[{"share": "50%", "success": success}, {"share": "50%"}])
    first = offers(rollout, 0)
    for execution in first[: successes - 1]:
        end(rollout, execution)
        assert offers(rollout, 0) == []
    end(rollout, first[successes - 1])
    assert len(offers(rollout, 0)) == 4


def test_the_denominator_of_a_wave_is_a_setting():
    waves = [{"share": "50%", "success": "> 60%", "of": "executed"}, {"share": "50%"}]
    rollout = make(8, waves=waves)
    first = offers(rollout, 0)
    end(rollout, first[0], State.FAILED)
    end(rollout, first[1])
    assert offers(rollout, 0) == []  # one of two
    end(rollout, first[2])
    assert len(offers(rollout, 0)) == 4  # two of three


@pytest.mark.parametrize(("error", "failures"), [("> 50%", 3), (">= 50%", 2), ("> 0%", 1)])
@pytest.mark.parametrize(("action", "status"), [("pause", "paused"), ("abort", "aborting")])
def test_errors_hold_or_abort_exactly_at_the_threshold(error, failures, action, status):
    rollout = make(8, waves=[{"share": "50%", "error": error, "errorAction": action}, {"share": "50%"}])
    first = offers(rollout, 0)
    states = [State.FAILED, State.REJECTED, State.UNKNOWN]
    for execution, state in zip(first[: failures - 1], states, strict=False):
        end(rollout, execution, state)
        assert rollout.status == "running"
    end(rollout, first[failures - 1], states[failures - 1])
    assert rollout.status == status
    assert "errors" in rollout.reason


@pytest.mark.parametrize(("action", "status"), [("pause", "paused"), ("abort", "ended")])
def test_a_wave_that_ended_short_of_its_success_holds_or_aborts(action, status):
    rollout = make(waves=[{"share": "20%", "errorAction": action}, {"share": "80%"}])
    first, second = offers(rollout, 0)
    end(rollout, first)
    end(rollout, second, State.FAILED)
    assert rollout.status == status
    assert "success 50.0%, not >= 100.0%" in rollout.reason
    if status == "ended":
        assert counts(rollout) == {"SUCCEEDED": 1, "FAILED": 1, "CANCELED": 8}


def test_a_pause_by_an_operator_excuses_no_gate():
    rollout = make(waves=[{"share": "50%", "success": ">= 100%", "error": "> 50%"}, {"share": "50%"}])
    first = offers(rollout, 0)
    rollout.pause()
    rollout.resume()
    for execution in first:
        end(rollout, execution, State.FAILED if execution is first[0] else State.SUCCEEDED)
    assert rollout.status == "paused"
    assert "success 80.0%" in rollout.reason
    assert offers(rollout, 0) == []


def test_errors_during_a_pause_hold_the_rollout_when_it_is_resumed_once():
    rollout = make(waves=[{"share": "50%", "error": "> 10%"}, {"share": "50%"}], maximumConcurrent=2)
    first, second = offers(rollout, 0)
    rollout.pause()
    end(rollout, first, State.FAILED)
    end(rollout, second)
    assert rollout.reason == "by an operator"
    rollout.resume()
    assert (rollout.status, rollout.reason) == ("paused", "errors 20.0% > 10.0% of the wave's targets")
    rollout.resume()
    assert len(offers(rollout, 0)) == 2


def test_success_during_a_pause_opens_the_next_wave_when_it_is_resumed():
    rollout = make(waves=[{"share": "20%"}, {"share": "80%"}])
    first = offers(rollout, 0)
    rollout.pause()
    for execution in first:
        end(rollout, execution)
    assert offers(rollout, 0) == []
    rollout.resume()
    assert len(offers(rollout, 0)) == 8


# ---- rates and limits


def test_the_exponential_rate_may_follow_successes():
    rollout = make(
        100,
        maximumPerMinute=600,
        exponentialRate={
            "baseRatePerMinute": 60,
            "incrementFactor": 2,
            "rateIncreaseCriteria": {"numberOfSucceededThings": 10},
        },
        retryConfig={"failed": 1},
    )
    assert len(offers(rollout, 0)) == 1
    for second in range(1, 11):
        (execution,) = offers(rollout, second)
        end(rollout, execution, now=second)
    assert [len(offers(rollout, now)) for now in (10.9, 11, 11.4, 11.5, 12)] == [0, 1, 0, 1, 1]


def test_retries_are_paced_and_limited_as_first_offers_are():
    rollout = make(3, maximumPerMinute=60, maximumConcurrent=2, retryConfig={"failed": 1})
    (first,) = offers(rollout, 0)
    (second,) = offers(rollout, 1)
    assert offers(rollout, 2) == []  # two under way
    end(rollout, first, State.FAILED, 2)
    (third,) = offers(rollout, 2)
    assert third.thing == "d-2"  # first turns come first
    end(rollout, second, now=2.5)
    assert offers(rollout, 2.9) == []
    (again,) = offers(rollout, 3.01)
    assert (again.thing, again.id != first.id) == ("d-0", True)


def test_what_a_limit_held_back_is_not_made_up_for_in_a_burst():
    rollout = make(10, maximumPerMinute=60, maximumConcurrent=1)
    (first,) = offers(rollout, 0)
    assert offers(rollout, 30) == []
    end(rollout, first, now=30)
    (second,) = offers(rollout, 30)
    end(rollout, second, now=30)
    assert offers(rollout, 30.9) == []
    assert len(offers(rollout, 31)) == 1


# ---- abort, timeout, retry


@pytest.mark.parametrize(
    ("kind", "state", "aborts"),
    [
        ("FAILED", State.FAILED, True),
        ("FAILED", State.REJECTED, False),
        ("REJECTED", State.REJECTED, True),
        ("REJECTED", State.UNKNOWN, False),
        ("TIMED_OUT", State.FAILED, False),
        ("ALL", State.FAILED, True),
        ("ALL", State.REJECTED, True),
        ("ALL", State.UNKNOWN, True),
        ("ALL", State.SUCCEEDED, False),
    ],
)
def test_what_counts_for_an_abort(kind, state, aborts):
    criterion = {"failureType": kind, "thresholdPercentage": 50}
    rollout = make(10, maximumConcurrent=1, abortConfig={"criteriaList": [criterion]})
    end(rollout, *offers(rollout, 0), state)
    assert (rollout.status == "ended") is aborts
    assert (counts(rollout).get("CANCELED", 0) == 9) is aborts


def test_silence_may_abort_too():
    criterion = {"failureType": "TIMED_OUT", "thresholdPercentage": 10, "of": "targets"}
    rollout = make(
        20, maximumConcurrent=2, abortConfig={"criteriaList": [criterion]}, timeoutConfig={"inProgressTimeout": 9}
    )
    offers(rollout, 0)
    assert rollout.op(9.0) == Done("aborted: 2 of 20 targets timed_out, >= 10%")
    assert counts(rollout) == {"TIMED_OUT": 2, "CANCELED": 18}


def test_an_abort_leaves_what_is_under_way_to_end_freely_and_retries_nothing():
    rollout = make(
        3, maximumConcurrent=2, retryConfig={"failed": 5, "timedOut": 5}, timeoutConfig={"inProgressTimeout": 9}
    )
    first, _ = offers(rollout, 0)
    rollout.abort()
    assert offers(rollout, 1) == []
    end(rollout, first, State.FAILED, 1)
    assert counts(rollout) == {"FAILED": 1, "IN_PROGRESS": 1, "CANCELED": 1}
    assert rollout.op(9.0) == Done("aborted: by an operator")


def test_an_abort_cancels_what_waits_for_its_retry():
    rollout = make(1, retryConfig={"failed": 5})
    end(rollout, *offers(rollout, 0), State.FAILED)
    assert counts(rollout) == {"QUEUED": 1}
    rollout.abort()
    assert counts(rollout) == {"CANCELED": 1}


def test_silence_is_retried_by_its_own_count_and_under_a_new_job():
    rollout = make(1, timeoutConfig={"inProgressTimeout": 10}, retryConfig={"timedOut": 1, "failed": 1})
    jobs = []
    for now, state in ((0, None), (10, State.FAILED), (10, None)):
        (execution,) = offers(rollout, now)
        jobs.append(execution.id)
        if state:
            end(rollout, execution, state, now)
    assert rollout.op(19.9) == Pending(20.0)
    assert isinstance(rollout.op(20.0), Done)
    assert len(set(jobs)) == 3
    assert counts(rollout) == {"TIMED_OUT": 1}


def test_a_pause_stops_no_clock():
    rollout = make(2, maximumConcurrent=1, timeoutConfig={"inProgressTimeout": 10})
    offers(rollout, 0)
    rollout.pause()
    assert rollout.op(9) == Pending(10.0)
    assert rollout.op(10) == Pending(None)
    assert counts(rollout) == {"TIMED_OUT": 1, "QUEUED": 1}


@pytest.mark.parametrize("state", [State.REJECTED, State.UNKNOWN, State.SUCCEEDED])
def test_only_failure_and_silence_are_tried_again(state):
    rollout = make(1, retryConfig={"failed": 5, "timedOut": 5})
    end(rollout, *offers(rollout, 0), state)
    assert isinstance(rollout.op(0), Done)


def test_a_failure_that_somebody_elses_order_caused_is_not_tried_again():
    rollout = make(1, retryConfig={"failed": 5})
    (execution,) = offers(rollout, 0)
    rollout.observe(Outcome(execution.thing, execution.id, State.FAILED, "superseded"), 0)
    assert rollout.op(0) == Done("all targets ended")


def test_an_outcome_is_taken_once_and_only_for_the_execution_under_way():
    rollout = make(2, maximumConcurrent=1, retryConfig={"failed": 1})
    (first,) = offers(rollout, 0)
    assert end(rollout, first, State.IN_PROGRESS)
    assert end(rollout, first, State.FAILED)
    assert not end(rollout, first)  # it waits for its second attempt
    (other,) = offers(rollout, 0)
    end(rollout, other)
    (second,) = offers(rollout, 0)
    assert not end(rollout, first)  # the first attempt's, late
    assert not rollout.observe(Outcome("d-1", second.id, State.SUCCEEDED), 0)
    assert not rollout.observe(Outcome("stranger", second.id, State.SUCCEEDED), 0)
    assert counts(rollout) == {"SUCCEEDED": 1, "IN_PROGRESS": 1}
    assert end(rollout, second)


# ---- giving way to a newer rollout


def test_what_waits_gives_way_and_what_is_under_way_is_not_tried_again():
    rollout = make(3, maximumConcurrent=1, retryConfig={"failed": 5, "timedOut": 5})
    (first,) = offers(rollout, 0)
    assert rollout.under_way(first)
    for thing in ("d-0", "d-1", "stranger"):
        rollout.give_way(thing, "newer")
    assert not rollout.under_way(first)
    assert counts(rollout) == {"IN_PROGRESS": 1, "CANCELED": 1, "QUEUED": 1}
    end(rollout, first, State.FAILED)
    (last,) = offers(rollout, 0)
    assert last.thing == "d-2"
    end(rollout, last)
    rollout.give_way("d-2", "newer")
    assert counts(rollout) == {"FAILED": 1, "CANCELED": 1, "SUCCEEDED": 1}
    canceled = next(n for n in rollout.news() if getattr(n, "state", None) is State.CANCELED)
    assert (canceled.thing, canceled.span, canceled.reason) == ("d-1", None, "superseded by rollout 'newer'")


def test_what_gave_way_counts_neither_for_waves_nor_for_aborts():
    criterion = {"failureType": "FAILED", "thresholdPercentage": 50, "minNumberOfExecutedThings": 2}
    rollout = make(
        8, waves=[{"share": "50%"}, {"share": "50%"}], maximumConcurrent=1, abortConfig={"criteriaList": [criterion]}
    )
    (first,) = offers(rollout, 0)
    for thing in ("d-1", "d-2", "d-3"):
        rollout.give_way(thing, "newer")
    assert rollout.status == "running"
    end(rollout, first)
    (second,) = offers(rollout, 0)  # the first wave's only target left has succeeded
    end(rollout, second, State.FAILED)
    assert rollout.status == "ended"  # one of two, not one of five


def test_a_wave_that_gave_way_as_a_whole_opens_the_next():
    rollout = make(4, waves=[{"share": "50%"}, {"share": "50%"}], maximumConcurrent=1, maximumPerMinute=60)
    rollout.op(0, 0)
    for thing in ("d-0", "d-1"):
        rollout.give_way(thing, "newer")
    assert [e.thing for e in offers(rollout, 0)] == ["d-2"]


def test_a_rollout_that_gave_way_altogether_ends():
    rollout = make(2, maximumConcurrent=1)
    rollout.op(0, 0)
    for thing in ("d-0", "d-1"):
        rollout.give_way(thing, "newer")
    assert isinstance(rollout.op(0), Done)
    assert counts(rollout) == {"CANCELED": 2}


# ---- whatever comes


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


_DEEDS = st.sampled_from(["pause", "resume", "abort", "give way", "nothing"])
_SPECS = st.fixed_dictionaries(
    {
        "maximumPerMinute": st.none() | st.integers(1, 600),
        "maximumConcurrent": st.none() | st.integers(1, 4),
        "retryConfig": st.fixed_dictionaries({"failed": st.integers(0, 2), "timedOut": st.integers(0, 2)}),
        "timeoutConfig": st.just({"inProgressTimeout": "20s"}),
        "waves": st.sampled_from([[], ["10%", "90%"], ["50%", "50%"]]).flatmap(
            lambda shares: st.tuples(
                *[
                    st.fixed_dictionaries(
                        {
                            "share": st.just(share),
                            "success": st.sampled_from([">= 100%", "> 50%", ">= 0%"]),
                            "error": st.sampled_from(["> 100%", "> 20%"]),
                            "of": st.sampled_from(["targets", "executed"]),
                            "errorAction": st.sampled_from(["pause", "abort"]),
                        }
                    )
                    for share in shares
                ]
            )
        ),
    }
)


_ENDS = st.sampled_from([State.SUCCEEDED, State.FAILED, State.REJECTED, State.UNKNOWN])


def moves(rollout, thing, job):
    """Whether this is the thing's execution, and under way."""
    standing = rollout.standing(thing)
    return standing.job == job and standing.state is State.IN_PROGRESS


@settings(max_examples=60)
@given(_SPECS, st.data())
def test_every_rollout_ends_and_no_two_executions_of_a_thing_are_under_way_at_once(spec, data):
    rollout, now, under_way, stepped = make(12, **spec), 0.0, {}, 0
    while not isinstance(todo := rollout.op(now, 3), Done):
        stepped += 1
        assert stepped < 2000
        under_way = {thing: job for thing, job in under_way.items() if moves(rollout, thing, job)}
        if isinstance(todo, list):
            for offer in todo:
                assert offer.execution.thing not in under_way
                under_way[offer.execution.thing] = offer.execution.id
        elif todo.wake_at is not None and todo.wake_at > now:
            now = todo.wake_at
        assert counts(rollout).get("IN_PROGRESS", 0) == len(under_way) <= (spec["maximumConcurrent"] or 12)
        assert sum(rollout.counts) == 12
        deed = data.draw(_DEEDS) if stepped < 30 else "nothing"
        if deed == "give way":
            rollout.give_way(f"d-{data.draw(st.integers(0, 12))}", "newer")
        elif deed == "abort" or (deed, rollout.status) in (("pause", "running"), ("resume", "paused")):
            if rollout.status not in ("aborting", "ended"):
                getattr(rollout, deed)()
        elif rollout.status == "paused" and deed == "nothing" and not under_way:
            rollout.resume()
        if under_way and data.draw(st.booleans()):
            thing = data.draw(st.sampled_from(sorted(under_way)))
            rollout.observe(Outcome(thing, under_way.pop(thing), data.draw(_ENDS)), now)
    assert all(State(state).ended for state in counts(rollout))
    assert [n.status for n in rollout.news() if hasattr(n, "status")][-1] == "end"
