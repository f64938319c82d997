"""The target: the backend that the fleet runs against, and what is known of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from simulator.model.scenario.profiles import Delay
from simulator.model.scenario.units import Block, Duration, Size


class Target(Block):
    """The backend: fleetsim's own (reference), or one that is already there (external)."""

    kind: Literal["reference", "external"] = "reference"
    dialect: str = Field("atlas", description="what is said on the wire: atlas, or its variant atlas-example")
    topics: dict[str, str] = Field(default_factory=dict, description="topic templates with {thing}, by name")
    broker: str = Field("embedded", description="embedded, mosquitto, or mqtt:// mqtts:// ws:// wss:// URL")
    database: str = Field("sqlite", description="sqlite, sqlite:PATH, memory (which ends with its process)")
    storage: str = Field("embedded", description="where the new software is put: embedded")
    access: Literal["presigned", "credential"] = "presigned"
    url_ttl: Duration = 3600.0
    connects_per_second: int | None = Field(
        None, ge=1, description="the most attempts to connect that the broker shall see in any second after an outage"
    )
    bind_address: bool = Field(False, description="bind a pre-signed URL to the device's address")
    document_max: Size = 8192
    depth_max: int = 6
    token_max: int = Field(64, description="bytes of a client token")
    probe: bool | None = Field(
        None,
        description="ask the replica, about a thing of the probe's own (the index after the last device's), what it "
        "must refuse and what it must honour; absent: if it is fleetsim's own",
    )
    commit_latency: Delay = Field("2ms", description="virtual world: of one database commit")  # type: ignore[assignment]
    artifact_url: str | None = Field(None, description="external: where the new software is")
    artifact_sha256: str | None = Field(
        None, description="external: its hash, where the backend announces none", pattern="^[0-9a-f]{64}$"
    )
    artifact_bound: Size = Field(1 << 30, description="bound of a download whose size nobody announced")

    @property
    def probes(self) -> bool:
        """Whether somebody asks the replica what no device asks."""
        return self.kind == "reference" if self.probe is None else self.probe

    @property
    def own_broker(self) -> bool:
        """Whether fleetsim starts the broker itself."""
        return self.broker in ("embedded", "mosquitto")

    @model_validator(mode="after")
    def _address_known(self) -> Target:
        if self.bind_address and self.access != "presigned":
            raise ValueError("bind_address needs access presigned")
        return self
