"""The scenario file as a model: what is run, against what, and what must hold.

A file is YAML; `load_scenario` makes a `Scenario` of it, whose blocks are a module each. Blocks know nothing of the rooms
that carry them out: names of checks, faults and dialects are checked there (worlds/run.py)."""

from simulator.model.scenario.faults import Fault
from simulator.model.scenario.fleet import Cohort, Fleet
from simulator.model.scenario.profiles import (
    PROFILES,
    SERVICE_RECONNECT,
    Backoff,
    Distribution,
    PhaseName,
    Profile,
    Stage,
    Way,
)
from simulator.model.scenario.reading import load_scenario, located, parse_scenario
from simulator.model.scenario.rollout import (
    AbortConfig,
    AbortCriterion,
    Deed,
    ExponentialRate,
    Operator,
    RateIncrease,
    RetryConfig,
    RolloutSpec,
    TimeoutConfig,
    Wave,
)
from simulator.model.scenario.scenario import SHARES, Limits, Scenario, with_operators
from simulator.model.scenario.target import Target
from simulator.model.scenario.units import Block

__all__ = [
    "PROFILES",
    "SERVICE_RECONNECT",
    "SHARES",
    "AbortConfig",
    "AbortCriterion",
    "Backoff",
    "Block",
    "Cohort",
    "Deed",
    "Distribution",
    "ExponentialRate",
    "Fault",
    "Fleet",
    "Limits",
    "Operator",
    "PhaseName",
    "Profile",
    "RateIncrease",
    "RetryConfig",
    "RolloutSpec",
    "Scenario",
    "Stage",
    "Target",
    "TimeoutConfig",
    "Wave",
    "Way",
    "load_scenario",
    "located",
    "parse_scenario",
    "with_operators",
]
