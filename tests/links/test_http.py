"""The lean HTTP link under cancellations, and what is no URL."""

import asyncio
import contextlib
import socket

import pytest

from simulator.links import http
from simulator.links.base import HttpOptions
from simulator.links.http import LeanHttp
from simulator.links.loop import run_live
from simulator.model.errors import LinkError
from simulator.model.io import Request


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"not HTTP\r\n\r\n"])
def test_a_cancellation_is_not_lost_where_all_was_answered_before_the_asker_could_go_on(monkeypatch, answer):
    def answered(body):
        body.data_received(answer)
        asking.cancel()

    def opened(body, transport):
        made(body, transport)
        asyncio.get_running_loop().call_soon(answered, body)

    made, asking = http.LeanBody.connection_made, None
    monkeypatch.setattr(http.LeanBody, "connection_made", opened)

    async def main():
        nonlocal asking
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            asking = asyncio.ensure_future(LeanHttp().request(Request("GET", url)))
            await asyncio.wait([asking])
        return asking.cancelled()

    assert run_live(main)


def test_who_was_cancelled_before_and_goes_on_still_learns_that_nobody_answers():
    async def main():
        with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
            waiting = [socket.socket() for _ in range(4)]  # the backlog is full: who comes next is not answered
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(deaf.getsockname())
            link = LeanHttp(HttpOptions(connect_timeout_s=0.1))
            asyncio.current_task().cancel()
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                with pytest.raises(LinkError, match="did not answer"):
                    await link.request(Request("GET", f"http://127.0.0.1:{deaf.getsockname()[1]}/"))
            for one in waiting:
                one.close()
            return asyncio.current_task().cancelling()

    assert run_live(main) == 1


@pytest.mark.parametrize("url", ["https:///x", "http://", "http://127.0.0.1/\u20ac", "ftp://127.0.0.1/", "x"])
def test_what_is_no_url_is_the_roads_fault(url):
    async def main():
        with pytest.raises(LinkError, match="not an http URL"):
            await LeanHttp().request(Request("GET", url))

    run_live(main)


@contextlib.asynccontextmanager
async def pooled(serve):
    """A pooled link and a request to a server; `serve(reader, writer)` has each connection."""
    serving = []

    def greet(*road):
        serving.append(asyncio.ensure_future(serve(*road)))

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    link = LeanHttp(HttpOptions(pooled=True))
    yield link, Request("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    await link.close()
    server.close()
    await asyncio.gather(*serving, return_exceptions=True)


@pytest.mark.parametrize(("chatter", "connections"), [(b"", 1), (b"HTTP/1.1 408 Request Timeout\r\n\r\n", 2)])
def test_a_pooled_connection_on_which_something_is_said_meanwhile_is_not_used_again(chatter, connections):
    met = []

    async def serve(reader, writer):
        met.append(writer)
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

    async def main():
        async with pooled(serve) as (link, request):
            first = await link.request(request)
            met[0].write(chatter)
            await asyncio.sleep(0.05)
            second = await link.request(request)
            return first.body, second.body, len(met)

    assert run_live(main) == (b"hi", b"hi", connections)


def test_a_pooled_connection_that_was_left_alone_for_its_reader_is_heard_in_the_next_exchange():
    content, met = b"x" * (http._BUFFER + 10_000), []

    async def serve(reader, writer):
        met.append(writer)
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content)

    async def main():
        read = []
        async with pooled(serve) as (link, request):
            for _ in range(2):
                body = await link.open(request, bound=len(content), timeout_s=5)
                await asyncio.sleep(0.1)  # all of it comes before the reader does
                read.append(b"".join([chunk async for chunk in body]))
        return read, len(met)

    assert run_live(main) == ([content, content], 1)
