"""The HTTP port over a well-known library, aiohttp: a cross-check of the lean link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import yarl

from simulator.links.base import HttpOptions, whole
from simulator.links.urls import REDIRECTS_MAX, redirected, refuse_unmeant
from simulator.model.errors import LinkError, TransferError
from simulator.model.io import Request, Response

# what a plain device does not send
_BARE = ("accept", "accept-encoding", "content-type", "user-agent")


class LibraryBody:
    """A response of aiohttp's whose head has arrived; implements `Body`."""

    __slots__ = ("_bound", "_deadline", "_response", "_timeout_s", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, bound: int, deadline: float, timeout_s: float) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self._response, self._bound, self._deadline, self._timeout_s = response, bound, deadline, timeout_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        while True:
            chunk, broken = await self._read()
            if received + len(chunk) > self._bound:
                chunk, broken = b"", f"more than {self._bound} bytes of body"
            received += len(chunk)
            if chunk:
                yield chunk
            if broken:
                self._response.close()
                raise TransferError(broken, received=received)
            if not chunk:
                return

    async def _read(self) -> tuple[bytes, str]:
        """What is there, nothing at the end; and what broke, if anything."""
        content = self._response.content
        try:
            async with asyncio.timeout_at(self._deadline):
                return await content.readany(), ""
        except TimeoutError:
            return b"", f"not finished within {self._timeout_s:g} s"
        except (aiohttp.ClientError, OSError) as error:
            rest = b"".join(content._buffer)  # what came before the break is still the reader's
            content._buffer.clear()
            return rest, f"ended early: {error}"

    def close(self) -> None:
        """Let go of the connection, whatever is left unread."""
        self._response.close()


class LibraryHttp:
    """An aiohttp session, which many devices of one loop may share; implements `HttpLink`."""

    __slots__ = ("_options", "_session")

    def __init__(self, options: HttpOptions | None = None) -> None:
        self._options = options or HttpOptions()
        self._session: aiohttp.ClientSession | None = None

    async def open(self, request: Request, *, bound: int, timeout_s: float) -> LibraryBody:
        """Send the request and wait for the head, past redirects. Raises LinkError."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        for _ in range(REDIRECTS_MAX + 1):
            try:
                async with asyncio.timeout_at(deadline):
                    response = await self._exchange(request)
            except (aiohttp.ClientError, ValueError) as error:
                raise LinkError(f"{request.url}: {error}") from None
            except TimeoutError:
                raise LinkError(f"no response within {timeout_s:g} s") from None
            try:
                onward = redirected(request, response.status, response.headers.get("location"))
            except LinkError:
                response.close()
                raise
            if onward is None:
                return LibraryBody(response, bound, deadline, timeout_s)
            response.close()
            request = onward
        raise LinkError(f"more than {REDIRECTS_MAX} redirects")

    async def _exchange(self, request: Request) -> aiohttp.ClientResponse:
        url = yarl.URL(request.url, encoded=True)  # a signed URL goes out as it came in
        refuse_unmeant(url.host or "", self._options.hosts)
        return await self._opened().request(
            request.method,
            url,
            headers=(*self._options.headers, *request.headers),
            data=request.body or None,
            allow_redirects=False,
        )

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """The same, with the body read whole. Raises LinkError."""
        return await whole(await self.open(request, bound=bound, timeout_s=timeout_s))

    async def close(self) -> None:
        """Close the session and what it pooled."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            o = self._options
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    force_close=not o.pooled,
                    local_addr=(o.source, 0) if o.source else None,
                    ssl=o.tls or True,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_BARE,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=o.connect_timeout_s),
            )
            self._session._retry_connection = False  # no retries hidden in a link
        return self._session
