"""State documents: merge and minimal delta are each other's counterparts."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.model.state import deeper, delta, merge, null_in_array, same

LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab", max_size=2)
SOLID = LEAVES.filter(lambda leaf: leaf is not None)
KEYS = st.sampled_from("abcd")
ARRAYS = st.lists(SOLID | st.dictionaries(KEYS, SOLID, max_size=2), max_size=3)


def documents(leaves):
    nested = st.recursive(leaves | ARRAYS, lambda below: st.dictionaries(KEYS, below, max_size=3), max_leaves=8)
    return st.dictionaries(KEYS, nested, max_size=4)


DOCUMENTS, PATCHES = documents(SOLID), documents(LEAVES)


@given(DOCUMENTS, DOCUMENTS)
def test_laying_the_delta_over_what_is_reported_leaves_no_delta(desired, reported):
    difference = delta(desired, reported)
    assert delta(desired, merge(reported, difference)) == {}


@given(DOCUMENTS, DOCUMENTS)
def test_a_delta_holds_only_what_is_desired_and_differs(desired, reported):
    def within(difference, wanted, actual):
        for key, value in difference.items():
            assert key in wanted
            if isinstance(value, dict) and isinstance(actual.get(key), dict):
                assert value != {}
                within(value, wanted[key], actual[key])
            else:
                assert same(value, wanted[key])
                assert key not in actual or not same(value, actual[key])

    within(delta(desired, reported), desired, reported)


@given(DOCUMENTS)
def test_nothing_differs_from_itself(document):
    assert delta(document, copy.deepcopy(document)) == {}


@given(DOCUMENTS, PATCHES)
def test_merging_changes_neither_argument_and_twice_is_once(base, patch):
    before = copy.deepcopy((base, patch))
    once = merge(base, patch)
    assert (base, patch) == before
    assert same(merge(once, patch), once)


@pytest.mark.parametrize(
    ("desired", "reported", "difference"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}, {}),  # reported-only keys never show
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3, "d": 4}}, {"a": {"c": 2}}),
        ({"a": {"b": 1}}, {"a": 5}, {"a": {"b": 1}}),
        ({"a": 5}, {"a": {"b": 1}}, {"a": 5}),
        ({"a": [1, 2, 3]}, {"a": [1, 2]}, {"a": [1, 2, 3]}),  # arrays are values
        ({"a": [{"b": 1}]}, {"a": [{"b": 1}]}, {}),
        ({"a": True}, {"a": 1}, {"a": True}),  # JSON's true is not 1
        ({"a": [0]}, {"a": [False]}, {"a": [0]}),
        ({"a": [{"b": 1}]}, {"a": [{"b": True}]}, {"a": [{"b": 1}]}),
        ({"a": 1}, {"a": 1.0}, {}),
        ({"a": ""}, {"a": 0}, {"a": ""}),
        ({"a": {}}, {}, {"a": {}}),
        ({"a": {}}, {"a": {"b": 1}}, {}),
    ],
)
def test_deltas_by_table(desired, reported, difference):
    found = delta(desired, reported)
    assert same(found, difference), found


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": 1}, {"b": None}, {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({}, {"a": {"b": None}}, {"a": {}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
        ({"a": {"b": 2}}, {"a": 1}, {"a": 1}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
    ],
)
def test_merges_by_table(base, patch, merged):
    assert same(merge(base, patch), merged)


@pytest.mark.parametrize(
    ("value", "levels"), [(1, 0), ([], 1), ({"a": 1}, 1), ({"a": {"b": 1}}, 2), ({"a": 1, "b": [{"c": 1}]}, 3)]
)
def test_a_document_is_as_deep_as_its_deepest_leaf(value, levels):
    assert not deeper(value, levels)
    assert levels == 0 or deeper(value, levels - 1)


def test_nulls_in_arrays_are_found_at_any_depth():
    assert not null_in_array({"a": None, "b": [1, {"c": 2}]})
    assert null_in_array({"a": {"b": [[None]]}})
    assert null_in_array([{"a": [None]}])
