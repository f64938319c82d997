"""Who takes part in a virtual run: the parties' classes, which a test replaces to plant a bug in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from simulator.application.engine import Application
from simulator.application.rollout import Rollout
from simulator.broker.core import Broker
from simulator.device.fleet import Road
from simulator.faults.harm import Harms
from simulator.replica.core import Replica
from simulator.replica.database import Database
from simulator.storage.core import Storage
from simulator.trace.recorder import Recorder

EPOCH = 1_700_000_000.0  # Unix time at the virtual clock's zero


@dataclass(slots=True)
class Parties:
    """The parties of a virtual run; tests replace one to plant a bug in it."""

    broker: Callable[..., Broker] = Broker
    storage: Callable[..., Storage] | None = None  # else the one that the scenario names
    database: Callable[[Callable[[], float]], Database] | None = None  # else the one that the scenario names
    replica: Callable[..., Replica] = Replica
    rollout: Callable[..., Rollout] = Rollout
    application: Callable[..., Application] = Application
    nemesis: Callable[..., Harms] = Harms
    road: Callable[[Road], Road] = field(default=lambda road: road)
    recorder: Callable[..., Recorder] = Recorder
