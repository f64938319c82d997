"""The ramp by numbers, and shards that share a fleet without gap or overlap."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.device.ramp import Shard, due, length


@pytest.mark.parametrize(
    ("ramp", "devices", "times"),
    [
        (("rate", 2.0), 4, [0, 0.5, 1, 1.5]),
        (("rate", 0.5), 3, [0, 2, 4]),
        (("over", 30.0), 3, [0, 10, 20]),
        (("over", 0.0), 3, [0, 0, 0]),
        (("over", 5.0), 1, [0]),
    ],
)
def test_each_device_is_due_at_its_time(ramp, devices, times):
    assert [due(ramp, devices, ordinal) for ordinal in range(devices)] == times


@pytest.mark.parametrize(
    ("ramp", "devices", "seconds"), [(("rate", 200.0), 1000, 5), (("over", 30.0), 1000, 30), (("over", 0.0), 5, 0)]
)
def test_a_ramp_is_as_long_as_it_says(ramp, devices, seconds):
    assert length(ramp, devices) == seconds


@given(st.integers(1, 8), st.integers(0, 200))
def test_shards_are_disjoint_and_complete(count, devices):
    owned = [[o for o in range(devices) if Shard(index, count).owns(o)] for index in range(count)]
    assert sorted(itertools.chain(*owned)) == list(range(devices))
    assert max(map(len, owned)) - min(map(len, owned)) <= 1
