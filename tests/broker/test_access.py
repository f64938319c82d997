"""Who may log in, and what each may say and hear."""

import re

import pytest

from simulator.broker.access import Access, before_thing, thing_password

ACCESS = Access("key", {"svc": "pässword"}, rights=["fleet/{thing}/#"])


@pytest.mark.parametrize(
    ("user", "password", "goes"),
    [
        ("svc", "pässword", True),
        ("svc", thing_password("key", "svc"), False),
        ("d", thing_password("key", "d"), True),
        ("ä", thing_password("key", "ä"), True),
        ("d", thing_password("key", "e"), False),
        ("d", thing_password("another key", "d"), False),
        ("d", "ä", False),
        ("d", "", False),
        ("d", None, False),
        ("", thing_password("key", ""), False),
        (None, None, False),
        *((name, thing_password("key", name), False) for name in ("+", "#", "d/e", "d+")),  # no level of a topic
    ],
)
def test_a_user_logs_in_with_its_own_password_alone(user, password, goes):
    assert ACCESS.login(user, password) is goes


@pytest.mark.parametrize(
    ("user", "topic", "may"),
    [
        ("d", "fleet/d/update", True),
        ("d", "fleet/d/#", True),
        ("d", "fleet/d/+/accepted", True),
        ("d", "fleet/d", True),
        ("d", "fleet/e/update", False),
        ("d", "fleet/dd/update", False),
        ("d", "fleet/+/update", False),
        ("d", "fleet/#", False),
        ("d", "#", False),
        ("d", "state/d/update", False),
        ("svc", "fleet/+/update", True),
        ("svc", "fleet/#", True),
        ("svc", "#", False),
        ("svc", "$SYS/broker", False),
        (None, "fleet/d/update", False),
    ],
)
def test_a_thing_is_held_to_its_own_topics_and_a_service_to_those_of_all(user, topic, may):
    assert ACCESS.may(user, topic) is may


@pytest.mark.parametrize(
    ("rights", "user", "topic", "may"),
    [
        (["fleet/v1/{thing}/#"], "d", "fleet/v1/d/update", True),
        (["fleet/v1/{thing}/#"], "d", "fleet/v1/d", True),
        (["fleet/v1/{thing}/#"], "d", "fleet/v1/dd/update", False),
        (["fleet/v1/{thing}/#"], "d", "fleet/d/v1/update", False),
        (["fleet/v1/{thing}/#"], "svc", "fleet/v1/+/update", True),
        (["fleet/v1/{thing}/#"], "svc", "fleet/v2/+/update", False),
        (["a/b/c/{thing}/#", "x/b/c/{thing}/#"], "d", "x/b/c/d/update", True),
        (["a/b/c/{thing}/#", "x/b/c/{thing}/#"], "svc", "x/b/c/+/update", True),
        (["{thing}/#"], "d", "d/update", True),
        (["{thing}/#"], "d", "e/update", False),
        (["{thing}/#"], "svc", "+/update", True),
        (["{thing}/#"], "svc", "$SYS/broker", False),
        (["$aws/things/{thing}/#"], "svc", "$aws/things/+/update", True),
        ([], "d", "d/update", False),
        ([], "svc", "d/update", False),
    ],
)
def test_a_thing_s_name_may_stand_at_any_level(rights, user, topic, may):
    assert Access("key", {"svc": "pw"}, rights).may(user, topic) is may


@pytest.mark.parametrize("right", ["state/#", "state/{thing}", "state/{thing}/update", "state/{thing}x/#"])
def test_a_right_holds_the_thing_and_all_below_it(right):
    with pytest.raises(ValueError, match=re.escape("ends in {thing}/#")):
        before_thing(right)
