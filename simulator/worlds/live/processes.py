"""The conductor's end of a part: has it started, hears its lines, notices its death, stops it. Whether the part is a
process of this one's, or of somebody who carries the lines to it and fro, makes no difference."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from simulator.model.errors import PartDied, ScenarioError
from simulator.worlds.live import spawn

_READY_S = 60.0
_STOP_S = 10.0
_CLOCK_ASKED = 9
_REMOTE_STOP_S = 60.0  # its record comes over the same road


def boot_id() -> str:
    """What tells one boot of one host from any other; one of them has one CLOCK_MONOTONIC."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


Hear = Callable[[str, dict[str, Any]], None]
"""Takes a part's name and what it said."""


class Clock(NamedTuple):
    """What another host's CLOCK_MONOTONIC is ahead of ours, and by how much that may be wrong; no host: it is ours."""

    host: str = ""
    offset_ns: int = 0
    error_ns: int = 0


class Child(ABC):
    """One part. What it says is handed to `hear` as it comes; `ended` is its exit code."""

    pid = 0
    """The process's number; 0 where it is none of this host's, or not there yet."""

    def __init__(self, name: str, hear: Hear) -> None:
        self.name, self._hear, self._words = name, hear, ""
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()

    @abstractmethod
    async def spawn(self) -> None:
        """Start the process, which gets ready to be configured: so that all parts load at the same time."""

    @abstractmethod
    def send(self, line: dict[str, Any]) -> None:
        """One line to its stdin; nothing once it is gone."""

    def last_words(self) -> str:
        """What it said of its end."""
        return self._words

    @abstractmethod
    async def stop(self) -> None:
        """Close its stdin and wait for its end; kill it when that does not come. Safe to call twice."""

    async def start(self, config: dict[str, Any]) -> dict[str, Any]:
        """Configure it and wait until it is ready. Raises ScenarioError with its own words when it cannot start."""
        self.send(config)
        either: list[asyncio.Future[Any]] = [self._ready, self.ended]
        done, _ = await asyncio.wait(either, timeout=_READY_S, return_when=asyncio.FIRST_COMPLETED)
        if self._ready in done:
            return self._ready.result()
        said = self.last_words() or ("it ended" if done else f"not ready within {_READY_S:g} s")
        if done and self.ended.result() == 3:
            raise ScenarioError(said)
        raise PartDied(f"{self.name} could not start: {said}")

    async def clock(self) -> Clock:
        """The clock by which it will record."""
        return Clock()

    def heard(self, event: dict[str, Any]) -> None:
        """It said this."""
        if event["event"] == "last words":
            self._words = event["text"]
        elif event["event"] != "ready":
            self._hear(self.name, event)
        elif not self._ready.done():
            self._ready.set_result(event)

    def epitaph(self) -> str:
        """How it died, in a sentence."""
        code = self.ended.result()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        words = self.last_words()
        return f"{self.name} died: {how}" + (f": {words}" if words else "")

    async def kill(self) -> None:
        """Have it write its record, and kill itself in the same turn: nothing else of it is told goodbye."""
        self.send({"command": "die"})
        await self.ended


class LocalChild(Child):
    """A process of this one's; its stderr goes to the file `log`."""

    def __init__(self, name: str, log: Path, hear: Hear) -> None:
        super().__init__(name, hear)
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

    def send(self, line: dict[str, Any]) -> None:
        """One line to its stdin."""
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(orjson.dumps(line) + b"\n")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.heard(orjson.loads(line))
        code = await self._process.wait()
        if not self.ended.done():
            self.ended.set_result(code)

    def last_words(self) -> str:
        """What it said of its end; where it could not, the last line of its log."""
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


Post = Callable[[str, dict[str, Any]], None]
"""Takes a part's name and what is to be done with it, to somebody who carries it there."""


class RemoteChild(Child):
    """A process of somebody's whom `post` reaches: `do` is spawn or close, `line` is for its stdin. What it said comes
    back by `heard`, its end by `died`."""

    def __init__(self, name: str, hear: Hear, post: Post) -> None:
        super().__init__(name, hear)
        self._post, self._spawned = post, False
        self._told: asyncio.Future[dict[str, Any]] | None = None

    async def spawn(self) -> None:
        """Have it started."""
        self._spawned = True
        self._post(self.name, {"do": "spawn"})

    def send(self, line: dict[str, Any]) -> None:
        """One line to its stdin."""
        if not self.ended.done():
            self._post(self.name, {"do": "line", "line": line})

    async def clock(self) -> Clock:
        """Asked some times, and the quickest answer taken: what it was on the road is what is not known."""
        best, said = Clock(error_ns=1 << 62), dict[str, Any]()
        for _ in range(_CLOCK_ASKED):
            self._told = asyncio.get_running_loop().create_future()
            sent = time.monotonic_ns()
            self._post(self.name, {"do": "clock"})
            either: list[asyncio.Future[Any]] = [self._told, self.ended]
            await asyncio.wait(either, timeout=_READY_S, return_when=asyncio.FIRST_COMPLETED)
            if not self._told.done():
                raise PartDied(f"{self.name} could not start: {self.last_words() or 'its worker does not answer'}")
            said, error = self._told.result(), (time.monotonic_ns() - sent) // 2
            if error < best.error_ns:
                best = Clock(said["host"], said["ns"] - sent - error, error)
        ours = said["boot"] == boot_id() and abs(best.offset_ns) <= best.error_ns  # a container may have its own
        return Clock() if ours else best

    def told_clock(self, said: dict[str, Any]) -> None:
        """Its host's clock, as it was asked for."""
        if self._told is not None and not self._told.done():
            self._told.set_result(said)

    def died(self, code: int, words: str) -> None:
        """It has ended, and its record is here as far as there is any."""
        self._words = self._words or words
        if not self.ended.done():
            self.ended.set_result(code)

    async def stop(self) -> None:
        """Have its stdin closed and wait for its end, for a while."""
        if self._spawned and not self.ended.done():
            self._post(self.name, {"do": "close"})
            await asyncio.wait([self.ended], timeout=_REMOTE_STOP_S)
