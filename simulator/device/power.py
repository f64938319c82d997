"""A device's power. It can go at any moment, from outside (a fault strikes) or from within (a reboot, a crash), and
whatever the device does then ends at once: its main coroutine runs inside an `asyncio.timeout`, which switching off
makes expire. Everything that may run in the same turn of the loop asks `await power.on()` before its next step, so
that nothing happens after the power went."""

from __future__ import annotations

import asyncio


class Power:
    """Whether one device is on. `why` is empty while it is on, else the reason for which it goes off: "reboot",
    "power-cut", "vanish" or "broken"."""

    __slots__ = ("_loop", "_timeout", "why")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout: asyncio.Timeout | None = None
        self.why = ""

    def supply(self) -> asyncio.Timeout:
        """What the device runs within while it is on: a context that ends with TimeoutError when the power goes."""
        self._timeout = asyncio.timeout(0 if self.why else None)
        return self._timeout

    def ended(self) -> None:
        """The device has left that context."""
        self._timeout = None  # it knows the task, and the task's end this device: a circle that nobody would break

    def off(self, why: str) -> None:
        """Switch off at once, from wherever the device is; the first reason counts."""
        if not self.why:
            self.why = why
            if self._timeout is not None:
                self._timeout.reschedule(self._loop.time())

    async def on(self) -> None:
        """Return while the power is on; where it went in this very turn, wait for the timeout to end whoever asks. A
        start goes on to its end: nobody would end its wait."""
        if self.why and self._timeout is not None:
            await self._loop.create_future()

    async def cut(self) -> None:
        """Switch off, and go no further: the power's timeout ends whoever waits here."""
        self.off("power-cut")
        await self._loop.create_future()

    def reset(self) -> str:
        """The device is off: why. From now on it may start again."""
        why, self.why = self.why, ""
        return why
