"""The tape of one device: what came in over its wires, in order and to the microsecond, and what it had said before.

A tape makes a device's part of a virtual run repeatable without all others: whoever plays it (`player.py`) gives the
device, in place of broker and storage, the very packets and responses that it got when the tape was recorded
(`taping.py`), and sees at once when the device says something else. It is taken between the device's links in memory and
their broker and storage: faults and latency lie above, and happen again. A file of it is JSON, a line for each event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import astuple, replace

from simulator.broker.packets import ConnAck, Connect, Disconnect, Filter, Packet, PubAck, Publish, SubAck, Subscribe
from simulator.model.io import Purpose, Request, Response

SAYS, ANSWERED, HEARS = "says", "answered", "hears"
"""What the device said; what came of it at once, within the same call; what came by itself."""


class ConnectRefused(Struct, frozen=True):
    """An attempt to connect that reached nobody, and why."""

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


class FaultTurn(Struct, frozen=True):
    """The scenario's nth fault began or ended."""

    nth: int
    on: bool


class End(Struct, frozen=True):
    """The device was switched off: the tape's last event."""


Event = Packet | ConnectRefused | Cut | Lost | Exchange | FaultTurn | End


class TapeEntry(NamedTuple):
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
    entries: list[TapeEntry] = field(default_factory=list)


def unsigned(packet: Packet) -> Packet:
    """The packet without its password, which no record holds."""
    return replace(packet, password=None) if isinstance(packet, Connect) else packet


def described(entry: TapeEntry) -> str:
    """An entry for a person, without a body's bytes."""
    event: Any = entry.event
    if isinstance(event, Exchange):
        event = event.request
    values = [field for field in astuple(event) if field not in (None, b"", ())]
    words = [field.decode("utf-8", "replace") if isinstance(field, bytes) else str(field) for field in values]
    line = f"{entry.t_us / 1e6:.6f} s, {word_of(event)} {' '.join(words)}".rstrip()
    return line if line.isprintable() else line.encode("unicode_escape").decode()


# ---- as JSON

_WORDS: dict[type[Struct], str] = {ConnectRefused: "Refused", FaultTurn: "Turn"}  # all others go by their class's name
_EVENTS: dict[str, Callable[..., Event]] = {
    _WORDS.get(kind, kind.__name__): kind
    for kind in (Connect, ConnAck, PubAck, Disconnect, ConnectRefused, Cut, Lost, FaultTurn, End)
}


def word_of(event: Event) -> str:
    """What an event is called in the tape's file, and to a person."""
    return _WORDS.get(type(event), type(event).__name__)


def to_json(entry: TapeEntry, artifact: bytes) -> list[Any]:
    """A row of texts and numbers. Bytes become text one by one (ISO 8859-1), those of the artifact two places in it."""
    *when, event = entry
    fields = list(astuple(event))
    if isinstance(event, Publish):
        fields[1] = event.payload.decode("latin-1")
    elif isinstance(event, Subscribe):
        fields[1] = [astuple(wanted) for wanted in event.filters]
    elif isinstance(event, Exchange):
        request, answer = event.request, event.answer
        spelled: Any = answer
        if isinstance(answer, Response):
            spelled = [answer.status, answer.headers, _body(answer.body, artifact)]
        fields = [request.method, request.url, request.headers, spelled, request.purpose]
    return [*when, word_of(event), *fields]


def from_json(row: list[Any], artifact: bytes) -> TapeEntry:
    """The entry that `to_json` made a row of. Raises KeyError, TypeError, ValueError for anything else."""
    t_us, way, client, behind, kind, *fields = row
    event: Event
    if kind == "Publish":
        topic, payload, *rest = fields
        event = Publish(topic, payload.encode("latin-1"), *rest)
    elif kind == "Subscribe":
        event = Subscribe(fields[0], tuple(Filter(*wanted) for wanted in fields[1]))
    elif kind == "SubAck":
        event = SubAck(fields[0], tuple(fields[1]))
    elif kind == "Exchange":
        method, url, headers, answer, *purpose = fields
        if isinstance(answer, list):
            answer = Response(answer[0], _pairs(answer[1]), _bytes(answer[2], artifact))
        # the tapes of older versions have no purpose: then all exchanges were downloads
        event = Exchange(
            Request(method, url, _pairs(headers), purpose=Purpose(*purpose or (Purpose.DOWNLOAD,))), answer
        )
    else:
        event = _EVENTS[kind](*fields)
    return TapeEntry(t_us, way, client, behind, event)


def _pairs(rows: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in rows)


def _body(body: bytes, artifact: bytes) -> str | list[int]:
    at = artifact.find(body) if body else -1
    return [at, at + len(body)] if at >= 0 else body.decode("latin-1")


def _bytes(written: str | list[int], artifact: bytes) -> bytes:
    return written.encode("latin-1") if isinstance(written, str) else artifact[written[0] : written[1]]
