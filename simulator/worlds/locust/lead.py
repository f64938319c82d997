"""The conductor as a process of Locust's: started with a test, heard, and waited for; the shards' lines pass through here."""

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
import orjson
from gevent import subprocess
from gevent.event import Event
from locust.env import Environment

from simulator.worlds.live import spawn
from simulator.worlds.locust import flags, statistics
from simulator.worlds.locust.history import History
from simulator.worlds.locust.lines import Lines
from simulator.worlds.locust.session import session_of

_LOG = logging.getLogger("fleetsim")
_STOP_S = 180.0  # what the record's end, its judgement and its report may take


class Lead:
    """One run after the other. `send(part, what)` reaches the worker that has this part; `tell(what)` all of them."""

    def __init__(
        self,
        environment: Environment,
        send: Callable[[str, dict[str, Any]], None],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._environment, self._send, self._tell = environment, send, tell
        self._before = Namespace(**vars(environment.parsed_options or Namespace()))
        self._process: Any = None
        self._lines: Any = None
        self._over = Event()
        self._traces: dict[str, Path] = {}  # where the record of each part goes
        self._records: dict[str, BinaryIO] = {}
        self._there: set[str] = set()  # parts that were started, and have not ended
        self._gone: set[str] = set()
        self._heard = {
            "begun": self._begun,
            "part": self._part,
            "steps": self._steps,
            "operate": self._operate,
            "tick": self._tick,
            "warning": self._warning,
        }
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
        if self.running:  # somebody stopped waiting for its judgement
            self._process.kill()
            self._over.wait()
        options = self._environment.parsed_options or Namespace()
        said = flags.words(options)
        said += [word for name, host in carried.items() for word in ("--carried", f"{name}={host}")]
        command = shlex.join(flags.repeated(sys.argv[1:], options, self._before))
        process = subprocess.Popen(  # while it starts others may have their turn
            spawn.command("simulator", "run", *said, "--led", str(shards), "--command", command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=spawn.environment(),
            start_new_session=True,  # a terminal's Ctrl-C is for Locust alone
        )
        self._process, self._lines, self._over = process, Lines(process.stdin), Event()
        self._traces, self._records, self._there, self._gone = {}, {}, set(), set()
        self.exit_code, self.facts, self.history, self.run = 3, {}, History(), self.run + 1
        gevent.spawn(self._read)
        gevent.spawn(self._complain)

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self._process is not None and not self._over.is_set()

    def finish(self, reason: str) -> None:
        """End the run, if one is going on, and wait until it is judged."""
        if self.running:
            self._write({"stop": reason})
            self._over.wait(_STOP_S)

    def lost(self, part: str, who: str) -> None:
        """A worker is gone, and its part with it."""
        if self.running and part not in self._gone:
            self._gone.add(part)
            _LOG.error("worker %s is gone, and %s with it", who, part)
            self._write({"part": part, "died": -9, "words": f"its worker {who} is gone"})

    # ---- from the workers

    def hear(self, what: dict[str, Any]) -> None:
        """What a part said, recorded, or how it ended; one of an earlier run has nothing to say to this one."""
        name = what["part"]
        if what.pop("run") != self.run:
            return
        if "said" in what:
            self._lines.put(b'{"part":"%s","said":%s}\n' % (name.encode(), what["said"].strip()))
        elif "record" in what:
            self._record(name, what["record"])
        else:
            if (record := self._records.pop(name, None)) is not None:
                record.close()
            if "died" in what:
                self._there.discard(name)
            self._write(what)

    def _record(self, name: str, piece: bytes) -> None:
        if name not in self._traces:
            return
        if name not in self._records:
            self._records[name] = self._traces[name].open("wb")
        self._records[name].write(piece)
        self._records[name].flush()

    # ---- to and from the conductor

    def _write(self, what: dict[str, Any]) -> None:
        self._lines.put(orjson.dumps(what) + b"\n")

    def _read(self) -> None:
        """Hear the conductor to its end."""
        for line in self._process.stdout:
            said = orjson.loads(line)
            self._heard.get(said.pop("event"), self._note)(said)
        code = self._process.wait()
        self.exit_code = code if code >= 0 else 4
        self._lines.close()
        for record in self._records.values():
            record.close()
        self._traces, self._records = {}, {}
        for part in self._there:  # of a conductor that was killed
            self._send(part, {"part": part, "do": "close"})
        session_of(self._environment).end()
        self._tell({"exit_code": self.exit_code})
        self._over.set()

    def _complain(self) -> None:
        for line in self._process.stderr:
            self.facts["complaint"] = text = line.decode(errors="replace").rstrip()
            _LOG.error("%s", text)

    def _begun(self, said: dict[str, Any]) -> None:
        self.facts |= said

    def _part(self, said: dict[str, Any]) -> None:
        if "trace" in (line := said.get("line", {})):
            self._traces[said["part"]] = Path(line["trace"])
        elif said["do"] == "spawn":
            self._there.add(said["part"])
        self._send(said["part"], {**said, "run": self.run})

    def _steps(self, said: dict[str, Any]) -> None:
        statistics.merge(self._environment.stats, said["steps"])

    def _tick(self, said: dict[str, Any]) -> None:
        self.history.tick(said)
        self._note(said)

    def _operate(self, said: dict[str, Any]) -> None:
        self._environment.host = said["url"]  # what Locust's page shows as the host under test
        session_of(self._environment).offer(said)
        self._tell({"operate": said})

    def _warning(self, said: dict[str, Any]) -> None:
        _LOG.warning("%s: %s", said["of"], said["text"])

    def _note(self, said: dict[str, Any]) -> None:
        self.facts |= {**said, "at": time.time()}
