"""One MQTT connection on a socket, and what all connections of one event loop share.

A process holds thousands of connections, and most of the time nothing happens on them. A timer of the loop's for each
keep-alive, and for each `receive` that waits, would cost more than the messages. So they share one *wheel*, which turns
once a second: at each turn it pings whom it is time to ping, and cuts whoever has not answered the ping before. A
*bell* is a call that somebody wants at a time of the loop's clock; one that is due within 2 s gets a timer of its own, the
others are rung by the wheel, up to two seconds early, and whoever still waits then asks again. The wheel also writes: what
is said on a connection within one turn of the loop goes out as one write at the end of that turn.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Protocol, cast

from mqtt5 import (
    PingReqPacket,
    read,
)

_PING = PingReqPacket().write()
_NEAR_S = 2.0  # what is waited for less long than this has a timer of its own
_HELD = 64  # packets that wait for the end of the loop's turn


class WireUser(Protocol):
    """Who is told what happens on a connection."""

    def arrived(self, wire: Wire, packet: object) -> None:
        """A packet came."""

    def lost(self, wire: Wire, reason: str) -> None:
        """The connection has ended."""

    def wake_writer(self) -> None:
        """The socket takes more."""


class Wire(asyncio.Protocol):
    """One connection of a link, from its socket to its end."""

    __slots__ = (
        "_held",
        "_link",
        "_rest",
        "alive",
        "gone",
        "paused",
        "pinged",
        "sent",
        "stalled",
        "transport",
        "wheel",
    )

    def __init__(self, link: WireUser) -> None:
        self._link = link
        self.wheel = _wheel()
        self._rest = b""
        self._held: list[bytes] = []
        self.alive = self.paused = self.stalled = self.pinged = False
        self.sent = 0  # when something was sent last, in turns of the wheel
        self.transport: asyncio.Transport | None = None
        self.gone: asyncio.Future[None] | None = None  # its end, once we have said goodbye

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = cast(asyncio.Transport, transport)
        self.alive = True

    def data_received(self, data: bytes) -> None:
        """Hand its packets to the link; keep what is not whole yet."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        view = memoryview(data)
        try:
            while self.alive:
                packet, length = read(view)
                self._link.arrived(self, packet)
                if length == len(view):
                    return
                view = view[length:]
        except IndexError:
            self._rest = bytes(view)
        except Exception as error:  # a protocol's callback reports its own exceptions: asyncio would only drop us
            self.end(f"not MQTT 5: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        if self.gone is not None and not self.gone.done():
            self.gone.set_result(None)
        self.end(f"connection lost: {exc}" if exc else "the broker closed the connection")

    def pause_writing(self) -> None:
        """The socket is full."""
        self.paused = True

    def resume_writing(self) -> None:
        """It takes more."""
        self.paused = False
        self._link.wake_writer()

    def send(self, data: bytes) -> None:
        """Write, together with what else is said in this turn of the loop, if the connection still is."""
        if not self.alive:
            return
        if not self._held:
            self.wheel.hold(self)
        self._held.append(data)
        if len(self._held) >= _HELD:
            self.flush()

    def flush(self) -> None:
        """Write what is held, unless the connection is stalled."""
        if self._held and self.alive and not self.stalled:
            assert self.transport is not None
            data = b"".join(self._held)
            self._held.clear()
            self.transport.write(data)
            self.sent = self.wheel.turn

    def end(self, reason: str) -> None:
        """Cut the connection, once, and tell the link."""
        if self.alive:
            self.alive = False
            assert self.transport is not None
            self.transport.abort()
            self._link.lost(self, reason)


class Wheel:
    """What the wires of one loop share: one timer a second for all keep-alives and all that is waited for, one call a
    turn of the loop for all that is said.

    A wire is pinged when it has sent nothing for its interval, and cut when the ping was not answered by the next.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.turn = 0
        self._due: dict[int, list[tuple[Wire, int]]] = {}
        self._rung: dict[int, list[tuple[Callable[[float], None], float]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._holding: list[Wire] = []

    def hold(self, wire: Wire) -> None:
        """Flush this wire at the end of the loop's turn."""
        if not self._holding:
            self.loop.call_soon(self._flush)
        self._holding.append(wire)

    def _flush(self) -> None:
        holding, self._holding = self._holding, []
        for wire in holding:
            wire.flush()

    def watch(self, wire: Wire, interval_s: int) -> None:
        """Keep this wire alive until it ends."""
        self._due.setdefault(self.turn + interval_s, []).append((wire, interval_s))
        self._run()

    def ring(self, bell: Callable[[float], None], at: float) -> None:
        """Call `bell(at)` at that time of the loop's, or earlier where that is long yet: who still waits then asks again.
        Few do, and a timer of the loop's for each costs more than the rest of a wait."""
        if at - self.loop.time() < _NEAR_S:
            self.loop.call_at(at, bell, at)
        else:
            self._rung.setdefault(int(at) - 1, []).append((bell, at))
            self._run()

    def _run(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(1.0, self._turn)

    def _turn(self) -> None:
        self.turn += 1
        now = self.loop.time()
        for second in [second for second in self._rung if second <= now]:  # a turn may take longer than its second
            for bell, at in self._rung.pop(second):
                bell(at)
        for wire, interval_s in self._due.pop(self.turn, ()):
            if not wire.alive:
                continue
            if wire.pinged:
                wire.end("keep-alive: the broker did not answer a ping")
                continue
            idle = self.turn - wire.sent
            if idle >= interval_s and not wire.stalled:
                wire.pinged = True
                wire.send(_PING)
                idle = 0
            self._due.setdefault(self.turn + max(1, interval_s - idle), []).append((wire, interval_s))
        self._timer = self.loop.call_later(1.0, self._turn) if self._due or self._rung else None


_last: weakref.ref[Wheel] | None = None


def _wheel() -> Wheel:
    """The running loop's wheel."""
    global _last
    wheel = None if _last is None else _last()
    if wheel is None or wheel.loop is not asyncio.get_running_loop():
        wheel = Wheel(asyncio.get_running_loop())
        _last = weakref.ref(wheel)
    return wheel
