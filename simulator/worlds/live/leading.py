"""The lines between a conductor and the process that leads it (Locust's master), and between that and its workers.

The leader starts the conductor, reads its stdout and writes to its stdin, a line of JSON each time. To the leader go events:
how the run goes, each rollout that waits for its operator, and *orders* for the parts that the leader's workers carry. From
it come `LeaderLine`s: what such a part told, its host's clock, its end, and the wish to stop.

Between master and workers the same structs travel as plain objects through Locust's own channel: orders and rollouts to a
worker, `PartNews` back, which holds records too.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from simulator.worlds.live.protocol import NotUnderstood, decoded


def boot_id() -> str:
    """What tells one boot of one host from any other; one of them has one CLOCK_MONOTONIC."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class HostClock(Struct, forbid_unknown_fields=True):
    """A host's CLOCK_MONOTONIC at a moment, and which host and which boot of it that is."""

    host: str
    boot: str
    ns: int

    @classmethod
    def now(cls) -> HostClock:
        """This host's."""
        return cls(socket.gethostname(), boot_id(), time.monotonic_ns())


# ---- from the conductor to its leader, and on to workers


class ToLeader(Struct, tag_field="event", omit_defaults=True, forbid_unknown_fields=True):
    """What a conductor tells its leader."""


class Begun(ToLeader, tag="begun"):
    """The run has begun. `path` is its directory; a process whose loop lags more than `loop_lag_s` makes it invalid."""

    path: str
    targets: int
    loop_lag_s: float
    scenario: str
    devices: int
    seed: int


class StageBegun(ToLeader, tag="stage"):
    """The run has come to this stage."""

    stage: str


class Tick(ToLeader, tag="tick", omit_defaults=False):
    """A second is over: totals by name, each process's health, devices by phase, the updates that have been open for
    longest, and the rollouts' states as the application told them last."""

    at_s: float
    counts: dict[str, int]
    connected: int
    health: dict[str, dict[str, float]]
    phases: dict[str, int]
    slowest: list[dict[str, Any]]
    rollouts: dict[str, dict[str, Any]]


class StepsCounted(ToLeader, tag="steps"):
    """What the steps of updates took, in bins as `steps.StepBins` makes them."""

    steps: list[dict[str, Any]]


class Operate(ToLeader, tag="operate", omit_defaults=False):
    """A rollout waits for an operator, who begins it in `after_s` seconds by this `request` to the application's API at
    `url`, and then does each deed (seconds since the beginning; pause, resume, abort)."""

    url: str
    token: str
    name: str
    after_s: float
    deeds: Sequence[tuple[float, str]]
    request: dict[str, Any]


class PartWarned(ToLeader, tag="warning"):
    """A warning `of` a part."""

    of: str
    text: str


class PartOrder(ToLeader, tag="part"):
    """What is to be done with a part that a worker carries: start its process, write it a `line`, tell its host's clock,
    close its stdin. `line` is one of `protocol`'s, which the part alone decodes. `run` is the number of the leader's run."""

    part: str
    do: Literal["spawn", "line", "clock", "close"]
    line: dict[str, Any] | None = None
    run: int = 0


class Ended(ToLeader, tag="ended"):
    """The run is judged; `text` is what a terminal would show."""

    verdict: str
    exit_code: int
    path: str
    text: str


class Over(ToLeader, tag="over", omit_defaults=False):
    """To workers: the run is over, and ended in this exit code."""

    exit_code: int


# ---- from workers, and from the leader to the conductor


class PartNews(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """News of a part that a worker carries, one kind each time: a line that it told, a piece of its record, its host's
    clock, or its end (its exit code, and the last `words` in its log)."""

    part: str
    run: int
    said: bytes | None = None
    record: bytes | None = None
    clock: HostClock | None = None
    died: int | None = None
    words: str = ""


class Carries(Struct, forbid_unknown_fields=True):
    """What a worker carries, and the address by which others reach it; no server: a shard of the fleet."""

    server: str
    host: str


class LeaderLine(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A line to the conductor: `stop`, with the reason, or news of a part; `said` is a line of `protocol` as it came."""

    stop: str | None = None
    part: str = ""
    said: msgspec.Raw = msgspec.Raw()
    clock: HostClock | None = None
    died: int | None = None
    words: str = ""


# ---- lines

_LED: msgspec.json.Decoder[ToLeader] = msgspec.json.Decoder(
    Begun | StageBegun | Tick | StepsCounted | Operate | PartWarned | PartOrder | Ended
)
_LEADER_LINE = msgspec.json.Decoder(LeaderLine)
_TO_WORKER: Any = PartOrder | Operate | Over
_T = TypeVar("_T")


def event_of(text: bytes) -> ToLeader:
    """What a line of the conductor holds. Raises NotUnderstood."""
    return decoded(_LED, text, "a line of the conductor")


def leader_line_of(text: bytes) -> LeaderLine:
    """What a line to the conductor holds. Raises NotUnderstood."""
    return decoded(_LEADER_LINE, text, "a line to the conductor")


def news_of(data: Any) -> PartNews:
    """What came from a worker. Raises NotUnderstood."""
    return _converted(data, PartNews, "news of a worker")


def carries_of(data: Any) -> Carries:
    """What a worker that has come carries. Raises NotUnderstood."""
    return _converted(data, Carries, "what a worker carries")


def to_worker_of(data: Any) -> PartOrder | Operate | Over:
    """What came to a worker. Raises NotUnderstood."""
    worded: PartOrder | Operate | Over = _converted(data, _TO_WORKER, "an order of the master")
    return worded


def plain(struct: Struct) -> dict[str, Any]:
    """As plain objects, for Locust's channel."""
    data: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(bytes,))
    return data


def _converted(data: Any, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise NotUnderstood(
            f"{what} is not understood ({error}); are all processes of the same version of fleetsim?"
        ) from None
