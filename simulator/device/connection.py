"""A device's connection to its service: it performs a dialect's Steps over the wires, and turns what arrives into
signals.

A device has one connection for all its life. It is made again, after growing pauses, whenever it is lost: a pause is
longer after each failure in a row, and short again once something was heard, for a broker that takes a connection and
drops it has not helped. What is understood is acknowledged (PUBACK) only then; while the power is off nothing is, and
the broker keeps it."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from simulator.device.log import Log
from simulator.device.power import Power
from simulator.device.profile import Draws
from simulator.dialects.base import DeviceDialect
from simulator.links.base import Wires
from simulator.model.errors import LinkError, PeerError
from simulator.model.io import Message, Publish, Step, Subscribe
from simulator.model.scenario import Way


class Connection:
    """One device's connection. `epoch` is added to the loop's clock to give the Unix time that goes on the wire.
    `hasty`: the back-off begins anew as soon as TCP connects."""

    hasty: ClassVar[bool] = False

    __slots__ = (
        "_draws",
        "_failures",
        "_log",
        "_loop",
        "_power",
        "back_at",
        "connected",
        "connections",
        "dialect",
        "epoch",
        "granted_s",
        "wires",
    )

    def __init__(
        self, dialect: DeviceDialect, wires: Wires, power: Power, log: Log, draws: Draws, epoch: float
    ) -> None:
        self.dialect, self.wires, self.epoch = dialect, wires, epoch
        self._power, self._log, self._draws = power, log, draws
        self._loop = asyncio.get_running_loop()
        self.connected = False
        self.connections = 0  # so far
        self.back_at = 0.0  # when an offline window ends: nothing can be reached before; the loop's clock
        self.granted_s = 0.0  # when the broker last granted what was subscribed to; the loop's clock
        self._failures = 0  # in a row, since something was heard

    def wall(self) -> float:
        """Now, in Unix seconds."""
        return self._loop.time() + self.epoch

    async def connect(self, due: float) -> Way | None:
        """Try until connected, with back-off; `due` is when the first attempt should have begun. The mishap of the
        successful attempt is the caller's to act upon."""
        attempts = 0
        while True:
            attempts += 1
            way = self._draws.mishap("connect")
            if way is not None:
                self._log.mishap("connect", way)
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
                self._log.connect("failed", due, attempts, str(error))
                if self.hasty and (isinstance(error, PeerError) or error.reached):
                    self._failures = 0
                await self.back_off()
                due = self._loop.time()
                continue
            self.connected = True
            self.connections += 1
            if self.hasty:
                self._failures = 0
            self._log.connect("resumed" if resumed else "new", due, attempts, None)
            return way

    async def back_off(self) -> None:
        """Wait before the next attempt to connect: longer after each failure, until something is heard again."""
        delay = self._draws.delay("reconnect", self._draws.profile.reconnect, self._failures)
        self._failures += 1
        await asyncio.sleep(delay)

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
        """The signals of the next message; None when the loop's clock reached `until` first, when woken, and while the
        power is off. Raises LinkError, PeerError."""
        delivery = await self.wires.mqtt.receive(until)
        if delivery is None or self._power.why:
            return None
        self._failures = 0
        message = Message(delivery.topic, delivery.payload, delivery.qos, delivery.retain)
        step = self.dialect.receive(message, self.wall())
        delivery.ack()
        if step.outputs:
            await self.perform(step)
        return step.signals

    def wake(self) -> None:
        """Let the `hear` that waits return None: something is due."""
        self.wires.mqtt.wake()

    def drop(self, reason: str, detail: str | None = None) -> None:
        """The connection is gone, or is cut now without a word to the broker."""
        if self.connected:
            self.connected = False
            self._log.lost(reason, detail)
        self.abort()

    def abort(self) -> None:
        """Cut it, with nothing on the record."""
        self.connected = False
        self.wires.mqtt.abort()

    async def close(self, reason: str) -> None:
        """Say goodbye and close; an attempt to connect is given up."""
        if self.connected:
            self.connected = False
            self._log.lost(reason)
            await self.wires.mqtt.close()
        else:
            self.wires.mqtt.abort()
