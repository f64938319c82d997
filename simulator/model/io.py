"""I/O as data: what a pure core wants sent, and what reached it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Purpose(StrEnum):
    """What an HTTP exchange is for: to talk with the backend, or to download an artifact."""

    CONTROL = "control"
    DOWNLOAD = "download"


class Message(Struct, frozen=True):
    """An MQTT application message that arrived. `retain` is set on one sent because it was retained."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Publish(Struct, frozen=True):
    """Send this application message."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Subscribe(Struct, frozen=True):
    """Subscribe to these topic filters at one QoS, and go on only when the broker has answered."""

    filters: tuple[str, ...]
    qos: int = 1
    no_local: bool = False


class Request(Struct, frozen=True):
    """An HTTP request. Header names are lower case. `purpose` does not go on the wire: faults go by it."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    purpose: Purpose = Purpose.CONTROL


class Response(Struct, frozen=True):
    """A whole HTTP response. Header names are lower case. `request` is what it answers, where a dialect is given it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    request: Request | None = None

    def header(self, name: str) -> str | None:
        """The first value of the header called `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)


Output = Publish | Subscribe | Request
Inbound = Message | Response


class Step(Struct, frozen=True):
    """What a core answers: what to send, in order, and what it understood (its signals)."""

    outputs: tuple[Output, ...] = ()
    signals: tuple[Any, ...] = ()


NOTHING = Step()
