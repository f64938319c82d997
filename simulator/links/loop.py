"""The event loop of the live world: uvloop, with a clock that shows microseconds.

`run_live` runs a coroutine to its end in such a loop. The processes of a live run start with it. The loop's time is
CLOCK_MONOTONIC in seconds, the same clock in all processes of a host, so that their events can be put in order.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

_T = TypeVar("_T")


class LiveLoop(uvloop.Loop):
    """uvloop with another clock. Its own one stands still within a turn and shows whole milliseconds, which is too coarse
    to measure latencies.

    Timers still have uvloop's precision: they may ring up to a millisecond early. A callback that must not begin early
    has to look at the time and wait again.
    """

    time = staticmethod(time.monotonic)  # CLOCK_MONOTONIC in seconds: one clock for all processes of a host


def run_live(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run `main()` to its end in a new LiveLoop and return its result. Garbage is collected rarely from then on, because the
    objects of a fleet live long."""
    gc.set_threshold(100_000, 50, 100)  # the collector is about half of a client's cost at 5,000 connections
    with asyncio.Runner(loop_factory=LiveLoop) as runner:
        return runner.run(main())
