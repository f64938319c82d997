"""Who may log in, and what each may say and hear."""

import pytest

from simulator.broker.access import Access, thing_password

ACCESS = Access("key", {"svc": "pässword"}, root="fleet")


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
def test_a_thing_is_held_to_its_own_topics_and_a_service_to_the_root(user, topic, may):
    assert ACCESS.may(user, topic) is may
