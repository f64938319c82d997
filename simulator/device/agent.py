"""The update agent: what a device decides about an update, and what it remembers. Pure: the other parts carry it out.

It knows two slots of software, the active one and, between installation and reboot, a candidate. The agent follows an
order if it names other software than what runs, if its job is not done yet, and if its document is not older than the
newest one seen. All that must survive a power cut is in `Flash`; `power_lost` forgets the rest. The moves that an
update may make from phase to phase are a table (`model.update.MOVES`), and another move is a bug, which raises."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from simulator.dialects.base import UpdateRequested
from simulator.model.marker import Marker
from simulator.model.update import MOVES, Artifact, Execution, Phase, Progress, Status, same_place

_REMEMBERED_JOBS = 8


class Software(Struct, frozen=True):
    """What a slot holds: `digest` is the sha256, in hex, of the bytes that really stand there."""

    version: str
    url: str
    digest: str


class Partial(Struct, frozen=True):
    """A download so far: `hasher` has seen the first `received` bytes of `artifact`, all under one `etag`, and `head`
    the first few of them."""

    artifact: Artifact
    etag: str
    received: int
    hasher: Any
    head: bytes = b""


@dataclass(slots=True)
class Flash:
    """What survives a power cut."""

    active: Software
    candidate: Software | None = None  # written whole, to be tried at the next boot
    job: str = ""  # whose candidate, or whose pending report
    pending: Progress | None = None  # an outcome whose report was not yet answered
    partial: Partial | None = None
    unanswered: Progress | None = None  # the last report of an end, if nobody answered it
    marks: tuple[Marker, ...] = ()  # what markers in the job's software make go wrong
    ended: tuple[str, ...] = ()  # the last jobs that were carried through, whatever their end
    doc: int = -1  # the highest document version heard of
    reports: int = 0  # counts client tokens


class Reaction(StrEnum):
    """What a device makes of a desired state."""

    START = "start"
    SUPERSEDE = "supersede"
    RUNNING = "running"
    DUPLICATE = "duplicate"
    AGAIN = "again"
    STALE = "stale"
    INSTALLED = "installed"


class UpdateAgent:
    """One device's update: `phase`, the `execution` under way, and the flash."""

    __slots__ = ("execution", "flash", "phase")

    def __init__(self, flash: Flash) -> None:
        self.flash = flash
        self.phase = Phase.IDLE
        self.execution: Execution | None = None

    # ---- deciding

    def completed(self, request: UpdateRequested) -> UpdateRequested:
        """The request with a version: a delta that names none means the one that runs, for only differences stand
        in it."""
        execution = request.execution
        if execution.artifact.version:
            return request
        artifact = replace(execution.artifact, version=self.flash.active.version)
        return replace(request, execution=replace(execution, artifact=artifact))

    def consider(self, request: UpdateRequested) -> Reaction:
        """What to do about this desired state; START, SUPERSEDE and INSTALLED make it the one under way."""
        execution, flash = request.execution, self.flash
        stale = request.doc is not None and request.doc < flash.doc
        if request.doc is not None and not stale:
            flash.doc = request.doc
        if self.phase is not Phase.IDLE and execution.id == flash.job:
            return Reaction.RUNNING
        if execution.id in flash.ended:
            return Reaction.DUPLICATE  # a repeated delta is not applied twice
        if stale:
            return Reaction.STALE  # an older one never
        if self._runs(execution.artifact):
            return Reaction.INSTALLED
        return Reaction.START if self.phase is Phase.IDLE else Reaction.SUPERSEDE

    def _runs(self, artifact: Artifact) -> bool:
        """Whether this very software runs already; a URL's query is its signature, not its identity."""
        active = self.flash.active
        if artifact.sha256 is not None:
            return artifact.sha256 == active.digest
        return artifact.version == active.version and same_place(artifact.url, active.url)

    # ---- moving

    def move(self, phase: Phase) -> Phase:
        """Enter a phase and return the one left. Raises ValueError for a move the table does not have."""
        left = self.phase
        if phase not in MOVES[left]:
            raise ValueError(f"illegal move: {left} -> {phase}")
        self.phase = phase
        return left

    def begin(self, execution: Execution) -> None:
        """Make this execution the one under way."""
        self.execution = execution
        self.flash.job, self.flash.marks = execution.id, ()

    def adopt(self, url: str) -> None:
        """What is desired runs already: from now on it is known by the URL that it is desired by."""
        self.flash.active = replace(self.flash.active, url=url)

    def commit(self, software: Software) -> None:
        """The inactive slot is written whole and marked to be tried."""
        self.flash.candidate = software
        self.flash.partial = None

    def end(self, job: str) -> None:
        """This job has been carried through; it is never started again."""
        flash = self.flash
        if job and job not in flash.ended:
            flash.ended = (*flash.ended[1 - _REMEMBERED_JOBS :], job)

    # ---- what a boot does

    def try_candidate(self, boots: bool) -> bool:
        """The bootloader's turn: run the candidate and keep it, or go back. True when the candidate runs."""
        flash = self.flash
        candidate, flash.candidate = flash.candidate, None
        if candidate is not None and boots:
            flash.active = candidate
            return True
        return False

    def power_lost(self) -> None:
        """Forget what was only in memory. A pending report and a candidate were in flash."""
        flash = self.flash
        self.execution = None
        if flash.candidate is not None:
            self.phase = Phase.REBOOTING
        else:
            self.phase = Phase.REPORTING if flash.pending is not None else Phase.IDLE

    # ---- what it says

    def token(self) -> str:
        """A client token never used before by this device."""
        self.flash.reports += 1
        return f"r{self.flash.reports}"

    def initial(self) -> Progress:
        """The report of a fresh connection."""
        active = self.flash.active
        return Progress(active.version, active.url, token=self.token())

    def progress(self, status: Status, reason: str = "", claimed: Software | None = None) -> Progress:
        """A report on the job under way: what runs now, or what the device claims to run."""
        runs = claimed or self.flash.active
        return Progress(runs.version, runs.url, self.flash.job, status, self.phase, reason, self.token())
