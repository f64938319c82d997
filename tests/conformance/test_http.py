"""The conformance suite of HTTP links, on every road there is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from simulator.broker.mosquitto import free_port
from simulator.links.base import HttpLink, HttpOptions
from simulator.links.clock import run_virtual
from simulator.links.http import LeanHttp
from simulator.links.library_http import LibraryHttp
from simulator.links.loop import LiveLoop
from simulator.links.memory_http import MemoryHttp
from simulator.model.errors import LinkError
from simulator.model.io import Request, Response
from tests.conformance.http import CHECKS, ON_THE_WIRE, Check, Road
from tests.conformance.http_server import RawServer, page

Loop = Callable[[], asyncio.AbstractEventLoop]
WAYS: dict[str, tuple[Callable[[HttpOptions], HttpLink], Loop]] = {
    "lean": (LeanHttp, LiveLoop),
    "library": (LibraryHttp, LiveLoop),
    "library-asyncio": (LibraryHttp, asyncio.new_event_loop),
}


def down() -> tuple[HttpLink, str]:
    def refused(request: Request) -> Response:
        raise LinkError("connection refused")

    return MemoryHttp(refused), "/hello"


@pytest.mark.parametrize(
    "check",
    [pytest.param(c, id=c.__name__) for c in CHECKS],
)
def test_memory(check: Check) -> None:
    async def main(loop: object) -> None:
        await check(Road(lambda options: MemoryHttp(page), "", down))

    run_virtual(main, until_s=100)


@pytest.mark.parametrize("check", CHECKS + ON_THE_WIRE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", WAYS)
def test_link(name: str, check: Check) -> None:
    make, new_loop = WAYS[name]
    complaints: list[dict[str, Any]] = []
    made: list[HttpLink] = []

    def remembered(options: HttpOptions) -> HttpLink:
        made.append(make(options))
        return made[-1]

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        server = RawServer()
        base = f"http://127.0.0.1:{await server.start()}"
        try:
            await check(
                Road(remembered, base, lambda: (make(HttpOptions()), f"http://127.0.0.1:{free_port()}"), server)
            )
        finally:
            for link in made:
                await link.close()
            await server.stop()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(main(), 20.0))
    gc.collect()
    assert not complaints
