"""The tasks of a virtual run: each party is one, and all run until the run ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Keeps the parties' tasks. One that ends before it is stopped has failed, and fails the run."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._broken: asyncio.Future[None] = self._loop.create_future()

    def keep(self, party: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run this party from now on."""
        task = self._loop.create_task(party, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and not self._broken.done():
            self._broken.set_exception(task.exception() or AssertionError(f"{task.get_name()} ended"))

    async def watch(self) -> None:
        """Return never; raise what a party raised, or AssertionError where one just ended."""
        await self._broken

    async def stop(self) -> None:
        """Cancel all, the newest first, and wait until they have ended."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
