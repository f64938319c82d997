"""The lines between a conductor and its parts: what may be said, by whom, and what belongs to it.

A part is a process that plays one role in a live run. The conductor writes to its stdin and reads its stdout, a line of
JSON each time. The first line to a part is its configuration, one kind for each role. All later ones are commands, and
all lines from a part are events. A part begins with `ready` (or ends, and says why in `last words`), and is told `go`
if its role waits for that. From then on it tells twice a second what it recorded, and once a second how it is.

A line that is not one of these raises `NotUnderstood`, which ends a part in exit code 3. So do unknown fields: processes
of two versions of fleetsim, as on several hosts, refuse each other at the configuration instead of running half.
"""

from __future__ import annotations

from typing import Any, Self, TypeVar

import msgspec
from msgspec import Struct

from simulator.model.errors import FleetsimError


class NotUnderstood(FleetsimError):
    """A line between two processes of fleetsim is none that this version knows (exit code 3)."""


# ---- to a part: its configuration


class BrokerAddress(Struct, forbid_unknown_fields=True):
    """How the broker is reached; no host: there is none yet. `user` and `password` are those of a foreign broker's URL."""

    scheme: str = "mqtt"
    host: str = ""
    port: int = 0
    path: str = "/mqtt"
    user: str | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        """Such as mqtt://127.0.0.1:1883."""
        return f"{self.scheme}://{self.host}:{self.port}"


class TlsOptions(Struct, forbid_unknown_fields=True):
    """The files that TLS needs, and whether certificates are checked at all; see `links.tls`."""

    cafile: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False


class PartConfig(Struct, kw_only=True, tag_field="role", forbid_unknown_fields=True):
    """What every part is told: its name, where and by which clock it records, the scenario, and how to reach the broker.

    `shard` is the recorder's number, which stands in the trace's column of that name. `trace` is the record's file.
    `zero_ns` is the run's beginning on CLOCK_MONOTONIC, and `epoch` + CLOCK_MONOTONIC is Unix time. `run` tells this run
    from any other on the same broker. `host` is where the part's own server listens; a shard's is the storage's address.
    `steps`: whether the part counts what each step of an update took, for whoever watches."""

    name: str
    shard: int
    trace: str
    scenario: dict[str, Any]
    zero_ns: int
    epoch: float
    run: str
    host: str
    broker: BrokerAddress
    token: str
    steps: bool
    tls: TlsOptions

    @property
    def began_s(self) -> float:
        """The Unix time at which the run began."""
        return self.epoch + self.zero_ns / 1e9

    def by_clock(self, offset_ns: int) -> Self:
        """The same for a host whose CLOCK_MONOTONIC is so much ahead of ours."""
        return msgspec.structs.replace(self, zero_ns=self.zero_ns + offset_ns, epoch=self.epoch - offset_ns / 1e9)


class BrokerConfig(PartConfig, kw_only=True, tag="broker"):
    """The embedded broker listens on `port`; 0 lets the system choose, here and below."""

    port: int


class StorageConfig(PartConfig, kw_only=True, tag="storage"):
    """The storage listens on `http_port` and keeps its artifacts in a directory."""

    http_port: int
    artifacts: str


class ReplicaConfig(PartConfig, kw_only=True, tag="replica"):
    """The replica listens on `http_port`. `database` is a name as `target.database` has it, `storage` the base of the
    storage's URLs, `artifacts` its directory."""

    http_port: int
    database: str
    artifacts: str
    storage: str


class ApplicationConfig(PartConfig, kw_only=True, tag="application"):
    """The rollouts' API listens on `http_port`."""

    http_port: int


class ShardConfig(PartConfig, kw_only=True, tag="shard"):
    """Part `index` of `count` of the fleet. Its devices bind the addresses `sources` in turn, and speak to this machine
    and to `hosts`; `pooled`: their downloads share connections."""

    index: int
    count: int
    link: str
    pooled: bool
    sources: list[str | None]
    hosts: list[str]


class NullConfig(PartConfig, kw_only=True, tag="null"):
    """The null backend offers `rate` updates a second for so many `seconds`."""

    rate: float
    seconds: float


# ---- to a part: commands


class Command(Struct, tag_field="command", forbid_unknown_fields=True):
    """What the conductor wants of a part that is at work."""


class Go(Command, tag="go"):
    """Begin: the shard's devices start, the null backend offers."""


class SwitchFault(Command, tag="fault"):
    """The scenario's fault number `nth` begins or ends, on the devices of this shard."""

    nth: int
    on: bool


class AskPhases(Command, tag="where"):
    """Tell in which phases these things are: the answer is `Phases`."""

    things: list[str]


class Die(Command, tag="die"):
    """Write the record and kill yourself at once, as `kill -9` would."""


# ---- from a part: events


class Event(Struct, tag_field="event", omit_defaults=True, forbid_unknown_fields=True):
    """What a part tells the conductor."""


class Ready(Event, tag="ready"):
    """It can be used: its server listens on `port`. The application tells what a foreign broker calls itself."""

    port: int = 0
    broker: str = ""


class ProgressCounts(Event, tag="progress", forbid_unknown_fields=False):
    """What it recorded since the last time, by the names of `worlds.progress`. On the line the counts stand beside the tag."""

    counts: dict[str, int] = {}


class ProcessHealth(Event, tag="health"):
    """How a process was in the last second. Shares are of one core; what is not known, or not counted, is None."""

    cpu_share: float
    rss_bytes: int
    wait_share: float | None = None
    open_files: int | None = None
    unsent: int | None = None
    loop_lag_s_max: float | None = None

    def facts(self) -> dict[str, float]:
        """What is known, by name."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


class StepsTaken(Event, tag="steps"):
    """What each step took since the last time: bins as `steps.StepBins` makes them, and (job, t_us) of offers that were due
    and of deltas that devices heard of."""

    steps: list[dict[str, Any]] = []
    offers: list[tuple[str, int]] = []
    heard: list[tuple[str, int]] = []

    def __bool__(self) -> bool:
        return bool(self.steps or self.offers or self.heard)


class UpdatesOpen(Event, tag="underway", omit_defaults=False):
    """How many things are in each phase, and (thing, t_us of the offer) of those updates that have been open for longest."""

    phases: dict[str, int]
    open: list[tuple[str, int]]


class Phases(Event, tag="where", omit_defaults=False):
    """The phases of those things that were asked about and are at work here."""

    phases: dict[str, str]


class Warned(Event, tag="warning"):
    """A warning that its log has too."""

    text: str


class LastWords(Event, tag="last words"):
    """Why it ends, in a sentence."""

    text: str


class BrokerCounts(Event, tag="broker", omit_defaults=False):
    """What the embedded broker counts; see `broker.core`."""

    sessions: int
    connected: int
    connects: int
    published: int
    delivered: int
    dropped: int


class NullCounts(Event, tag="null", omit_defaults=False):
    """Of the null backend: deltas that were due and that were sent, updates that ended, and whether all was `offered`."""

    due: int
    sent: int
    updates: int
    offered: bool


# ---- lines

_CONFIG: msgspec.json.Decoder[PartConfig] = msgspec.json.Decoder(
    BrokerConfig | StorageConfig | ReplicaConfig | ApplicationConfig | ShardConfig | NullConfig
)
_COMMAND: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Go | SwitchFault | AskPhases | Die)
_EVENT: msgspec.json.Decoder[Event] = msgspec.json.Decoder(
    Ready
    | ProgressCounts
    | ProcessHealth
    | StepsTaken
    | UpdatesOpen
    | Phases
    | Warned
    | LastWords
    | BrokerCounts
    | NullCounts
)
_COUNTS = msgspec.json.Decoder(dict[str, int | str])
_ENCODER = msgspec.json.Encoder()
_T = TypeVar("_T")


def line(struct: Struct) -> bytes:
    """A line of JSON, with its end."""
    if isinstance(struct, ProgressCounts):
        return _ENCODER.encode({"event": "progress", **struct.counts}) + b"\n"
    return _ENCODER.encode(struct) + b"\n"


def whole(text: bytes) -> bool:
    """Whether this is a line with its end. At the end of a pipe there is none; and the last line of a process that was
    killed may be broken off."""
    return text.endswith(b"\n")


def config_of(text: bytes) -> PartConfig:
    """The configuration that a line holds. Raises NotUnderstood."""
    return decoded(_CONFIG, text, "a part's configuration")


def command_of(text: bytes) -> Command:
    """The command that a line holds. Raises NotUnderstood."""
    return decoded(_COMMAND, text, "a command of the conductor")


def event_of(text: bytes | msgspec.Raw, who: str) -> Event:
    """The event that a line of this part holds. Raises NotUnderstood."""
    event = decoded(_EVENT, text, f"a line of {who}")
    if isinstance(event, ProgressCounts):
        event.counts = {name: n for name, n in _COUNTS.decode(text).items() if isinstance(n, int)}
    return event


def decoded(decoder: msgspec.json.Decoder[_T], text: bytes | msgspec.Raw, what: str) -> _T:
    """What a line holds. Raises NotUnderstood, which says `what` it is."""
    try:
        return decoder.decode(text)
    except msgspec.DecodeError as error:
        raise NotUnderstood(
            f"{what} is not understood ({error}); are all processes of the same version of fleetsim?"
        ) from None
