"""The parts of a run that a worker carries: it starts their processes, and passes on, through Locust's channel, the lines
to and from them, and their records as they grow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import gevent
import orjson
from gevent import subprocess

from simulator.worlds.live import protocol, spawn
from simulator.worlds.live.leading import HostClock, PartNews, PartOrder
from simulator.worlds.locust.lines import Lines

_RECORD_S = 1.0  # between two looks at what was recorded
_PIECE = 1 << 19
_END_S = 10.0

Send = Callable[[PartNews], None]
"""Takes news of a part to the master."""


class CarriedParts:
    """The parts that this worker carries, by name; `sources` are its host's addresses for the devices to bind, where it
    named some."""

    def __init__(self, send: Send, sources: Sequence[str] = ()) -> None:
        self._send, self._sources = send, tuple(sources)
        self._parts: dict[str, _CarriedPart] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def obey(self, order: PartOrder) -> None:
        """Do what the conductor wants done with a part."""
        name = order.part
        if order.do == "spawn":
            self._parts[name] = _CarriedPart(name, order.run, self._send)
        elif order.do == "clock":
            self._send(PartNews(name, order.run, clock=HostClock.now()))
        elif (part := self._parts.get(name)) is not None:
            if order.do == "line" and order.line is not None:
                part.write(here(order.line, self._sources))
            else:
                part.close()

    def close(self) -> None:
        """End them all: the conductor is gone, or nobody needs them any more."""
        for part in self._parts.values():
            part.close()


def here(line: dict[str, Any], sources: Sequence[str]) -> dict[str, Any]:
    """What a part is told, with this host's own source addresses where they were named."""
    return {**line, "sources": [*sources]} if sources and "sources" in line else line


class _CarriedPart:
    def __init__(self, name: str, run: int, send: Send) -> None:
        self._send, self._name, self._run = send, name, run
        self._scratch = tempfile.TemporaryDirectory(prefix="fleetsim-")
        self._trace = Path(self._scratch.name) / "trace.arrow"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        self._process = subprocess.Popen(
            spawn.command("simulator.worlds.live.process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=spawn.environment(),
            start_new_session=True,
        )
        self._lines = Lines(self._process.stdin)
        gevent.spawn(self._live)

    def write(self, line: dict[str, Any]) -> None:
        """One line to its stdin; nothing once it is gone. Its record goes to this worker's own disk."""
        if "trace" in line:
            line = {**line, "trace": str(self._trace)}
        self._lines.put(orjson.dumps(line) + b"\n")

    def close(self) -> None:
        """Close its stdin, which ends it; kill it when that does not."""
        self._lines.close()
        gevent.spawn_later(_END_S, self._kill)

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def _live(self) -> None:
        """Pass on what it tells and records, until it has ended and all is passed on."""
        carrier = gevent.spawn(self._carry)
        for line in filter(protocol.whole, self._process.stdout):
            self._send(PartNews(self._name, self._run, said=line))
        code = self._process.wait()
        self._lines.close()
        carrier.join()
        self._send(PartNews(self._name, self._run, died=code, words=self._last_words()))
        self._scratch.cleanup()

    def _last_words(self) -> str:
        with self._log as log:
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def _carry(self) -> None:
        while not self._trace.exists() and self._process.poll() is None:
            gevent.sleep(_RECORD_S / 10)
        if not self._trace.exists():
            return
        with self._trace.open("rb") as trace:
            self._scratch.cleanup()  # both ends have it open: nothing stays behind whatever ends this process
            while self._process.poll() is None:
                self._pour(trace)
                gevent.sleep(_RECORD_S)
            self._pour(trace)

    def _pour(self, trace: BinaryIO) -> None:
        while piece := trace.read(_PIECE):
            self._send(PartNews(self._name, self._run, record=piece))
