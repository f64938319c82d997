"""The road's own delay: any link and a drawn latency make a link. Nothing overtakes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from simulator.links.base import Body, Delivery, HttpLink, MqttLink
from simulator.model.errors import LinkError
from simulator.model.io import Request, Response


class LatentMqtt:
    """An MqttLink whose messages take `delay()` seconds each way."""

    __slots__ = ("_arriving", "_delay", "_leaving", "_link", "_sending", "capabilities")

    def __init__(self, link: MqttLink, delay: Callable[[], float]) -> None:
        self._link, self._delay = link, delay
        self.capabilities = link.capabilities
        self._arriving: deque[tuple[float, Delivery]] = deque()
        self._leaving = 0.0  # when the last message sent reaches the other end
        self._sending: set[asyncio.Task[None]] = set()

    async def connect(self) -> bool:
        """Connect, after one delay each way."""
        self._arriving.clear()
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
        """Take the message over; it leaves in one delay, behind those sent before."""
        loop = asyncio.get_running_loop()
        self._leaving = max(self._leaving, loop.time() + self._delay())
        loop.call_at(self._leaving, self._send, topic, payload, qos, retain)

    def _send(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._hand_over(topic, payload, qos, retain))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _hand_over(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        try:
            await self._link.publish(topic, payload, qos=qos, retain=retain)
        except LinkError:
            return  # lost on the way; whoever receives learns that the connection is gone

    async def receive(self, until: float | None = None) -> Delivery | None:
        """The next message, one delay after it reached this end."""
        loop, arriving = asyncio.get_running_loop(), self._arriving
        while True:
            now = loop.time()
            if arriving and arriving[0][0] <= now:
                return arriving.popleft()[1]
            if until is not None and now >= until:
                return None
            due = arriving[0][0] if arriving else None
            wait = due if until is None or (due is not None and due < until) else until
            delivery = await self._link.receive(wait)
            if delivery is not None:
                arrives = loop.time() + self._delay()
                arriving.append((max(arrives, arriving[-1][0]) if arriving else arrives, delivery))

    def abort(self) -> None:
        """Cut the connection; what was on its way to us is lost."""
        self._arriving.clear()
        self._link.abort()

    def stall(self, on: bool) -> None:
        """As the link below does it."""
        self._link.stall(on)

    async def close(self) -> None:
        """Close once what was sent has left."""
        await asyncio.sleep(max(0.0, self._leaving - asyncio.get_running_loop().time()))
        await self._link.close()


class LatentHttp:
    """An HttpLink whose requests and responses take `delay()` seconds each way."""

    __slots__ = ("_delay", "_link")

    def __init__(self, link: HttpLink, delay: Callable[[], float]) -> None:
        self._link, self._delay = link, delay

    async def open(self, request: Request, *, bound: int, timeout_s: float) -> Body:
        """The response's head, after one delay each way."""
        await asyncio.sleep(self._delay())
        body = await self._link.open(request, bound=bound, timeout_s=timeout_s)
        await asyncio.sleep(self._delay())
        return body

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """The whole response, after one delay each way."""
        await asyncio.sleep(self._delay())
        response = await self._link.request(request, timeout_s=timeout_s, bound=bound)
        await asyncio.sleep(self._delay())
        return response

    async def close(self) -> None:
        """As the link below does it."""
        await self._link.close()
