"""The device's download: the first half of step 7 of the pattern.

A download is a loop of attempts. Each attempt asks its source (sources.py) for what is still missing, streams it at the
device's bandwidth, hashes it as it comes, and keeps what it has in flash, so that the next attempt, even after a power cut,
goes on from there. What the answer means is judged by its status, in HTTP's words:

200      all of it, from the start: the first attempt, or the content has changed since
206      the rest; only if Content-Range begins where the device stands, and the ETag is still the same
416      there is no rest: the device has all of it already, or another content and begins afresh
401 403  the grant is refused: a fresh one is asked for
408 425 429 5xx, a cut   try again after a pause, until attempts in a row that brought nothing new are spent
else     the download has failed"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable

from msgspec import Struct

from simulator.device.agent import Partial
from simulator.device.sources import Grant, Source
from simulator.links.base import Body
from simulator.model.errors import LinkError
from simulator.model.marker import HEAD_BYTES
from simulator.model.scenario import Backoff
from simulator.model.update import Artifact

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class DownloadFailed(Exception):
    """The download cannot succeed; the text is the reason that the device reports."""


class Piece(Struct, frozen=True):
    """How one attempt went, for the record. `status` is 0 where no response came; `offset` and `received` are in bytes;
    `began` is a time of the loop's clock; `error` is why it was not enough; `retry_after_s` is how long the storage asked to
    be left alone."""

    status: int
    offset: int
    received: int
    etag: str
    began: float
    error: str
    retry_after_s: float = 0.0


class Terms(Struct, frozen=True):
    """The conditions of a download. `bandwidth`: bytes per second, 0 for no limit. `bound`: the most that is taken, in bytes,
    where no size was announced. `timeout_s`: for one attempt. `retry.attempts`: failures in a row, that brought nothing new,
    until it is given up. `delay(n)`: seconds before the next attempt, after n failures before this one. `away()`: for how many
    seconds yet nothing can be reached."""

    bandwidth: float
    bound: int
    timeout_s: float
    retry: Backoff
    delay: Callable[[int], float]
    away: Callable[[], float] = lambda: 0.0


async def download(
    source: Source,
    artifact: Artifact,
    terms: Terms,
    partial: Partial | None,
    *,
    grant: Callable[[bool], Awaitable[Grant]],
    keep: Callable[[Partial], None],
    record: Callable[[Piece], None],
    transfer: type[Transfer] | None = None,
) -> Partial:
    """Fetch the artifact whole and return it as a finished `Partial`.

    `partial` is what an earlier download has left, if anything. `grant(fresh)` gives the permission, a new one if `fresh`;
    `keep` is called as bytes arrive, so that a power cut loses none of them; `record` is called after each attempt;
    `transfer` is a class that does it otherwise, for a bad habit. Raises DownloadFailed.
    """
    under_way = (transfer or Transfer)(source, artifact, terms, partial, keep, record)
    granted = await grant(False)
    failures, reached = 0, under_way.partial.received
    while True:
        retry = await under_way.attempt(granted)
        if retry is None:
            return under_way.partial
        if (away := terms.away()) > 0:  # nobody's failure
            await asyncio.sleep(away)
        else:
            if under_way.partial.received > reached:
                failures, reached = 0, under_way.partial.received
            failures += 1
            if failures >= (terms.retry.attempts or failures + 1):
                raise DownloadFailed(retry.reason)
            await asyncio.sleep(max(terms.delay(failures - 1), retry.retry_after_s))
        if retry.refused:
            granted = await grant(True)


class Retry(Struct, frozen=True):
    """Why another request is needed; `refused` asks for a fresh grant first."""

    reason: str
    refused: bool = False
    retry_after_s: float = 0.0


class Transfer:
    """The state of one download over its attempts; `partial` is what there is so far."""

    __slots__ = ("_artifact", "_bound", "_keep", "_loop", "_record", "_size", "_source", "_terms", "partial")

    def __init__(
        self,
        source: Source,
        artifact: Artifact,
        terms: Terms,
        partial: Partial | None,
        keep: Callable[[Partial], None],
        record: Callable[[Piece], None],
    ) -> None:
        self._source, self._artifact, self._terms = source, artifact, terms
        self._loop = asyncio.get_running_loop()
        self._keep, self._record = keep, record
        self._bound = terms.bound if artifact.size_bytes is None else artifact.size_bytes
        self._size = artifact.size_bytes  # None until somebody tells it
        if partial is not None and partial.artifact == artifact:
            self.partial = partial
        else:
            self.partial = Partial(artifact, "", 0, hashlib.sha256())

    def _afresh(self, etag: str = "") -> None:
        hasher = hashlib.sha256() if self.partial.received else self.partial.hasher  # which has seen nothing yet
        self.partial = Partial(self._artifact, etag, 0, hasher)
        self._size = self._artifact.size_bytes

    def _reach(self) -> None:
        if self._terms.away() > 0:
            raise LinkError("offline")

    async def attempt(self, grant: Grant) -> Retry | None:
        """One attempt: None when the artifact is complete, else why not yet. Raises DownloadFailed."""
        had = self.partial
        if had.received == self._size:
            return None
        status, began, error, retry = 0, self._loop.time(), "", None
        try:
            self._reach()
            body = await self._source.open(had, grant, bound=self._bound, timeout_s=self._terms.timeout_s)
            try:
                status = body.status
                retry = self._head(status, body.headers)
                if retry is None and status != 416:
                    await self._stream(body)
            finally:
                body.close()
        except LinkError as failure:
            error = str(failure)
            retry = Retry(error)
        finally:
            now = self.partial
            offset = had.received if status == 206 else 0
            received = max(0, now.received - offset) if status in (200, 206) else 0
            why, wait_s = (retry.reason, retry.retry_after_s) if retry else ("", 0.0)
            self._record(Piece(status, offset, received, now.etag, began, error or why, wait_s))
        return retry or self._end()

    def _head(self, status: int, headers: dict[str, str]) -> Retry | None:
        """Judge the response's head: None when its body is to be read from where `partial` now stands."""
        etag = headers.get("etag", "")
        if status == 200:  # whole: the first request, or Range ignored, or If-Range says the content changed
            self._afresh(etag)
            return None
        if status == 206:
            match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
            had = self.partial
            if match is None or match[1] is None or int(match[1]) != had.received:
                return self._restart("206 with a wrong Content-Range")
            if had.etag and etag and etag != had.etag:
                return self._restart("206 of another content")
            if match[3] != "*":
                if self._size not in (None, int(match[3])):
                    return self._restart("206 of another length")
                self._size = int(match[3])
            return None
        if status == 416:  # RFC 9110 15.5.17: nothing beyond what is there already, or another content
            match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
            if match and match[3] == str(self.partial.received) and self._size is None:
                return None
            return self._restart("416 range not satisfiable")
        if status in (401, 403):
            return Retry(f"http {status}", refused=True)
        if status in _RETRIED:
            return Retry(f"http {status}", retry_after_s=_seconds(headers.get("retry-after", "")))
        raise DownloadFailed(f"http {status}")

    def _restart(self, reason: str) -> Retry:
        self._afresh()
        self._keep(self.partial)
        return Retry(reason)

    async def _stream(self, body: Body) -> None:
        """Read, hash and count; at the pace of the device's bandwidth."""
        loop, bandwidth = self._loop, self._terms.bandwidth
        now = self.partial
        etag, received, hasher, head = now.etag, now.received, now.hasher, now.head
        due = loop.time()
        async for chunk in body:
            self._reach()
            hasher.update(chunk)
            received += len(chunk)
            if len(head) < HEAD_BYTES:
                head += chunk[: HEAD_BYTES - len(head)]
            self.partial = Partial(self._artifact, etag, received, hasher, head)
            self._keep(self.partial)
            if received > self._bound:
                raise DownloadFailed(f"more than {self._bound} bytes")
            if bandwidth:
                due = max(due + len(chunk) / bandwidth, loop.time())
                await asyncio.sleep(due - loop.time())

    def _end(self) -> Retry | None:
        received = self.partial.received
        if self._size is not None and received < self._size:
            return Retry(f"ended after {received} of {self._size} bytes")
        return None


def _seconds(text: str) -> float:
    """Retry-After as seconds; its date form counts as 0."""
    return float(text) if text.isdecimal() else 0.0
