"""The offers of all rollouts that are under way: those that are due, and those that nobody has answered yet.

An offer is sent once it is due. Until it is answered it is sent again with the same job id; the delays grow, and their
jitter is drawn from the run's seed. It is given up after `offer.attempts` sendings, or when its execution has ended. This
module keeps the line and says which offer's turn it is; the engine sends it.
"""

# atlas command: resend the same id with back-off, a bounded number of times

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable

from simulator.application.news import Offer
from simulator.application.rollout import Rollout
from simulator.model.dice import draw
from simulator.model.update import Execution

_WAIT_S, _WAITS_MOST = 0.001, 4096  # shorter waits are the socket's, and are not noted; as many are remembered


class BrokerWaits:
    """When nothing could be sent because of the broker: its receive window was full, or the connection was lost. An offer
    that was due meanwhile is not late by our fault."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque(maxlen=_WAITS_MOST)

    def note(self, begin: float, end: float) -> None:
        """From `begin` to `end` (the loop's clock) we waited for the broker."""
        if end - begin >= _WAIT_S:
            self._spans.append((begin, end))

    def within(self, begin: float, end: float) -> float:
        """How many seconds of this span were such waits."""
        waited = 0.0
        for since, until in reversed(self._spans):
            if until <= begin:
                break
            waited += max(0.0, min(until, end) - max(since, begin))
        return waited


class OpenOffer:
    """An offer that was sent and not answered yet: when first, and how many times."""

    __slots__ = ("execution", "first", "rollout", "sent")

    def __init__(self, execution: Execution, rollout: Rollout, first: float) -> None:
        self.execution, self.rollout, self.first, self.sent = execution, rollout, first, 1

    def given_up(self) -> bool:
        """Whether it is to be sent no more: it was sent often enough, or its execution has ended."""
        attempts = self.rollout.spec.offer.attempts
        return not self.rollout.under_way(self.execution) or (attempts is not None and self.sent >= attempts)


class Offers:
    """The line of offers. Times are seconds of the rollouts' clock; `seed` is the run's."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.due: deque[tuple[Rollout, Offer]] = deque()  # to be sent; a lost connection loses none of them
        self._open: dict[str, OpenOffer] = {}
        self._resends: list[tuple[float, int, str]] = []
        self._ticks = itertools.count()

    def line_up(self, rollout: Rollout, offers: Iterable[Offer]) -> None:
        """These are due."""
        self.due.extend((rollout, offer) for offer in offers)

    def sent(self, rollout: Rollout, execution: Execution, now: float) -> None:
        """This one is sent for the first time."""
        self._open[execution.id] = OpenOffer(execution, rollout, now)
        self._arm(execution.id, rollout, 0, now)

    def sent_again(self, offer: OpenOffer, now: float) -> None:
        """This one is sent once more."""
        offer.sent += 1
        self._arm(offer.execution.id, offer.rollout, offer.sent - 1, now)

    def _arm(self, job: str, rollout: Rollout, nth: int, now: float) -> None:
        delay = rollout.spec.offer.delay(nth, draw(self._seed, job, "offer", nth))
        heapq.heappush(self._resends, (now + delay, next(self._ticks), job))

    def unanswered(self, job: str) -> OpenOffer | None:
        """The offer of this job, if it was sent and has no answer yet."""
        return self._open.get(job)

    def close(self, job: str) -> None:
        """It was answered, or is given up."""
        del self._open[job]

    def overdue(self, now: float) -> OpenOffer | float | None:
        """An offer that nobody has answered in time: to be sent again, or given up. If there is none: when the next one
        will be, or None."""
        while self._resends:
            due, _, job = self._resends[0]
            offer = self._open.get(job)
            if offer is not None and due > now:
                return due
            heapq.heappop(self._resends)
            if offer is not None:
                return offer
        return None
