"""What every `HttpLink` must do, as checks that take a road: a server, and links that lead to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from simulator.links.base import Body, HttpLink, HttpOptions
from simulator.model.errors import LinkError, TransferError
from simulator.model.io import Request
from tests.conformance.http_server import LARGE, RawServer

SOON_S = 5.0


@dataclass
class Road:
    """`base` is the server's URL, `nowhere` one where nobody listens; `server` is None where there is no wire."""

    make: Callable[[HttpOptions], HttpLink]
    base: str
    nowhere: Callable[[], tuple[HttpLink, str]]
    server: RawServer | None = None

    @property
    def raw(self) -> RawServer:
        assert self.server is not None
        return self.server

    def get(self, path: str, *headers: tuple[str, str]) -> Request:
        return Request("GET", self.base + path, headers)

    async def open(self, path: str, *, bound: int = 1 << 21, timeout_s: float = SOON_S) -> Body:
        return await self.make(HttpOptions()).open(self.get(path), bound=bound, timeout_s=timeout_s)


Check = Callable[[Road], Awaitable[None]]
CHECKS: list[Check] = []
ON_THE_WIRE: list[Check] = []


def check(found: Check) -> Check:
    """A check for every road."""
    CHECKS.append(found)
    return found


def on_the_wire(found: Check) -> Check:
    """A check of what only a wire can bring about."""
    ON_THE_WIRE.append(found)
    return found


@dataclass
class Read:
    """What a body gave, and how it ended."""

    content: bytes = b""
    error: TransferError | None = None
    chunks: list[int] = field(default_factory=list)


async def read(body: Body) -> Read:
    """All of a body."""
    found = Read()
    try:
        async for chunk in body:
            found.content += chunk
            found.chunks.append(len(chunk))
    except TransferError as error:
        found.error = error
    return found


async def broken(road: Road, path: str, **more: float) -> Read:
    """All of a body that breaks; the error counts what came before."""
    found = await read(await road.open(path, **more))  # type: ignore[arg-type]
    assert found.error is not None
    assert found.error.received == len(found.content)
    return found


# ---- every road


@check
async def a_body_comes_whole_with_its_head(road: Road) -> None:
    body = await road.open("/large")
    assert (body.status, body.headers["content-length"]) == (200, str(len(LARGE)))
    found = await read(body)
    assert found.content == LARGE
    assert len(found.chunks) > 1
    assert 0 not in found.chunks
    link = road.make(HttpOptions())
    response = await link.request(road.get("/hello"))
    assert (response.status, response.body, response.header("content-length")) == (200, b"hello", "5")
    await link.close()
    await link.close()


@check
async def one_link_serves_many_at_once(road: Road) -> None:
    link = road.make(HttpOptions())
    responses = await asyncio.gather(*(link.request(road.get("/large"), bound=len(LARGE)) for _ in range(10)))
    assert all(response.body == LARGE for response in responses)
    await link.close()


@check
async def a_range_is_asked_for_and_given(road: Road) -> None:
    link = road.make(HttpOptions())
    response = await link.request(road.get("/large", ("range", "bytes=1000000-")), bound=1 << 20)
    assert (response.status, response.body) == (206, LARGE[1_000_000:])
    assert response.header("content-range") == f"bytes 1000000-{len(LARGE) - 1}/{len(LARGE)}"
    await link.close()


@check
async def a_refusal_is_an_answer_with_a_body(road: Road) -> None:
    link = road.make(HttpOptions())
    response = await link.request(road.get("/forbidden"))
    assert (response.status, response.body) == (403, b'{"error":"expired"}')
    assert (await link.request(road.get("/nothing-here"))).status == 404
    nothing = await link.request(road.get("/empty"))
    assert (nothing.status, nothing.body) == (204, b"")
    await link.close()


@check
async def head_has_a_length_and_no_body(road: Road) -> None:
    link = road.make(HttpOptions())
    response = await link.request(Request("HEAD", road.base + "/hello"), timeout_s=SOON_S)
    assert (response.status, response.header("content-length"), response.body) == (200, "5", b"")
    await link.close()


@check
async def five_redirects_are_followed_and_no_more(road: Road) -> None:
    link = road.make(HttpOptions())
    for count in (1, 5):
        assert (await link.request(road.get(f"/moved/{count}"))).body == b"hello"
    for path in ("/moved/6", "/round"):
        with pytest.raises(LinkError, match="redirects"):
            await link.request(road.get(path))
    with pytest.raises(LinkError, match="redirected to what is no URL"):
        await link.request(road.get("/nowhere"))
    await link.close()


@on_the_wire
async def only_hosts_that_are_meant_are_spoken_to(road: Road) -> None:
    link = road.make(HttpOptions(hosts=frozenset({"storage.invalid"})))
    assert (await link.request(road.get("/hello"))).body == b"hello"
    for url in ("http://device.invalid/hello", "http://127.0.0.1.device.invalid/", f"{road.base}/away"):
        with pytest.raises(LinkError, match=r"--allow-remote .*device\.invalid"):
            await link.request(Request("GET", url))
    with pytest.raises(LinkError) as meant:
        await link.request(Request("GET", "http://storage.invalid/hello"))
    assert "--allow-remote" not in str(meant.value)
    await link.close()


@check
async def no_more_than_the_bound_is_accepted(road: Road) -> None:
    found = await broken(road, "/large", bound=len(LARGE) - 1)
    assert len(found.content) < len(LARGE)
    assert (await read(await road.open("/large", bound=len(LARGE)))).content == LARGE
    link = road.make(HttpOptions())
    with pytest.raises(TransferError):
        await link.request(road.get("/hello"), bound=4)
    await link.close()


@check
async def an_early_end_is_told_after_what_came_before(road: Road) -> None:
    assert (await broken(road, "/short")).content == b"hello"
    body = await road.open("/short")
    await asyncio.sleep(0.05)  # the end is here before the reader is
    found = await read(body)
    assert (found.content, found.error is None) == (b"hello", False)


@check
async def a_request_goes_out_as_it_was_made(road: Road) -> None:
    link = road.make(HttpOptions())
    url = road.base + "/echo?signature=a%2Fb%7E~+%20&thing=%C3%A9"
    request = Request("POST", url, (("authorization", "Bearer x"), ("content-type", "text/plain")), b"body")
    said = json.loads((await link.request(request)).body)
    assert (said["method"], said["body"]) == ("POST", "body")
    assert said["url"].endswith("/echo?signature=a%2Fb%7E~+%20&thing=%C3%A9")
    assert said["headers"]["authorization"] == "Bearer x"
    assert said["headers"]["content-type"] == "text/plain"
    await link.close()


@check
async def a_refused_port_is_the_roads_fault(road: Road) -> None:
    link, url = road.nowhere()
    with pytest.raises(LinkError) as refused:
        await link.request(Request("GET", url))
    assert not isinstance(refused.value, TransferError)
    assert asyncio.current_task().cancelling() == 0  # whoever asked goes on
    await asyncio.sleep(0)
    await link.close()


# ---- what only a wire can bring about


@on_the_wire
async def every_framing_gives_the_same_body(road: Road) -> None:
    for path, content in (
        ("/chunked", b"hello world"),
        ("/until-closed", b"hello world"),
        ("/in-pieces", b"hello"),
        ("/informed", b"hello"),
        ("/zipped", b"hello"),  # bytes are what they are: they will be hashed
    ):
        body = await road.open(path)
        found = await read(body)
        assert (path, body.status, found.content, found.error) == (path, 200, content, None)
    assert (await road.open("/in-pieces")).headers["x-why"] == "Because"


@on_the_wire
async def a_break_on_the_wire_is_an_early_end(road: Road) -> None:
    assert (await broken(road, "/chunked-short")).content.startswith(b"hello")
    await broken(road, "/reset")


@on_the_wire
async def no_head_is_the_roads_fault_and_is_not_tried_again(road: Road) -> None:
    for path in ("/closed", "/garbage"):
        with pytest.raises(LinkError) as error:
            await road.open(path)
        assert not isinstance(error.value, TransferError)
    assert road.raw.requests == ["GET /closed", "GET /garbage"]


@on_the_wire
async def the_deadline_holds_for_head_and_body(road: Road) -> None:
    loop = asyncio.get_running_loop()
    await road.make(HttpOptions()).request(road.get("/hello"))  # so that no deadline passes before the request is out
    for path, kind in (("/silent", LinkError), ("/slow", TransferError), ("/trickle", TransferError)):
        road.raw.let_go.clear()
        began = loop.time()
        with pytest.raises(LinkError) as error:
            await road.make(HttpOptions()).request(road.get(path), timeout_s=0.3)
        assert type(error.value) is kind, path
        assert 0.25 < loop.time() - began < 1.0
        let_go = asyncio.ensure_future(road.raw.let_go.wait())
        await asyncio.wait([let_go], timeout=SOON_S)
        assert let_go.done(), f"{path}: the connection is not let go"
    found = await broken(road, "/slow", timeout_s=0.15)
    assert found.content == b"hello"


@on_the_wire
async def connecting_has_its_own_deadline_and_can_be_given_up(road: Road) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        place = deaf.getsockname()
        for _ in range(4):  # the backlog is full: who comes next is not answered
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(place)
        link, request = road.make(HttpOptions(connect_timeout_s=0.2)), Request("GET", f"http://127.0.0.1:{place[1]}/")
        began = loop.time()
        with pytest.raises(LinkError) as error:
            await link.request(request, timeout_s=SOON_S)
        assert not isinstance(error.value, TransferError)
        assert 0.15 < loop.time() - began < 1.0
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)
        asking = asyncio.ensure_future(road.make(HttpOptions()).request(request))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await link.close()


@on_the_wire
async def an_endless_body_ends_at_its_bound(road: Road) -> None:
    found = await broken(road, "/endless", bound=1 << 20)
    assert len(found.content) <= 1 << 20
    await asyncio.wait_for(road.raw.let_go.wait(), SOON_S)


@on_the_wire
async def a_slow_reader_holds_the_sender_back(road: Road) -> None:
    body = await road.open("/endless", bound=1 << 40)
    await asyncio.sleep(0.3)
    assert not road.raw.let_go.is_set()  # or else 500 MB were taken unread
    body.close()
    await asyncio.wait_for(road.raw.let_go.wait(), SOON_S)


@on_the_wire
async def a_body_that_is_closed_lets_the_connection_go(road: Road) -> None:
    body = await road.open("/slow")
    body.close()
    body.close()
    await asyncio.wait_for(road.raw.let_go.wait(), SOON_S)


@on_the_wire
async def a_cancelled_request_lets_the_connection_go(road: Road) -> None:
    for path in ("/silent", "/slow"):  # before the head, and in the body
        road.raw.let_go.clear()
        asking = asyncio.ensure_future(road.make(HttpOptions()).request(road.get(path)))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(road.raw.let_go.wait(), SOON_S)


@on_the_wire
async def each_request_is_a_fresh_connection_unless_pooled(road: Road) -> None:
    for pooled, connections in ((False, 5), (True, 1)):
        before = road.raw.connections
        link = road.make(HttpOptions(pooled=pooled))
        for _ in range(5):
            assert (await link.request(road.get("/hello"))).body == b"hello"
        await link.close()
        assert road.raw.connections - before == connections


@on_the_wire
async def options_shape_what_goes_out(road: Road) -> None:
    link = road.make(HttpOptions(source="127.0.0.9", headers=(("x-fleet", "one"),)))
    said = json.loads((await link.request(road.get("/echo"))).body)
    assert road.raw.addresses == {"127.0.0.9"}
    assert said["headers"]["x-fleet"] == "one"
    assert said["headers"].keys() <= {"host", "connection", "x-fleet"}  # a plain device says no more
    await link.close()
