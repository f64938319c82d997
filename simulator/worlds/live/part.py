"""One part of a live run as a process of its own: `python -m simulator.worlds.part`, configured by a line on stdin.

The conductor holds the other end of stdin and stdout: JSON lines go both ways, and the end of stdin ends the part, so
that no part outlives its conductor, whatever ended that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from simulator.links.loop import run_live
from simulator.model.errors import FleetsimError, PartDied
from simulator.model.scenario import Scenario
from simulator.trace.recorder import Recorder, StreamFile
from simulator.worlds.live.health import Health
from simulator.worlds.live.steps import Steps
from simulator.worlds.live.underway import Underway
from simulator.worlds.nopandas import hide_pandas

_FLUSH_S = 0.5


class Part:
    """What every role is given: its configuration, the scenario, the record, and the line to the conductor."""

    def __init__(
        self, config: dict[str, Any], recorder: Recorder, tally: Tally, watched: Watched | None = None
    ) -> None:
        self.config, self.recorder, self.record = config, recorder, recorder.record
        self._tally, self._watched = tally, watched
        self.scenario = Scenario.model_validate(config["scenario"])
        self.epoch: float = config["epoch"]
        self.health = Health(config["name"], self.record, self.tell)
        self.go = asyncio.Event()
        self.switch: Callable[[int, bool], None] = lambda nth, on: None  # hears of faults

    def tell(self, event: str, **facts: Any) -> None:
        """One line to the conductor."""
        _tell(event, **facts)

    def flush(self) -> None:
        """Write what was recorded, and tell the conductor what it counts."""
        self.recorder.flush()
        self.tell("progress", **self._tally.take())
        if self._watched is not None:
            if took := self._watched.steps.take():
                self.tell("steps", **took)
            self.tell("underway", **self._watched.underway.now())

    def where(self, things: list[str]) -> None:
        """Tell the conductor in which phases these are."""
        if self._watched is not None:
            self.tell("where", phases=self._watched.underway.where(things))


def _tell(event: str, **facts: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps({"event": event, **facts}) + b"\n")
    sys.stdout.buffer.flush()


def _log(text: str) -> None:
    """A line in the part's log, if its disk has room for one."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="replace") + b"\n")  # what sys.stderr cannot write, it tries again at the end


class Tally:
    """A sink that counts events since the last look."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __call__(self, batch: pa.RecordBatch) -> None:
        """More has happened."""
        from simulator.worlds.progress import count

        self._counts.update(count(batch))

    def take(self) -> dict[str, int]:
        """The counts, once."""
        counts, self._counts = self._counts, Counter()
        return counts


class Watched:
    """A sink that follows what somebody watches in detail; `began` is the Unix time at which the record's clock began."""

    def __init__(self, began: float) -> None:
        self.steps, self.underway = Steps(began), Underway()

    def __call__(self, batch: pa.RecordBatch) -> None:
        """More has happened."""
        self.steps(batch)
        self.underway(batch)


Role = Callable[[Part], Awaitable[None]]


async def _main(config: dict[str, Any], roles: dict[str, Role]) -> None:
    zero_ns: int = config["zero_ns"]
    with StreamFile(Path(config["trace"])) as stream:
        tally, watched = Tally(), Watched(config["epoch"] + zero_ns / 1e9) if config["steps"] else None

        def sink(batch: pa.RecordBatch) -> None:
            stream(batch)
            tally(batch)
            if watched is not None:
                watched(batch)

        recorder = Recorder(time.monotonic_ns, sink, shard=config["shard"], zero=zero_ns, per_us=1000)
        part = Part(config, recorder, tally, watched)
        logging.getLogger("fleetsim").addHandler(_Warnings(part))
        work = asyncio.ensure_future(roles[config["role"]](part))
        chores = [asyncio.ensure_future(_flush(part)), asyncio.ensure_future(part.health.watch())]
        commands = asyncio.ensure_future(_obey(part))
        try:
            await asyncio.wait([work, commands, *chores], return_when=asyncio.FIRST_COMPLETED)
            for task in (work, *chores):
                if task.done():
                    task.result()
        finally:
            for task in (work, commands, *chores):
                task.cancel()
            await asyncio.gather(work, commands, *chores, return_exceptions=True)
            part.flush()


class _Warnings(logging.Handler):
    """Says warnings in the part's log, and tells the conductor, who may show them."""

    def __init__(self, part: Part) -> None:
        super().__init__(logging.WARNING)
        self._part = part

    def emit(self, record: logging.LogRecord) -> None:
        """One warning."""
        text = record.getMessage()
        _log(text)
        self._part.tell("warning", text=text)


async def _obey(part: Part) -> None:
    """The conductor's commands, until it closes our stdin."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        said = orjson.loads(line)
        if said["command"] == "go":
            part.go.set()
        elif said["command"] == "fault":
            part.switch(said["nth"], said["on"])
        elif said["command"] == "where":
            part.where(said["things"])
        elif said["command"] == "die":
            part.flush()
            os.kill(os.getpid(), signal.SIGKILL)


async def _flush(part: Part) -> None:
    while True:
        await asyncio.sleep(_FLUSH_S)
        part.flush()


def main() -> None:
    """Read the configuration, be that part until stdin ends. Exit code 3: could not start; 4: failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the conductor decides when a run ends
    hide_pandas()
    from simulator.worlds.live.roles import ROLES  # loads what takes long, while others do the same

    line = b""
    while not line.endswith(b"\n"):  # unbuffered: what follows the line belongs to the loop
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)
        line += byte
    try:
        run_live(lambda: _main(orjson.loads(line), ROLES))
    except Exception as error:
        sys.exit(_last_words(error))


def _last_words(error: Exception) -> int:
    """Say in a sentence what ended the part, as far as it is known what that was; the exit code."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FleetsimError):
        words, code = str(error), 4 if isinstance(error, PartDied) else 3
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        words, code = f"{os.strerror(error.errno)}: the record cannot be written", 4
    elif isinstance(error, BrokenPipeError):
        return 0  # the conductor is gone, and the end of stdin was to tell that
    else:
        raise error
    _log(words)
    with contextlib.suppress(BrokenPipeError):
        _tell("last words", text=words)
    return code


if __name__ == "__main__":
    main()
