"""The lean HTTP link: an asyncio.Protocol over `httptools`; each request a fresh connection unless pooled."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

import httptools

from simulator.links.base import HttpOptions, whole
from simulator.links.urls import REDIRECTS_MAX, redirected, refuse_unmeant
from simulator.model.errors import LinkError, TransferError
from simulator.model.io import Request, Response

_BUFFER = 256 * 1024  # bytes waiting for the reader before the socket is left alone
_Place = tuple[str, str, int]  # scheme, host, port
_PORTS = {"http": 80, "https": 443}


class _Connection(asyncio.Protocol):
    """A socket, and the exchange that has it now; `request` is sent as soon as it is open, for which `opening` waits."""

    __slots__ = ("body", "opening", "place", "request", "transport")

    def __init__(self, place: _Place, request: bytes) -> None:
        self.place, self.request = place, request
        self.opening: asyncio.Task[Any] | None = None
        self.transport: asyncio.Transport | None = None
        self.body: LeanBody | None = None

    def abort(self) -> None:
        """Cut it, open or not."""
        self.body = None
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            opening, self.opening = self.opening, None  # by which it knows who cancels it
            opening.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.body is None:  # given up meanwhile
            self.transport.abort()
        else:
            self.transport.write(self.request)
        self.request = b""

    def data_received(self, data: bytes) -> None:
        if self.body is not None:
            self.body.feed(data)
        elif self.transport is not None:  # an idle connection has nothing to hear
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.body is not None:
            self.body.cut(exc)


class LeanBody:
    """One exchange on a connection; implements `Body`. `connect_s` limits the time until it is open, `timeout_s` the
    whole."""

    __slots__ = (
        "_bound",
        "_chunks",
        "_complete",
        "_connection",
        "_deadline",
        "_error",
        "_fields",
        "_free",
        "_head",
        "_loop",
        "_parser",
        "_paused",
        "_received",
        "_timer",
        "_unread",
        "_waiter",
        "headers",
        "on_header",
        "status",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: _Connection,
        free: list[_Connection] | None,
        head: bool,
        bound: int,
        connect_s: float,
        timeout_s: float,
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection: _Connection | None = connection
        self._free = free  # where the connection goes when it can be used again
        self._head, self._bound = head, bound
        self._fields: dict[bytes, bytes] = {}
        self.on_header = self._fields.__setitem__  # the parser tells one after the other
        self._parser: Any = httptools.HttpResponseParser(self)  # until the end: they know one another
        self._chunks: deque[bytes] = deque()
        self._received = self._unread = 0
        self._complete = self._paused = False
        self._error: LinkError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._loop = loop
        self._deadline = loop.time() + timeout_s
        self._timer = loop.call_later(min(connect_s, timeout_s), self._expire, connect_s, timeout_s)
        connection.body = self

    # ---- what the connection tells

    def feed(self, data: bytes) -> None:
        """Bytes arrived."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self.fail(f"not HTTP/1.1: {error}")

    def cut(self, error: Exception | None) -> None:
        """The connection has ended."""
        self._connection = None
        framed = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self.status and not framed and error is None:
            self._finish()  # RFC 9112 6.3: without a length the close is the end
        else:
            self.fail(f"ended after {self._received} bytes of body" + (f": {error}" if error else ""))

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
        if self._complete or self._error is not None:
            return
        if self._received + len(data) > self._bound:
            self.fail(f"more than {self._bound} bytes of body")
            return
        self._received += len(data)
        self._unread += len(data)
        self._chunks.append(data)
        if self._unread > _BUFFER and not self._paused and self._connection and self._connection.transport:
            self._paused = True
            self._connection.transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """The response is whole."""
        if self.status:
            self._finish()

    # ---- the end

    def _finish(self) -> None:
        if self._complete or self._error is not None:
            return
        self._complete = True
        self._timer.cancel()
        parser, self._parser = self._parser, None
        connection, self._connection = self._connection, None
        if connection is not None and connection.transport is not None:
            connection.body = None
            if self._free is not None and not self._head and parser.should_keep_alive():
                if self._paused:
                    connection.transport.resume_reading()
                self._free.append(connection)
            else:
                connection.transport.close()
        self._wake()

    def fail(self, why: str) -> None:
        """End the exchange, unless it has ended."""
        if self._complete or self._error is not None:
            return
        self._error = TransferError(why, received=self._received) if self.status else LinkError(why)
        self._timer.cancel()
        self._parser = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        self._wake()

    def _expire(self, connect_s: float, timeout_s: float) -> None:
        left_s, connection = self._deadline - self._loop.time(), self._connection
        if connection is not None and connection.transport is None:
            _, host, port = connection.place
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
            if self._complete:
                raise StopAsyncIteration
            await self._news()
        chunk = self._chunks.popleft()
        self._unread -= len(chunk)
        if self._paused and self._unread < _BUFFER // 2 and self._connection and self._connection.transport:
            self._paused = False
            self._connection.transport.resume_reading()
        return chunk

    def _news(self) -> asyncio.Future[None]:
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class LeanHttp:
    """An HTTP/1.1 client; implements `HttpLink`. It holds no connection unless `pooled`."""

    __slots__ = ("_free", "options")

    def __init__(self, options: HttpOptions | None = None) -> None:
        self.options = options or HttpOptions()
        self._free: dict[_Place, list[_Connection]] = {}

    async def open(self, request: Request, *, bound: int, timeout_s: float) -> LeanBody:
        """Send the request and wait for the head, past redirects. Raises LinkError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        for _ in range(REDIRECTS_MAX + 1):
            connection, body = self._exchange(loop, request, bound, deadline - loop.time())
            try:
                if connection.transport is None:
                    await self._connect(loop, connection)
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

    def _exchange(
        self, loop: asyncio.AbstractEventLoop, request: Request, bound: int, timeout_s: float
    ) -> tuple[_Connection, LeanBody]:
        o, place = self.options, _place(request.url)
        refuse_unmeant(place[1], o.hosts)
        data = _spelled(request, o)
        free = self._free.setdefault(place, []) if o.pooled else None
        connection = _usable(free) or _Connection(place, data)
        body = LeanBody(loop, connection, free, request.method == "HEAD", bound, o.connect_timeout_s, timeout_s)
        if connection.transport is not None:
            connection.transport.write(data)
        return connection, body

    async def _connect(self, loop: asyncio.AbstractEventLoop, connection: _Connection) -> None:
        o, (scheme, host, port) = self.options, connection.place
        connection.opening = task = asyncio.current_task(loop)
        assert task is not None
        cancelled = task.cancelling()
        try:
            await loop.create_connection(
                lambda: connection,
                host,
                port,
                ssl=(o.tls or True) if scheme == "https" else None,
                local_addr=(o.source, 0) if o.source else None,
            )
        except (OSError, UnicodeError) as error:
            raise LinkError(f"{host}:{port}: {getattr(error, 'strerror', None) or error}") from None
        except asyncio.CancelledError:
            if connection.opening is not None or task.uncancel() > cancelled:  # by another than the exchange's timer
                raise
        finally:
            connection.opening = None

    async def request(self, request: Request, *, timeout_s: float = 30.0, bound: int = 1 << 20) -> Response:
        """The same, with the body read whole. Raises LinkError."""
        return await whole(await self.open(request, bound=bound, timeout_s=timeout_s))

    async def close(self) -> None:
        """Close pooled connections."""
        for free in self._free.values():
            for connection in free:
                if connection.transport is not None:
                    connection.transport.close()
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


def _place(url: str) -> _Place:
    """A URL's scheme, host and port. Raises LinkError where it has none."""
    try:
        parts = urlsplit(url)
        return _origin(parts.scheme, parts.netloc)
    except (KeyError, ValueError):
        raise LinkError(f"not an http URL: {url!r}") from None


def _spelled(request: Request, options: HttpOptions) -> bytes:
    """The request as it goes out."""
    _, netloc, path, query, _ = urlsplit(request.url)
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


def _usable(free: list[_Connection] | None) -> _Connection | None:
    """An idle connection that still is one."""
    while free:
        connection = free.pop()
        if connection.transport is not None and not connection.transport.is_closing():
            return connection
    return None
