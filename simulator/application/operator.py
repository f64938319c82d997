"""What an operator does with a rollout that has begun: pause, resume, abort, each at its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from simulator.application.rollout import WrongState
from simulator.model.scenario import Deed


async def carry_out(
    deeds: Sequence[tuple[float, Deed]],
    ended: Awaitable[object],
    act: Callable[[Deed], Awaitable[object]],
    halted: asyncio.Event | None = None,
) -> None:
    """Until the rollout has `ended`, or is `halted` (paused, and nothing of it under way) with no deed left that could
    resume it; `deeds` are (seconds from now, what), by time. One that its status does not allow is left out."""
    loop = asyncio.get_running_loop()
    began, over = loop.time(), asyncio.ensure_future(ended)
    waits: list[asyncio.Future[object]] = [over]
    try:
        for at, deed in deeds:
            await asyncio.wait([over], timeout=max(0.0, began + at - loop.time()))
            if over.done():
                break
            with contextlib.suppress(WrongState):
                await act(deed)
        if halted is not None:
            waits.append(asyncio.ensure_future(halted.wait()))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if over.done():
            over.result()
    finally:
        for wait in waits:
            wait.cancel()
