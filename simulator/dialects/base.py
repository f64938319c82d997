"""The ports of a dialect: what each of four parties says and understands.

A dialect has four sides, and each side is a port, that is, a class with these methods. Whoever talks holds its side and
nothing else: a device its `DeviceDialect`, the application's engine its `ApplicationDialect`, the replica's core and
service their `ReplicaDialect`, the probe its `ProbeDialect`. A side does no I/O. It is asked to say something, or is
given what arrived, and it answers with data: messages to send, and *signals* (of a device and of an application) or
*requests* (to a replica), the same classes for all dialects. So the parties are written once, and a new dialect is four
new sides and one line in `registry.py`.

All times are Unix seconds: `now`, `wake_at`, `expires_at`. Versions of documents are whole numbers.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from simulator.dialects.meanings import Meaning
from simulator.model.io import Inbound, Message, Publish, Step
from simulator.model.state import Document
from simulator.model.update import Download, Execution, Outcome, Progress, Status

# ---- signals: what a dialect tells the device


class UpdateRequested(Struct, frozen=True):
    """The desired software differs from the reported one. `doc` is the document's version, where there is one;
    `source` is "delta" or "get"."""

    execution: Execution
    download: Download
    doc: int | None
    source: str


class Said(Struct, frozen=True):
    """With the outputs of `open`: they hold this report. Without it the dialect opens without a report, and none goes on
    the record."""

    progress: Progress


class Chunk(Struct, frozen=True):
    """A piece of the artifact of `job`, from byte `offset` on; the last one is shorter than was asked for, or empty."""

    job: str
    offset: int
    content: bytes


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
    """A device asks for a temporary credential with which it may download the artifact of `job`."""

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
    """The device's side: steps 1, 5, 6 and 8 of the pattern. Called by one device and its connection, which send the
    outputs of each Step, in order, and act upon its signals."""

    wake_at: float | None
    """When it wants `wake` to be called (dialects that poll); None for never."""

    roads: frozenset[str]
    """What it converses over: "mqtt", or "http" alone. A device without that link is refused."""

    @property
    def answers(self) -> bool:
        """Whether the service answers a report. Where it does not, a report that was published is done, and only an
        update's end is reported."""

    def open(self, initial: Progress, now: float) -> Step:
        """The connection is up: subscribe, report the initial state (signal: Said), ask for the desired one."""

    def receive(self, inbound: Inbound, now: float) -> Step:
        """Something arrived. Signals: UpdateRequested, InSync, Answered, CredentialGranted, CredentialRefused, Chunk."""

    def report(self, progress: Progress, now: float) -> Step:
        """Say how the update goes. The same progress (same token) may be said again: a resend."""

    def ask_current(self, now: float) -> Step:
        """Ask for the current desired state, and with it for a fresh download URL."""

    def ask_credential(self, job: str, now: float) -> Step:
        """Ask for a temporary credential for this job's artifact."""

    def ask_chunk(self, job: str, offset: int, length: int, now: float) -> Step:
        """Ask for `length` bytes of this job's artifact, where it comes in chunks (`Download.chunk_bytes`)."""

    def wake(self, now: float) -> Step:
        """`wake_at` has come."""

    def meaning(self, topic: str, payload: bytes) -> Meaning:
        """What an MQTT message on the device's road means, in either direction. Faults go by it."""


class ApplicationDialect(Protocol):
    """The application's side: step 3 of the pattern. Called by the engine that carries rollouts out: it offers executions
    and hears how they go."""

    def open(self, now: float) -> Step:
        """The connection is up: subscribe to the answers of all things."""

    def offer(self, execution: Execution, now: float) -> Step:
        """Say what this thing shall run. The same execution again is a resend; what already runs, under a new
        job id, takes an earlier offer back."""

    def token(self, job: str) -> str:
        """The client token of this job's offers, by which an answer finds its offer; the same on every resend."""

    def receive(self, inbound: Inbound, now: float) -> Step:
        """Something arrived. Signals: OfferAnswered, Reported."""


class ReplicaDialect(Protocol):
    """The replica's side: steps 4 and 9 of the pattern. `open` and `parse` are called by the replica's service, for
    what arrives; the rest by its core, for what is to be answered. The null backend calls both."""

    def open(self) -> Step:
        """The connection is up: subscribe to the requests of all things."""

    def parse(self, message: Message) -> ReplicaRequest | None:
        """The request that this message makes; None when it makes none, and is to be passed over."""

    def accepted(self, request: UpdateRequest, version: int, now: float) -> Publish:
        """The update is committed, and made this version of the document."""

    def rejected(self, request: ReplicaRequest, code: int, message: str, now: float) -> Publish:
        """The request is refused, and changed nothing. `code` is as in HTTP: 400 malformed, 409 another version, 413 too
        large."""

    def delta(
        self, thing: str, state: Document, version: int, now: float, *, job: str, download: Document | None
    ) -> Publish:
        """What is desired and not reported, said unasked: for a device the command to update. `download` is the
        permission to download that goes with it: `url`, `size` in bytes, `sha256` in hex, `expiresAt`; each where it is
        known."""

    def current(
        self, request: GetRequest, state: Document, version: int, now: float, *, job: str, download: Document | None
    ) -> Publish:
        """The answer to a question for the document: `state` holds `desired`, `reported` and `delta`, each where there
        is one."""

    def credential(self, request: CredentialRequest, authorization: str, expires_at: float) -> Publish:
        """A temporary credential: the value of an Authorization header, good until `expires_at`."""


class ProbeDialect(Protocol):
    """The side of somebody who is no device and asks the replica about one thing what it must refuse and what it must
    honour. Called by the application's probe."""

    @property
    def thing(self) -> str:
        """The thing that it asks about."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The topic filters on which answers come."""

    def update(self, reported: Document, token: str, version: int | None) -> Publish:
        """Ask for a change of what is reported; with a version, only if that is the document's."""

    def malformed(self) -> Publish:
        """A request that the replica cannot read, and must refuse."""

    def get(self, token: str) -> Publish:
        """Ask for the document."""

    def receive(self, message: Message) -> Answered | None:
        """The answer that this message is, with an empty token where it has none; None when it is no answer."""
