"""The rollouts that wait for their operators, in each process that runs operators."""

from __future__ import annotations

import time
from typing import NamedTuple

from gevent.event import Event
from locust.env import Environment

from simulator.worlds.live.leading import Operate


class DueRollout(NamedTuple):
    """A rollout that waits for its operator, and when it is due on CLOCK_MONOTONIC."""

    rollout: Operate
    at_s: float


class WaitingRollouts:
    """The rollouts of one run, as the conductor told of them."""

    def __init__(self) -> None:
        self.rollouts: list[DueRollout] = []
        self.over = False
        self._taken: set[str] = set()
        self._more = Event()

    def offer(self, rollout: Operate) -> None:
        """One more waits, to be begun `after_s` from now."""
        self.rollouts.append(DueRollout(rollout, time.monotonic() + rollout.after_s))
        self._more.set()

    def end(self) -> None:
        """The run is over."""
        self.over = True
        self._more.set()

    def claim(self) -> DueRollout | None:
        """A rollout that is due and that nobody in this process has taken, as soon as there is one; None when the run is
        over."""
        while not self.over:
            free = [due for due in self.rollouts if due.rollout.name not in self._taken]
            first = min(free, key=lambda due: due.at_s, default=None)
            wait_s = 1.0 if first is None else first.at_s - time.monotonic()
            if first is not None and wait_s <= 0:
                self._taken.add(first.rollout.name)
                return first
            self._more.clear()
            self._more.wait(wait_s)
        return None

    def due(self) -> int:
        """How many operators should be at work by now: one at least."""
        now = time.monotonic()
        return max(1, sum(due.at_s <= now for due in self.rollouts))


def waiting_of(environment: Environment) -> WaitingRollouts:
    """Those of this process's run."""
    waiting: WaitingRollouts = vars(environment)["fleetsim"]
    return waiting


def set_waiting(environment: Environment) -> WaitingRollouts:
    """A run begins, of which none is known yet."""
    vars(environment)["fleetsim"] = fresh = WaitingRollouts()
    return fresh
