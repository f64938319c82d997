"""Plays a tape to one device, in place of its broker and its storage, and notices where the device departs from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from simulator.broker.packets import Packet
from simulator.links.base import MqttOptions, Wires
from simulator.links.memory import Client, MemoryMqtt
from simulator.links.memory_http import MemoryHttp
from simulator.model.errors import LinkError
from simulator.model.io import Request, Response
from simulator.worlds.reproduce.tape import (
    ANSWERED,
    SAYS,
    ConnectRefused,
    Cut,
    End,
    Event,
    Exchange,
    FaultTurn,
    Lost,
    Tape,
    TapeEntry,
    described,
    unsigned,
)


class Player:
    """Plays a tape to one device. `over` is done at its end, or with a sentence when the device departs from it: when
    it says something else than the tape holds, or not at that time. From then on nothing answers."""

    def __init__(self, tape: Tape, turn: Callable[[int, bool], None]) -> None:
        self._tape, self._turn = tape, turn
        self._loop = asyncio.get_running_loop()
        self._at = self._recorded = 0
        self._timer: asyncio.TimerHandle | None = None
        self._clients: list[MemoryMqtt] = []
        self.over: asyncio.Future[str] = self._loop.create_future()

    def begin(self) -> None:
        """Play what comes by itself from now on."""
        self._go_on()

    def wires(self, options: MqttOptions, address: str) -> Wires:
        """Wires that lead to the tape."""
        mqtt = MemoryMqtt(Mouth(self, len(self._clients)), options)
        self._clients.append(mqtt)
        return Wires(mqtt, MemoryHttp(self._serve), address)

    def recorded(self) -> None:
        """The device has recorded an event."""
        self._recorded += 1
        entry = self._tape.entries[self._at]
        if entry.behind == self._recorded and entry.t_us <= self._now_us():
            self._wait(self._now_us())

    def _now_us(self) -> int:
        return round(self._loop.time() * 1e6)

    def _go_on(self) -> None:
        """Wait for the time of the next entry: to play it, or to see that the device has not said it."""
        entry = self._tape.entries[self._at]
        self._wait(entry.t_us + (entry.way == SAYS))

    def _wait(self, until_us: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(until_us / 1e6, self._ring)

    def _ring(self) -> None:
        now_us, entry = self._now_us(), self._tape.entries[self._at]
        if entry.way == SAYS:
            self._end(f"the tape holds, at {described(entry)}: the device does not say it")
        elif self._recorded < entry.behind and now_us == entry.t_us:
            self._wait(now_us + 1)  # unless the device records what came before
        else:
            self._play(entry)
            if not self.over.done():
                self._go_on()

    def _play_due(self) -> None:
        """What has come by now."""
        while (entry := self._tape.entries[self._at]).way != SAYS and entry.t_us <= self._now_us():
            if self.over.done():
                return
            self._play(entry)

    def _play(self, entry: TapeEntry) -> None:
        event = entry.event
        if isinstance(event, End):
            self._end("")
            return
        self._at += 1
        if isinstance(event, FaultTurn):
            self._turn(event.nth, event.on)
        elif isinstance(event, Lost):
            self._clients[entry.client].lose(event.reason)
        else:
            self._clients[entry.client].arrived(event)  # type: ignore[arg-type]

    def _end(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)

    def said(self, event: Event, client: int) -> None:
        """The device said this: what came of it at once has arrived when this returns."""
        if self.over.done():
            return
        self._play_due()
        entry = self._tape.entries[self._at]
        saying = TapeEntry(self._now_us(), SAYS, client, entry.behind, event)
        if saying != entry:
            self._end(f"the device says, at {described(saying)}; the tape holds, at {described(entry)}")
            return
        self._at += 1
        while (entry := self._tape.entries[self._at]).way == ANSWERED:
            self._play(entry)
        self._go_on()

    def reach(self, client: int) -> None:
        """Whether anybody is there to connect to. Raises LinkError."""
        self._play_due()
        entry = self._tape.entries[self._at]
        if isinstance(entry.event, ConnectRefused) and entry.client == client:
            self.said(entry.event, client)
            raise LinkError(entry.event.reason)

    def _serve(self, request: Request) -> Response:
        self._play_due()
        event = self._tape.entries[self._at].event
        answer = event.answer if isinstance(event, Exchange) else "nothing answers"
        self.said(Exchange(request, answer), 0)
        if isinstance(answer, str) or self.over.done():
            raise LinkError(str(answer))
        return answer


class Listener(Protocol):
    """Whom a device speaks to in its broker's place."""

    def reach(self, client: int) -> None:
        """This client is about to connect. Raises LinkError where nobody is there."""

    def said(self, event: Event, client: int) -> None:
        """This client said this: what came of it at once has arrived when this returns."""


class Mouth:
    """The fabric of one client whose broker is played."""

    __slots__ = ("_listener", "_nth", "loop")

    def __init__(self, listener: Listener, nth: int) -> None:
        self._listener, self._nth, self.loop = listener, nth, asyncio.get_running_loop()

    def reach(self) -> None:
        """Whether anybody is there. Raises LinkError."""
        self._listener.reach(self._nth)

    def submit(self, client: Client, packet: Packet) -> None:
        """A packet to the broker."""
        self._listener.said(unsigned(packet), self._nth)

    def vanish(self, client: Client) -> None:
        """The connection was cut."""
        self._listener.said(Cut(), self._nth)

    def watch(self) -> None:
        """Sessions expire by the tape."""
