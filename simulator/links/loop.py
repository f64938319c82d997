"""The live world's event loop: uvloop, with a clock that shows microseconds."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

_T = TypeVar("_T")


class LiveLoop(uvloop.Loop):
    """uvloop, whose own clock stands still within a turn and shows whole milliseconds, too coarse for latencies.

    Timers keep uvloop's millisecond: they may ring that much early, and who must not begin early looks again.
    """

    time = staticmethod(time.monotonic)  # CLOCK_MONOTONIC in seconds: one clock for all processes of a host


def run_live(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run `main()` on a fresh LiveLoop, to its end; garbage is collected rarely, for a fleet is long-lived objects."""
    gc.set_threshold(100_000, 50, 100)  # the collector is about half of a client's cost at 5,000 connections
    with asyncio.Runner(loop_factory=LiveLoop) as runner:
        return runner.run(main())
