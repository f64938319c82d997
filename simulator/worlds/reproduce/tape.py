"""The tape of one device: what came in over its wires, and what it had said before. It is recorded between the device's
links in memory and their broker and storage, and played in their place; faults and latency lie above, and happen again.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import astuple, replace

from simulator.broker.packets import ConnAck, Connect, Disconnect, Filter, Packet, PubAck, Publish, SubAck, Subscribe
from simulator.links.base import MqttOptions, Wires
from simulator.links.memory import Client, MemoryHttp, MemoryMqtt
from simulator.model.errors import LinkError
from simulator.model.io import Request, Response

SAYS, ANSWERED, HEARS = "says", "answered", "hears"
"""What the device said; what came of it at once, within the same call; what came by itself."""


class Refused(Struct, frozen=True):
    """An attempt to connect that found nobody, and why."""

    reason: str


class Cut(Struct, frozen=True):
    """The device cut its connection."""


class Lost(Struct, frozen=True):
    """The connection ended from the other side, and why."""

    reason: str


class Exchange(Struct, frozen=True):
    """An HTTP request, and its response or why none came."""

    request: Request
    answer: Response | str


class Turn(Struct, frozen=True):
    """The scenario's nth fault began or ended."""

    nth: int
    on: bool


class End(Struct, frozen=True):
    """The device was switched off: the tape's last event."""


Event = Packet | Refused | Cut | Lost | Exchange | Turn | End


class Entry(NamedTuple):
    """One event of the tape. `client` counts the device's MQTT clients: 0 is its own, others are rivals of its id.
    `behind` is how many events the device had recorded before: much may happen in one microsecond."""

    t_us: int
    way: str
    client: int
    behind: int
    event: Event


@dataclass(slots=True)
class Tape:
    """What happened at one device's wires, in order, from when its fleet began to when the device was switched off."""

    began_us: int = 0
    entries: list[Entry] = field(default_factory=list)


# ---- recording


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
        self.tape.entries.append(Entry(self._now_us(), way, client, self._count(), event))

    def came(self, event: Event, client: int) -> None:
        """This came in: in answer to what is being said, or by itself."""
        self.note(event, ANSWERED if self._depth else HEARS, client)

    def turn(self, nth: int, on: bool) -> None:
        """The scenario's nth fault begins or ends."""
        self.note(Turn(nth, on), HEARS)

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
        self.tape.entries = [*behind, Entry(end_us, HEARS, 0, len(own), End())]
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
            self._taping.note(Refused(str(error)), SAYS, self._nth)
            raise

    def submit(self, client: Client, packet: Packet) -> None:
        with self._taping.saying(_unsigned(packet), self._nth):
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


def _unsigned(packet: Packet) -> Packet:
    """Without its password, which no record holds."""
    return replace(packet, password=None) if isinstance(packet, Connect) else packet


# ---- playing


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
            self._end(f"the tape holds, at {_said(entry)}: the device does not say it")
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

    def _play(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, End):
            self._end("")
            return
        self._at += 1
        if isinstance(event, Turn):
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
        theirs = self._tape.entries[self._at]
        ours = Entry(self._now_us(), SAYS, client, theirs.behind, event)
        if ours != theirs:
            self._end(f"the device says, at {_said(ours)}; the tape holds, at {_said(theirs)}")
            return
        self._at += 1
        while (entry := self._tape.entries[self._at]).way == ANSWERED:
            self._play(entry)
        self._go_on()

    def reach(self, client: int) -> None:
        """Whether anybody is there to connect to. Raises LinkError."""
        self._play_due()
        entry = self._tape.entries[self._at]
        if isinstance(entry.event, Refused) and entry.client == client:
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
        self._listener.said(_unsigned(packet), self._nth)

    def vanish(self, client: Client) -> None:
        """The connection was cut."""
        self._listener.said(Cut(), self._nth)

    def watch(self) -> None:
        """Sessions expire by the tape."""


def _said(entry: Entry) -> str:
    """An entry for a person, without a body's bytes."""
    event: Any = entry.event
    if isinstance(event, Exchange):
        event = event.request
    told = [field for field in astuple(event) if field not in (None, b"", ())]
    words = [field.decode("utf-8", "replace") if isinstance(field, bytes) else str(field) for field in told]
    text = f"{entry.t_us / 1e6:.6f} s, {type(event).__name__} {' '.join(words)}".rstrip()
    return text if text.isprintable() else text.encode("unicode_escape").decode()


# ---- as JSON

_EVENTS: dict[str, Callable[..., Event]] = {
    kind.__name__: kind for kind in (Connect, ConnAck, PubAck, Disconnect, Refused, Cut, Lost, Turn, End)
}


def to_json(entry: Entry, artifact: bytes) -> list[Any]:
    """A row of texts and numbers. Bytes become text one by one (ISO 8859-1), those of the artifact two places in it."""
    *when, event = entry
    fields = list(astuple(event))
    if isinstance(event, Publish):
        fields[1] = event.payload.decode("latin-1")
    elif isinstance(event, Subscribe):
        fields[1] = [astuple(wanted) for wanted in event.filters]
    elif isinstance(event, Exchange):
        request, answer = event.request, event.answer
        fields = [request.method, request.url, request.headers, answer]
        if isinstance(answer, Response):
            fields[-1] = [answer.status, answer.headers, _body(answer.body, artifact)]
    return [*when, type(event).__name__, *fields]


def from_json(row: list[Any], artifact: bytes) -> Entry:
    """The entry that `to_json` made a row of. Raises KeyError, TypeError, ValueError for anything else."""
    t_us, way, client, behind, kind, *fields = row
    event: Event
    if kind == "Publish":
        topic, payload, *rest = fields
        event = Publish(topic, payload.encode("latin-1"), *rest)
    elif kind == "Subscribe":
        event = Subscribe(fields[0], tuple(Filter(*one) for one in fields[1]))
    elif kind == "SubAck":
        event = SubAck(fields[0], tuple(fields[1]))
    elif kind == "Exchange":
        method, url, headers, answer = fields
        if isinstance(answer, list):
            answer = Response(answer[0], _pairs(answer[1]), _bytes(answer[2], artifact))
        event = Exchange(Request(method, url, _pairs(headers)), answer)
    else:
        event = _EVENTS[kind](*fields)
    return Entry(t_us, way, client, behind, event)


def _pairs(rows: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in rows)


def _body(body: bytes, artifact: bytes) -> str | list[int]:
    at = artifact.find(body) if body else -1
    return [at, at + len(body)] if at >= 0 else body.decode("latin-1")


def _bytes(said: str | list[int], artifact: bytes) -> bytes:
    return said.encode("latin-1") if isinstance(said, str) else artifact[said[0] : said[1]]
