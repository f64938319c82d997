"""HTTP within one process, for the virtual world: a request is a call of whoever serves, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from simulator.links.base import whole
from simulator.links.urls import REDIRECTS_MAX, redirected
from simulator.model.errors import LinkError, TransferError
from simulator.model.io import Request, Response

_CHUNK = 65536


class MemoryBody:
    """A response whose body is handed out in chunks; implements `Body`."""

    __slots__ = ("_body", "_bound", "_head", "headers", "status")

    def __init__(self, response: Response, bound: int, *, head: bool = False) -> None:
        self._head = head
        self.status = response.status
        self.headers = dict(response.headers)
        self._body, self._bound = response.body, bound

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        body = self._body
        declared = self.headers.get("content-length", "")
        step = max(_CHUNK, len(body) // 8)
        for offset in range(0, len(body), step):
            chunk = body[offset : offset + step]
            if offset + len(chunk) > self._bound:
                raise TransferError(f"more than {self._bound} bytes", received=offset)
            yield chunk
        if declared.isdigit() and int(declared) > len(body) and not self._head:
            raise TransferError(f"ended after {len(body)} of {declared} bytes", received=len(body))

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryHttp:
    """HTTP by calling `serve`, which raises LinkError where nobody is there; implements `HttpLink`."""

    __slots__ = ("serve",)

    def __init__(self, serve: Callable[[Request], Response]) -> None:
        self.serve = serve

    async def open(self, request: Request, *, bound: int, timeout_s: float) -> MemoryBody:
        """One turn of the loop, then the response. Raises LinkError."""
        await asyncio.sleep(0)
        for _ in range(REDIRECTS_MAX + 1):
            response = self.serve(request)
            onward = redirected(request, response.status, response.header("location"))
            if onward is None:
                return MemoryBody(response, bound, head=request.method == "HEAD")
            request = onward
        raise LinkError(f"more than {REDIRECTS_MAX} redirects")

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """The same, whole."""
        return await whole(await self.open(request, bound=bound, timeout_s=timeout_s))

    async def close(self) -> None:
        """Nothing to close."""
