"""Adds latency to a link: `LatentMqtt` and `LatentHttp` wrap any other link and are links themselves.

`delay()` gives the latency in seconds. It is asked again for each message, each request and each response, and for each
way. Messages keep their order: none overtakes an earlier one. `device/fleet.py` wraps the links of a device whose profile
has a latency, in virtual time and live.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from simulator.links.base import Body, Delivery, HttpLink, MqttLink
from simulator.model.dice import whole_us
from simulator.model.errors import LinkError
from simulator.model.io import Request, Response


class LatentMqtt:
    """An MqttLink whose messages take `delay()` seconds each way."""

    __slots__ = ("_arriving", "_delay", "_leaving", "_link", "_loop", "_sender", "_woken", "stalls")

    def __init__(self, link: MqttLink, delay: Callable[[], float]) -> None:
        self._link, self._delay = link, delay
        self._loop = asyncio.get_running_loop()
        self.stalls = link.stalls
        self._arriving: list[tuple[float, Delivery]] = []  # lists: a deque of its own takes 760 bytes
        self._leaving: list[tuple[float, str, bytes, int, bool]] = []  # with when each reaches the other end
        self._sender: asyncio.Task[None] | None = None  # while there is something to send
        self._woken = False

    async def connect(self) -> bool:
        """Connect, after one delay each way."""
        self._lose()
        await asyncio.sleep(self._delay())
        resumed = await self._link.connect()
        await asyncio.sleep(self._delay())
        return resumed

    async def subscribe(self, filters: Sequence[str], *, qos: int = 1, no_local: bool = False) -> None:
        """Subscribe, after one delay each way."""
        await asyncio.sleep(self._delay())
        await self._link.subscribe(filters, qos=qos, no_local=no_local)
        await asyncio.sleep(self._delay())

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Accept the message and return at once. It is sent after one delay, and after those accepted before it."""
        at, leaving = self._in_one_delay(), self._leaving
        if leaving and leaving[-1][0] > at:
            at = leaving[-1][0]
        leaving.append((at, topic, payload, qos, retain))
        self._loop.call_at(at, self._due, at)

    def _in_one_delay(self) -> float:
        return whole_us(self._loop.time() + self._delay())

    def _due(self, at: float) -> None:
        if self._loop.time() < at:  # a live loop's timer may ring half a millisecond early
            self._loop.call_at(at, self._due, at)
        elif self._sender is None and self._leaving:
            self._sender = self._loop.create_task(self._send())

    async def _send(self) -> None:
        """Hand the messages that are due to the link below."""
        leaving = self._leaving
        try:
            while leaving and leaving[0][0] <= self._loop.time():
                _, topic, payload, qos, retain = leaving.pop(0)
                await self._link.publish(topic, payload, qos=qos, retain=retain)
        except LinkError:
            leaving.clear()  # lost on the way; whoever receives learns that the connection is gone
        finally:
            self._sender = None

    @property
    def unacknowledged(self) -> int:
        """How many messages of a QoS above 0 have no acknowledgement, those that still wait for their delay included."""
        return self._link.unacknowledged + sum(1 for *_, qos, _ in self._leaving if qos)

    @property
    def refused(self) -> int:
        """How many messages the broker refused, as the link below counts them."""
        return self._link.refused

    async def receive(self, until: float | None = None) -> Delivery | None:
        """The next message, one delay after the link below received it; None when woken, or at the loop's time `until`."""
        loop, arriving, self._woken = self._loop, self._arriving, False
        while True:
            now, wait = loop.time(), until
            if arriving:
                due = arriving[0][0]
                if due <= now:
                    return arriving.pop(0)[1]
                if until is None or due < until:
                    wait = due
            if until is not None and now >= until:
                return None
            delivery = await self._link.receive(wait)
            if delivery is not None:
                at = self._in_one_delay()
                if arriving and arriving[-1][0] > at:
                    at = arriving[-1][0]
                arriving.append((at, delivery))
            elif self._woken:
                return None

    def wake(self) -> None:
        """Make the `receive` that is waiting return None."""
        self._woken = True
        self._link.wake()

    def _lose(self) -> None:
        """Drop all messages that are on their way, in either direction."""
        self._arriving.clear()
        self._leaving.clear()
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None

    def abort(self) -> None:
        """Cut the connection. What is on its way, in either direction, is lost."""
        self._lose()
        self._link.abort()

    def stall(self, on: bool) -> None:
        """Pass it on to the link below."""
        self._link.stall(on)

    async def close(self) -> None:
        """Close the link when all messages that were accepted have been sent."""
        if self._leaving:
            await asyncio.sleep(self._leaving[-1][0] - self._loop.time())
        await self._link.close()


class LatentHttp:
    """An HttpLink whose requests and responses take `delay()` seconds each way."""

    __slots__ = ("_delay", "_link")

    def __init__(self, link: HttpLink, delay: Callable[[], float]) -> None:
        self._link, self._delay = link, delay

    async def open(self, request: Request, *, bound: int, timeout_s: float) -> Body:
        """Send the request and get the head of the response, after one delay each way."""
        await asyncio.sleep(self._delay())
        body = await self._link.open(request, bound=bound, timeout_s=timeout_s)
        await asyncio.sleep(self._delay())
        return body

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """Send the request and get the whole response, after one delay each way."""
        await asyncio.sleep(self._delay())
        response = await self._link.request(request, timeout_s=timeout_s, bound=bound)
        await asyncio.sleep(self._delay())
        return response

    async def close(self) -> None:
        """Close the link below."""
        await self._link.close()
