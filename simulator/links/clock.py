"""Virtual time: an event loop that sleeps by moving its clock.

When nothing is ready, the clock jumps to the next timer; an hour of fleet time takes as long as its events do. Time is counted
in whole microseconds from 0, so that sums are exact, and timers of one moment ring in the order in which they were set. What
would make two runs differ, or wait for the real world (sockets, threads, subprocesses, signals), is refused by name. If
nothing is ready and no timer is left, the run can never go on: that is a Deadlock."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

from simulator.model.errors import FleetsimError, NotSimulated

T = TypeVar("T")


class Deadlock(FleetsimError):
    """Nothing is ready, no timer is left, and the main task has not finished."""


class TimeLimit(FleetsimError):
    """The clock reached its limit before the main task finished."""


class VirtualTask(asyncio.Task[Any]):
    """A task whose hash is its ordinal, so that sets of tasks iterate in the same order on every run."""

    def __init__(self, ordinal: int, coro: Any, loop: Any, name: Any, context: Any) -> None:
        self.ordinal = ordinal  # before asyncio puts the task into a set
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.ordinal


class Call:
    """A callback in line. Without a context of its own it runs in the loop's: a context costs as much as the call."""

    __slots__ = ("args", "callback", "context")

    def __init__(self, callback: Callable[..., object], args: Any, context: contextvars.Context | None) -> None:
        self.callback: Callable[..., object] | None = callback  # None once it was called or cancelled
        self.args, self.context = args, context

    def cancel(self) -> None:
        """Take it out of the line."""
        self.callback = self.args = None


class Timer(Call):
    """A callback at its time."""

    __slots__ = ("_loop",)

    def __init__(
        self, callback: Callable[..., object], args: Any, context: contextvars.Context | None, loop: VirtualLoop
    ) -> None:
        self.callback = callback
        self.args, self.context, self._loop = args, context, loop

    def cancel(self) -> None:
        """Take it out of the line; nothing once it has rung."""
        if self.callback is not None:
            self.callback = self.args = None
            self._loop.forget_cancelled()


class VirtualLoop:
    """Runs coroutines in virtual time. The clock starts at 0; timers of one instant fire in the order they were set.

    Everything real (threads, sockets, processes, signals) is refused with NotSimulated.
    """

    def __init__(self) -> None:
        self.now_us = 0
        self._self = cast("asyncio.AbstractEventLoop", self)  # asyncio asks for all of it
        self._ready: deque[Call] = deque()
        self._timers: list[tuple[int, int, Timer]] = []
        self._ticks = itertools.count()
        self._ordinals = itertools.count(1)
        self._failures: list[dict[str, Any]] = []
        self._cancelled = 0  # timers that have not surfaced yet
        self._running = self._closed = False
        self.create_future: Callable[[], asyncio.Future[Any]] = functools.partial(asyncio.Future, loop=self._self)

    # ---- time

    def time(self) -> float:
        """Seconds since the loop was made, a whole number of microseconds."""
        return self.now_us / 1e6

    # ---- what asyncio asks of a loop

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """Call it after what is ready now."""
        call = Call(callback, args, context)
        self._ready.append(call)
        return call

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Timer:
        """Call it in `delay` seconds."""
        delay_us = round(delay * 1e6)
        if delay_us <= 0:  # any wait takes time: who waits for a float's last bit would wait for ever
            delay_us = 1 if delay > 0 else 0
        return self._at_us(self.now_us + delay_us, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Timer:
        """Call it when the clock says `when`."""
        when_us = round(when * 1e6)
        if when_us / 1e6 < when:  # never early: who waits for `when` would wait again, and time would stand still
            when_us += 1
        return self._at_us(when_us if when_us > self.now_us else self.now_us, callback, args, context)

    def _at_us(
        self, when_us: int, callback: Callable[..., object], args: Any, context: contextvars.Context | None
    ) -> Timer:
        timer = Timer(callback, args, context, self)
        heapq.heappush(self._timers, (when_us, next(self._ticks), timer))
        return timer

    def forget_cancelled(self) -> None:
        """A timer was cancelled: such are dropped when they surface, or all at once when they are the greater part."""
        self._cancelled += 1
        if self._cancelled > 1000 and self._cancelled * 2 > len(self._timers):
            self._timers = [t for t in self._timers if t[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """A task, numbered in the order of creation."""
        ordinal = next(self._ordinals)
        return VirtualTask(ordinal, coro, self._self, name or f"task {ordinal}", context)

    def _tasks(self) -> list[asyncio.Task[Any]]:
        """Those that are not done, in the order of creation."""
        return sorted(asyncio.all_tasks(self._self), key=hash)

    def get_debug(self) -> bool:
        """Never in debug mode."""
        return False

    def is_running(self) -> bool:
        """Whether the loop runs."""
        return self._running

    def is_closed(self) -> bool:
        """Whether the loop is closed."""
        return self._closed

    def close(self) -> None:
        """Let go of everything."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody awaited; `run` raises it at the end."""
        self._failures.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """The same."""
        self._failures.append(context)

    async def shutdown_asyncgens(self) -> None:
        """Async generators are closed by those who iterate them."""

    # ---- running

    def run(self, main: Coroutine[Any, Any, T], *, until_s: float | None = None) -> T:
        """Run `main` to its end and return its result; raises Deadlock or TimeLimit."""
        limit_us = None if until_s is None else round(until_s * 1e6)
        task = self.create_task(main, name="main")
        asyncio.events._set_running_loop(self._self)
        self._running = True
        try:
            self._turn(task, limit_us)
        finally:
            self._finish()
            self._running = False
            asyncio.events._set_running_loop(None)
            self.close()
        for failure in self._failures:
            raise failure.get("exception") or RuntimeError(failure.get("message"))
        return task.result()

    def _turn(self, main: asyncio.Task[Any], limit_us: int | None) -> None:
        ready, pop = self._ready, heapq.heappop
        while True:
            self._run_ready()
            if main.done():
                return
            timers = self._timers
            while timers and timers[0][2].callback is None:
                pop(timers)
                self._cancelled -= 1
            if not timers:
                raise Deadlock(f"nothing can happen any more; waiting: {self._waiting()}")
            now_us = timers[0][0]
            if limit_us is not None and now_us > limit_us:
                raise TimeLimit(f"not finished after {limit_us / 1e6:g} s of virtual time; waiting: {self._waiting()}")
            self.now_us = now_us
            while timers and timers[0][0] == now_us:
                ready.append(pop(timers)[2])

    def _run_ready(self) -> None:
        """Call what is in line, and what comes into line meanwhile."""
        ready = self._ready
        while ready:
            call = ready.popleft()
            callback, call.callback = call.callback, None
            if callback is None:
                continue
            try:
                if call.context is None:
                    callback(*call.args)
                else:
                    call.context.run(callback, *call.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.call_exception_handler({"exception": error})

    def _waiting(self) -> str:
        """The waiting tasks by name, and where each waits; the first few of many."""
        tasks, places = self._tasks(), []
        for task in tasks[:10]:
            frames = task.get_stack(limit=1)
            where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
            places.append(f"{task.get_name()}{where}")
        more = len(tasks) - len(places)
        return ", ".join(places) + (f" and {more} more" if more > 0 else "")

    def _finish(self) -> None:
        """Cancel what still runs, and let it clean up."""
        for _ in range(100):
            tasks = self._tasks()
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self._run_ready()


def _refused(name: str) -> Callable[..., None]:
    def refuse(*args: object, **options: object) -> None:
        raise NotSimulated(f"loop.{name}, in virtual time")

    return refuse


# Whatever else asyncio's loops offer (threads, sockets, processes, signals) is real: refused by name, and not by a
# `__getattr__`, which would slow down every other attribute.
for _name in vars(asyncio.AbstractEventLoop):
    if not hasattr(VirtualLoop, _name):
        setattr(VirtualLoop, _name, _refused(_name))


def run_virtual(
    main: Callable[[VirtualLoop], Coroutine[Any, Any, T]], *, until_s: float | None = None, collect: bool = False
) -> T:
    """Run `main(loop)` in virtual time. Garbage collection is off meanwhile unless `collect`: it is half of the cost."""
    loop = VirtualLoop()
    collecting = gc.isenabled()
    if not collect:
        gc.disable()
    try:
        return loop.run(main(loop), until_s=until_s)
    finally:
        if collecting:
            gc.enable()
