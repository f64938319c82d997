"""Lines to another process's stdin, from greenlets that have no time to wait."""

from __future__ import annotations

import contextlib
from typing import BinaryIO

import gevent
from gevent.queue import SimpleQueue


class Lines:
    """Writes them in their order, from a greenlet of its own: a pipe may be full, and two who wait for one and the same
    pipe get in each other's way. What nobody reads any more is let go."""

    def __init__(self, stdin: BinaryIO) -> None:
        self._stdin = stdin
        self._waiting: SimpleQueue = SimpleQueue()
        gevent.spawn(self._write)

    def put(self, line: bytes) -> None:
        """One more, with its end."""
        self._waiting.put(line)

    def close(self) -> None:
        """That was the last; the process is told so once it has been written."""
        self._waiting.put(b"")

    def _write(self) -> None:
        while line := self._waiting.get():
            with contextlib.suppress(OSError, ValueError):
                self._stdin.write(line)
                self._stdin.flush()
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()
