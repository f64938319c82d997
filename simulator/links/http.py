"""The lean HTTP link: `httptools` parses, and each request has a fresh connection unless connections are pooled.

A download is most of what an update costs on the wire, so one object, LeanBody, is the protocol of the connection, the
parser's callbacks, and the body that the device reads. As objects of their own these would have to know one another, and
only the garbage collector would end them."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import Any, cast
from urllib.parse import SplitResult

import httptools

from simulator.links.base import HttpOptions, whole
from simulator.links.urls import REDIRECTS_MAX, parts_of, redirected, refuse_unmeant
from simulator.model.errors import LinkError, TransferError
from simulator.model.io import Request, Response

_BUFFER = 256 * 1024  # bytes waiting for the reader before the socket is left alone
_Place = tuple[str, str, int]  # scheme, host, port
_PORTS = {"http": 80, "https": 443}


class LeanBody(asyncio.Protocol):
    """One exchange, and the protocol of its connection while it lasts; implements `Body`. The request is sent as soon as
    the connection is open; `connect_s` limits the time until then, `timeout_s` the whole."""

    __slots__ = (
        "_bound",
        "_chunks",
        "_deadline",
        "_error",
        "_fields",
        "_free",
        "_head",
        "_loop",
        "_parser",
        "_paused",
        "_received",
        "_request",
        "_timer",
        "_transport",
        "_unread",
        "_waiter",
        "headers",
        "on_header",
        "opening",
        "place",
        "status",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        place: _Place,
        request: bytes,
        free: list[asyncio.Transport] | None,
        head: bool,
        bound: int,
        connect_s: float,
        timeout_s: float,
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.place, self._request = place, request
        self.opening: asyncio.Task[Any] | None = None  # who waits for the connection
        self._transport: asyncio.Transport | None = None
        self._free = free  # where the connection goes when it can be used again
        self._head, self._bound = head, bound
        self._fields: dict[bytes, bytes] = {}
        self.on_header = self._fields.__setitem__  # the parser tells one after the other
        self._parser: Any = httptools.HttpResponseParser(self)  # None once it has ended, for they know one another
        self._chunks: deque[bytes] = deque()
        self._received = self._unread = 0
        self._paused = False
        self._error: LinkError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._loop = loop
        self._deadline = loop.time() + timeout_s
        self._timer = loop.call_later(min(connect_s, timeout_s), self._expire, connect_s, timeout_s)

    # ---- what the connection tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open, or lent by the pool."""
        if self._parser is None:  # given up meanwhile
            cast(asyncio.Transport, transport).abort()
        else:
            self._transport = cast(asyncio.Transport, transport)
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        parser = self._parser
        if parser is None:
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(f"not HTTP/1.1: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._transport = None
        framed = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self.status and not framed and exc is None:
            self._finish()  # RFC 9112 6.3: without a length the close is the end
        else:
            self.fail(f"ended after {self._received} bytes of body" + (f": {exc}" if exc else ""))

    # ---- what the parser tells

    def on_headers_complete(self) -> None:
        """The head has arrived."""
        if self._parser is None:  # of what nobody asked for
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._fields.clear()
            return
        self.status = status
        self.headers = {_lowered(name): value.decode("latin-1") for name, value in self._fields.items()}
        if self._head:
            self._finish()
        self._wake()

    def on_body(self, data: bytes) -> None:
        """Some of the body has arrived."""
        if self._parser is None:
            return
        if self._received + len(data) > self._bound:
            self.fail(f"more than {self._bound} bytes of body")
            return
        self._received += len(data)
        self._unread += len(data)
        self._chunks.append(data)
        if self._unread > _BUFFER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """The response is whole."""
        if self.status:
            self._finish()

    # ---- the end

    def _finish(self) -> None:
        if self._parser is None:
            return
        self._timer.cancel()
        parser, self._parser = self._parser, None
        transport, self._transport = self._transport, None
        if transport is not None:
            if self._free is not None and not self._head and parser.should_keep_alive():
                if self._paused:
                    transport.resume_reading()
                transport.set_protocol(_Idle(transport, self._free))
                self._free.append(transport)
            else:
                transport.close()
        self._wake()

    def fail(self, why: str) -> None:
        """End the exchange, unless it has ended."""
        if self._parser is None:
            return
        self._error = TransferError(why, received=self._received) if self.status else LinkError(why)
        self._timer.cancel()
        self._parser = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        elif self.opening is not None:
            opening, self.opening = self.opening, None  # by which it knows who cancels it
            opening.cancel()
        self._wake()

    def _expire(self, connect_s: float, timeout_s: float) -> None:
        left_s = self._deadline - self._loop.time()
        if self._transport is None:
            _, host, port = self.place
            self.fail(f"{host}:{port} did not answer within {min(connect_s, timeout_s):g} s")
        elif left_s > 0:
            self._timer = self._loop.call_later(left_s, self._expire, connect_s, timeout_s)
        else:
            self.fail(f"not finished within {timeout_s:g} s")

    def close(self) -> None:
        """Let go of the connection, whatever is left unread."""
        self.fail("closed by the reader")
        self._chunks.clear()

    # ---- the reader's side

    async def head(self) -> None:
        """Wait for the response's head. Raises LinkError."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._news()

    def __aiter__(self) -> LeanBody:
        return self

    async def __anext__(self) -> bytes:  # a generator would cost more: the loop keeps a list of them
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._parser is None:
                raise StopAsyncIteration
            await self._news()
        chunk = self._chunks.popleft()
        self._unread -= len(chunk)
        if self._paused and self._unread < _BUFFER // 2 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return chunk

    def _news(self) -> asyncio.Future[None]:
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _Idle(asyncio.Protocol):
    """Of a pooled connection between two exchanges: it has nothing to hear."""

    __slots__ = ("_free", "_transport")

    def __init__(self, transport: asyncio.Transport, free: list[asyncio.Transport]) -> None:
        self._transport, self._free = transport, free

    def data_received(self, data: bytes) -> None:
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport in self._free:
            self._free.remove(self._transport)


class LeanHttp:
    """An HTTP/1.1 client; implements `HttpLink`. It holds no connection unless `pooled`."""

    __slots__ = ("_free", "options")

    def __init__(self, options: HttpOptions | None = None) -> None:
        self.options = options or HttpOptions()
        self._free: dict[_Place, list[asyncio.Transport]] = {}

    async def open(self, request: Request, *, bound: int, timeout_s: float) -> LeanBody:
        """Send the request and wait for the head, past redirects. Raises LinkError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        for _ in range(REDIRECTS_MAX + 1):
            o, parts = self.options, parts_of(request.url)
            place = _place(request.url, parts)
            refuse_unmeant(place[1], o.hosts)
            data = _spelled(request, parts, o)
            free = self._free.setdefault(place, []) if o.pooled else None
            transport = _usable(free)
            left_s = deadline - loop.time()
            body = LeanBody(loop, place, data, free, request.method == "HEAD", bound, o.connect_timeout_s, left_s)
            try:
                if transport is None:
                    await self._connect(loop, body)
                else:
                    transport.set_protocol(body)
                    body.connection_made(transport)
                await body.head()
                onward = redirected(request, body.status, body.headers.get("location"))
            except BaseException:
                body.close()
                raise
            if onward is None:
                return body
            body.close()
            request = onward
        raise LinkError(f"more than {REDIRECTS_MAX} redirects")

    async def _connect(self, loop: asyncio.AbstractEventLoop, body: LeanBody) -> None:
        o, (scheme, host, port) = self.options, body.place
        body.opening = task = asyncio.current_task(loop)
        assert task is not None
        cancelled = task.cancelling()
        try:
            await loop.create_connection(
                lambda: body,
                host,
                port,
                ssl=(o.tls or True) if scheme == "https" else None,
                local_addr=(o.source, 0) if o.source else None,
            )
        except (OSError, UnicodeError) as error:
            raise LinkError(f"{host}:{port}: {getattr(error, 'strerror', None) or error}") from None
        except asyncio.CancelledError:
            if body.opening is not None or task.uncancel() > cancelled:  # by another than the exchange's timer
                raise
        finally:
            body.opening = None

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """The same, with the body read whole. Raises LinkError."""
        return await whole(await self.open(request, bound=bound, timeout_s=timeout_s))

    async def close(self) -> None:
        """Close pooled connections."""
        for free in self._free.values():
            for transport in free:
                transport.close()
        self._free.clear()


@functools.lru_cache(maxsize=256)
def _lowered(name: bytes) -> str:
    return name.decode("latin-1").lower()


@functools.lru_cache(maxsize=1024)
def _origin(scheme: str, netloc: str) -> _Place:
    parts = SplitResult(scheme, netloc, "", "", "")
    if not parts.hostname:
        raise ValueError(netloc)
    return scheme, parts.hostname, parts.port or _PORTS[scheme]


def _place(url: str, parts: SplitResult) -> _Place:
    """A URL's scheme, host and port. Raises LinkError where it has none."""
    try:
        return _origin(parts.scheme, parts.netloc)
    except (KeyError, ValueError):
        raise LinkError(f"not an http URL: {url!r}") from None


def _spelled(request: Request, parts: SplitResult, options: HttpOptions) -> bytes:
    """The request as it goes out."""
    _, netloc, path, query, _ = parts
    lines = [
        f"{request.method} {path or '/'}{'?' if query else ''}{query} HTTP/1.1",
        f"host: {netloc.rpartition('@')[2]}",
        *[f"{name}: {value}" for name, value in options.headers + request.headers],
    ]
    if request.body or request.method in ("POST", "PUT"):
        lines.append(f"content-length: {len(request.body)}")
    if not options.pooled:
        lines.append("connection: close")
    try:
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + request.body
    except UnicodeEncodeError:
        raise LinkError(f"not an http URL: {request.url!r}") from None


def _usable(free: list[asyncio.Transport] | None) -> asyncio.Transport | None:
    """An idle connection that still is one."""
    while free:
        transport = free.pop()
        if not transport.is_closing():
            return transport
    return None
