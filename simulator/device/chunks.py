"""A download that comes in chunks over the device's own connection, as some services do it: the device asks for a chunk
by its offset, waits until it is heard, and asks for the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from simulator.device.agent import Partial
from simulator.device.connection import Connection
from simulator.device.sources import Grant
from simulator.dialects.base import Chunk
from simulator.links.base import Body
from simulator.model.errors import TransferError


class ChunkSource:
    """Chunks of `size` bytes of the artifact of `job`, over the device's connection; implements `Source`. The last chunk
    is shorter, or empty. One that does not come within `patience_s` ends the body, as a cut ends an HTTP response."""

    __slots__ = ("_connection", "_job", "_loop", "_patience_s", "_size", "_waits")

    def __init__(self, connection: Connection, job: str, size: int, patience_s: float) -> None:
        self._connection, self._job, self._size, self._patience_s = connection, job, size, patience_s
        self._loop = asyncio.get_running_loop()
        self._waits: tuple[int, asyncio.Future[bytes]] | None = None  # for the chunk at this offset

    async def open(self, had: Partial, grant: Grant, *, bound: int, timeout_s: float) -> Body:
        """The chunks from where `had` stands; the first is asked for when the body is read."""
        return _Chunks(self, had, bound, self._loop.time() + timeout_s)

    async def chunk(self, offset: int) -> bytes:
        """Ask for one chunk and wait for it. Raises TransferError when it does not come, LinkError when it cannot be
        asked for."""
        dialect = self._connection.dialect
        waiter: asyncio.Future[bytes] = self._loop.create_future()
        self._waits = offset, waiter
        try:
            async with asyncio.timeout(self._patience_s):
                if not self._connection.connected:
                    raise TransferError("not connected")
                step = dialect.ask_chunk(self._job, offset, self._size, self._connection.wall())
                await self._connection.perform(step.outputs)
                return await waiter
        except TimeoutError:
            raise TransferError(f"no chunk at {offset}") from None
        finally:
            self._waits = None

    def heard(self, chunk: Chunk) -> None:
        """A chunk has come; one that nobody waits for is passed over."""
        if self._waits is None or chunk.job != self._job:
            return
        offset, waiter = self._waits
        if chunk.offset == offset and not waiter.done():
            waiter.set_result(chunk.content)

    @property
    def size(self) -> int:
        """Bytes a chunk."""
        return self._size


class _Chunks:
    """The rest of an artifact, chunk by chunk; implements `Body`."""

    __slots__ = ("_bound", "_due", "_had", "_source", "headers", "status")

    def __init__(self, source: ChunkSource, had: Partial, bound: int, due: float) -> None:
        self._source, self._had, self._bound, self._due = source, had, bound, due
        self.status, self.headers = 200, dict[str, str]()
        if had.received:
            total = had.artifact.size_bytes
            last = had.received + source.size if total is None else total
            self.status = 206
            self.headers["content-range"] = f"bytes {had.received}-{last - 1}/{'*' if total is None else total}"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        offset, total = self._had.received, self._had.artifact.size_bytes
        while total is None or offset < total:
            if asyncio.get_running_loop().time() >= self._due:
                raise TransferError("timed out", received=offset)
            chunk = await self._source.chunk(offset)
            offset += len(chunk)
            if offset > self._bound:
                raise TransferError(f"more than {self._bound} bytes", received=offset - len(chunk))
            if chunk:
                yield chunk
            if len(chunk) < self._source.size:
                return

    def close(self) -> None:
        """Nothing to let go of."""
