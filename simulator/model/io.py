"""Input and output as plain data: what reached a pure core, and what it wants to be sent.

A core, such as a dialect's side, does no I/O itself. It is given a `Message` or a `Response`, and returns a `Step`: the
outputs to send (`Publish`, `Subscribe`, `Request`), in order, and its signals, which are what it understood.
`links/perform.py` sends the outputs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Purpose(StrEnum):
    """What an HTTP exchange is for: to talk with the backend, or to download an artifact."""

    CONTROL = "control"
    DOWNLOAD = "download"


class Message(Struct, frozen=True):
    """An MQTT application message that arrived. `retain` is true if the broker had kept it and sent it on subscribing."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Publish(Struct, frozen=True):
    """An output: publish this MQTT application message."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Subscribe(Struct, frozen=True):
    """An output: subscribe to these topic filters, all at one QoS; later outputs wait for the broker's answer."""

    filters: tuple[str, ...]
    qos: int = 1
    no_local: bool = False


class Request(Struct, frozen=True):
    """An HTTP request. Header names are lower case. `purpose` is not sent: it tells faults which requests are meant."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    purpose: Purpose = Purpose.CONTROL


class Response(Struct, frozen=True):
    """A whole HTTP response. Header names are lower case. `request` is the one that it answers; it is set when a dialect is
    given the response."""

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
    """What a core returns: the outputs to send, in order, and the signals, which say what it understood."""

    outputs: tuple[Output, ...] = ()
    signals: tuple[Any, ...] = ()


NOTHING = Step()
