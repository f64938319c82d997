"""A device's conversation: it performs a dialect's Steps over the wires and turns what arrives into signals."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from simulator.device.profile import Draws
from simulator.dialects.base import DeviceDialect
from simulator.links.base import Wires
from simulator.model.errors import LinkError, PeerError
from simulator.model.events import Kind
from simulator.model.io import Message, Publish, Step, Subscribe
from simulator.model.scenario import Way
from simulator.trace.recorder import Record


class Session:
    """One device's connection, made again with back-off whenever it is lost. `epoch` is added to the loop's clock
    to give the Unix time that goes on the wire. `hasty`: the back-off begins anew as soon as TCP connects. While it is
    `deaf`, what arrives is neither understood nor acknowledged."""

    hasty: ClassVar[bool] = False

    __slots__ = (
        "_draws",
        "_epoch",
        "_failures",
        "_loop",
        "_record",
        "_thing",
        "connected",
        "connections",
        "deaf",
        "dialect",
        "granted_s",
        "wires",
    )

    def __init__(
        self, thing: str, dialect: DeviceDialect, wires: Wires, record: Record, draws: Draws, epoch: float
    ) -> None:
        self._thing, self.dialect, self.wires = thing, dialect, wires
        self._record, self._draws, self._epoch = record, draws, epoch
        self._loop = asyncio.get_running_loop()
        self.connected = self.deaf = False
        self.connections = 0  # so far
        self.granted_s = 0.0  # when the broker last granted what was subscribed to; the loop's clock
        self._failures = 0  # in a row, since something was heard

    def wall(self) -> float:
        """Now, in Unix seconds."""
        return self._loop.time() + self._epoch

    async def connect(self, due: float) -> Way | None:
        """Try until connected, with back-off; `due` is when the first attempt should have begun. The mishap of the
        successful attempt is the caller's to act upon."""
        attempts = 0
        while True:
            attempts += 1
            way = self._draws.mishap("connect")
            if way is not None:
                self._record(Kind.MISHAP, self._thing, phase="connect", status=way)
                if way == "crash":
                    return way
            try:
                if way == "error":
                    raise LinkError("mishap: connect error")
                if way in ("hang", "slow"):
                    await asyncio.sleep(30.0 if way == "hang" else self._draws.profile.slow_factor)
                    if way == "hang":
                        raise LinkError("mishap: connect hang")
                resumed = await self.wires.mqtt.connect()
            except (LinkError, PeerError) as error:
                self._note_connect("failed", due, attempts, str(error))
                if self.hasty and (isinstance(error, PeerError) or error.reached):
                    self._failures = 0
                await self.back_off()
                due = self._loop.time()
                continue
            self.connected = True
            self.connections += 1
            if self.hasty:
                self._failures = 0
            self._note_connect("resumed" if resumed else "new", due, attempts, None)
            return way

    async def back_off(self) -> None:
        """Wait before the next attempt to connect: longer after each failure, until something is heard again."""
        delay = self._draws.delay("reconnect", self._draws.profile.reconnect, self._failures)
        self._failures += 1
        await asyncio.sleep(delay)

    def _note_connect(self, status: str, due: float, attempts: int, detail: str | None) -> None:
        span_us = round((self._loop.time() - due) * 1e6)
        self._record(Kind.CONNECT, self._thing, status=status, span_us=span_us, size=attempts, detail=detail)

    async def perform(self, step: Step) -> None:
        """Send a step's outputs, in order. Raises LinkError when the road fails, PeerError when a subscription is
        refused."""
        mqtt = self.wires.mqtt
        for output in step.outputs:
            if isinstance(output, Publish):
                await mqtt.publish(output.topic, output.payload, qos=output.qos, retain=output.retain)
            elif isinstance(output, Subscribe):
                await mqtt.subscribe(output.filters, qos=output.qos, no_local=output.no_local)
                self.granted_s = self._loop.time()
            else:
                response = await self.wires.http.request(output)
                await self.perform(self.dialect.receive(response, self.wall()))

    async def hear(self, until: float | None) -> tuple[Any, ...] | None:
        """The signals of the next message; None when the loop's clock reached `until` first, or when woken. Raises
        LinkError, PeerError."""
        delivery = await self.wires.mqtt.receive(until)
        if delivery is None or self.deaf:
            return None
        self._failures = 0
        message = Message(delivery.topic, delivery.payload, delivery.qos, delivery.retain)
        step = self.dialect.receive(message, self.wall())
        delivery.ack()
        if step.outputs:
            await self.perform(step)
        return step.signals

    def drop(self, reason: str, detail: str | None = None) -> None:
        """The connection is gone, or is cut now without a word to the broker."""
        if self.connected:
            self.connected = False
            self._record(Kind.LOST, self._thing, status=reason, detail=detail)
        self.wires.mqtt.abort()

    async def close(self, reason: str) -> None:
        """Say goodbye and close; an attempt to connect is given up."""
        if self.connected:
            self.connected = False
            self._record(Kind.LOST, self._thing, status=reason)
            await self.wires.mqtt.close()
        else:
            self.wires.mqtt.abort()
