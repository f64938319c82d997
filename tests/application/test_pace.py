"""Pace by numbers: when offers are due, and that no minute ever holds more of them than the rate."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.application.pace import Pace
from simulator.model.scenario import ExponentialRate


def taken(pace, calls):
    """When offers go if the caller comes at these times and takes all that is due."""
    times = []
    for now in calls:
        while (due := pace.due(now)) <= now and len(times) < 10_000:
            pace.take(due, now)
            times.append(now)
    return times


def steadily(pace, until, step=0.25):
    pace.rest(0.0)
    return taken(pace, [n * step for n in range(int(until / step) + 1)])


def curve(base, factor, **criteria):
    return ExponentialRate.model_validate(
        {"baseRatePerMinute": base, "incrementFactor": factor, "rateIncreaseCriteria": criteria}
    )


def test_without_a_maximum_everything_is_due_at_once():
    pace = Pace(None, None)
    for now in (0.0, 5.0):
        assert pace.due(now) == now
        pace.take(now, now)


@pytest.mark.parametrize(
    ("rate", "times"),
    [(60, [0, 1, 2, 3, 4, 5]), (30, [0, 2, 4]), (120, [n / 2 for n in range(11)]), (12, [0, 5]), (0.5, [0])],
)
def test_a_constant_rate_is_spaced_evenly(rate, times):
    assert steadily(Pace(rate, None), 5) == times


def test_half_an_offer_a_minute_is_one_in_two():
    assert steadily(Pace(0.5, None), 360) == [0, 120, 240, 360]


def test_a_late_caller_catches_up_by_no_more_than_a_second():
    pace = Pace(120, None)
    pace.rest(0.0)
    assert taken(pace, [0, 0.9, 30, 30.1]) == [0, 0.9, 30, 30, 30]


def test_what_was_caught_up_counts_for_its_minute():
    pace = Pace(60, None)
    pace.rest(0.0)
    times = taken(pace, [1 + n / 4 for n in range(400)])
    assert times[:3] == [1, 1, 2]
    assert max(sum(begin <= t < begin + 60 for t in times) for begin in times) == 60


def test_what_rested_has_nothing_to_catch_up_with():
    pace = Pace(120, None)
    assert taken(pace, [0]) != []
    pace.rest(30)
    assert taken(pace, [30]) == [30]


@given(
    st.one_of(st.integers(1, 1000), st.floats(0.1, 50)),
    st.lists(st.floats(0, 40), min_size=1, max_size=80),
    st.sets(st.integers(0, 80)),
)
def test_no_minute_holds_more_than_the_rate(rate, gaps, rests):
    pace, now, times = Pace(rate, None), 0.0, []
    for nth, gap in enumerate(gaps):
        now += gap
        if nth in rests:
            pace.rest(now)
        times += taken(pace, [now])
    for begin in times:
        assert sum(begin <= t < begin + 60 for t in times) <= math.ceil(rate)


@pytest.mark.parametrize(
    ("notified", "rate"), [(0, 50), (999, 50), (1000, 100), (2500, 200), (4000, 800), (5000, 1000), (10**9, 1000)]
)
def test_the_exponential_rate_by_those_notified(notified, rate):
    pace = Pace(1000, curve(50, 2, numberOfNotifiedThings=1000))
    pace.grow(notified, 10**6)
    assert pace.rate == rate


@pytest.mark.parametrize(("succeeded", "rate"), [(0, 10), (4, 10), (5, 15), (10, 22.5), (100, 25)])
def test_the_exponential_rate_by_those_succeeded(succeeded, rate):
    pace = Pace(25, curve(10, 1.5, numberOfSucceededThings=5))
    pace.grow(10**6, succeeded)
    assert pace.rate == rate
