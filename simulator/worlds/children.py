"""The conductor's end of a part: starts the process, hears its lines, notices its death, stops it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from simulator.model.errors import PartDied, ScenarioError

_READY_S = 60.0
_STOP_S = 10.0


class Child:
    """One part's process. `events` are handed to `hear(name, event)` as they come; `facts` are those of `ready`."""

    def __init__(self, name: str, log: Path, hear: Callable[[str, dict[str, Any]], None]) -> None:
        self.name, self._log, self._hear = name, log, hear
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()

    @property
    def pid(self) -> int:
        """The process's number; 0 before it was started."""
        return self._process.pid if self._process else 0

    async def spawn(self) -> None:
        """Start the process, which gets ready to be configured: so that all parts load at the same time."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "simulator.worlds.part",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                start_new_session=True,  # a terminal's Ctrl-C is for the conductor alone
                limit=1 << 24,
            )
        self._reading = asyncio.ensure_future(self._read())

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

    def send(self, line: dict[str, Any]) -> None:
        """One line to its stdin; nothing once it is gone."""
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(orjson.dumps(line) + b"\n")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            event = orjson.loads(line)
            if event["event"] == "ready":
                if not self._ready.done():
                    self._ready.set_result(event)
            else:
                self._hear(self.name, event)
        code = await self._process.wait()
        if not self.ended.done():
            self.ended.set_result(code)

    def last_words(self) -> str:
        """The last line it wrote to stderr."""
        try:
            with self._log.open(errors="replace") as log:
                return next(iter(deque(log, maxlen=1)), "").strip()
        except OSError:
            return ""

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

    async def stop(self) -> None:
        """Close its stdin and wait for its end; kill it when that does not come. Safe to call twice."""
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
