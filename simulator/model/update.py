"""The nouns of one software update, as plain data for all parts of the simulator.

The artifact and the permission to download it; the execution and its `State`, as the application sees it; what a device
reports (`Status`, `Progress`); and the `Phase` of the update on the device. MOVES is the table of the phases that may
follow each other.
"""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct


class Artifact(Struct, frozen=True):
    """A version of the software: bytes that never change, at a URL that never changes. `size_bytes` and `sha256` (hex) are
    None if they are not known."""

    version: str
    url: str
    size_bytes: int | None = None
    sha256: str | None = None


def same_place(url: str, other: str) -> bool:
    """Whether two URLs are the same but for their query, which holds a signature and does not say which artifact it is."""
    return url.partition("?")[0] == other.partition("?")[0]


class Download(Struct, frozen=True):
    """Permission for one thing to download, for a limited time; made anew each time, never stored, never compared.

    `expires_at` is in Unix seconds. With `needs_credential` the URL is plain and the device asks for a
    credential over its own channel first. With `chunk_bytes` the artifact does not come from the URL, but in chunks of that
    size over the device's own connection.
    """

    url: str
    expires_at: float | None = None
    needs_credential: bool = False
    chunk_bytes: int = 0


class Execution(Struct, frozen=True):
    """The update of one thing by a rollout. `id` is the job's id on the wire; it stays the same when the offer is
    sent again."""

    id: str
    thing: str
    artifact: Artifact
    rollout: str = ""


class Status(StrEnum):
    """How an update goes, as the device reports it (the field `status` of the atlas dialect)."""

    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"


class State(StrEnum):
    """The state of an execution, as the application sees it."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"

    @property
    def ended(self) -> bool:
        """Whether this state is final."""
        return self not in (State.QUEUED, State.IN_PROGRESS)


class Outcome(Struct, frozen=True):
    """News of one execution: it is running (IN_PROGRESS), or it has ended in `state`, for this reason."""

    thing: str
    execution: str
    state: State
    reason: str = ""


_VARYING = re.compile(r"(?<![A-Za-z0-9])(?:[0-9a-f]{8,}…?|\d+(?:\.\d+)?)")


def plain(reason: str) -> str:
    """The reason with … in place of numbers and hashes, so that reasons that differ in nothing else are the same."""
    return _VARYING.sub("…", reason)


class Progress(Struct, frozen=True):
    """What a device reports: the version that runs and the URL it came from; and, in a report on an update, the job and how
    it goes."""

    version: str
    url: str
    job: str = ""
    status: Status | None = None
    phase: str = ""
    reason: str = ""
    token: str = ""


class Phase(StrEnum):
    """The phase of an update on the device."""

    IDLE = "idle"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    INSTALLING = "installing"
    REBOOTING = "rebooting"
    CONFIRMING = "confirming"
    ROLLING_BACK = "rolling-back"
    REPORTING = "reporting"


# Every legal move. A power cut or a newer order takes a working phase back to IDLE;
# a failed stage goes straight to REPORTING.
MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.DOWNLOADING, Phase.REPORTING}),
    Phase.DOWNLOADING: frozenset({Phase.VERIFYING, Phase.REPORTING, Phase.IDLE}),
    Phase.VERIFYING: frozenset({Phase.INSTALLING, Phase.REPORTING, Phase.IDLE}),
    Phase.INSTALLING: frozenset({Phase.REBOOTING, Phase.REPORTING, Phase.IDLE}),
    Phase.REBOOTING: frozenset({Phase.CONFIRMING, Phase.ROLLING_BACK, Phase.REPORTING}),
    Phase.CONFIRMING: frozenset({Phase.REPORTING, Phase.ROLLING_BACK}),
    Phase.ROLLING_BACK: frozenset({Phase.REPORTING}),
    Phase.REPORTING: frozenset({Phase.IDLE}),
}
