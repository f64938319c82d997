"""Draws keyed by identity: the same key draws the same, and leaving out anything moves nothing else."""

from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.model.dice import Dice, draw, exponential, lognormal, lowest, normal, whole_us


def test_a_draw_is_the_same_on_every_machine():
    assert draw(1, "device-0", "boot") == 0.5755653003941166
    assert draw(1, "device-0", "boot", 1) == 0.025072211077991235


def test_each_part_of_the_key_counts():
    keys = [(1, "a", "b", 0), (2, "a", "b", 0), (1, "b", "b", 0), (1, "a", "a", 0), (1, "a", "b", 1), (1, "ab", "", 0)]
    assert len({draw(*key) for key in keys}) == len(keys)


def test_draws_are_uniform_within_zero_and_one():
    draws = [draw(7, f"d-{n}", "u") for n in range(20_000)]
    assert 0 < min(draws) < 0.001
    assert 0.999 < max(draws) < 1
    assert mean(draws) == pytest.approx(0.5, abs=0.01)


def test_purposes_do_not_disturb_one_another():
    alone = Dice(3, "d")
    mixed = Dice(3, "d")
    expected = [alone.roll("boot") for _ in range(5)]
    rolled = []
    for _ in range(5):
        mixed.roll("latency")
        rolled.append(mixed.roll("boot"))
    assert rolled == expected
    assert len(set(rolled)) == 5
    assert rolled == [draw(3, "d", "boot", nth) for nth in range(5)]


@given(st.integers(0, 2**32), st.sets(st.integers(0, 10_000), max_size=60), st.integers(0, 70), st.data())
def test_the_lowest_are_exact_and_stay_when_others_are_left_out(seed, ordinals, count, data):
    picked = lowest(seed, "p", ordinals, count)
    assert len(picked) == min(count, len(ordinals))
    assert picked <= ordinals
    out = data.draw(st.sets(st.sampled_from(sorted(ordinals)))) if ordinals else set()
    again = lowest(seed, "p", ordinals - out, count)
    assert picked - out <= again
    assert lowest(seed, "p", ordinals - (ordinals - picked), count) == picked


def test_the_lowest_do_not_depend_on_the_order_they_come_in():
    assert lowest(1, "p", range(1000), 10) == lowest(1, "p", reversed(range(1000)), 10)
    assert lowest(1, "p", range(1000), 10) != lowest(2, "p", range(1000), 10)
    assert lowest(1, "p", range(1000), 10) != lowest(1, "q", range(1000), 10)


def test_quantiles_of_the_distributions():
    assert normal(0.5, 10, 2) == 10
    assert normal(0.975, 10, 2) == pytest.approx(13.92, abs=0.01)
    assert lognormal(0.5, 8, 0.5) == 8
    assert lognormal(0.8413447460685429, 8, 0.5) == pytest.approx(8 * 2.718281828**0.5)
    assert exponential(0.5, 10) == pytest.approx(6.931, abs=0.001)
    assert whole_us(1 / 3) == 0.333333
