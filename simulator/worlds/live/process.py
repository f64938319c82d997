"""One part of a live run as a process of its own: `python -m simulator.worlds.live.process`.

The conductor starts it and holds the other ends of its stdin and stdout, on which the lines of `protocol` travel. The
process first loads what all roles need, while the other parts do the same, and then waits for its configuration, which names
its role. From then on four things go on at once: the role's work, reading commands, writing the record every half
second, and looking after its own health. The part ends when one of them does: the work fails, or stdin ends. So no part
outlives its conductor, whatever ended that. Whatever ends the part, it writes its record first; only `die` stands for a
`kill -9`. Exit code 0: stdin ended; 3: it could not start; 4: it failed. Why is in its log and in its `last words`.
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
from pathlib import Path
from typing import Any

import pyarrow as pa

from simulator.links.loop import run_live
from simulator.model.errors import FleetsimError, PartDied
from simulator.trace.recorder import Recorder, StreamFile
from simulator.worlds.live.part import Part, Role, Tally, Watched, tell
from simulator.worlds.live.protocol import (
    AskPhases,
    Die,
    Go,
    LastWords,
    PartConfig,
    SwitchFault,
    Warned,
    command_of,
    config_of,
    whole,
)
from simulator.worlds.nopandas import hide_pandas

_FLUSH_S = 0.5


async def _main(config: PartConfig, role: Role[Any]) -> None:
    with StreamFile(Path(config.trace)) as stream:
        tally, watched = Tally(), Watched(config.began_s) if config.steps else None

        def sink(batch: pa.RecordBatch) -> None:
            stream(batch)
            tally(batch)
            if watched is not None:
                watched(batch)

        recorder = Recorder(time.monotonic_ns, sink, shard=config.shard, zero=config.zero_ns, per_us=1000)
        part = Part(config, recorder, tally, watched)
        logging.getLogger("fleetsim").addHandler(_Warnings())
        work = asyncio.ensure_future(role(part))
        chores = [asyncio.ensure_future(_flush(part)), asyncio.ensure_future(part.health.watch())]
        commands = asyncio.ensure_future(_obey(part))
        try:
            await asyncio.wait([work, commands, *chores], return_when=asyncio.FIRST_COMPLETED)
            for task in (work, commands, *chores):
                if task.done():
                    task.result()
        finally:
            for task in (work, commands, *chores):
                task.cancel()
            await asyncio.gather(work, commands, *chores, return_exceptions=True)
            part.flush()


class _Warnings(logging.Handler):
    """Writes warnings to the part's log, and tells them to the conductor, which may show them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """One warning."""
        text = record.getMessage()
        _log(text)
        tell(Warned(text))


async def _obey(part: Part[Any]) -> None:
    """The conductor's commands, until it closes our stdin."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while whole(line := await reader.readline()):
        command = command_of(line)
        if isinstance(command, Go):
            part.go.set()
        elif isinstance(command, SwitchFault):
            part.faults.put_nowait(command)
        elif isinstance(command, AskPhases):
            part.tell_phases(command.things)
        elif isinstance(command, Die):
            part.flush()
            os.kill(os.getpid(), signal.SIGKILL)


async def _flush(part: Part[Any]) -> None:
    while True:
        await asyncio.sleep(_FLUSH_S)
        part.flush()


def _log(text: str) -> None:
    """A line in the part's log, if its disk has room for one."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="replace") + b"\n")  # what sys.stderr cannot write, it tries again at the end


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
        config = config_of(line)
        run_live(lambda: _main(config, ROLES[type(config)]))
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
        tell(LastWords(words))
    return code


if __name__ == "__main__":
    main()
