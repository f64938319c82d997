"""The conductor's end of a part: has it started, hears its lines, notices its death, stops it. The part may
be a child of this process, or of another one that passes the lines on; the caller sees no difference."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from simulator.model.errors import PartDied, ScenarioError
from simulator.worlds.live import protocol, spawn
from simulator.worlds.live.leading import HostClock, PartOrder, boot_id
from simulator.worlds.live.protocol import Command, Die, Event, LastWords, NotUnderstood, PartConfig, Ready, event_of

_READY_S = 60.0
_STOP_S = 10.0
_CLOCK_ASKED = 9
_REMOTE_STOP_S = 60.0  # its record comes over the same road


Receive = Callable[[str, Event], None]
"""Takes a part's name and an event that it told."""


class Clock(NamedTuple):
    """What another host's CLOCK_MONOTONIC is ahead of ours, and by how much that may be wrong; no host: it is ours."""

    host: str = ""
    offset_ns: int = 0
    error_ns: int = 0


class Child(ABC):
    """One part. The events that it tells are handed to `receive` as they come; `ended` is its exit code."""

    pid = 0
    """The process's number; 0 where it is none of this host's, or not there yet."""

    def __init__(self, name: str, receive: Receive) -> None:
        self.name, self._receive, self._words = name, receive, ""
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Ready] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()

    @abstractmethod
    async def spawn(self) -> None:
        """Start the process, which gets ready to be configured: so that all parts load at the same time."""

    @abstractmethod
    def send(self, line: PartConfig | Command) -> None:
        """One line to its stdin; nothing once it is gone."""

    def last_words(self) -> str:
        """Why it ended, by its own word; empty where it told nothing."""
        return self._words

    @abstractmethod
    async def stop(self) -> None:
        """Close its stdin and wait for its end; kill it when that does not come. Safe to call twice."""

    async def start(self, config: PartConfig) -> Ready:
        """Configure it and wait until it is ready. Raises ScenarioError with its own words when it cannot start."""
        self.send(config)
        either: list[asyncio.Future[Any]] = [self._ready, self.ended]
        done, _ = await asyncio.wait(either, timeout=_READY_S, return_when=asyncio.FIRST_COMPLETED)
        if self._ready in done:
            return self._ready.result()
        why = self.last_words() or ("it ended" if done else f"not ready within {_READY_S:g} s")
        if done and self.ended.result() == 3:
            raise ScenarioError(why)
        raise PartDied(f"{self.name} could not start: {why}")

    async def clock(self) -> Clock:
        """The clock by which it will record."""
        return Clock()

    def receive(self, event: Event) -> None:
        """It has told this event."""
        if isinstance(event, LastWords):
            self._words = event.text
        elif not isinstance(event, Ready):
            self._receive(self.name, event)
        elif not self._ready.done():
            self._ready.set_result(event)

    def receive_line(self, text: bytes | msgspec.Raw) -> None:
        """It has told this line. Raises NotUnderstood."""
        self.receive(event_of(text, self.name))

    def epitaph(self) -> str:
        """How it died, in a sentence."""
        code = self.ended.result()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        words = self.last_words()
        return f"{self.name} died: {how}" + (f": {words}" if words else "")

    async def kill(self) -> None:
        """Have it write its record, and kill itself in the same turn: nothing else of it is told goodbye."""
        self.send(Die())
        await self.ended


class LocalChild(Child):
    """A process of this one's; its stderr goes to the file `log`."""

    def __init__(self, name: str, log: Path, receive: Receive) -> None:
        super().__init__(name, receive)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def spawn(self) -> None:
        """Start the process."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *spawn.command("simulator.worlds.live.process"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=spawn.environment(),
                start_new_session=True,  # a terminal's Ctrl-C is for the conductor alone
                limit=1 << 24,
            )
        self.pid = self._process.pid
        self._reading = asyncio.ensure_future(self._read())

    def send(self, line: PartConfig | Command) -> None:
        """One line to its stdin."""
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(protocol.line(line))

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        refused = False
        try:
            while protocol.whole(line := await self._process.stdout.readline()):
                self.receive_line(line)
        except NotUnderstood as error:
            self._words, refused = str(error), True
            self._process.kill()
        code = await self._process.wait()
        if not self.ended.done():
            self.ended.set_result(3 if refused else code)

    def last_words(self) -> str:
        """Why it ended, by its own word; where it told nothing, the last line of its log."""
        if self._words:
            return self._words
        try:
            with self._log.open(errors="replace") as log:
                return next(iter(deque(log, maxlen=1)), "").strip()
        except OSError:
            return ""

    async def stop(self) -> None:
        """Close its stdin and wait for its end."""
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), _STOP_S)
        except TimeoutError:
            process.kill()
            await self.ended
        if self._reading is not None:
            await self._reading


Post = Callable[[PartOrder], None]
"""Takes what is to be done with a part to somebody who carries it there."""


class RemoteChild(Child):
    """A process of somebody's whom `post` reaches. Its events come back by `receive`, its host's clock by
    `receive_clock`, its end by `died`."""

    def __init__(self, name: str, receive: Receive, post: Post) -> None:
        super().__init__(name, receive)
        self._post, self._spawned = post, False
        self._clock: asyncio.Future[HostClock] | None = None

    async def spawn(self) -> None:
        """Have it started."""
        self._spawned = True
        self._post(PartOrder(self.name, "spawn"))

    def send(self, line: PartConfig | Command) -> None:
        """One line to its stdin."""
        if not self.ended.done():
            self._post(PartOrder(self.name, "line", msgspec.to_builtins(line)))

    async def clock(self) -> Clock:
        """Asked some times, and the quickest answer taken: what it was on the road is what is not known."""
        best = Clock(error_ns=1 << 62)
        for _ in range(_CLOCK_ASKED):
            self._clock = asyncio.get_running_loop().create_future()
            sent = time.monotonic_ns()
            self._post(PartOrder(self.name, "clock"))
            either: list[asyncio.Future[Any]] = [self._clock, self.ended]
            await asyncio.wait(either, timeout=_READY_S, return_when=asyncio.FIRST_COMPLETED)
            if not self._clock.done():
                raise PartDied(f"{self.name} could not start: {self.last_words() or 'its worker does not answer'}")
            clock, error = self._clock.result(), (time.monotonic_ns() - sent) // 2
            if error < best.error_ns:
                best = Clock(clock.host, clock.ns - sent - error, error)
        same = clock.boot == boot_id() and abs(best.offset_ns) <= best.error_ns  # a container may have its own
        return Clock() if same else best

    def receive_clock(self, clock: HostClock) -> None:
        """Its host's clock, as it was asked for."""
        if self._clock is not None and not self._clock.done():
            self._clock.set_result(clock)

    def died(self, code: int, words: str) -> None:
        """It has ended, and its record is here as far as there is any."""
        self._words = self._words or words
        if not self.ended.done():
            self.ended.set_result(code)

    async def stop(self) -> None:
        """Have its stdin closed and wait for its end, for a while."""
        if self._spawned and not self.ended.done():
            self._post(PartOrder(self.name, "close"))
            await asyncio.wait([self.ended], timeout=_REMOTE_STOP_S)
