"""Gates by numbers: the sizes of waves, what opens them, what holds them, what aborts a rollout."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.application.gates import Gate, aborting, gates
from simulator.model.scenario import AbortConfig, Wave
from simulator.model.update import State

S, F, R, T, U, C = (
    State.SUCCEEDED, State.FAILED, State.REJECTED, State.TIMED_OUT, State.UNKNOWN, State.CANCELED,
)  # fmt: skip


def gate(size, states, **spec):
    made = Gate(Wave.model_validate({"share": 1, **spec}), size, size)
    for state in states:
        made.count(state)
    return made


@pytest.mark.parametrize(
    ("shares", "size", "sizes"),
    [
        ([], 7, [7]),
        ([0.05, 0.25, 0.7], 1000, [50, 250, 700]),
        ([0.5, 0.5], 3, [2, 1]),
        ([0.25] * 4, 6, [2, 1, 1, 2]),
        ([0.01, 0.99], 10, [0, 10]),
        ([0.5, 0.5], 0, [0, 0]),
    ],
)
def test_waves_have_exact_sizes(shares, size, sizes):
    made = gates([Wave(share=share) for share in shares], size)
    assert [g.size for g in made] == sizes
    assert made[-1].end == size


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 300))
def test_waves_take_every_target_once_and_each_its_share(weights, size):
    shares = [weight / sum(weights) for weight in weights]
    made = gates([Wave(share=share) for share in shares], size)
    assert sum(g.size for g in made) == size
    assert all(abs(g.size - share * size) < 1 + 1e-6 for g, share in zip(made, shares, strict=True))


@pytest.mark.parametrize(
    ("states", "spec", "passed"),
    [
        ([], {"success": ">= 0%"}, False),  # nothing has ended yet
        ([F], {"success": ">= 0%"}, True),
        ([S, S], {"success": ">= 50%"}, True),
        ([S, S], {"success": "> 50%"}, False),
        ([S, S, F], {"success": "> 50%"}, False),
        ([S, S, F], {"success": "> 50%", "of": "executed"}, True),
        ([S, S, S, S], {}, True),
        ([S, S, S, F], {}, False),
        ([S, S, C, C], {}, True),
        ([S, C], {"of": "executed"}, True),
        ([C, C, C, C], {}, True),
    ],
)
def test_what_opens_the_next_wave(states, spec, passed):
    assert gate(4, states, **spec).passed() is passed


@pytest.mark.parametrize(
    ("states", "spec", "held"),
    [
        ([], {"error": ">= 0%"}, False),
        ([F], {"error": ">= 25%"}, True),
        ([F], {"error": "> 25%"}, False),
        ([F, R], {"error": "> 25%"}, True),
        ([T, U], {"error": ">= 50%"}, True),
        ([S, F], {"error": ">= 50%"}, False),
        ([S, F], {"error": ">= 50%", "of": "executed"}, True),
        ([C, C, C], {"error": "> 0%"}, False),
        ([C, C, F], {"error": ">= 50%"}, True),
        ([F, F, F, F], {}, False),  # the default never holds
    ],
)
def test_what_holds_a_wave(states, spec, held):
    made = gate(4, states, **spec)
    assert bool(made.too_many_errors()) is held
    made.excused = True
    assert not made.too_many_errors()


def test_a_wave_is_over_when_all_its_targets_have_ended():
    assert not gate(4, [S, F, C]).over()
    assert gate(4, [S, F, C, U]).over()


@pytest.mark.parametrize(
    ("states", "criterion", "aborts"),
    [
        ([F], {}, True),
        ([], {}, False),
        ([S] * 9, {"thresholdPercentage": 1}, False),
        ([F, S], {"thresholdPercentage": 50}, True),
        ([F, S], {"thresholdPercentage": 50, "compare": ">"}, False),
        ([F, S], {"thresholdPercentage": 50, "minNumberOfExecutedThings": 3}, False),
        ([F, S, S], {"thresholdPercentage": 33, "minNumberOfExecutedThings": 3}, True),
        ([F, S, S], {"thresholdPercentage": 34, "minNumberOfExecutedThings": 3}, False),
        ([F, S], {"thresholdPercentage": 5, "of": "targets"}, True),
        ([F, S], {"thresholdPercentage": 6, "of": "targets"}, False),
        ([R, T, U], {}, False),
        ([R], {"failureType": "REJECTED"}, True),
        ([T], {"failureType": "TIMED_OUT"}, True),
        ([F, R, T, U], {"failureType": "ALL", "thresholdPercentage": 100}, True),
        ([F, C, C], {"minNumberOfExecutedThings": 2}, False),  # what was canceled was not executed
        ([F, C, C], {"thresholdPercentage": 100}, True),
        ([F, *[C] * 10], {"thresholdPercentage": 10, "of": "targets"}, True),
    ],
)
def test_what_aborts(states, criterion, aborts):
    config = AbortConfig.model_validate({"criteriaList": [{"thresholdPercentage": 10, **criterion}]})
    assert bool(aborting(config, {s: states.count(s) for s in State}, 20)) is aborts


def test_any_criterion_aborts_and_says_so_in_numbers():
    config = AbortConfig.model_validate(
        {
            "criteriaList": [
                {"failureType": "REJECTED", "thresholdPercentage": 1},
                {"failureType": "FAILED", "thresholdPercentage": 40, "compare": ">"},
            ]
        }
    )
    assert aborting(config, {F: 3, S: 2}, 20) == "3 of 5 executed failed, > 40%"
    assert aborting(AbortConfig(), {F: 20}, 20) == ""
