"""The broker's core, an MQTT 5 broker without a socket: packets in, packets out.

A *connection* comes and goes; a *session* is what the broker remembers of a client id, and outlives its connections for as
long as the client asked for (session expiry). Whoever connects with an id that is connected takes its session over, and
the older connection is told so and closed. A session holds the client's subscriptions and, at QoS 1, two lists of
messages: those in flight (sent, and no PUBACK has come) and those queued behind them, because nobody is connected or
because the client allows no more in flight at once (receive maximum). Who comes back gets what was in flight once more,
marked as duplicates and in the same order, and then the queue. So a message is lost only with its session, and may come
twice.

Beside sessions there are retained messages (the last one of a topic, sent to each new subscriber), wills (published for a
client that goes without a goodbye) and shared subscriptions (each message to one member of the group, in turn,
to one that is connected where there is one).

The core keeps no clock and opens no socket. Its caller hands it each packet with `receive`, says `dropped` where a
connection broke, and `tick` when `wake_at` has come; both of the first return what is to be sent, in order. `conn` is the
caller's own handle of a connection, any hashable object; `now` is in seconds of the caller's clock. The memory link
(`links.memory`) and the socket server (`broker.server`) are its two callers, and tests/conformance/broker.py holds it and a
real mosquitto to the same behaviour.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from msgspec.structs import replace

from simulator.broker.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Filter,
    Packet,
    Ping,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)
from simulator.broker.topics import Index, matches, valid_filter, valid_topic

Conn = Hashable
Output = tuple[Conn, Packet]

BAD_LOGIN, NOT_AUTHORIZED, TAKEN_OVER, PROTOCOL_ERROR = 0x86, 0x87, 0x8E, 0x82
BAD_FILTER, BAD_TOPIC, QOS_UNSUPPORTED, KEEP_ALIVE = 0x8F, 0x90, 0x9B, 0x8D


class _Session:
    """What the broker remembers of a client, connected or not. Containers are made when first needed."""

    __slots__ = (
        "client_id",
        "conn",
        "expires",
        "expiry_s",
        "filters",
        "inflight",
        "next_id",
        "queue",
        "quota",
        "user",
        "will",
    )

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.conn: Conn | None = None
        self.user: str | None = None
        self.filters: dict[str, Filter] | None = None
        self.inflight: dict[int, Publish] | None = None  # sent, not yet acknowledged; in order
        self.queue: deque[Publish] | None = None  # not yet sent on this connection; in flight where it has a packet id
        self.next_id = 1
        self.quota = 65535
        self.expiry_s = 0.0
        self.expires = 0.0
        self.will: Publish | None = None


class Broker:
    """A pure MQTT 5 broker. `login(user, password)` and `may(user, topic or filter)` decide about rights.

    `counts` holds connects, published, delivered and dropped messages.
    """

    def __init__(
        self,
        login: Callable[[str | None, str | None], bool] = lambda user, password: True,
        may: Callable[[str | None, str], bool] = lambda user, topic: True,
    ) -> None:
        self._login, self._may = login, may
        self._sessions: dict[str, _Session] = {}
        self._conns: dict[Conn, _Session] = {}
        self._index = Index()
        self._groups: dict[str, dict[str, deque[str]]] = {}  # group -> filter -> members, next first
        self._retained: dict[str, Publish] = {}
        self._timers: list[tuple[float, int, _Session]] = []
        self._ticks = itertools.count()
        self.counts = {"connects": 0, "published": 0, "delivered": 0, "dropped": 0}

    @property
    def wake_at(self) -> float | None:
        """When `tick` is due, if ever."""
        return self._timers[0][0] if self._timers else None

    # ---- what comes in

    def receive(self, conn: Conn, packet: Packet, now: float) -> list[Output]:
        """Handle one packet; what to send, in order. A Disconnect sent is to be followed by closing."""
        out: list[Output] = []
        session = self._conns.get(conn)
        if isinstance(packet, Connect):
            self._connect(conn, packet, now, out)
        elif session is None:
            out.append((conn, Disconnect(PROTOCOL_ERROR)))  # MQTT 5 3.1.0-1
        elif isinstance(packet, PubAck):
            self._puback(session, packet, out)
        elif isinstance(packet, Publish):
            self._publish(conn, session, packet, out)
        elif isinstance(packet, Subscribe):
            self._subscribe(conn, session, packet, out)
        elif isinstance(packet, Unsubscribe):
            out.append(
                (conn, UnsubAck(packet.packet_id, tuple(self._unsubscribe(session, p) for p in packet.patterns)))
            )
        elif isinstance(packet, Ping):
            out.append((conn, packet))
        elif isinstance(packet, Disconnect):
            if packet.code == 0:
                session.will = None  # MQTT 5 3.14.4-3
            if packet.session_expiry_s is not None and session.expiry_s:  # MQTT 5 3.14.2.2.2
                session.expiry_s = packet.session_expiry_s
            self._leave(conn, session, now, out)
        return out

    def dropped(self, conn: Conn, now: float) -> list[Output]:
        """The connection is gone without a DISCONNECT: the will is published, the session kept until it expires."""
        out: list[Output] = []
        session = self._conns.get(conn)
        if session is not None:
            self._leave(conn, session, now, out)
        return out

    def tick(self, now: float) -> None:
        """Forget the sessions that have expired."""
        while self._timers and self._timers[0][0] <= now:
            _, _, session = heapq.heappop(self._timers)
            if session.conn is None and session.expires <= now and self._sessions.get(session.client_id) is session:
                self._forget(session)

    def restart(self) -> list[Conn]:
        """Lose everything: sessions, retained messages, and all connections, which are returned."""
        lost = list(self._conns)
        for session in list(self._sessions.values()):
            self._forget(session)
        self._conns.clear()
        self._retained.clear()
        self._timers.clear()
        return lost

    # ---- connections

    def _connect(self, conn: Conn, packet: Connect, now: float, out: list[Output]) -> None:
        if not self._login(packet.username, packet.password):
            out.append((conn, ConnAck(BAD_LOGIN)))
            return
        if conn in self._conns:
            out.append((conn, Disconnect(PROTOCOL_ERROR)))  # MQTT 5 3.1.0-2
            return
        old = self._sessions.get(packet.client_id)
        if old is not None and old.conn is not None:
            taken = old.conn
            out.append((taken, Disconnect(TAKEN_OVER)))  # MQTT 5 3.1.4-3
            self._leave(taken, old, now, out)
            old = self._sessions.get(packet.client_id)
        foreign = old is not None and old.user != packet.username  # who may not hear what the session subscribed to
        if old is not None and (packet.clean_start or foreign or old.expires <= now):
            self._forget(old)
            old = None
        session = old or _Session(packet.client_id)
        session.conn, session.user, session.will = conn, packet.username, packet.will
        session.expiry_s, session.quota = packet.session_expiry_s, packet.receive_max
        self._sessions[packet.client_id] = self._conns[conn] = session
        self.counts["connects"] += 1
        out.append((conn, ConnAck(0, old is not None)))
        if session.inflight:  # MQTT 5 4.4.0-1: resend, in order, with DUP; within the quota, as all else
            fresh = [message for message in session.queue or () if message.packet_id is None]
            session.queue = deque([*(replace(m, dup=True) for m in session.inflight.values()), *fresh])
        self._drain(session, out)

    def _leave(self, conn: Conn, session: _Session, now: float, out: list[Output]) -> None:
        self._conns.pop(conn, None)
        session.conn = None
        will, session.will = session.will, None
        if session.expiry_s <= 0:
            self._forget(session)
        else:
            session.expires = now + session.expiry_s
            heapq.heappush(self._timers, (session.expires, next(self._ticks), session))
        if will is not None and self._may(session.user, will.topic):
            self._route(will, session.client_id, out)

    def _forget(self, session: _Session) -> None:
        for pattern in list(session.filters or ()):
            self._unsubscribe(session, pattern)
        self._sessions.pop(session.client_id, None)

    # ---- publishing

    def _publish(self, conn: Conn, session: _Session, packet: Publish, out: list[Output]) -> None:
        if packet.qos > 1:
            out.append((conn, Disconnect(QOS_UNSUPPORTED)))
            return
        code = 0
        if not valid_topic(packet.topic):
            code = BAD_TOPIC
        elif not self._may(session.user, packet.topic):
            code = NOT_AUTHORIZED
        else:
            self.counts["published"] += 1
            self._route(packet, session.client_id, out)
        if packet.qos == 1 and packet.packet_id is not None:
            out.append((conn, PubAck(packet.packet_id, code)))

    def _route(self, packet: Publish, sender: str, out: list[Output]) -> None:
        if packet.retain:
            if packet.payload:
                self._retained[packet.topic] = replace(packet, dup=False, packet_id=None)
            else:
                self._retained.pop(packet.topic, None)
        reached: dict[str, Filter] = {}
        for client_id, option in self._index.find(packet.topic):
            if option.no_local and client_id == sender:
                continue
            best = reached.get(client_id)
            reached[client_id] = option if best is None else _both(best, option)
        for client_id, option in reached.items():
            qos = option.qos if option.qos < packet.qos else packet.qos
            retain = packet.retain and option.retain_as_published
            self._send(self._sessions[client_id], packet, qos, retain, out)
        if self._groups:
            self._share(packet, out)

    def _share(self, packet: Publish, out: list[Output]) -> None:
        """One member of each group, in turn; one that is connected where there is one."""
        for group, filters in self._groups.items():
            for pattern, members in filters.items():
                if not matches(pattern, packet.topic):
                    continue
                for _ in range(len(members)):
                    members.rotate(-1)
                    if self._sessions[members[-1]].conn is not None:
                        break
                chosen = self._sessions[members[-1]]
                assert chosen.filters is not None
                qos = min(packet.qos, chosen.filters[f"$share/{group}/{pattern}"].qos)
                self._send(chosen, packet, qos, False, out)

    def _send(self, session: _Session, message: Publish, qos: int, retain: bool, out: list[Output]) -> None:
        conn = session.conn
        if qos == 0:
            if conn is not None:
                self.counts["delivered"] += 1
                out.append((conn, Publish(message.topic, message.payload, 0, retain)))
        elif conn is None or session.quota <= 0 or session.queue:
            if session.queue is None:
                session.queue = deque()
            session.queue.append(Publish(message.topic, message.payload, 1, retain))
        else:
            self._transmit(session, message, retain, out)

    def _transmit(self, session: _Session, message: Publish, retain: bool, out: list[Output]) -> None:
        inflight = session.inflight
        if inflight is None:
            inflight = session.inflight = {}
        packet_id = session.next_id
        while packet_id in inflight:
            packet_id = packet_id % 65535 + 1
        session.next_id = packet_id % 65535 + 1
        session.quota -= 1
        sent = inflight[packet_id] = Publish(message.topic, message.payload, 1, retain, False, packet_id)
        self.counts["delivered"] += 1
        out.append((session.conn, sent))

    def _puback(self, session: _Session, packet: PubAck, out: list[Output]) -> None:
        if session.inflight and session.inflight.pop(packet.packet_id, None) is not None:
            if not session.inflight:
                session.inflight = None
            session.quota += 1
            if session.queue:
                self._drain(session, out)

    def _drain(self, session: _Session, out: list[Output]) -> None:
        queue = session.queue
        while queue and session.quota > 0:
            message = queue.popleft()
            if message.packet_id is None:
                self._transmit(session, message, message.retain, out)
            elif message.packet_id in (session.inflight or ()):  # sent before, on another connection
                session.quota -= 1
                out.append((session.conn, message))
        if not queue:
            session.queue = None

    # ---- subscribing

    def _subscribe(self, conn: Conn, session: _Session, packet: Subscribe, out: list[Output]) -> None:
        codes = []
        fresh: list[Filter] = []
        for option in packet.filters:
            pattern, shared = option.pattern, option.pattern.startswith("$share/")
            if shared:
                pattern = pattern.split("/", 2)[-1]
            if not valid_filter(pattern) or (shared and (option.no_local or option.pattern.count("/") < 2)):
                codes.append(BAD_FILTER)
                continue
            if not self._may(session.user, pattern):
                codes.append(NOT_AUTHORIZED)
                continue
            if option.qos > 1:
                option = replace(option, qos=1)
            known = self._add(session, option, pattern, shared)
            codes.append(option.qos)
            if not shared and (option.retain_handling == 0 or (option.retain_handling == 1 and not known)):
                fresh.append(option)
        out.append((conn, SubAck(packet.packet_id, tuple(codes))))
        if self._retained:
            for option in fresh:
                self._send_retained(session, option.pattern, option.qos, out)

    def _add(self, session: _Session, option: Filter, pattern: str, shared: bool) -> bool:
        """Keep a subscription; whether there was one of this filter before."""
        if session.filters is None:
            session.filters = {}
        known = option.pattern in session.filters
        session.filters[option.pattern] = option
        if not shared:
            self._index.add(pattern, session.client_id, option)
        elif not known:
            group = option.pattern.split("/", 2)[1]
            self._groups.setdefault(group, {}).setdefault(pattern, deque()).append(session.client_id)
        return known

    def _send_retained(self, session: _Session, pattern: str, qos: int, out: list[Output]) -> None:
        if "+" in pattern or "#" in pattern:
            messages = [m for topic, m in self._retained.items() if matches(pattern, topic)]
        else:
            messages = [self._retained[pattern]] if pattern in self._retained else []
        for message in messages:
            self._send(session, message, min(qos, message.qos), True, out)

    def _unsubscribe(self, session: _Session, pattern: str) -> int:
        if not session.filters or session.filters.pop(pattern, None) is None:
            return 0x11
        if not pattern.startswith("$share/"):
            self._index.remove(pattern, session.client_id)
            return 0
        _, group, rest = pattern.split("/", 2)
        members = self._groups[group][rest]
        members.remove(session.client_id)
        if not members:
            del self._groups[group][rest]
            if not self._groups[group]:
                del self._groups[group]
        return 0

    def describe(self) -> dict[str, Any]:
        """Counts, for the record."""
        return {"sessions": len(self._sessions), "connected": len(self._conns), **self.counts}


def _both(a: Filter, b: Filter) -> Filter:
    """What two overlapping subscriptions of one client come to."""
    return replace(a, qos=max(a.qos, b.qos), retain_as_published=a.retain_as_published or b.retain_as_published)
