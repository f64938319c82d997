"""A device's connection to its service: it performs a dialect's Steps over the wires, and turns what arrives into
signals.

A device has one connection for all its life. Whenever it is lost, it is made again after a pause. Each pause is longer
than the one before, until a message or an HTTP response arrives: a broker that accepts a connection and drops it at once
makes no pause short. A message is acknowledged (PUBACK) after the dialect has read it. While the power is off none is, and
the broker keeps them.

There are two kinds, and the dialect says which it needs (`roads`). An MQTT connection begins with a CONNECT and ends when
it is lost or closed, and both go on the record. Over HTTP nothing is connected: such a connection is up as long as requests
pass, and only the dialect's answers and clocks make the device go on. In both kinds the
signals of HTTP responses are kept until `hear` returns them, or the connection ends: the download sends requests, too,
and the conversation must see their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

from simulator.device.log import Log
from simulator.device.power import Power
from simulator.device.profile import Draws
from simulator.dialects.base import DeviceDialect
from simulator.links.base import Wires
from simulator.links.perform import perform
from simulator.model.errors import LinkError, NotSimulated, PeerError
from simulator.model.io import NOTHING, Message, Output, Response, Step
from simulator.model.scenario import Way


class Connection:
    """What both kinds have: the back-off, and what is sent and answered. `epoch` is added to the loop's clock to give the
    Unix time that goes on the wire."""

    __slots__ = (
        "_draws",
        "_failures",
        "_heard",
        "_log",
        "_loop",
        "_power",
        "back_at",
        "connected",
        "connections",
        "dialect",
        "epoch",
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
        self._heard: tuple[Any, ...] = ()  # signals of responses, which nobody has heard yet
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
                status = await self._begin()
            except (LinkError, PeerError) as error:
                self._failed(error, due, attempts)
                await self.back_off()
                due = self._loop.time()
                continue
            self.connected = True
            self.connections += 1
            self._begun(status, due, attempts)
            return way

    async def _begin(self) -> str:
        """One attempt to connect: "new" or "resumed". Raises LinkError, PeerError."""
        return "new"

    def _failed(self, error: LinkError | PeerError, due: float, attempts: int) -> None:
        """An attempt has failed."""

    def _begun(self, status: str, due: float, attempts: int) -> None:
        """The connection is there."""

    async def back_off(self) -> None:
        """Wait before the next attempt to connect: longer after each failure, until something is heard again."""
        delay = self._draws.delay("reconnect", self._draws.profile.reconnect, self._failures)
        self._failures += 1
        await asyncio.sleep(delay)

    def perform(self, outputs: tuple[Output, ...]) -> Coroutine[Any, Any, None]:
        """Send a step's outputs, in order. Raises LinkError when the road fails, PeerError when a subscription is
        refused, NotSimulated for what there is no link for."""
        return perform(outputs, self.wires.mqtt, self.wires.http, self._answered)

    def _answered(self, response: Response) -> Step:
        """A response has come: keep its signals, and wake whoever hears."""
        if self._power.why:
            return NOTHING
        step = self.dialect.receive(response, self.wall())
        if step.signals:
            self._heard += step.signals
            self.wake()
        return step

    def _unheard(self) -> tuple[Any, ...]:
        signals, self._heard = self._heard, ()
        return signals

    async def hear(self, until: float | None) -> tuple[Any, ...] | None:
        """The signals that came next; None when the loop's clock reached `until` first, when woken, and while the power is
        off. Raises LinkError, PeerError."""
        raise NotImplementedError

    def wake(self) -> None:
        """Let the `hear` that waits return: something is due."""
        raise NotImplementedError

    def drop(self, reason: str, detail: str | None = None) -> None:
        """The connection is gone, or is cut now without a word to the other side."""
        self.abort()

    def abort(self) -> None:
        """Cut it, with nothing on the record."""
        self.connected, self._heard = False, ()

    async def close(self, reason: str) -> None:
        """Say goodbye and close; an attempt to connect is given up."""
        self.abort()


class MqttConnection(Connection):
    """A connection to a broker. `hasty`: the back-off begins anew as soon as TCP connects."""

    hasty: ClassVar[bool] = False

    __slots__ = ("_mqtt",)

    def __init__(
        self, dialect: DeviceDialect, wires: Wires, power: Power, log: Log, draws: Draws, epoch: float
    ) -> None:
        super().__init__(dialect, wires, power, log, draws, epoch)
        if wires.mqtt is None:
            raise NotSimulated(f"{log.thing} without an MQTT link: its dialect speaks over MQTT")
        self._mqtt = wires.mqtt

    async def _begin(self) -> str:
        return "resumed" if await self._mqtt.connect() else "new"

    def _failed(self, error: LinkError | PeerError, due: float, attempts: int) -> None:
        self._log.connect("failed", due, attempts, str(error))
        if self.hasty and (isinstance(error, PeerError) or error.reached):
            self._failures = 0

    def _begun(self, status: str, due: float, attempts: int) -> None:
        if self.hasty:
            self._failures = 0
        self._log.connect(status, due, attempts, None)

    async def hear(self, until: float | None) -> tuple[Any, ...] | None:
        """The signals of the next message, or of responses that came; else None, as above."""
        if self._heard:
            return self._unheard()
        delivery = await self._mqtt.receive(until)
        if delivery is None or self._power.why:
            return None
        self._failures = 0
        message = Message(delivery.topic, delivery.payload, delivery.qos, delivery.retain)
        step = self.dialect.receive(message, self.wall())
        delivery.ack()
        if step.outputs:
            await self.perform(step.outputs)
        return step.signals

    def wake(self) -> None:
        """Let the `hear` that waits return: something is due."""
        self._mqtt.wake()

    def drop(self, reason: str, detail: str | None = None) -> None:
        """The connection is gone, or is cut now without a word to the broker."""
        if self.connected:
            self._log.lost(reason, detail)
        self.abort()

    def abort(self) -> None:
        """Cut it, with nothing on the record."""
        super().abort()
        self._mqtt.abort()

    async def close(self, reason: str) -> None:
        """DISCONNECT and close; an attempt to connect is given up."""
        if not self.connected:
            self.abort()
            return
        self.connected, self._heard = False, ()
        self._log.lost(reason)
        await self._mqtt.close()


class HttpConnection(Connection):
    """No connection at all, but requests: it is up as long as they pass. Nothing of it is recorded."""

    __slots__ = ("_waiter",)

    def __init__(
        self, dialect: DeviceDialect, wires: Wires, power: Power, log: Log, draws: Draws, epoch: float
    ) -> None:
        super().__init__(dialect, wires, power, log, draws, epoch)
        self._waiter: asyncio.Future[None] | None = None

    def _answered(self, response: Response) -> Step:
        self._failures = 0
        return super()._answered(response)

    async def hear(self, until: float | None) -> tuple[Any, ...] | None:
        """The signals of responses that came; else None, as above."""
        if not self._heard and (until is None or self._loop.time() < until):
            self._waiter = waiter = self._loop.create_future()
            timer = None if until is None else self._loop.call_at(until, self.wake)
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        return self._unheard() or None

    def wake(self) -> None:
        """Let the `hear` that waits return: something is due."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
