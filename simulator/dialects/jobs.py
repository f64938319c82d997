"""The port of a backend that carries rollouts out itself: what its API for jobs is asked, and what it answers.

Such a backend (AWS IoT Jobs and hawkBit are two) is told once what to roll out and to whom: that is a *job*. It then
offers the update to each device, waits, tries again and counts, all by itself. Whoever ordered the job asks from time
to time how it goes. This side is without I/O, as all dialects are: it makes the requests, and reads the responses; the
engine (`simulator.application.delegated`) sends them, and tries again where nobody answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from simulator.model.io import Request, Response
from simulator.model.scenario import RolloutSpec
from simulator.model.update import Artifact, State


class JobOrder(Struct, frozen=True):
    """What to roll out, to which things, and how. `name` is unique among runs; of `spec` the API takes what it knows."""

    name: str
    artifact: Artifact
    things: Sequence[str]
    spec: RolloutSpec


class JobExecution(Struct, frozen=True):
    """One thing's turn, as the API tells. `id` is the job id that the device hears, and another one on each new try. A QUEUED
    one is not offered yet; of one IN_PROGRESS the device may have heard."""

    thing: str
    id: str
    state: State
    reason: str = ""


class ExecutionPage(Struct, frozen=True):
    """Some of a job's executions; `next` names the page to ask for afterwards, and is empty on the last one."""

    executions: Sequence[JobExecution]
    next: str = ""


class JobStatus(Struct, frozen=True):
    """Where a job is. `aborted`: somebody has stopped it, with this reason. `counts` are the API's own, None where it gives
    none."""

    status: Literal["running", "paused", "ended"]
    aborted: bool = False
    reason: str = ""
    counts: Mapping[State, int] | None = None


class JobsDialect(Protocol):
    """The requests to an API for jobs, and what its responses mean. The methods that read are given responses of a status
    below 500, other than 429, that `refusal` finds nothing wrong with; they raise PeerError for what makes no sense."""

    def refusal(self, response: Response) -> str:
        """Why the API refused the request; empty where it did not."""

    def create(self, order: JobOrder) -> Request:
        """Ask for a job. Once more after a response that was lost, it must not make a second one."""

    def created(self, order: JobOrder, response: Response) -> str:
        """How the API calls the new job."""

    def status(self, job: str) -> Request:
        """Ask where the job is."""

    def read_status(self, response: Response) -> JobStatus:
        """Where it is."""

    def executions(self, job: str, page: str) -> Request:
        """Ask for executions of the job: this page, or the first one for an empty name."""

    def read_executions(self, response: Response) -> ExecutionPage:
        """The page."""

    def operate(self, job: str, verb: Literal["pause", "resume", "abort"]) -> Request | None:
        """Ask for this; None where the API cannot do it."""
