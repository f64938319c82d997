"""Who may log in, and what each user may say and hear.

There are two kinds of user. A *service* (replica, application, operator) has a password of its own. Everybody else is a
*thing*: its password is derived from the run's key, so that nobody keeps a list of them, and it is held to its own topics,
which the dialect names (`Topics.rights`). A service may use the same topics of all things.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping


def thing_password(run_key: str, thing: str) -> str:
    """The password of a thing's MQTT user, derived from the run's key: 32 hex digits."""
    return hmac.digest(run_key.encode(), thing.encode(), "sha256").hex()[:32]


class Access:
    """Login and topic rights. `services`: user -> password. `rights` are topic filters such as `state/{thing}/#`: what
    a thing may use, if its name stands for `{thing}`; a service may use all that begins as they do before `{thing}`."""

    def __init__(self, run_key: str, services: Mapping[str, str], rights: Iterable[str]) -> None:
        self._run_key, self._services = run_key, dict(services)
        self._before = tuple(before_thing(right) for right in rights)

    def login(self, username: str | None, password: str | None) -> bool:
        """Whether this user and password go together."""
        if not username or password is None or any(c in username for c in "/+#"):  # a thing is one topic level
            return False
        expected = self._services.get(username) or thing_password(self._run_key, username)
        return hmac.compare_digest(expected.encode(), password.encode())

    def may(self, username: str | None, topic: str) -> bool:
        """Whether this user may publish or subscribe here; `topic` may be a filter."""
        if not username:
            return False
        if username in self._services:
            return topic.startswith(self._before) and not (topic[:1] == "$" and "" in self._before)  # MQTT 5 4.7.2
        for before in self._before:
            own = f"{before}{username}"
            if topic.startswith(f"{own}/") or topic == own:
                return True
        return False


def before_thing(right: str) -> str:
    """What stands before `{thing}` in a right. Raises ValueError for one that does not go on with `/#` to its end."""
    before, thing, after = right.partition("{thing}")
    if not thing or after != "/#":
        raise ValueError(f"a right is a topic filter that ends in {{thing}}/#: {right!r}")
    return before
