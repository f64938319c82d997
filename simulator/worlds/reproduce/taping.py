"""Records the tape of one device, while the whole run goes on: sits between the device's links and their other ends."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from simulator.broker.packets import Packet
from simulator.links.base import Wires
from simulator.links.memory import Client, MemoryMqtt
from simulator.links.memory_http import MemoryHttp
from simulator.model.errors import LinkError
from simulator.model.io import Request, Response
from simulator.worlds.reproduce.tape import (
    ANSWERED,
    HEARS,
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
    unsigned,
)


class Taping:
    """Records a tape of the wires that pass through `listen`. `count` tells how many events the run has recorded."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.tape = Tape()
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._clients = 0
        self._depth = 0
        self.tape.began_us = self._now_us()

    def _now_us(self) -> int:
        return round(self._loop.time() * 1e6)

    def listen(self, wires: Wires) -> Wires:
        """The same wires, heard. They must be in memory."""
        mqtt, http = wires.mqtt, wires.http
        assert isinstance(mqtt, MemoryMqtt)
        assert isinstance(http, MemoryHttp)
        mqtt.fabric = _Ear(self, self._clients, mqtt)
        self._clients += 1
        serve = http.serve

        def heard(request: Request) -> Response:
            try:
                answer = serve(request)
            except LinkError as error:
                self.note(Exchange(request, str(error)))
                raise
            self.note(Exchange(request, answer))
            return answer

        return wires._replace(http=MemoryHttp(heard))

    def note(self, event: Event, way: str = SAYS, client: int = 0) -> None:
        """It happens now."""
        self.tape.entries.append(TapeEntry(self._now_us(), way, client, self._count(), event))

    def came(self, event: Event, client: int) -> None:
        """This came in: in answer to what is being said, or by itself."""
        self.note(event, ANSWERED if self._depth else HEARS, client)

    def turn(self, nth: int, on: bool) -> None:
        """The scenario's nth fault begins or ends."""
        self.note(FaultTurn(nth, on), HEARS)

    @contextmanager
    def saying(self, event: Event, client: int) -> Iterator[None]:
        """The device says this; what comes within is its answer."""
        self.note(event, SAYS, client)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def finished(self, end_us: int, own: Sequence[int]) -> Tape:
        """The tape, up to when the device was switched off; `own` are the places, among the run's events, of those that
        it recorded before. What the end itself brought about is left out: who is switched off cuts his connections."""
        entries = self.tape.entries
        while entries and entries[-1].t_us >= end_us and isinstance(entries[-1].event, Cut):
            entries.pop()
        behind = (entry._replace(behind=bisect_right(own, entry.behind)) for entry in entries)
        self.tape.entries = [*behind, TapeEntry(end_us, HEARS, 0, len(own), End())]
        return self.tape


class _Ear:
    """Sits between a client and its fabric: to each of them it is the other."""

    __slots__ = ("_client", "_fabric", "_nth", "_taping", "loop")

    def __init__(self, taping: Taping, nth: int, client: MemoryMqtt) -> None:
        self._taping, self._nth, self._client, self._fabric = taping, nth, client, client.fabric
        self.loop = client.fabric.loop

    def reach(self) -> None:
        try:
            self._fabric.reach()
        except LinkError as error:
            self._taping.note(ConnectRefused(str(error)), SAYS, self._nth)
            raise

    def submit(self, client: Client, packet: Packet) -> None:
        with self._taping.saying(unsigned(packet), self._nth):
            self._fabric.submit(self, packet)

    def vanish(self, client: Client) -> None:
        with self._taping.saying(Cut(), self._nth):
            self._fabric.vanish(self)

    def watch(self) -> None:
        self._fabric.watch()

    def arrived(self, packet: Packet) -> None:
        self._taping.came(packet, self._nth)
        self._client.arrived(packet)

    def lose(self, reason: str) -> None:
        self._taping.came(Lost(reason), self._nth)
        self._client.lose(reason)
