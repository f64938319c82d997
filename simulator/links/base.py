"""The ports of a device's road: what every MQTT link and every HTTP link can do, whatever it is made of.

A link is memory (virtual time), lean (thousands of devices), a library's (breadth, and a cross-check of the lean ones), or any
of these with latency or faults around it. One conformance suite (tests/conformance) tests them all, so that a device need not
know which it has. A link hides nothing: it does not retry, and a failure says whose it is: LinkError is the road's, PeerError
the other side's, TransferError a download's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from simulator.model.io import Request, Response


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """How one client reaches its broker. Times in seconds; `session_expiry_s` 0 ends the session with the
    connection; `source` is the local address to bind, `tls` one context shared by all clients."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = None
    keep_alive_s: int = 60
    clean_start: bool = True
    session_expiry_s: int = 0
    tls: ssl.SSLContext | None = None
    source: str | None = None
    connect_timeout_s: float = 30.0
    scheme: str = "mqtt"  # mqtt, mqtts, ws, wss
    path: str = "/mqtt"  # of the WebSocket schemes
    will: tuple[str, bytes] | None = None
    gate: asyncio.Semaphore | None = None  # shared by clients of a process: how many may connect at once


class Delivery(Protocol):
    """One message handed to the client. QoS 1 is acknowledged (PUBACK) only when `ack()` is called."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int | None

    def ack(self) -> None:
        """Send the PUBACK; nothing for QoS 0, and nothing once the connection is gone."""


class MqttLink(Protocol):
    """One MQTT client. The same object connects again after a loss, and then keeps its session's unacknowledged
    publishes if the broker kept the session (it sends them again with DUP), and drops them if not.

    Only one coroutine receives. `connect`, `subscribe`, `publish` and `receive` raise LinkError when the road
    fails, PeerError when the broker refuses (CONNACK or SUBACK code in `.code`).
    """

    stalls: bool
    """Whether `stall` is within its power; NotSimulated is raised where not."""

    async def connect(self) -> bool:
        """Connect; True when the broker resumed a session."""

    async def subscribe(self, filters: Sequence[str], *, qos: int = 1, no_local: bool = False) -> None:
        """Subscribe and wait for the SUBACK."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Take the message over: it is written, and at QoS 1 kept until its PUBACK. Waits only for the
        broker's receive maximum and for a full socket, not for the PUBACK."""

    @property
    def unacknowledged(self) -> int:
        """How many messages of QoS 1 were taken over and have no PUBACK yet."""

    @property
    def refused(self) -> int:
        """How many messages the broker has ever answered with a PUBACK that takes no responsibility for them (a code of
        0x80 and above). They are not said again."""  # MQTT 5 4.4.0-2

    async def receive(self, until: float | None = None) -> Delivery | None:
        """The next message, in the broker's order; None when the loop's clock reaches `until` first, or at `wake`.
        Raises LinkError once the connection is gone and everything that came before was received."""

    def wake(self) -> None:
        """Let the `receive` that waits return None; nothing where none waits."""

    def abort(self) -> None:
        """Cut the connection without DISCONNECT: the broker publishes the will and keeps the session."""

    def stall(self, on: bool) -> None:
        """Go silent without closing: no read, no write, no ping; or come back."""

    async def close(self) -> None:
        """DISCONNECT and close. Never raises; safe to call twice."""


class Body(Protocol):
    """An HTTP response whose head has arrived: iterate it for the chunks of its body.

    Iterating raises TransferError on an early end, past `bound` bytes, or past the deadline.
    """

    status: int
    headers: dict[str, str]

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None:
        """Let go of the connection, whatever is left unread."""


async def whole(body: Body) -> Response:
    """The response with its body, of which the connection is let go however that ends. Raises TransferError."""
    try:
        content = b"".join([chunk async for chunk in body])
    finally:
        body.close()
    return Response(body.status, tuple(body.headers.items()), content)


class HttpLink(Protocol):
    """One HTTP client. By default each `open` is a fresh connection, as devices do it."""

    async def open(self, request: Request, *, bound: int, timeout_s: float) -> Body:
        """Send the request and wait for the response's head (LinkError when none comes). Redirects (301, 302,
        303, 307, 308; at most 5) are followed. No more than `bound` bytes of body are ever accepted; `timeout_s`
        limits the whole exchange, body included."""

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """The same, with the body read whole."""

    async def close(self) -> None:
        """Close pooled connections, if any. Never raises; safe to call twice."""


class Wires(NamedTuple):
    """A device's two roads; `mqtt` is None where it has no broker. `address` is where its downloads come from, empty where
    nobody knows."""

    mqtt: MqttLink | None
    http: HttpLink
    address: str = ""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How HTTP is spoken: `pooled` keeps connections alive between requests (for load on storage alone); `hosts` may
    be spoken to beside this machine, None: all of them."""

    pooled: bool = False
    hosts: frozenset[str] | None = None
    tls: ssl.SSLContext | None = None
    source: str | None = None
    connect_timeout_s: float = 30.0
    headers: tuple[tuple[str, str], ...] = field(default=())
