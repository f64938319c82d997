"""The pace of a rollout: when its next offer is due. Any 60 seconds hold at most the rate: offers a minute, rounded up."""

from __future__ import annotations

import math
from collections import deque

from simulator.model.scenario import ExponentialRate

WINDOW_S = 60.0
_CATCH_UP_S = 1.0  # a caller that comes late may make up for this much
_MERGE_S = 0.001  # offers this near to one another are remembered as one entry, at the later time


class Pace:
    """A constant or exponential rate. Without a maximum, every offer is due at once.

    Offers are spaced evenly; a late caller catches up within a second's worth, but never beyond what the last
    60 seconds leave.
    """

    __slots__ = ("_exponential", "_last_level", "_maximum", "_next", "_recent", "_sent", "rate")

    def __init__(self, maximum_per_minute: float | None, exponential: ExponentialRate | None) -> None:
        self._maximum = maximum_per_minute
        self._exponential = exponential
        self._next = -math.inf
        self._recent: deque[list[float]] = deque()  # [first, last, count] of offers within the window
        self._sent = 0
        self._last_level = 0
        if exponential is not None and maximum_per_minute is not None:
            steps = math.log(maximum_per_minute / exponential.base_rate_per_minute)
            self._last_level = math.ceil(steps / math.log(exponential.increment_factor)) + 1
        self.rate = maximum_per_minute
        self.grow(0, 0)

    def grow(self, notified: int, succeeded: int) -> None:
        """Set the rate (offers a minute) for these counts: min(maximum, base·factor^⌊count/criterion⌋)."""
        curve = self._exponential
        if curve is None or self._maximum is None:
            return
        criteria = curve.rate_increase_criteria
        if criteria.number_of_notified_things is not None:
            level = notified // criteria.number_of_notified_things
        else:
            level = succeeded // (criteria.number_of_succeeded_things or 1)
        level = min(level, self._last_level)  # beyond it the maximum holds, and powers may overflow
        self.rate = min(self._maximum, curve.base_rate_per_minute * curve.increment_factor**level)

    def due(self, now: float) -> float:
        """When the next offer is due: not after `now` means that it may go."""
        if self.rate is None:
            return now
        recent = self._recent
        while recent and recent[0][1] + WINDOW_S <= now:
            self._sent -= int(recent.popleft()[2])
        if self._sent >= math.ceil(self.rate - 1e-9):
            self._next = max(self._next, recent[0][1] + WINDOW_S)
        return max(self._next, now - _CATCH_UP_S)

    def take(self, due: float, now: float) -> None:
        """Note that an offer which was due at `due` is sent now."""
        if self.rate is None:
            return
        self._next = due + WINDOW_S / self.rate
        self._sent += 1
        recent = self._recent
        if recent and now - recent[-1][0] < _MERGE_S:
            recent[-1][1] = now
            recent[-1][2] += 1
        else:
            recent.append([now, now, 1])

    def rest(self, now: float) -> None:
        """Something else than the pace held the offers back until now: nothing is to be made up for."""
        self._next = max(self._next, now)
