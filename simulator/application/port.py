"""The port of the rollouts: what an operator may ask and do, and the facts that go in and come out.

Whoever can have a rollout carried out implements `Rollouts`: our own engine in this process (`local.py`), an
application anywhere, over its HTTP API (`remote.py`), or a backend of somebody else's that does the work itself
(`delegated.py`). The facts are what our own API takes and gives, as JSON; they refuse members that they do not know.
"""

from __future__ import annotations

from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from simulator.model.errors import ScenarioError
from simulator.model.scenario import RolloutSpec
from simulator.model.update import State


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ArtifactFacts(_Facts):
    """The new software; `size` and `sha256` are absent where they are not known."""

    version: str
    url: str
    size: int | None = None
    sha256: str | None = None


class TargetFacts(_Facts):
    """A target and the cohort it is counted with."""

    thing: str = Field(pattern=r"^[^/+#\x00]+$")  # it becomes a topic level
    cohort: str = "all"


class RolloutRequest(_Facts):
    """What to roll out, to whom, and how: `spec` is the scenario file's `rollout` block."""

    spec: RolloutSpec
    artifact: ArtifactFacts
    targets: list[TargetFacts]


class RolloutState(_Facts):
    """Where a rollout is; the counts by state add up to `size`."""

    name: str
    version: str
    status: str
    reason: str
    wave: int
    size: int
    states: dict[str, int]
    cohorts: dict[str, dict[str, int]]

    @property
    def halted(self) -> bool:
        """Whether it is paused and nothing is under way: only an operator moves it on."""
        return self.status == "paused" and not self.states.get(State.IN_PROGRESS)


class FleetState(_Facts):
    """What is known of all things: `states` and `cohorts` of the latest rollout that targets each, and `versions` as
    last reported."""

    things: int
    states: dict[str, int]
    cohorts: dict[str, dict[str, int]]
    versions: dict[str, int]


class ThingState(_Facts):
    """What is known of one thing; the fields of an execution are absent where no rollout targets it."""

    thing: str
    version: str | None = None
    rollout: str | None = None
    job: str | None = None
    state: str | None = None
    attempt: int | None = None
    wave: int | None = None


class NoSuch(ScenarioError):
    """There is no such rollout or thing."""


class Rollouts(Protocol):
    """What an operator may ask and do. Every method may raise NoSuch; `pause`, `resume` and `abort` raise WrongState where
    the rollout's status does not allow that, `create` ScenarioError for a request that makes no sense."""

    async def create(self, request: RolloutRequest) -> RolloutState:
        """Begin a rollout."""

    async def names(self) -> list[str]:
        """All rollouts, by age."""

    async def state(self, name: str) -> RolloutState:
        """Where a rollout is."""

    async def pause(self, name: str) -> RolloutState:
        """Offer nothing more until resumed."""

    async def resume(self, name: str) -> RolloutState:
        """Go on."""

    async def abort(self, name: str) -> RolloutState:
        """Cancel what was not offered yet."""

    async def fleet(self) -> FleetState:
        """The whole fleet."""

    async def thing(self, thing: str) -> ThingState:
        """One thing."""
