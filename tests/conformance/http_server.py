"""The HTTP servers of the suite: pages that any server can give, and a raw one that can also misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from simulator.model.io import Request, Response

LARGE = bytes(range(256)) * 4096  # 1 MiB
NEVER_S = 30.0


def page(request: Request) -> Response:
    """What every server of the suite answers. /moved/3 is three redirects away from /hello."""
    path = urlsplit(request.url).path
    if path == "/hello":
        return _whole(200, b"" if request.method == "HEAD" else b"hello", length=5)
    if path == "/large":
        wanted = re.fullmatch(r"bytes=(\d+)-", dict(request.headers).get("range", ""))
        if wanted is None:
            return _whole(200, LARGE)
        rest = LARGE[int(wanted[1]) :]
        return _whole(206, rest, ("content-range", f"bytes {wanted[1]}-{len(LARGE) - 1}/{len(LARGE)}"))
    if path == "/forbidden":
        return _whole(403, b'{"error":"expired"}')
    if path == "/short":
        return _whole(200, b"hello", length=9)
    if path == "/empty":
        return Response(204)
    if path.startswith("/moved/"):
        left = int(path[7:]) - 1
        return _whole(302, b"elsewhere", ("location", f"/moved/{left}" if left else "/hello"))
    if path == "/away":
        return _whole(302, b"", ("location", "http://device.invalid/hello"))
    if path == "/nowhere":
        return _whole(302, b"", ("location", "http://[::1/hello"))
    if path == "/round":
        return _whole(307, b"", ("location", "/round"))
    if path == "/echo":
        said = {"method": request.method, "url": request.url, "body": request.body.decode()}
        return _whole(200, json.dumps(said | {"headers": dict(request.headers)}).encode())
    return _whole(404, b"")


def _whole(status: int, body: bytes, *headers: tuple[str, str], length: int | None = None) -> Response:
    return Response(status, (*headers, ("content-length", str(len(body) if length is None else length))), body)


class Connection:
    """One connection of the raw server, with the request it is about."""

    def __init__(self, server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            if self.writer.is_closing():  # uvloop raises a RuntimeError for it
                raise ConnectionResetError
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.005)  # so that they come as several

    async def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Script = Callable[[Connection], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\n"


class RawServer:
    """Answers `page`, or plays the script of a path; counts connections, requests and those the client closed."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[str] = []
        self.addresses: set[str] = set()
        self.let_go = asyncio.Event()  # a client closed before a script's end
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.addresses.add(writer.get_extra_info("peername")[0])
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(Connection(self, reader, writer)):
                pass
        writer.close()
        self._tasks.discard(task)

    async def _answer(self, connection: Connection) -> bool:
        """One exchange; whether the connection goes on."""
        head = (await connection.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = tuple((n.strip().lower(), v.strip()) for n, _, v in (line.partition(":") for line in head[1:-2]))
        self.requests.append(f"{method} {target}")
        body = await connection.reader.readexactly(int(dict(headers).get("content-length", "0")))
        script = SCRIPTS.get(urlsplit(target).path)
        if script is not None:
            await script(connection)
            return False
        response = page(Request(method, target, headers, body))
        lines = [f"HTTP/1.1 {response.status} Any", *(f"{n.title()}: {v}" for n, v in response.headers), "", ""]
        connection.writer.write("\r\n".join(lines).encode() + response.body)
        await connection.writer.drain()
        return dict(headers).get("connection") != "close" and target != "/short"


async def chunked(c: Connection) -> None:
    await c.send(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"5\r\nhel", b"lo\r\n6\r\n world\r\n", b"0\r\n\r\n")


async def chunked_short(c: Connection) -> None:
    await c.send(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"5\r\nhello\r\n6\r\n wo")


async def until_closed(c: Connection) -> None:
    await c.send(HEAD + b"\r\n", b"hello", b" world")


async def zipped(c: Connection) -> None:
    await c.send(HEAD + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello")


async def in_pieces(c: Connection) -> None:
    await c.send(b"HTTP/1.1 20", b"0 OK\r\nContent-Le", b"ngth: 5\r\nX-Why: Because\r", b"\n\r", b"\nhe", b"llo")


async def informed(c: Connection) -> None:
    await c.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", HEAD + b"content-length: 5\r\n\r\nhello")


async def closed(c: Connection) -> None:
    """No answer at all."""


async def garbage(c: Connection) -> None:
    await c.send(b"220 mail.example ESMTP\r\n")


async def reset(c: Connection) -> None:
    await c.send(HEAD + b"content-length: 9\r\n\r\nhello")
    await c.reset()


async def silent(c: Connection) -> None:
    with contextlib.suppress(ConnectionError):
        await c.reader.read()
    c.server.let_go.set()


async def slow(c: Connection) -> None:
    await c.send(HEAD + b"content-length: 9\r\n\r\nhello")
    await silent(c)


async def trickle(c: Connection) -> None:
    await c.send(HEAD + b"content-length: 9000\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(9000):
            await c.send(b"x")
    c.server.let_go.set()


async def endless(c: Connection) -> None:
    await c.send(HEAD + b"\r\n")
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 500 << 20 and not c.writer.is_closing():
            c.writer.write(bytes(65536))
            await c.writer.drain()
            sent += 65536
    assert sent < 500 << 20
    c.server.let_go.set()


SCRIPTS: dict[str, Script] = {
    "/chunked": chunked,
    "/chunked-short": chunked_short,
    "/until-closed": until_closed,
    "/zipped": zipped,
    "/in-pieces": in_pieces,
    "/informed": informed,
    "/closed": closed,
    "/garbage": garbage,
    "/reset": reset,
    "/silent": silent,
    "/slow": slow,
    "/trickle": trickle,
    "/endless": endless,
}
