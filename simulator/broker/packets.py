"""What a client and the broker say to each other, as data."""

from __future__ import annotations

from msgspec import Struct


class Connect(Struct, frozen=True):
    """Open a session; `session_expiry_s` 0 ends it with the connection. `will` is published when the client vanishes."""

    client_id: str
    username: str | None = None
    password: str | None = None
    clean_start: bool = True
    session_expiry_s: float = 0.0
    keep_alive_s: float = 0.0
    receive_max: int = 65535
    will: Publish | None = None


class ConnAck(Struct, frozen=True):
    """The broker's answer to Connect; `code` 0 is success."""

    code: int = 0
    session_present: bool = False


class Filter(Struct, frozen=True):
    """One topic filter and its options."""

    pattern: str
    qos: int = 1
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(Struct, frozen=True):
    """Ask for these filters."""

    packet_id: int
    filters: tuple[Filter, ...]


class SubAck(Struct, frozen=True):
    """Granted QoS or a refusal (0x80 and above) for each filter."""

    packet_id: int
    codes: tuple[int, ...]


class Unsubscribe(Struct, frozen=True):
    """Take these filters back."""

    packet_id: int
    patterns: tuple[str, ...]


class UnsubAck(Struct, frozen=True):
    """0, or 0x11 where there was no such subscription."""

    packet_id: int
    codes: tuple[int, ...]


class Publish(Struct, frozen=True):
    """An application message, in either direction."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int | None = None


class PubAck(Struct, frozen=True):
    """Responsibility for the message was taken, or refused (`code` 0x80 and above)."""

    packet_id: int
    code: int = 0


class Ping(Struct, frozen=True):
    """A sign of life; answered with the same."""


class Disconnect(Struct, frozen=True):
    """The end of a connection, and why. 0x04 from a client asks for its will to be published; its
    `session_expiry_s`, where given, replaces that of its Connect."""

    code: int = 0
    session_expiry_s: float | None = None


Packet = Connect | ConnAck | Subscribe | SubAck | Unsubscribe | UnsubAck | Publish | PubAck | Ping | Disconnect
