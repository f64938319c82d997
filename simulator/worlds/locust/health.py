"""Says that a Locust process is well, to whoever watches containers: a worker answers from when it has found its master, and
ends when it has lost it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gevent.pywsgi import WSGIServer


def answer(port: int) -> None:
    """Answer GET /health on this port of loopback."""
    WSGIServer(("127.0.0.1", port), _health, log=None).start()


def _health(environ: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    known = environ["PATH_INFO"] == "/health"
    start("200 OK" if known else "404 Not Found", [("Content-Type", "text/plain")])
    return [b"well\n" if known else b"no such page\n"]
