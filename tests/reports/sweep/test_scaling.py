"""The law of scaling and the knee, on points whose truth is known."""

import numpy as np
import pytest

from reports.sweep.scaling import Fit, fit, knee, last_kept_up

LOADS = np.array([1, 2, 4, 8, 16, 32, 64, 128.0])


def law(loads, alone=20.0, contention=0.02, crosstalk=2e-4):
    n = np.asarray(loads, float)
    return alone * n / (1 + contention * (n - 1) + crosstalk * n * (n - 1))


def test_a_perfect_curve_gives_back_its_parameters_and_its_peak():
    found = fit(LOADS, law(LOADS))
    assert found.alone.value == pytest.approx(20)
    assert found.contention.value == pytest.approx(0.02)
    assert found.crosstalk.value == pytest.approx(2e-4)
    assert found.peak.value == pytest.approx(np.sqrt(0.98 / 2e-4))
    assert found.at(50).value == pytest.approx(law(50))
    for one in (found.alone, found.contention, found.crosstalk, found.peak):
        assert one.high - one.low <= 1e-6 * one.value  # no scatter, no doubt
    assert found.scatter == pytest.approx(0, abs=1e-9)


def test_fleets_of_thousands_are_as_well_told():
    loads = [200, 500, 1000, 2000, 3000]
    found = fit(loads, law(loads, 0.2, 1e-3, 1e-7))
    assert (found.contention.value, found.crosstalk.value) == (pytest.approx(1e-3), pytest.approx(1e-7))


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    held, dice = 0, np.random.default_rng(1)
    for _ in range(40):
        found = fit(LOADS, law(LOADS) * (1 + 0.05 * dice.standard_normal(len(LOADS))))
        held += found.contention.low <= 0.02 <= found.contention.high
    assert held >= 32


def test_more_scatter_means_a_wider_interval_and_at_last_no_word():
    signs = np.array([1, -1, -1, 1, 1, -1, -1, 1])
    widths = []
    for scatter in (0.01, 0.05):
        there = fit(LOADS, law(LOADS) * (1 + scatter * signs)).at(128)
        widths.append(there.high / there.low)
    assert 1 < widths[0] < widths[1]
    said = fit(LOADS, law(LOADS) * (1 + 0.8 * signs))
    assert isinstance(said, str)
    assert "too far from the law" in said


def test_points_on_a_straight_line_have_no_contention_and_no_peak():
    found = fit(LOADS, 3 * LOADS)
    assert found.contention.value == pytest.approx(0, abs=1e-9)
    assert found.crosstalk.value == pytest.approx(0, abs=1e-9)
    assert found.peak is None
    assert found.reach == 256
    assert found.at(256).value == pytest.approx(768)


def test_a_single_queue_is_all_contention():
    found = fit(LOADS, np.full(len(LOADS), 7.0))
    assert found.contention.value == pytest.approx(1)
    assert found.at(1000).value == pytest.approx(7)


def test_a_peak_far_beyond_what_was_measured_is_not_told():
    assert fit(LOADS, law(LOADS, crosstalk=1e-7)).peak is None


@pytest.mark.parametrize("loads", [[], [5], [10, 20, 30], [10, 20, 30, 30, 30]])
def test_fewer_than_four_loads_tell_no_law(loads):
    said = fit(loads, law(loads))
    assert isinstance(said, str)
    assert "at least 4 loads are needed" in said


def test_four_points_with_some_scatter_tell_little_of_what_lies_beyond():
    loads = [100, 200, 400, 600]
    found = fit(loads, law(loads, 0.16, 3e-4, 0) * np.array([1.03, 0.97, 1.03, 0.98]))
    assert isinstance(found, Fit)
    assert 600 <= found.reach <= 1200
    there, last = found.at(found.reach), found.at(600)
    assert there.high / there.low > last.high / last.low


def test_the_knee_of_a_ramp_that_turns_flat_is_where_it_turns():
    assert knee([10, 20, 30, 40, 50, 60], [10, 20, 30, 31, 31, 31]) == 30
    assert knee([10, 20, 30, 40], [10, 20, 15, 12]) == 20


def test_a_straight_line_has_no_knee_and_a_flat_one_has_it_at_once():
    assert knee([10, 20, 30, 40], [1, 2, 3, 4.1]) is None
    assert knee([10, 20, 30, 40], [5, 5, 5, 5]) == 10


def test_few_points_have_no_knee():
    assert knee([10, 20], [10, 11]) is None
    assert knee([], []) is None
    assert knee([10, 20, 30], [0, 0, 0]) is None


def test_the_last_rate_that_was_kept_up():
    assert last_kept_up([10, 20, 40, 80], [10, 19.5, 39, 41]) == 40
    assert last_kept_up([10, 20, 40], [10, 12, 40]) == 10  # what comes after a miss is no proof
    assert last_kept_up([10, 20], [10, 20]) is None
    assert last_kept_up([10, 20], [5, 5]) is None
    assert last_kept_up([], []) is None
