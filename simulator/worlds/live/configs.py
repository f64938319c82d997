"""What each part of a live run is told at its start: the configurations, made of scenario, options and addresses."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from simulator.model.scenario import Scenario
from simulator.replica import database
from simulator.replica.database import DatabaseName
from simulator.worlds.live.options import Options
from simulator.worlds.live.protocol import (
    ApplicationConfig,
    BrokerAddress,
    BrokerConfig,
    NullConfig,
    PartConfig,
    ReplicaConfig,
    ShardConfig,
    StorageConfig,
)

RECORDERS = {"application": 1, "replica": 2, "broker": 3, "null": 3, "storage": 4}
"""The recorder's number of each server: the trace's column `shard`."""
_FIRST_SHARD = 10  # the recorder's number of the fleet's first shard


@dataclass(slots=True)
class Addresses:
    """Where the servers are, as far as they have been started: the broker, and the bases of the others' URLs."""

    broker: BrokerAddress = field(default_factory=BrokerAddress)
    storage: str = ""
    backend: str = ""
    application: str = ""


class Configs:
    """Makes the configurations of a run whose files are below `directory`. `zero_ns` is the run's beginning on
    CLOCK_MONOTONIC, `epoch` what that clock lacks to Unix time; without `traced` the parts record nothing; `steps`:
    whether they count what each step took. Raises ScenarioError for a bad name of a database."""

    def __init__(
        self,
        scenario: Scenario,
        options: Options,
        directory: Path,
        zero_ns: int,
        epoch: float,
        traced: bool,
        steps: bool,
    ) -> None:
        self.at = Addresses()
        self._options, self._traced = options, traced
        self._parts = directory / "parts"
        self._database = database.named(scenario.target.database).within(directory / "backend")
        self.artifacts = _artifacts(self._database, directory / "backend")
        self._same = {
            "scenario": scenario.model_dump(mode="json", by_alias=True),
            "zero_ns": zero_ns,
            "epoch": epoch,
            "run": secrets.token_hex(4),  # unlike any other run's on its broker, one of the same instant too
            "token": options.token,
            "steps": steps,
            "tls": options.tls,
        }

    def trace(self, name: str) -> str:
        """The file of a part's record."""
        return str(self._parts / f"{name}.arrow") if self._traced else os.devnull

    def _common(self, name: str, recorder: int, host: str = "") -> dict[str, Any]:
        """What every part is told."""
        host = host or self._options.host(name)
        more = {"name": name, "shard": recorder, "trace": self.trace(name), "host": host, "broker": self.at.broker}
        return {**self._same, **more}

    def server(self, name: str) -> PartConfig:
        """That of a server, which listens again where it listened before."""
        common, options = self._common(name, RECORDERS[name]), self._options
        if name == "broker":
            return BrokerConfig(port=self.at.broker.port or options.ports.broker, **common)
        if name == "storage":
            port = urlsplit(self.at.storage).port or options.ports.storage
            return StorageConfig(http_port=port, artifacts=str(self.artifacts), **common)
        if name == "replica":
            port = urlsplit(self.at.backend).port or options.ports.backend
            common |= {"database": str(self._database), "artifacts": str(self.artifacts)}
            return ReplicaConfig(http_port=port, storage=self.at.storage, **common)
        return ApplicationConfig(http_port=options.ports.application, **common)

    def shard(self, name: str, index: int, count: int, sources: list[str | None]) -> ShardConfig:
        """That of one of `count` shards of the fleet; its devices bind these addresses."""
        options = self._options
        return ShardConfig(
            index=index,
            count=count,
            link=options.link,
            pooled=options.pooled,
            sources=sources,
            hosts=options.hosts,
            **self._common(name, _FIRST_SHARD + index, options.host("storage")),
        )

    def null(self, rate: float, seconds: float) -> NullConfig:
        """That of the null backend, which offers so many updates a second for so long."""
        return NullConfig(rate=rate, seconds=seconds, **self._common("null", RECORDERS["null"]))


def _artifacts(database: DatabaseName, directory: Path) -> Path:
    """The directory of artifacts, which storage and replica share: either may be down. It is beside the database, so that a
    replica that starts again over its database finds them there too."""
    return Path(f"{database.path or directory / 'storage'}.artifacts")
