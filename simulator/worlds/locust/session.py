"""The rollouts that wait for their operators, in each process that runs operators."""

from __future__ import annotations

import time
from typing import Any

from gevent.event import Event
from locust.env import Environment


class Session:
    """What the conductor has told of one run. A rollout is a dict: name, url, token, after_s, deeds, request."""

    def __init__(self) -> None:
        self.rollouts: list[dict[str, Any]] = []
        self.over = False
        self._taken: set[str] = set()
        self._more = Event()

    def offer(self, rollout: dict[str, Any]) -> None:
        """One more waits, to be begun `after_s` from now."""
        self.rollouts.append({**rollout, "due": time.monotonic() + rollout["after_s"]})
        self._more.set()

    def end(self) -> None:
        """The run is over."""
        self.over = True
        self._more.set()

    def claim(self) -> dict[str, Any] | None:
        """A rollout that is due and that nobody in this process has taken, as soon as there is one; None when the run is
        over."""
        while not self.over:
            free = [rollout for rollout in self.rollouts if rollout["name"] not in self._taken]
            first = min(free, key=lambda rollout: float(rollout["due"]), default=None)
            wait_s = 1.0 if first is None else first["due"] - time.monotonic()
            if first is not None and wait_s <= 0:
                self._taken.add(first["name"])
                return first
            self._more.clear()
            self._more.wait(wait_s)
        return None

    def due(self) -> int:
        """How many operators should be at work by now: one at least."""
        now = time.monotonic()
        return max(1, sum(bool(rollout["due"] <= now) for rollout in self.rollouts))


def session_of(environment: Environment) -> Session:
    """The session of this process's run."""
    found: Session = vars(environment)["fleetsim"]
    return found


def set_session(environment: Environment) -> Session:
    """A fresh one, from now on."""
    vars(environment)["fleetsim"] = fresh = Session()
    return fresh
