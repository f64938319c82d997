"""What a fault does with one message or one HTTP exchange: verdicts as data. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from simulator.dialects.meanings import Meaning
from simulator.model.io import Request, Response


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


MessageRule = Callable[[Packet], Fate | None]
ExchangeRule = Callable[[Request], Trouble | None]
