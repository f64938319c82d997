"""Who may log in, and what each user may say and hear: a thing is held to the topics below its own name."""

from __future__ import annotations

import hmac
from collections.abc import Mapping


def thing_password(run_key: str, thing: str) -> str:
    """The password of a thing's MQTT user, derived from the run's key: 32 hex digits."""
    return hmac.digest(run_key.encode(), thing.encode(), "sha256").hex()[:32]


class Access:
    """Login and topic rights. `services` (user -> password) may use everything below `root`."""

    def __init__(self, run_key: str, services: Mapping[str, str], root: str = "state") -> None:
        self._run_key, self._services, self._root = run_key, dict(services), root

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
        below = self._root if username in self._services else f"{self._root}/{username}"
        return topic.startswith(f"{below}/") or topic == below
