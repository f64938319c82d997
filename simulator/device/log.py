"""What one device writes on the record: one method for each event. The columns are explained in `model.events`; spans
are in microseconds. Nothing here decides anything."""

from __future__ import annotations

import asyncio

import orjson

from simulator.device.agent import Reaction, UpdateAgent
from simulator.device.download import Piece
from simulator.dialects.base import Answered, UpdateRequested
from simulator.model.events import Kind
from simulator.model.update import Phase, Progress
from simulator.trace.recorder import Record

_IDLE = Phase.IDLE  # a member is looked up slowly in Python 3.11
_AGES_S = 1e9  # whatever a backend says of its URL's end, the record can hold it


class Log:
    """One device's events. The job and the software that most of them name are read from `agent`. `epoch` + the loop's
    clock is Unix time."""

    __slots__ = ("_agent", "_entered", "_epoch", "_loop", "_record", "thing")

    def __init__(self, record: Record, thing: str, agent: UpdateAgent, epoch: float) -> None:
        self._record, self.thing, self._agent, self._epoch = record, thing, agent, epoch
        self._loop = asyncio.get_running_loop()
        self._entered = 0.0  # when the present phase was entered

    def since(self, then: float) -> int:
        """Microseconds since this time of the loop's clock."""
        return round((self._loop.time() - then) * 1e6)

    def until(self, unix_s: float) -> int:
        """Microseconds until this Unix time, negative once it is past."""
        left = unix_s - (self._loop.time() + self._epoch)
        return round(max(-_AGES_S, min(left, _AGES_S)) * 1e6)

    # ---- power

    def boot(self, how: str, began: float) -> None:
        """The device is up, after a start that began at `began`."""
        active = self._agent.flash.active
        span_us = self.since(began)
        self._record(Kind.BOOT, self.thing, status=how, version=active.version, digest=active.digest, span_us=span_us)

    def retired(self) -> None:
        """The device is switched off for good."""
        active = self._agent.flash.active
        self._record(Kind.RETIRED, self.thing, status=self._agent.phase, version=active.version, digest=active.digest)

    # ---- the update

    def delta(self, request: UpdateRequested, reaction: Reaction) -> None:
        """The device heard what is desired, and what it makes of it."""
        execution, expires = request.execution, request.download.expires_at
        self._record(
            Kind.DELTA,
            self.thing,
            job=execution.id,
            status=reaction,
            version=execution.artifact.version,
            digest=execution.artifact.sha256,
            doc=request.doc,
            size=execution.artifact.size_bytes,
            span_us=None if expires is None else self.until(expires),
            detail=request.source,
        )

    def phase(self, left: Phase) -> None:
        """The update has moved from this phase to the agent's; how long it was in it."""
        now = self._loop.time()
        span_us = None if left is _IDLE else round((now - self._entered) * 1e6)
        self._entered = now
        agent = self._agent
        self._record(Kind.PHASE, self.thing, job=agent.flash.job, phase=left, status=agent.phase, span_us=span_us)

    def piece(self, piece: Piece) -> None:
        """One request of the download has ended."""
        detail: dict[str, object] = {"offset": piece.offset, "etag": piece.etag}
        if piece.error:
            detail["error"] = piece.error
        if piece.retry_after_s:
            detail["retry_after_s"] = piece.retry_after_s
        self._record(
            Kind.DOWNLOAD,
            self.thing,
            job=self._agent.flash.job,
            status=str(piece.status),
            size=piece.received,
            span_us=self.since(piece.began),
            detail=orjson.dumps(detail).decode(),
        )

    def commit(self, version: str, digest: str, size: int | None, announced: str | None) -> None:
        """The new software stands whole in the inactive slot. `digest` is what was installed, `announced` what should
        have been; `size` in bytes."""
        self._record(
            Kind.COMMIT,
            self.thing,
            job=self._agent.flash.job,
            version=version,
            digest=digest,
            size=size,
            detail=announced,
        )

    def confirm(self) -> None:
        """The new software runs, and is kept."""
        flash = self._agent.flash
        active = flash.active
        self._record(Kind.CONFIRM, self.thing, job=flash.job, version=active.version, digest=active.digest)

    def rollback(self) -> None:
        """The new software did not come up: the old one runs again."""
        flash = self._agent.flash
        active = flash.active
        self._record(
            Kind.ROLLBACK,
            self.thing,
            job=flash.job,
            version=active.version,
            digest=active.digest,
            detail="boot failed",
        )

    # ---- reports

    def report(self, status: str, progress: Progress, nth: int, *, token: bool, span_us: int | None = None) -> None:
        """A report is sent for the `nth` time; `token`: with a client token that an answer will name."""
        self._record(
            Kind.REPORT,
            self.thing,
            job=progress.job or None,
            status=status,
            version=progress.version,
            digest=self._agent.flash.active.digest,
            phase=progress.phase or None,
            size=nth,
            span_us=span_us,
            detail=progress.reason or None,
            token=progress.token if token else None,
        )

    def answer(self, answer: Answered, job: str | None, first_sent: float | None) -> None:
        """A report was answered. `job` and `first_sent` are those of the pending report, where it is the one meant."""
        self._record(
            Kind.ANSWER,
            self.thing,
            job=job,
            status="accepted" if answer.code is None else "rejected",
            doc=answer.doc,
            span_us=None if first_sent is None else self.since(first_sent),
            detail=None if answer.code is None else f"{answer.code} {answer.message}",
            token=answer.token or None,
        )

    def given_up(self, job: str, *, first_sent: float | None = None, detail: str | None = None) -> None:
        """A report will not be sent again, though nobody answered it."""
        span_us = None if first_sent is None else self.since(first_sent)
        self._record(Kind.ANSWER, self.thing, job=job, status="given-up", span_us=span_us, detail=detail)

    # ---- the connection

    def connect(self, status: str, due: float, attempts: int, detail: str | None) -> None:
        """An attempt to connect has ended, the first of which was due at `due`."""
        span_us = self.since(due)
        self._record(Kind.CONNECT, self.thing, status=status, span_us=span_us, size=attempts, detail=detail)

    def lost(self, reason: str, detail: str | None = None) -> None:
        """The connection has ended."""
        self._record(Kind.LOST, self.thing, status=reason, detail=detail)

    # ---- what goes wrong

    def mishap(self, stage: str, way: str, cause: str | None = None, *, job: str | None = None) -> None:
        """The device's profile, or a marker in the software (`cause`), makes this stage go wrong in this way."""
        self._record(Kind.MISHAP, self.thing, job=job, phase=stage, status=way, detail=cause)
