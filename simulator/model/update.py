"""The nouns of one software update, and the table of the moves a device's update may make."""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct


class Artifact(Struct, frozen=True):
    """Immutable bytes. `url` is stable; `size_bytes` and `sha256` (hex) are None where nobody told them."""

    version: str
    url: str
    size_bytes: int | None = None
    sha256: str | None = None


def same_place(url: str, other: str) -> bool:
    """Whether two URLs differ in their query at most, which is a signature and no identity."""
    return url.partition("?")[0] == other.partition("?")[0]


class Download(Struct, frozen=True):
    """Permission to download, minted for one thing and a while; never stored, never compared.

    `expires_at` is in Unix seconds. With `needs_credential` the URL is plain and the device asks for a
    credential over its own channel first. With `chunk_bytes` the artifact does not come from the URL, but in chunks of that
    size over the device's own connection.
    """

    url: str
    expires_at: float | None = None
    needs_credential: bool = False
    chunk_bytes: int = 0


class Execution(Struct, frozen=True):
    """One thing's turn in a rollout; `id` is the job id on the wire, the same on every resend."""

    id: str
    thing: str
    artifact: Artifact
    rollout: str = ""


class Status(StrEnum):
    """What a device says of an update (the atlas dialect's `status`)."""

    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"


class State(StrEnum):
    """Where an execution is, as its application sees it."""

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
    """News of one execution: RUNNING (IN_PROGRESS) or an end. Learned from messages only."""

    thing: str
    execution: str
    state: State
    reason: str = ""


_VARYING = re.compile(r"(?<![A-Za-z0-9])(?:[0-9a-f]{8,}…?|\d+(?:\.\d+)?)")


def plain(reason: str) -> str:
    """The reason without what varies from one to the other: numbers and hashes."""
    return _VARYING.sub("…", reason)


class Progress(Struct, frozen=True):
    """What a device reports: the version and URL that run now and, when it speaks of an update, its job."""

    version: str
    url: str
    job: str = ""
    status: Status | None = None
    phase: str = ""
    reason: str = ""
    token: str = ""


class Phase(StrEnum):
    """Where an update is on the device."""

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
