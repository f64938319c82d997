"""The kinds of rules that a fault can have: one for each thing that can be harmed. The faults stand in catalogue.py. Pure.

A rule for messages or for HTTP exchanges decides on each one that it meets, and answers with a verdict: a Fate or a
Trouble. The link (wires.py) carries the verdict out, and the record says what it changed. The other kinds say what happens
to the road, to the device, to its nature or to a server while the fault lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from simulator.dialects.meanings import Meaning
from simulator.model.io import Request, Response
from simulator.model.scenario import Profile


class Packet(NamedTuple):
    """A message on a device's road, and what the dialect says that it means."""

    incoming: bool
    meaning: Meaning
    payload: bytes


class Fate(NamedTuple):
    """What becomes of a message: lost; or delivered `delay_s` later than it came, while others pass it, and again,
    without DUP, after each of `again_s`, under a new packet id or the `same_id`. `unacknowledged` withholds its PUBACK,
    `cut` ends the connection behind it. `gathered_s` holds back what the device says until the clock shows a multiple
    of so many seconds, and sends it then, and again after each of `again_s`."""

    lost: bool = False
    delay_s: float = 0.0
    again_s: tuple[float, ...] = ()
    same_id: bool = False
    gathered_s: float = 0.0
    unacknowledged: bool = False
    cut: bool = False


class Trouble(NamedTuple):
    """What becomes of an HTTP exchange. Before it: a wait, and request headers that get lost. Instead of it: an
    `answer`. After it: response headers that are changed (None: removed), and a body that ends after the share
    `ends_at` of it, as though that were all if `silently`, or has one byte flipped at the share `flips_at`."""

    wait_s: float = 0.0
    without: frozenset[str] = frozenset()
    answer: Response | None = None
    headers: tuple[tuple[str, str | None], ...] = ()
    ends_at: float | None = None
    silently: bool = False
    flips_at: float | None = None


class SessionTerms(NamedTuple):
    """What a device asks of its session: to begin clean, and for how long (seconds) the broker shall keep it."""

    clean_start: bool
    session_expiry: float


# ---- the kinds of rules: what a fault does while it lasts


class OnMessage(NamedTuple):
    """Messages on the device's road: `apply` gives a message's fate, or None for one that it lets pass."""

    apply: Callable[[Packet], Fate | None]


class OnExchange(NamedTuple):
    """HTTP exchanges of the device: `apply` gives what becomes of one, or None for one that it lets pass."""

    apply: Callable[[Request], Trouble | None]


class OnRoad(NamedTuple):
    """The road as a whole: "down" (no connection can be had) or "dark" (it seems to be there, but nothing passes). With
    `idle_s` it darkens for a connection over which nothing has passed for so many seconds. `session` is how the device
    connects, from the start."""

    state: Literal["down", "dark"]
    idle_s: float = 0.0
    session: SessionTerms | None = None


class ReplayCommand(NamedTuple):
    """The last command comes again, retained, at each connection."""


class Strike(NamedTuple):
    """What befalls the device itself when the fault begins for it: its power fails, or it is switched off for good."""

    act: Literal["power-cut", "vanish"]


class OtherClient(NamedTuple):
    """Another connection of the same client id: a "rival" takes the id, or the device comes back while the broker still
    holds its old connection ("half-open")."""

    act: Literal["rival", "half-open"]


class Nature(NamedTuple):
    """What the device is like, from the start to the end: another `profile`, a clock that is `skew_s` seconds ahead,
    `space_bytes` for what it downloads (None: enough), an image whose own version carries `label`, a bad `habit`
    (device/habits.py)."""

    profile: Callable[[Profile], Profile] | None = None
    skew_s: float = 0.0
    space_bytes: int | None = None
    label: str = ""
    habit: str = ""


class OnServer(NamedTuple):
    """No device, but a server (one of KILLED) that is killed, and started again when the fault ends; or "rollout", which
    an operator aborts."""

    server: str


Rule = OnMessage | OnExchange | OnRoad | ReplayCommand | Strike | OtherClient | Nature | OnServer


def of_connections(rule: Rule) -> bool:
    """Whether it harms MQTT: messages, the connection, or the broker. It can do nothing to devices that poll over HTTP."""
    return isinstance(rule, OnMessage | OnRoad | ReplayCommand | OtherClient) or rule == OnServer("broker")
