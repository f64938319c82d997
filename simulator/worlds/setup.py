"""What both worlds make of a scenario in the same way: names, keys, topics, the new software's bytes."""

from __future__ import annotations

import difflib
import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from simulator.broker.access import thing_password
from simulator.dialects.atlas.replica import AtlasReplica
from simulator.dialects.atlas.topics import TOPICS, Topics
from simulator.links.base import MqttOptions
from simulator.model import marker
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Profile, Scenario, Target
from simulator.replica.core import Limits, Replica
from simulator.storage.core import Storage
from simulator.storage.grant import Grants
from simulator.storage.shelf import Catalogue

BACKEND, APPLICATION, OPERATOR = "fleetsim-backend", "fleetsim-application", "fleetsim-operator"


def run_key(scenario: Scenario) -> str:
    """The key of which all passwords of a run are derived."""
    return hashlib.sha256(f"run key {scenario.seed}".encode()).hexdigest()


def services(scenario: Scenario) -> dict[str, str]:
    """MQTT user -> password of the replica and the application."""
    return {name: thing_password(run_key(scenario), name) for name in (BACKEND, APPLICATION, OPERATOR)}


def topics(target: Target) -> Topics:
    """The topic templates. Raises ScenarioError for bad ones."""
    known = list(TOPICS.templates())
    for name in target.topics:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1) or known
            raise ScenarioError(f"target.topics.{name}: unknown name; did you mean {' or '.join(near)}?")
    try:
        return Topics(**target.topics)
    except ValueError as error:
        raise ScenarioError(f"target.topics: {error}") from None


def topic_root(target: Target) -> str:
    """The first level of all topics."""
    return topics(target).update.partition("/")[0]


def storage_key(scenario: Scenario) -> bytes:
    """What the storage signs with."""
    return hashlib.sha256(f"storage {scenario.seed}".encode()).digest()


def replica_of(
    target: Target, storage: Storage | Catalogue, make: Callable[..., Replica] = Replica
) -> tuple[AtlasReplica, Replica]:
    """The replica's dialect and core, with leave to download from this storage."""
    grants = Grants(
        storage,
        ttl_s=target.url_ttl,
        credential=target.access == "credential",
        bind_address=target.bind_address,
    )
    dialect = AtlasReplica(topics=topics(target), variant=target.dialect)
    limits = Limits(target.document_max, target.depth_max, target.token_max)
    return dialect, make(dialect, mint=grants.mint, grant=grants.grant, limits=limits)


def artifact_bytes(scenario: Scenario) -> bytes:
    """The new software of the one rollout: a file's content, or bytes that are the same for the same seed, version and size, behind the
    marker's line if there is one."""
    spec = scenario.rollout
    if spec.file is not None:
        return Path(spec.file).read_bytes()
    line = marker.written(spec.marker) if spec.marker is not None else b""
    return line + random.Random(f"{scenario.seed} {spec.version}").randbytes(spec.size - len(line))


def targets(scenario: Scenario) -> list[tuple[str, str]]:
    """(thing, cohort) of the rollouts' targets, by ordinal."""
    cohorts = scenario.fleet.cohort_of(scenario.seed)
    return [(scenario.fleet.name(o), cohorts[o]) for o in scenario.targets()]


def session_options(base: MqttOptions, profile: Profile) -> MqttOptions:
    """A device's connection, as its profile wants it."""
    return replace(
        base,
        keep_alive_s=int(profile.keep_alive),
        clean_start=profile.clean_start,
        session_expiry_s=int(profile.session_expiry),
    )
