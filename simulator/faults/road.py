"""A device's MQTT road as a whole: open, down, or dark.

On a road that is down no connection can be had, and one that is there ends. On a dark road the connection seems to be there,
but nothing passes: its link is stalled. The device's keep-alive notices that after a while, and the connection is cut, unless
the road is bright again before. A road may also darken by itself, for a connection over which nothing has passed for long
enough, as a router forgets an idle connection."""

from __future__ import annotations

import asyncio
import contextlib

from simulator.faults.harm import Harm
from simulator.links.base import MqttLink
from simulator.model.errors import LinkError


class Road:
    """The road of one device, and the `link` over it, which may be replaced. A stalled connection is noticed after
    `patience_s` seconds. `up`: there is a connection; `used`: when anything passed over it last (the loop's clock)."""

    __slots__ = ("_dark", "_forgotten", "_harm", "_idle", "_loop", "link", "patience_s", "up", "used")

    def __init__(self, link: MqttLink, harm: Harm, patience_s: float) -> None:
        self.link, self._harm, self.patience_s = link, harm, patience_s
        self._loop = asyncio.get_running_loop()
        self._dark: asyncio.TimerHandle | None = None  # when the stalled connection is noticed
        self._idle: asyncio.TimerHandle | None = None  # when the road may forget the connection
        self._forgotten = False  # it has
        self.up, self.used = False, 0.0
        harm.turned = self._turned

    @property
    def dark(self) -> bool:
        """Whether the connection is stalled now."""
        return self._dark is not None

    @property
    def passes(self) -> bool:
        """Whether what is sent now comes through."""
        return not self._harm.road and not self._forgotten

    def connected(self) -> None:
        """There is a connection from now on."""
        self.up, self.used = True, self._loop.time()
        self._watch_idle()
        self._mind_the_dark()

    def lost(self) -> None:
        """There is no connection any more."""
        self.up = self._forgotten = False
        if self._dark is not None:
            self._dark.cancel()
            self._dark = None

    def _turned(self) -> None:
        """A fault has begun or ended."""
        if self._harm.road == "down":
            self.link.abort()
        if self._harm.idle_s is None:
            self._forgotten = False
        self._watch_idle()
        self._mind_the_dark()

    def _mind_the_dark(self) -> None:
        """Stall the connection while the road is dark; the keep-alive tells after a while, unless it is bright again."""
        dark = self.up and (self._forgotten or self._harm.road == "dark")
        if dark == (self._dark is not None):
            return
        if self._dark is not None:
            self._dark.cancel()
        self._dark = self._loop.call_later(self.patience_s, self._noticed) if dark else None
        with contextlib.suppress(LinkError):  # the broker may have ended it, which whoever receives learns
            self.link.stall(dark)

    def _noticed(self) -> None:
        self._dark = None
        self.link.abort()

    def _watch_idle(self) -> None:
        """Darken for a connection over which nothing has passed for long enough; its pings pass, so that it never is
        idle for longer than between two of them."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        idle_s = self._harm.idle_s
        if idle_s is None or not self.up or self._forgotten or idle_s > self.patience_s / 2:
            return
        if self._loop.time() < self.used + idle_s:
            self._idle = self._loop.call_at(self.used + idle_s, self._watch_idle)
            return
        self._forgotten = self._harm.darkens()
        self._mind_the_dark()
