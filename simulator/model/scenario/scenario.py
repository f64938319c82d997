"""The scenario: what is run, against what, and what must hold."""

from __future__ import annotations

import itertools
from typing import Literal

from pydantic import Field, model_validator

from simulator.model import dice
from simulator.model.errors import ScenarioError
from simulator.model.scenario.faults import Fault
from simulator.model.scenario.fleet import Fleet
from simulator.model.scenario.profiles import PROFILES, Profile
from simulator.model.scenario.rollout import Operator, RolloutSpec
from simulator.model.scenario.target import Target
from simulator.model.scenario.units import Block, Duration, Limit, Share, no_such

SHARES = ("converged", "succeeded", "failed")
"""Thresholds on shares of all targets that are still desired to change; those of other names are on figures of a report."""


class Limits(Block):
    """When the load generator counts as the bottleneck: the run is INVALID beyond these."""

    lateness_p99: Duration = 0.1
    lateness_share: Share = 0.05
    loop_lag_p99: Duration = 0.1
    offered: Share = 0.99
    warm_up: Duration = 2.0


class Scenario(Block):
    """What is run, and what must hold."""

    name: str = "unnamed"
    description: str = ""
    seed: int = Field(1, ge=0, lt=2**63)
    world: Literal["live", "virtual"] = "live"
    fleet: Fleet = Fleet()
    profiles: dict[str, Profile] = Field(default_factory=dict)
    target: Target = Target()
    rollout: RolloutSpec = RolloutSpec()
    operators: tuple[Operator, ...] = Field((), description="each begins a rollout; none: there is the one rollout")
    faults: tuple[Fault, ...] = ()
    swarm: int = Field(0, ge=0, description="so many faults more, drawn from the seed; none of them breaks a check")
    run_time: Duration = Field(600.0, gt=0, description="the longest that a run may take, in fleet time")
    heal: Duration | None = Field(
        None, description="since the rollout began: all faults that are left end; absent: when it has ended"
    )
    settle: Duration = Field(5.0, description="quiet time at the end, before judging")
    checks: tuple[str, ...] = Field((), description="names or numbers of checks; none: all")
    require: tuple[str, ...] = Field(
        (), description="names or numbers of checks that must have an occasion, or the run is UNKNOWN"
    )
    thresholds: dict[str, Limit] = Field(
        default_factory=dict,
        description="converged, succeeded, failed: shares of the targets; or any figure of summary.json by its path, such as "
        "converged.p95, phases.reporting.p99, cohorts.NAME.failed",
    )
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _names_known(self) -> Scenario:
        named = {f"fleet.cohorts.{n}.profile": c.profile for n, c in enumerate(self.fleet.cohorts)}
        for key, profile in {"fleet.profile": self.fleet.profile, **named}.items():
            if profile is not None and profile not in self.profiles and profile not in PROFILES:
                raise ValueError(f"{key}: {no_such('profile', profile, [*self.profiles, *PROFILES])}")
        cohorts = self.fleet.cohort_counts()
        asked = {"rollout.cohorts": self.rollout.cohorts}
        asked |= {f"operators.{nth}.cohorts": operator.cohorts or () for nth, operator in enumerate(self.operators)}
        for key, names in asked.items():
            for n, cohort in enumerate(names):
                if cohort not in cohorts:
                    raise ValueError(f"{key}.{n}: {no_such('cohort', cohort, list(cohorts))}")
        for name in SHARES:
            _, unit, limit = self.thresholds.get(name, ("<=", "share", 1.0))
            if unit not in ("", "share") or limit > 1:
                raise ValueError(f"thresholds.{name}: it is a share of the targets; write '>= 95%' or '> 10%'")
        if self.rollout.marker is not None and self.target.artifact_url is not None:
            raise ValueError("rollout.marker: what stands at target.artifact_url holds its own")
        return self

    def profile(self, name: str) -> Profile:
        """The profile of this name: the scenario's own, or a shipped one. Raises ValueError."""
        profile = self.profiles.get(name) or PROFILES.get(name)
        if profile is None:
            raise ValueError(no_such("profile", name, [*self.profiles, *PROFILES]))
        return profile

    def harmed(self, nth: int) -> frozenset[int]:
        """The ordinals that the nth fault befalls: those with the lowest hashes of (seed, fault, ordinal)."""
        fault, devices = self.faults[nth], self.fleet.devices
        count = round(fault.share * devices) if fault.count is None else min(fault.count, devices)
        if count == devices:
            return frozenset(range(devices))
        alike = sum(other.fault == fault.fault for other in self.faults[:nth])  # leaving out another moves no draw
        return dice.lowest(self.seed, f"fault {fault.fault} {alike}", range(devices), count)

    @property
    def rollouts(self) -> tuple[Scenario, ...]:
        """For each rollout, in the order of their operators, this scenario as though there were no other."""
        if not self.operators:
            return (self,)
        return tuple(self._alone(nth) for nth in range(len(self.operators)))

    def _alone(self, nth: int) -> Scenario:
        operator, spec = self.operators[nth], self.rollout
        name = f"{spec.name}-{nth + 1}" if len(self.operators) > 1 else spec.name
        cohorts = spec.cohorts if operator.cohorts is None else operator.cohorts
        update = {"name": name, "version": operator.version or spec.version, "cohorts": cohorts}
        return self.model_copy(update={"rollout": spec.model_copy(update=update), "operators": (operator,)})

    def operator(self) -> Operator:
        """Who begins the rollout, where there is but one."""
        return self.operators[0] if self.operators else Operator()

    def targets(self) -> tuple[int, ...]:
        """The ordinals that the rollouts are for. Of each: its cohorts' devices, of them the share with the lowest
        hashes, and of these its operator's part."""
        if len(self.operators) > 1:
            return tuple(sorted(set(itertools.chain.from_iterable(single.targets() for single in self.rollouts))))
        cohorts, wanted = self.fleet.cohort_of(self.seed), self.rollout.cohorts
        members = [o for o in range(self.fleet.devices) if not wanted or cohorts[o] in wanted]
        if self.rollout.share < 1:
            count = round(self.rollout.share * len(members))
            members = sorted(dice.lowest(self.seed, f"targets {self.rollout.name}", members, count))
        which, parts = self.operator().part
        members, only = members[which - 1 :: parts], frozenset(self.fleet.only)
        return tuple(ordinal for ordinal in members if ordinal in only) if only else tuple(members)


def with_operators(scenario: Scenario, count: int | None) -> Scenario:
    """The scenario with so many operators, each for a part of the targets; as it is where none are asked for. Raises
    ScenarioError where it names some, and where one has nobody to roll out to."""
    if count is None:
        for nth, single in enumerate(scenario.rollouts if scenario.operators else ()):
            if _targets_of_all(single) < single.operator().part[0]:
                raise ScenarioError(f"operators.{nth}: no device is left for it")
        return scenario
    if scenario.operators:
        raise ScenarioError(f"--operators {count}: {scenario.name} has {len(scenario.operators)} operators of its own")
    if count > (targets := _targets_of_all(scenario)):
        raise ScenarioError(f"--operators {count} is more than the {targets} targets")
    parts = tuple(Operator(part=(nth, count)) for nth in range(1, count + 1))
    return scenario.model_copy(update={"operators": parts})


def _targets_of_all(scenario: Scenario) -> int:
    """How many targets operators share among themselves, by the cohorts' sizes."""
    wanted = scenario.rollout.cohorts
    counts = scenario.fleet.cohort_counts().items()
    return round(scenario.rollout.share * sum(count for name, count in counts if not wanted or name in wanted))
