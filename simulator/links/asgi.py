"""Runs an HTTP server (uvicorn) inside an event loop that runs already, for the APIs of storage, replica and application.

`serve` opens the socket and serves an ASGI application for as long as its block runs. `guarded` makes a FastAPI
application that asks for a bearer token and gives every error as JSON; the three APIs are built on it. `tell_health` adds
/health.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from simulator import __version__
from simulator.model.errors import ScenarioError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BACKLOG = 4096
_STOP_S = 2
_OPEN = ("/health", "/openapi.json")
_TOKEN = HTTPBearer(auto_error=False, scheme_name="token", description="the token that fleetsim was given, or printed")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave signals alone: the process handles them itself."""
        yield


@contextlib.asynccontextmanager
async def serve(app: Any, host: str, port: int) -> AsyncIterator[int]:
    """Serve an ASGI application while the block runs. Yields the port, which the system chooses if 0 is given. Raises
    ScenarioError if it cannot listen there."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ScenarioError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        backlog=_BACKLOG,
        http="httptools",
        ws="none",
        timeout_graceful_shutdown=_STOP_S,
        timeout_keep_alive=30,
        server_header=False,
        date_header=False,
    )
    server = _Server(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
                raise ScenarioError(f"the HTTP server on {host}:{port} did not start")
            await asyncio.sleep(0.005)
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


def guarded(title: str, token: str) -> FastAPI:
    """A FastAPI application without paths of its own but /openapi.json, which describes it. Every path but this one and
    /health asks for `Authorization: Bearer <token>`. Every error is JSON, `{"error": text}`."""
    app = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None, dependencies=[Security(_TOKEN)])
    app.add_middleware(_Guard, expected=f"Bearer {token}".encode())

    @app.exception_handler(HTTPException)
    async def refused(_: Request, refusal: HTTPException) -> JSONResponse:
        return error(refusal.status_code, str(refusal.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, bad: RequestValidationError) -> JSONResponse:
        errors = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in bad.errors()]
        return error(422, "; ".join(errors))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return error(400, "the request was not sent to its end")

    return app


class _Guard:
    """Middleware that answers 401 to a request without the token."""

    def __init__(self, app: App, expected: bytes) -> None:
        self._app, self._expected = app, expected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if scope["path"] in _OPEN or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
            return
        # the body is read all the same: closing before would reset the connection, and with it the answer
        while (await receive()).get("more_body"):
            pass
        refusal = error(401, "a bearer token is needed: Authorization: Bearer TOKEN")
        refusal.headers["www-authenticate"] = "Bearer"
        await refusal(scope, receive, send)


def error(status: int, text: str) -> JSONResponse:
    """The response for an error: `{"error": text}` with this status."""
    return JSONResponse({"error": text}, status)


def tell_health(face: FastAPI, health: Callable[[], dict[str, Any]]) -> None:
    """Add the path /health to an API. It answers that the API is up, its version, and what `health()` returns."""

    @face.get("/health")
    async def healthy() -> dict[str, Any]:
        """Whether it is up, and what it holds. Needs no token."""
        return {"status": "ok", "version": __version__, **health()}
