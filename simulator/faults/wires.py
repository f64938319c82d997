"""A device's road with faults: any link together with the device's Harm is a link again.

Order of verdicts. First comes the MQTT road as a whole: where it is down, nobody connects; where it is dark, nothing passes,
until the keep-alive tells or the road is bright again. What does pass is judged message by message: the dialect says
what it means, and the first fault of the scenario that is there and concerned decides alone what becomes of it (`Fate`).
For a message to the device, copies are queued first. A message that is delayed is queued, too, and that is all. Any other
is lost (and acknowledged) or kept; the connection is cut, if the verdict says so; and what was kept is handed over. An HTTP
exchange is judged once, by its request (`Trouble`): the request waits, and then it is answered in the server's place, or
passed on, and the response changed on its way back.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

from msgspec.structs import replace

from simulator.dialects.meanings import Meaning, Means
from simulator.faults.clients import OtherClients
from simulator.faults.harm import Harm
from simulator.faults.road import Road
from simulator.faults.rules import Fate, Packet, Trouble
from simulator.links.base import Body, Delivery, HttpLink, MqttLink, whole
from simulator.model.errors import LinkError, TransferError
from simulator.model.io import Request, Response

_CONNECT_S = 30.0  # how long a device waits for a CONNACK that never comes


class _Copy:
    """A message that the fault delivers by itself; implements `Delivery`. The broker knows nothing of it."""

    __slots__ = ("dup", "packet_id", "payload", "qos", "retain", "topic")

    def __init__(self, original: Delivery, *, retain: bool = False, packet_id: int | None = None) -> None:
        self.topic, self.payload, self.qos = original.topic, original.payload, original.qos
        self.retain, self.dup, self.packet_id = retain or original.retain, False, packet_id

    def ack(self) -> None:
        """Nobody waits for it."""


class FaultyMqtt:
    """An MqttLink with faults. `meaning` is the dialect's, `rival` makes another client of the same id, `lead` puts such a
    client on the device's own road. A stalled connection is noticed after `patience_s` seconds."""

    __slots__ = (
        "_harm", "_held", "_last", "_later", "_loop", "_meaning", "_others", "_road", "_ticks", "_woken", "stalls",
    )  # fmt: skip

    def __init__(
        self,
        link: MqttLink,
        harm: Harm,
        meaning: Callable[[str, bytes], Meaning],
        rival: Callable[[], MqttLink],
        patience_s: float,
        lead: Callable[[MqttLink], MqttLink] = lambda link: link,
    ) -> None:
        self._harm, self._meaning = harm, meaning
        self._road = Road(link, harm, patience_s)
        self._others = OtherClients(self._road, harm, meaning, rival, lead)
        self._loop = asyncio.get_running_loop()
        self.stalls = link.stalls
        self._later: list[tuple[float, int, Delivery]] = []  # by when they are delivered
        self._ticks = itertools.count()
        self._held: set[asyncio.Task[None]] = set()  # what is said at a common moment
        self._last: Delivery | None = None  # the last command
        self._woken = False

    def _lose(self) -> None:
        """The connection is gone, and what a fault held back, either way."""
        self._later.clear()
        for task in self._held:
            task.cancel()
        self._road.lost()

    # ---- connections

    async def connect(self) -> bool:
        """Connect, where there is a road."""
        self._lose()
        if self._harm.road == "down":
            raise LinkError("no road")
        if self._harm.road == "dark":
            await asyncio.sleep(_CONNECT_S)
            raise LinkError("no answer")
        resumed = await self._road.link.connect()
        self._road.connected()
        if self._last is not None and self._harm.replays(self._last):
            self._add(_Copy(self._last, retain=True), 0.0)
        return resumed

    async def subscribe(self, filters: Sequence[str], *, qos: int = 1, no_local: bool = False) -> None:
        """Subscribe."""
        await self._road.link.subscribe(filters, qos=qos, no_local=no_local)

    # ---- messages

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish, unless it is lost on the way."""
        self._road.used = self._loop.time()
        fate = self._harm.message(Packet(False, self._meaning(topic, payload), payload))
        if fate is not None and fate.gathered_s:
            task = self._loop.create_task(self._say_at_once(fate, topic, payload, qos, retain))
            self._held.add(task)
            task.add_done_callback(self._held.discard)
        elif fate is None or not fate.lost:
            await self._road.link.publish(topic, payload, qos=qos, retain=retain)
        if fate is not None and fate.cut:
            self._road.link.abort()

    async def _say_at_once(self, fate: Fate, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """At the moment at which all others say theirs; the clock is the same for all processes of a host."""
        await asyncio.sleep(fate.gathered_s - self._loop.time() % fate.gathered_s)
        for after_s in (0.0, *fate.again_s):
            if after_s:
                await asyncio.sleep(after_s)
            with contextlib.suppress(LinkError):
                await self._road.link.publish(topic, payload, qos=qos, retain=retain)

    @property
    def unacknowledged(self) -> int:
        """How many sent messages the broker has not acknowledged; those that a fault lost are not counted."""
        return self._road.link.unacknowledged

    @property
    def refused(self) -> int:
        """How many sent messages the broker has refused; those that a fault lost are not counted."""
        return self._road.link.refused

    async def receive(self, until: float | None = None) -> Delivery | None:
        """The next message that is left, or that a fault has delayed or doubled."""
        self._woken = False
        while True:
            now, wait = self._loop.time(), until
            if self._later:
                due = self._later[0][0]
                if due <= now:
                    return heapq.heappop(self._later)[2]
                wait = due if until is None or due < until else until
            if until is not None and now >= until:
                return None
            delivery = await self._road.link.receive(wait)
            if delivery is None and self._woken:
                return None
            if delivery is None:
                continue
            self._road.used = self._loop.time()
            if (left := self._meets(delivery)) is not None:
                return left

    def _meets(self, delivery: Delivery) -> Delivery | None:
        """What is delivered now of what has arrived."""
        meaning = self._meaning(delivery.topic, delivery.payload)
        if meaning.what is Means.DESIRED:
            self._last = delivery
        fate = self._harm.message(Packet(True, meaning, delivery.payload))
        if fate is None:
            return delivery
        for after_s in fate.again_s:
            self._add(_Copy(delivery, packet_id=delivery.packet_id if fate.same_id else None), after_s)
        if fate.delay_s:
            self._add(delivery, fate.delay_s)
            return None
        left = None if fate.lost else _Copy(delivery) if fate.unacknowledged else delivery
        if fate.lost:
            delivery.ack()
        if fate.cut:
            self._road.link.abort()
        return left

    def _add(self, delivery: Delivery, after_s: float) -> None:
        heapq.heappush(self._later, (self._loop.time() + after_s, next(self._ticks), delivery))

    # ---- as the link below does it

    def wake(self) -> None:
        """Let the `receive` that waits return None."""
        self._woken = True
        self._road.link.wake()

    def abort(self) -> None:
        """Cut the connection."""
        self._lose()
        self._road.link.abort()

    def stall(self, on: bool) -> None:
        """Go silent."""
        self._road.link.stall(on)

    async def close(self) -> None:
        """DISCONNECT, if that passes."""
        passes = self._road.passes
        self._lose()
        if not passes:
            self._road.link.abort()
        else:
            await self._road.link.close()


class FaultyHttp:
    """An HttpLink with faults."""

    __slots__ = ("_harm", "_link")

    def __init__(self, link: HttpLink, harm: Harm) -> None:
        self._link, self._harm = link, harm

    async def open(self, request: Request, *, bound: int, timeout_s: float) -> Body:
        """The response, as the faults leave it."""
        trouble = self._harm.exchange(request)
        if trouble is None:
            return await self._link.open(request, bound=bound, timeout_s=timeout_s)
        if trouble.wait_s:
            await asyncio.sleep(trouble.wait_s)
        if trouble.answer is not None:
            return _Canned(trouble.answer)
        if trouble.without:
            headers = tuple(header for header in request.headers if header[0] not in trouble.without)
            request = replace(request, headers=headers)
        return _FaultyBody(await self._link.open(request, bound=bound, timeout_s=timeout_s), trouble)

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """The whole response."""
        return await whole(await self.open(request, bound=bound, timeout_s=timeout_s))

    async def close(self) -> None:
        """As the link below does it."""
        await self._link.close()


class _Canned:
    """An answer that no server gave; implements `Body`."""

    __slots__ = ("_content", "headers", "status")

    def __init__(self, response: Response) -> None:
        self.status, self.headers, self._content = response.status, dict(response.headers), response.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._content:
            yield self._content

    def close(self) -> None:
        """Nothing to let go of."""


class _FaultyBody:
    """A response, as the trouble leaves it; implements `Body`."""

    __slots__ = ("_body", "_length", "_trouble", "headers", "status")

    def __init__(self, body: Body, trouble: Trouble) -> None:
        self._body, self._trouble = body, trouble
        self.status, self.headers = body.status, dict(body.headers)
        self._length = int(self.headers.get("content-length", "0"))
        for name, value in trouble.headers:
            if value is None:
                self.headers.pop(name, None)
            elif body.status < 300:
                self.headers[name] = value

    async def __aiter__(self) -> AsyncIterator[bytes]:
        ends_at, flips_at = self._trouble.ends_at, self._trouble.flips_at
        end = None if ends_at is None else int(self._length * ends_at)
        flip = -1 if flips_at is None else int(self._length * flips_at)
        offset = 0
        async for chunk in self._body:
            if offset <= flip < offset + len(chunk):
                at = flip - offset
                chunk = chunk[:at] + bytes((chunk[at] ^ 0xFF,)) + chunk[at + 1 :]
            if end is not None and offset + len(chunk) >= end:
                yield chunk[: end - offset]
                break
            offset += len(chunk)
            yield chunk
        if end is not None and not self._trouble.silently:
            raise TransferError(f"cut after {end} bytes", received=end)

    def close(self) -> None:
        """Let go of the connection."""
        self._body.close()
