"""The ports of a dialect: what a device, an application and a replica each say and understand.

Cores take `now` in Unix seconds where it goes on the wire; `wake_at` is in the same clock.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from simulator.model.io import Inbound, Step
from simulator.model.update import Download, Execution, Outcome, Progress, Status

# ---- signals: what a dialect tells the device's session


class UpdateRequested(Struct, frozen=True):
    """The desired software differs from the reported one. `doc` is the document's version, where there is one;
    `source` is "delta" or "get"."""

    execution: Execution
    download: Download
    doc: int | None
    source: str


class InSync(Struct, frozen=True):
    """The replica answered `get`, and nothing is desired that is not reported."""

    doc: int | None


class Answered(Struct, frozen=True):
    """The replica answered the report with this client token. `code` is None when it was accepted."""

    token: str
    job: str
    doc: int | None
    code: int | None = None
    message: str = ""


class CredentialGranted(Struct, frozen=True):
    """A temporary credential for `job`: the value of an Authorization header, until `expires_at` (Unix seconds)."""

    job: str
    authorization: str
    expires_at: float | None


class CredentialRefused(Struct, frozen=True):
    """No credential for `job`, and why."""

    job: str
    code: int
    message: str


# ---- signals of the application's side


class OfferAnswered(Struct, frozen=True):
    """The replica answered the desired state of `job`, whose request had the client token `token`. `code` is None when
    it was accepted, as version `doc` of the document."""

    thing: str
    job: str
    code: int | None = None
    message: str = ""
    doc: int | None = None
    token: str | None = None


class Reported(Struct, frozen=True):
    """The replica accepted a report: this thing says it runs `version`; `outcome` where it speaks of an update."""

    thing: str
    version: str
    url: str
    outcome: Outcome | None = None


# ---- requests: what a replica is asked for


class UpdateRequest(Struct, frozen=True):
    """Somebody asks for a change of a thing's document. `state` is what the request carried, as it came."""

    thing: str
    state: Any
    version: Any = None
    token: Any = None
    job: str = ""
    status: str = ""
    reason: str = ""


class GetRequest(Struct, frozen=True):
    """Somebody asks for the thing's document."""

    thing: str
    token: Any = None


class CredentialRequest(Struct, frozen=True):
    """A device asks for leave to download the artifact of `job`."""

    thing: str
    job: str
    token: Any = None


class Completion(Struct, frozen=True):
    """`atlas-example`: the device's own word that a job ended."""

    thing: str
    job: str
    status: Status


class Malformed(Struct, frozen=True):
    """A request that is no JSON object; `name` is the topic's, so that the answer finds its way."""

    thing: str
    name: str


ReplicaRequest = UpdateRequest | GetRequest | CredentialRequest | Completion | Malformed


# ---- the ports


class DeviceDialect(Protocol):
    """The device's side. It is asked to say something, or told what came; it answers with a Step."""

    wake_at: float | None
    """When it wants to be woken (polling dialects), in Unix seconds; None for never."""

    @property
    def answers(self) -> bool:
        """Whether the service answers a report. Where it does not, a report that was published is done, and only an
        update's end is reported."""

    def open(self, initial: Progress, now: float) -> Step:
        """The connection is up: subscribe, report the initial state, ask for the desired one."""

    def receive(self, inbound: Inbound, now: float) -> Step:
        """Something arrived. Signals: UpdateRequested, InSync, Answered, CredentialGranted, CredentialRefused."""

    def report(self, progress: Progress, now: float) -> Step:
        """Say how the update goes. The same progress (same token) may be said again: a resend."""

    def ask_current(self, now: float) -> Step:
        """Ask for the current desired state, and with it for a fresh download URL."""

    def ask_credential(self, job: str, now: float) -> Step:
        """Ask for a temporary credential for this job's artifact."""

    def wake(self, now: float) -> Step:
        """`wake_at` has come."""


class ServiceDialect(Protocol):
    """The application's side: it offers executions and hears how they go."""

    def open(self, now: float) -> Step:
        """The connection is up: subscribe to the answers of all things."""

    def offer(self, execution: Execution, now: float) -> Step:
        """Say what this thing shall run. The same execution again is a resend; what already runs, under a new
        job id, takes an earlier offer back."""

    def token(self, job: str) -> str:
        """The client token of this job's offers."""

    def receive(self, inbound: Inbound, now: float) -> Step:
        """Something arrived. Signals: OfferAnswered, Reported."""
