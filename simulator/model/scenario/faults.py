"""A fault of a scenario: harm done on purpose. Which faults there are is the catalogue's to say (simulator/faults)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from simulator.model.scenario.profiles import PhaseName
from simulator.model.scenario.units import Block, Duration, Share


def _setting(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("write a number or a text")
    return value


class Fault(Block):
    """Harm done on purpose: what, to whom, when, and until when. Without `at`, `converged` and `step` it is there from
    the start; without `for` until the rollout has ended."""

    fault: str = Field(description="number and name, such as F1-duplicate")
    share: Share = Field(1.0, gt=0)
    count: int | None = Field(None, ge=0, strict=True, description="this many devices, instead of a share")
    at: Duration | None = Field(None, description="since the rollout began")
    converged: Share | None = Field(None, description="when this share of the targets has succeeded")
    step: PhaseName | None = Field(None, description="when a device enters this phase")
    lasts: Duration | None = Field(
        None, gt=0, alias="for", description="how long; with step, for each device by itself"
    )
    times: int | None = Field(None, ge=1, strict=True, description="how often to each device, at most")
    options: dict[str, Annotated[int | float | str, BeforeValidator(_setting)]] = Field(
        default_factory=dict, alias="with", description="the fault's own settings"
    )

    model_config = ConfigDict(populate_by_name=True)

    @property
    def from_the_start(self) -> bool:
        """Whether it is there before anything else is."""
        return self.at is None and self.converged is None and self.step is None

    @model_validator(mode="after")
    def _one_time(self) -> Fault:
        if sum(when is not None for when in (self.at, self.converged, self.step)) > 1:
            raise ValueError("give one of at, converged and step")
        if self.count is not None and self.share != 1.0:
            raise ValueError("give count or share, not both")
        return self
