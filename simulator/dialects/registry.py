"""The dialects that there are, by the name that `target.dialect` gives in a scenario.

To add one, write its four sides (the ports of `base.py`) and its topics (`topics.py`), say what it can do (`Capabilities`),
and enter it in `DIALECTS`: all worlds, the brokers and the judge take from there what they need. A dialect whose service
carries rollouts out itself brings that service (`own`) in place of the application's and the replica's side. Only the
script of a live run (worlds/reproduce/script.py) still knows atlas by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from simulator.dialects.atlas.application import AtlasApplication
from simulator.dialects.atlas.device import AtlasDevice
from simulator.dialects.atlas.documents import EXAMPLE
from simulator.dialects.atlas.probe import AtlasProbe
from simulator.dialects.atlas.replica import AtlasReplica
from simulator.dialects.atlas.topics import AtlasTopics
from simulator.dialects.base import ApplicationDialect, DeviceDialect, ProbeDialect, ReplicaDialect
from simulator.dialects.jobs import JobsDialect
from simulator.dialects.topics import Topics
from simulator.model.capabilities import Capabilities
from simulator.model.errors import ScenarioError
from simulator.model.io import Request, Response
from simulator.model.state import Document
from simulator.model.update import Artifact

SERVICE = "http://service.test"
"""Where the devices and operators of a virtual run find a dialect's own service."""


class MakeDevice(Protocol):
    """Makes the side of one device, once for each device of a run."""

    def __call__(
        self, thing: str, /, *, topics: Any, credential: bool, address: str, known: Artifact | None
    ) -> DeviceDialect:
        """`credential`: it asks for a credential before it downloads. `address` is what it tells as its own, or empty.
        `known` is an artifact whose hash nobody announces, or None."""


class MakeApplication(Protocol):
    """Makes the application's side."""

    def __call__(self, *, topics: Any) -> ApplicationDialect:
        """`topics` are the dialect's own, as the scenario wants them."""


class MakeReplica(Protocol):
    """Makes the replica's side."""

    def __call__(self, *, topics: Any) -> ReplicaDialect:
        """`topics` are the dialect's own, as the scenario wants them."""


class MakeProbe(Protocol):
    """Makes the side of the probe that asks about one thing."""

    def __call__(self, thing: str, /, *, topics: Any) -> ProbeDialect:
        """`topics` are the dialect's own, as the scenario wants them."""


class MakeService(Protocol):
    """Makes a service that answers HTTP requests, of devices and of operators, at `SERVICE`."""

    def __call__(
        self, *, download: Callable[[str, str, Any, float], Document | None], now: Callable[[], float]
    ) -> Callable[[Request], Response]:
        """`download(url, thing, address, now)` is the permission for a thing to download what is at this stable URL:
        `url`, `size` in bytes, `sha256` in hex, `expiresAt`; None where nothing is there. `now()` is in Unix seconds."""


@dataclass(frozen=True, slots=True)
class OwnService:
    """A service that is replica and application in one: it answers devices over HTTP, and carries rollouts out by itself.
    `jobs` makes the side of whoever orders a rollout there, `service` a stand-in of the service for virtual time."""

    jobs: Callable[[], JobsDialect]
    service: MakeService


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect: what its service can do, its topics with their default templates, and how each side is made.

    Either it has a side of the `application` and one of the `replica`, which fleetsim's own parties speak over MQTT, or a
    service of its `own`. One without a `probe` is not probed, whatever the scenario says."""

    can: Capabilities
    topics: type[Topics]
    device: MakeDevice
    application: MakeApplication | None = None
    replica: MakeReplica | None = None
    probe: MakeProbe | None = None
    own: OwnService | None = None


DIALECTS: dict[str, Dialect] = {
    "atlas": Dialect(Capabilities(), AtlasTopics, AtlasDevice, AtlasApplication, AtlasReplica, AtlasProbe),
    EXAMPLE: Dialect(
        Capabilities(addresses=False),  # a device reports nothing but an update's end
        AtlasTopics,
        partial(AtlasDevice, variant=EXAMPLE),
        partial(AtlasApplication, variant=EXAMPLE),
        partial(AtlasReplica, variant=EXAMPLE),
        AtlasProbe,
    ),
}


def dialect_of(name: str) -> Dialect:
    """The dialect of this name. Raises ScenarioError where there is none."""
    if name not in DIALECTS:
        near = difflib.get_close_matches(name, DIALECTS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(DIALECTS)}"
        raise ScenarioError(f"target.dialect: no such dialect: {name!r}; {hint}")
    return DIALECTS[name]
