"""What a client and the broker say to each other, as data."""

from __future__ import annotations

from typing import NamedTuple


class Connect(NamedTuple):
    """Open a session; `session_expiry_s` 0 ends it with the connection. `will` is published when the client vanishes."""

    client_id: str
    username: str | None = None
    password: str | None = None
    clean_start: bool = True
    session_expiry_s: float = 0.0
    keep_alive_s: float = 0.0
    receive_max: int = 65535
    will: Publish | None = None


class ConnAck(NamedTuple):
    """The broker's answer to Connect; `code` 0 is success."""

    code: int = 0
    session_present: bool = False


class Filter(NamedTuple):
    """One topic filter and its options."""

    pattern: str
    qos: int = 1
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(NamedTuple):
    """Ask for these filters."""

    packet_id: int
    filters: tuple[Filter, ...]


class SubAck(NamedTuple):
    """Granted QoS or a refusal (0x80 and above) for each filter."""

    packet_id: int
    codes: tuple[int, ...]


class Unsubscribe(NamedTuple):
    """Take these filters back."""

    packet_id: int
    patterns: tuple[str, ...]


class UnsubAck(NamedTuple):
    """0, or 0x11 where there was no such subscription."""

    packet_id: int
    codes: tuple[int, ...]


class Publish(NamedTuple):
    """An application message, in either direction."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int | None = None


class PubAck(NamedTuple):
    """Responsibility for the message was taken, or refused (`code` 0x80 and above)."""

    packet_id: int
    code: int = 0


class Ping(NamedTuple):
    """A sign of life; answered with the same."""


class Disconnect(NamedTuple):
    """The end of a connection, and why. 0x04 from a client asks for its will to be published; its
    `session_expiry_s`, where given, replaces that of its Connect."""

    code: int = 0
    session_expiry_s: float | None = None


Packet = Connect | ConnAck | Subscribe | SubAck | Unsubscribe | UnsubAck | Publish | PubAck | Ping | Disconnect
