"""An HTTP server for the faces of backend and application: uvicorn on a socket of ours, inside a running loop."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from simulator.model.errors import ScenarioError

_BACKLOG = 4096
_STOP_S = 2


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Signals belong to the process, not to its HTTP face."""
        yield


@contextlib.asynccontextmanager
async def serve(app: Any, host: str, port: int) -> AsyncIterator[int]:
    """Serve an ASGI application; gives the port (chosen by the system for 0). Raises ScenarioError when it is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
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


def guarded(app: FastAPI, token: str) -> FastAPI:
    """Every path but /health and the API's own description wants `Authorization: Bearer <token>`; every error is
    JSON, `{"error": text}`."""
    expected = f"Bearer {token}"

    @app.middleware("http")
    async def check(request: Request, proceed: Any) -> Any:
        if request.url.path not in ("/health", "/openapi.json", "/docs"):
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), expected.encode()):
                return error(401, "a bearer token is needed: Authorization: Bearer TOKEN")
        return await proceed(request)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, refusal: HTTPException) -> JSONResponse:
        return error(refusal.status_code, str(refusal.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, bad: RequestValidationError) -> JSONResponse:
        said = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in bad.errors()]
        return error(422, "; ".join(said))

    return app


def error(status: int, text: str) -> JSONResponse:
    """An error as JSON."""
    return JSONResponse({"error": text}, status)
