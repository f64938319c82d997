"""A rollout: the artifact, the targets, the pace, when it stops; and the operators who begin, pause and abort one.

The words are those of AWS IoT Jobs, in camelCase as there."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from simulator.model import marker
from simulator.model.scenario.profiles import Backoff
from simulator.model.scenario.units import Block, Duration, PartOf, Share, Size, Threshold, no_such

_SEGMENT = r"^[A-Za-z0-9_.+~@-]+$"  # it stands in the paths of URLs


class Words(Block):
    """Blocks that speak AWS Jobs' words: camelCase in the file."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RateIncrease(Words):
    """The rate grows by the factor each time this many were notified, or have succeeded."""

    number_of_notified_things: int | None = Field(None, ge=1)
    number_of_succeeded_things: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> RateIncrease:
        if (self.number_of_notified_things is None) == (self.number_of_succeeded_things is None):
            raise ValueError("give exactly one of numberOfNotifiedThings, numberOfSucceededThings")
        return self


class ExponentialRate(Words):
    """rate = min(maximumPerMinute, baseRatePerMinute · incrementFactor^⌊count / criterion⌋)."""

    base_rate_per_minute: float = Field(gt=0)
    increment_factor: float = Field(ge=1.1, le=5)
    rate_increase_criteria: RateIncrease


class AbortCriterion(Words):
    """Abort when `failureType` executions ⋛ `thresholdPercentage` of the denominator, after a minimum."""

    failure_type: Literal["FAILED", "REJECTED", "TIMED_OUT", "ALL"] = "FAILED"
    min_number_of_executed_things: int = Field(1, ge=1)
    threshold_percentage: float = Field(gt=0, le=100)
    compare: Literal[">=", ">"] = ">="
    of: Literal["executed", "targets"] = "executed"


class AbortConfig(Words):
    """Any of these aborts the rollout."""

    criteria_list: tuple[AbortCriterion, ...] = ()


class TimeoutConfig(Words):
    """An execution that says neither RUNNING nor an end for this long is TIMED_OUT."""

    in_progress_timeout: Duration = Field(3600.0, gt=0)


class RetryConfig(Words):
    """How often an execution that ended so is offered again, under a new job id."""

    failed: int = Field(0, ge=0, le=10)
    timed_out: int = Field(0, ge=0, le=10)


class Wave(Words):
    """A part of the targets. The next wave starts when `success` holds; `error` ends the rollout or pauses it."""

    share: Share
    success: Threshold = Field(">= 100%")  # type: ignore[assignment]
    error: Threshold = Field("> 100%")  # type: ignore[assignment]
    of: Literal["targets", "executed"] = "targets"
    error_action: Literal["abort", "pause"] = "pause"


class RolloutSpec(Words):
    """One rollout: the artifact, the targets, the pace, and when to stop."""

    name: str = Field("rollout-1", pattern=_SEGMENT)
    version: str = Field("2.0.0", pattern=_SEGMENT)
    size: Size = 16384
    file: str | None = Field(None, description="the artifact's bytes; absent: made from seed, version and size")
    marker: str | None = Field(None, description="what goes wrong with the new software, such as boot-fails 30%")
    cohorts: tuple[str, ...] = ()
    share: Share = 1.0
    start_after: Duration = Field(0.0, description="after the fleet is up")
    waves: tuple[Wave, ...] = ()
    maximum_per_minute: float | None = Field(None, gt=0)
    exponential_rate: ExponentialRate | None = None
    maximum_concurrent: int | None = Field(None, ge=1)
    abort_config: AbortConfig = AbortConfig()
    timeout_config: TimeoutConfig = TimeoutConfig()
    retry_config: RetryConfig = RetryConfig()
    offer: Backoff = Field(Backoff(base=5, cap=60, attempts=8), description="resending a desired state not accepted")

    @model_validator(mode="after")
    def _marker_known(self) -> RolloutSpec:
        if self.marker is None:
            return self
        if self.file is not None:
            raise ValueError("marker: a file holds its own; leave marker or file out")
        if not marker.read(self.marker).stage:
            known = list(marker.MARKERS)
            raise ValueError(f"marker: {no_such('marker', self.marker, known)}; a share may follow it, such as 30%")
        if self.size < len(marker.written(self.marker)):
            raise ValueError("size: too small to hold the marker")
        return self

    @model_validator(mode="after")
    def _rates_fit(self) -> RolloutSpec:
        rate = self.exponential_rate
        if rate is not None and self.maximum_per_minute is None:
            raise ValueError("give maximumPerMinute beside exponentialRate: it is the cap")
        if rate is not None and rate.base_rate_per_minute > (self.maximum_per_minute or 0):
            raise ValueError("exponentialRate.baseRatePerMinute: it is more than maximumPerMinute")
        if self.waves and abs(sum(w.share for w in self.waves) - 1) > 1e-9:
            raise ValueError("waves: their shares must add up to 100%")
        return self


Deed = Literal["pause", "resume", "abort"]


class Operator(Words):
    """Somebody who begins a rollout of their own, which is the scenario's `rollout` but for what is said here, and may
    pause and abort it."""

    after: Duration = Field(0.0, description="when the rollout begins, after the fleet is up and startAfter is over")
    cohorts: tuple[str, ...] | None = None
    part: PartOf = Field("1/1", description="1/3: the first, fourth, ... of the targets")  # type: ignore[assignment]
    version: str | None = Field(None, pattern=_SEGMENT)
    pause_after: Duration | None = Field(None, description="since it began")
    pause_for: Duration = Field(10.0, description="then it is resumed")
    abort_after: Duration | None = Field(None, description="since it began")

    @property
    def deeds(self) -> tuple[tuple[float, Deed], ...]:
        """What the operator does with the rollout: (seconds since it began, what), by time."""
        deeds: list[tuple[float, Deed]] = []
        if self.pause_after is not None:
            deeds += [(self.pause_after, "pause"), (self.pause_after + self.pause_for, "resume")]
        if self.abort_after is not None:
            deeds.append((self.abort_after, "abort"))
        return tuple(sorted(deeds))
