"""The conductor as a process of Locust's: started with a test, read, and waited for. The lines to and from the parts that
workers carry pass through here."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import gevent
import msgspec
from gevent import subprocess
from gevent.event import Event
from locust.env import Environment

from simulator.worlds.live import leading, protocol, spawn
from simulator.worlds.live.protocol import NotUnderstood
from simulator.worlds.locust import arguments, statistics
from simulator.worlds.locust.history import History
from simulator.worlds.locust.lines import Lines
from simulator.worlds.locust.waiting import waiting_of

_LOG = logging.getLogger("fleetsim")
_STOP_S = 180.0  # what the record's end, its judgement and its report may take


class _Conductor:
    """The conductor's process, which `over` says has ended and been heard to its end."""

    def __init__(self, words: list[str]) -> None:
        self.process: Any = subprocess.Popen(  # while it starts others may have their turn
            spawn.command("simulator", *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=spawn.environment(),
            start_new_session=True,  # a terminal's Ctrl-C is for Locust alone
        )
        self.stdin = Lines(self.process.stdin)
        self.over = Event()


class _Records:
    """The records of parts that workers carry, written as they come, each to the file that its configuration names."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}
        self._files: dict[str, BinaryIO] = {}

    def expect(self, part: str, path: Path) -> None:
        """This part's record goes there from now on."""
        self._paths[part] = path

    def write(self, part: str, piece: bytes) -> None:
        """One more piece; nothing of a part that is not expected."""
        if part not in self._paths:
            return
        if part not in self._files:
            self._files[part] = self._paths[part].open("wb")
        self._files[part].write(piece)
        self._files[part].flush()

    def close(self, part: str) -> None:
        """Of this part there will be no more."""
        if (file := self._files.pop(part, None)) is not None:
            file.close()

    def close_all(self) -> None:
        """The run is over."""
        for part in (*self._files,):
            self.close(part)
        self._paths.clear()


class Lead:
    """Leads one run after the other. `send` reaches the worker that has the order's part; `tell` all of them."""

    def __init__(
        self,
        environment: Environment,
        send: Callable[[leading.PartOrder], None],
        tell: Callable[[leading.Operate | leading.Over], None],
    ) -> None:
        self._environment, self._send, self._tell = environment, send, tell
        self._before = Namespace(**vars(environment.parsed_options or Namespace()))
        self._conductor: _Conductor | None = None
        self._records = _Records()
        self._there: set[str] = set()  # parts that were started, and have not ended
        self._gone: set[str] = set()  # parts whose workers are gone
        self.exit_code = 3
        """By the conventions of `fleetsim run`; 3 until something was started."""
        self.facts: dict[str, Any] = {}
        """What is known of the run, for whoever shows it: scenario, stage, tick, verdict, path, text, complaint."""
        self.history = History()
        self.run = 0
        """The number of the run, from 1."""

    # ---- from Locust

    def begin(self, shards: int, carried: Mapping[str, str]) -> None:
        """Start the conductor of a run, so many shards of which workers start, and these servers, at these addresses."""
        if self._conductor is not None and self.running:  # somebody stopped waiting for its judgement
            self._conductor.process.kill()
            self._conductor.over.wait()
        options = self._environment.parsed_options or Namespace()
        words = arguments.words(options)
        words += [word for name, host in carried.items() for word in ("--carried", f"{name}={host}")]
        command = shlex.join(arguments.repeated(sys.argv[1:], options, self._before))
        self._conductor = _Conductor(["run", *words, "--led", str(shards), "--command", command])
        self._records, self._there, self._gone = _Records(), set(), set()
        self.exit_code, self.facts, self.history, self.run = 3, {}, History(), self.run + 1
        gevent.spawn(self._read, self._conductor)
        gevent.spawn(self._complain, self._conductor)

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self._conductor is not None and not self._conductor.over.is_set()

    def finish(self, reason: str) -> None:
        """End the run, if one is going on, and wait until it is judged."""
        if self._conductor is not None and self.running:
            self._write(leading.LeaderLine(stop=reason))
            self._conductor.over.wait(_STOP_S)

    def lost(self, part: str, who: str) -> None:
        """A worker is gone, and its part with it."""
        if self.running and part not in self._gone:
            self._gone.add(part)
            _LOG.error("worker %s is gone, and %s with it", who, part)
            self._write(leading.LeaderLine(part=part, died=-9, words=f"its worker {who} is gone"))

    # ---- from the workers

    def receive(self, news: leading.PartNews) -> None:
        """What a part told, recorded, or how it ended; news of a part of an earlier run are dropped."""
        if news.run != self.run:
            return
        if news.said is not None:
            self._write(leading.LeaderLine(part=news.part, said=msgspec.Raw(news.said.strip())))
        elif news.record is not None:
            self._records.write(news.part, news.record)
        else:
            self._records.close(news.part)
            if news.died is not None:
                self._there.discard(news.part)
            self._write(leading.LeaderLine(part=news.part, clock=news.clock, died=news.died, words=news.words))

    # ---- to and from the conductor

    def _write(self, line: leading.LeaderLine) -> None:
        if self._conductor is not None:
            self._conductor.stdin.put(protocol.line(line))

    def _read(self, conductor: _Conductor) -> None:
        """Read the conductor's lines to their end."""
        try:
            for line in filter(protocol.whole, conductor.process.stdout):
                self._hear(leading.event_of(line))
        except NotUnderstood as error:
            self._show_complaint(str(error))
            conductor.process.kill()
        code = conductor.process.wait()
        self.exit_code = code if code >= 0 else 4
        conductor.stdin.close()
        self._records.close_all()
        for part in self._there:  # of a conductor that was killed
            self._send(leading.PartOrder(part, "close"))
        waiting_of(self._environment).end()
        self._tell(leading.Over(self.exit_code))
        conductor.over.set()

    def _complain(self, conductor: _Conductor) -> None:
        for line in conductor.process.stderr:
            self._show_complaint(line.decode(errors="replace").rstrip())

    def _show_complaint(self, text: str) -> None:
        self.facts["complaint"] = text
        _LOG.error("%s", text)

    def _hear(self, event: leading.ToLeader) -> None:
        if isinstance(event, leading.PartOrder):
            self._order(event)
        elif isinstance(event, leading.StepsCounted):
            statistics.merge(self._environment.stats, event.steps)
        elif isinstance(event, leading.Operate):
            self._environment.host = event.url  # what Locust's page shows as the host under test
            waiting_of(self._environment).offer(event)
            self._tell(event)
        elif isinstance(event, leading.PartWarned):
            _LOG.warning("%s: %s", event.of, event.text)
        else:
            if isinstance(event, leading.Tick):
                self.history.tick(event)
            facts = leading.plain(event)
            del facts["event"]
            self.facts |= {**facts, "at": time.time()}

    def _order(self, order: leading.PartOrder) -> None:
        if order.line is not None and "trace" in order.line:
            self._records.expect(order.part, Path(order.line["trace"]))
        elif order.do == "spawn":
            self._there.add(order.part)
        order.run = self.run
        self._send(order)
