"""Where a download's bytes come from. A download (download.py) keeps what it has, hashes, resumes and retries; how to ask
for the rest is its source's to know:

HttpSource   a request to the URL of the grant, with Range from where it stands
ChunkSource  chunk after chunk over the device's own connection (chunks.py)

A source answers with a `Body`, whose status and headers say what it holds in the words of HTTP: 200 for the whole, 206
with Content-Range for the rest."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from simulator.device.agent import Partial
from simulator.links.base import Body, HttpLink
from simulator.model.io import Purpose, Request


class Grant(Struct, frozen=True):
    """Permission to download: the URL, and the Authorization header's value if one is needed."""

    url: str
    authorization: str = ""


class Source(Protocol):
    """Where a download's bytes come from."""

    async def open(self, had: Partial, grant: Grant, *, bound: int, timeout_s: float) -> Body:
        """Ask for what is missing beyond `had`, or for all. No more than `bound` bytes come, within `timeout_s`; both
        are kept by iterating the body, too. Raises LinkError."""


class HttpSource:
    """A storage that is reached over HTTP; implements `Source`."""

    __slots__ = ("_http",)

    def __init__(self, http: HttpLink) -> None:
        self._http = http

    async def open(self, had: Partial, grant: Grant, *, bound: int, timeout_s: float) -> Body:
        """One GET, from where `had` stands, of the same content as before."""
        headers: list[tuple[str, str]] = []
        if grant.authorization:
            headers.append(("authorization", grant.authorization))
        if had.received:
            headers.append(("range", f"bytes={had.received}-"))
            if had.etag and not had.etag.startswith("W/"):  # RFC 9110 13.1.5: never a weak one
                headers.append(("if-range", had.etag))
        request = Request("GET", grant.url, tuple(headers), purpose=Purpose.DOWNLOAD)
        return await self._http.open(request, bound=bound, timeout_s=timeout_s)
