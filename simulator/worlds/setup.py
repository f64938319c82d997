"""What both worlds make of a scenario in the same way: names, keys, topics, the new software's bytes."""

from __future__ import annotations

import difflib
import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from simulator.broker.access import thing_password
from simulator.dialects import registry
from simulator.dialects.base import ApplicationDialect, ProbeDialect, ReplicaDialect
from simulator.dialects.topics import Topics
from simulator.links.base import MqttOptions
from simulator.model import marker
from simulator.model.errors import ScenarioError
from simulator.model.scenario import Profile, Scenario, Target
from simulator.replica.core import DocumentLimits, Replica
from simulator.storage.grant import Grants
from simulator.storage.store import ArtifactStore

BACKEND, APPLICATION, OPERATOR = "fleetsim-backend", "fleetsim-application", "fleetsim-operator"


def run_key(scenario: Scenario) -> str:
    """The key of which all passwords of a run are derived."""
    return hashlib.sha256(f"run key {scenario.seed}".encode()).hexdigest()


def services(scenario: Scenario) -> dict[str, str]:
    """MQTT user -> password of the replica and the application."""
    return {name: thing_password(run_key(scenario), name) for name in (BACKEND, APPLICATION, OPERATOR)}


def dialect_of(target: Target) -> registry.Dialect:
    """The dialect that is spoken. Raises ScenarioError where there is none of this name, or where it cannot do what else
    the target asks for."""
    dialect = registry.dialect_of(target.dialect)
    if target.access == "credential" and not dialect.can.credentials:
        raise ScenarioError(f"target.access: dialect {target.dialect} has no credentials; it needs access presigned")
    if target.bind_address and not dialect.can.addresses:
        raise ScenarioError(f"target.bind_address: in dialect {target.dialect} a device does not report its address")
    return dialect


def topics(target: Target) -> Topics:
    """The dialect's topics, with the templates that the scenario gives in place of its own. Raises ScenarioError for bad
    ones."""
    made = dialect_of(target).topics
    known = made.names()
    for name in target.topics:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1) or known
            raise ScenarioError(f"target.topics.{name}: unknown name; did you mean {' or '.join(near)}?")
    try:
        return made(**target.topics)
    except ValueError as error:
        raise ScenarioError(f"target.topics: {error}") from None


def application_dialect(target: Target) -> ApplicationDialect:
    """The application's side of the dialect. Raises ScenarioError for one that has a service of its own."""
    make = dialect_of(target).application
    if make is None:
        raise ScenarioError(
            f"target.dialect: {target.dialect} has a service of its own, which runs in virtual time only"
        )
    return make(topics=topics(target))


def replica_dialect(target: Target) -> ReplicaDialect:
    """The replica's side of the dialect. Raises ScenarioError for one that has a service of its own."""
    make = dialect_of(target).replica
    if make is None:
        raise ScenarioError(
            f"target.dialect: {target.dialect} has a service of its own, which runs in virtual time only"
        )
    return make(topics=topics(target))


def probe_dialect(scenario: Scenario) -> ProbeDialect | None:
    """The probe's side of the dialect, for a thing that is nobody's; None where nothing is to be probed."""
    make = dialect_of(scenario.target).probe
    if make is None or not scenario.target.probes:
        return None
    return make(scenario.fleet.stranger, topics=topics(scenario.target))


def storage_key(scenario: Scenario) -> bytes:
    """What the storage signs with."""
    return hashlib.sha256(f"storage {scenario.seed}".encode()).digest()


def grants_of(target: Target, store: ArtifactStore) -> Grants:
    """What grants downloads from this store, as the target wants them granted."""
    return Grants(
        store,
        ttl_s=target.url_ttl,
        credential=target.access == "credential",
        bind_address=target.bind_address,
    )


def replica_of(
    target: Target, store: ArtifactStore, make: Callable[..., Replica] = Replica
) -> tuple[ReplicaDialect, Replica]:
    """The replica's side of the dialect and its core, which grants downloads from this store."""
    grants = grants_of(target, store)
    dialect = replica_dialect(target)
    limits = DocumentLimits(target.document_max, target.depth_max, target.token_max)
    return dialect, make(dialect, download=grants.download, credential=grants.credential, limits=limits)


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
