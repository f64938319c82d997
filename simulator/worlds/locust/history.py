"""How the totals of a run came about, for a curve: a point a second, fewer of a long run."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter

from simulator.worlds.live.leading import Tick

_MOST = 2000
_WRONG = ("FAILED", "TIMED_OUT", "REJECTED", "CANCELED", "UNKNOWN")


class History:
    """Points are (seconds of the run, succeeded, ended otherwise, connected, deltas, bytes): the totals by then."""

    def __init__(self, most: int = _MOST) -> None:
        self._most, self._apart_s = most, 0.0
        self._points: list[tuple[float, ...]] = []

    def tick(self, tick: Tick) -> None:
        """The totals that the conductor tells each second."""
        states: Counter[str] = Counter()
        for rollout in tick.rollouts.values():
            states.update(rollout["states"])
        counts = tick.counts
        wrong = sum(states[name] for name in _WRONG)
        totals = (states["SUCCEEDED"], wrong, tick.connected, counts.get("deltas", 0), counts.get("bytes", 0))
        self.add(tick.at_s, *totals)

    def add(self, at_s: float, *totals: float) -> None:
        """One more point. Beyond `most` every other one goes, and those that come are as far apart; the last always is there."""
        points = self._points
        if len(points) > 1 and points[-1][0] - points[-2][0] < self._apart_s:
            points.pop()
        points.append((at_s, *totals))
        if len(points) > self._most:
            del points[1:-1:2]
            self._apart_s = 0.9 * (points[-1][0] - points[0][0]) / (len(points) - 1)

    def since(self, at_s: float) -> list[tuple[float, ...]]:
        """The points after that second."""
        return self._points[bisect_right(self._points, (at_s, float("inf"))) :]
