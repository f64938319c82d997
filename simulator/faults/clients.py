"""Other connections of a device's client id: a rival that takes the id over, and the device's own old connection that the broker
still holds when the device comes back ("half-open")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from simulator.dialects.meanings import Meaning
from simulator.faults.harm import Harm, Saw
from simulator.faults.road import Road
from simulator.links.base import MqttLink
from simulator.model.errors import LinkError, PeerError

_RIVAL_S = 1.0  # how long the other client of the same id stays


class OtherClients:
    """Makes them when a fault asks for one. `rival` makes another client of the same id, `lead` puts it on the device's own
    road, `meaning` is the dialect's."""

    __slots__ = ("_lead", "_loop", "_meaning", "_rival", "_road", "_tasks")

    def __init__(
        self,
        road: Road,
        harm: Harm,
        meaning: Callable[[str, bytes], Meaning],
        rival: Callable[[], MqttLink],
        lead: Callable[[MqttLink], MqttLink],
    ) -> None:
        self._road, self._meaning, self._rival, self._lead = road, meaning, rival, lead
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        harm.other = self._begin

    def _begin(self, act: str, saw: Saw) -> None:
        road = self._road
        if act == "rival":
            self._keep(self._compete(saw))
        elif road.up:
            left, road.link = road.link, self._lead(self._rival())
            if road.dark:
                self._loop.call_later(road.patience_s, left.abort)  # it stays stalled until then
            left.wake()  # whoever receives learns that this connection is no more
            self._keep(self._left_open(left, saw))

    def _keep(self, story: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(story)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compete(self, saw: Saw) -> None:
        """Take the id, and stay a while, unless it is taken back."""
        rival = self._rival()
        try:
            await rival.connect()
        except (LinkError, PeerError):
            saw(rival="failed")
            return
        saw(rival="connected")
        until = self._loop.time() + _RIVAL_S
        try:
            while await rival.receive(until) is not None:
                pass
        except LinkError:
            pass
        finally:
            rival.abort()
        saw(rival="gone")

    async def _left_open(self, left: MqttLink, saw: Saw) -> None:
        """Stay, until the broker closes; what still comes is for nobody, and not acknowledged."""
        try:
            while True:
                if (delivery := await left.receive()) is not None:
                    saw(**{"half-open": "heard", "message": self._meaning(delivery.topic, delivery.payload).name})
        except LinkError:
            saw(**{"half-open": "closed"})
        finally:
            left.abort()
