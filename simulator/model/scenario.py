"""The scenario file as a model: what is run, against what, and what must hold. YAML in, errors with file, line and key."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel
from yaml.composer import ComposerError

from simulator.model import dice, marker, quantity
from simulator.model.errors import ScenarioError


def _unit(parse: Any, examples: list[Any]) -> Any:
    """A type hint's metadata: parsed by `parse`, described in the JSON Schema by examples."""
    return BeforeValidator(parse), WithJsonSchema({"type": ["string", "number"], "examples": examples})


_duration, _size, _share = (
    _unit(quantity.duration, ["30s", "5m", "1h30m"]),
    _unit(quantity.size, ["16KiB", "32MB"]),
    _unit(quantity.share, ["10%", 0.1]),
)
Duration = Annotated[float, *_duration]
Size = Annotated[int, *_size]
Share = Annotated[float, *_share]
Ramp = Annotated[tuple[str, float], *_unit(quantity.ramp, ["200/s", "30s"])]
Threshold = Annotated[tuple[str, float], *_unit(quantity.threshold, [">= 95%", "> 10%"])]
PartOf = Annotated[tuple[int, int], *_unit(quantity.part, ["1/3"])]


class Part(BaseModel):
    """Every block of a scenario: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


# ---- what a device is like


class Distribution(Part):
    """One of fixed, uniform, normal, lognormal, exponential, quantiles; clipped to [min, max].

    A bare value is `fixed`. Quantiles are pairs (share, value), joined by straight lines.
    """

    fixed: float | None = None
    uniform: tuple[float, float] | None = None
    normal: tuple[float, float] | None = Field(None, description="mean, standard deviation")
    lognormal: tuple[float, float] | None = Field(None, description="median, sigma of the logarithm")
    exponential: float | None = Field(None, description="mean")
    quantiles: tuple[tuple[float, float], ...] | None = None
    min: float = 0.0
    max: float | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Distribution:
        given = [k for k in ("fixed", "uniform", "normal", "lognormal", "exponential", "quantiles") if self._has(k)]
        if len(given) != 1:
            raise ValueError("give exactly one of fixed, uniform, normal, lognormal, exponential, quantiles")
        if self.quantiles is not None and not _growing(self.quantiles):
            raise ValueError("quantiles are at least two pairs (share, value), both growing, from share 0 to 1")
        if self.uniform is not None and self.uniform[0] > self.uniform[1]:
            raise ValueError("the lower bound is more than the upper")
        if self.lognormal is not None and not 0 <= self.lognormal[1] <= 10:
            raise ValueError("sigma is a number from 0 to 10, of the logarithm")
        if self.max is not None and self.min > self.max:
            raise ValueError("min is more than max")
        if self.fixed is not None and not self.min <= self.fixed <= (self.fixed if self.max is None else self.max):
            raise ValueError("fixed lies outside of min and max")
        return self

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None

    @cached_property
    def at(self) -> Callable[[float], float]:
        """at(u): the value at quantile `u` in (0, 1). A plain function, for a model's attributes are slow to reach."""
        curve, low, high = self._curve(), self.min, math.inf if self.max is None else self.max

        def clipped(u: float) -> float:
            value = curve(u)
            return low if value < low else high if value > high else value

        return clipped if self.fixed is None else curve

    def _curve(self) -> Callable[[float], float]:
        if self.fixed is not None:
            value = self.fixed
            return lambda u: value
        if self.uniform is not None:
            low, high = self.uniform
            return lambda u: low + u * (high - low)
        if self.normal is not None:
            mean, sd = self.normal
            return lambda u: dice.normal(u, mean, sd)
        if self.lognormal is not None:
            median, sigma = self.lognormal
            return lambda u: dice.lognormal(u, median, sigma)
        if self.exponential is not None:
            mean = self.exponential
            return lambda u: dice.exponential(u, mean)
        points = self.quantiles or ()
        return lambda u: _between(points, u)


def _growing(points: tuple[tuple[float, float], ...]) -> bool:
    shares, values = [share for share, _ in points], [value for _, value in points]
    ends = len(points) >= 2 and shares[0] == 0 and shares[-1] == 1
    return ends and shares == sorted(shares) and values == sorted(values)


def _between(points: tuple[tuple[float, float], ...], u: float) -> float:
    for (u0, v0), (u1, v1) in itertools.pairwise(points):
        if u <= u1:
            return v0 + (v1 - v0) * (u - u0) / (u1 - u0) if u1 > u0 else v1
    return points[-1][1]


_NUMBERS = ("fixed", "uniform", "normal", "lognormal", "exponential", "quantiles", "min", "max")


def _drawn(parse: Any) -> Any:
    """A distribution whose numbers are written in a unit, or a bare value."""

    def read(value: object) -> object:
        if isinstance(value, Distribution):
            return value
        if not isinstance(value, dict):
            return {"fixed": parse(value)}
        return {k: _in_unit(k, v, parse) if k in _NUMBERS and v is not None else v for k, v in value.items()}

    return BeforeValidator(read)


def _in_unit(kind: str, value: Any, parse: Any) -> Any:
    if kind == "lognormal" and isinstance(value, list) and len(value) == 2:
        return [parse(value[0]), value[1]]  # sigma has no unit
    if kind == "quantiles" and isinstance(value, list):
        return [[quantity.share(q[0]), parse(q[1])] if isinstance(q, list) and len(q) == 2 else q for q in value]
    return [parse(v) for v in value] if isinstance(value, list) else parse(value)


Delay = Annotated[Distribution, _drawn(quantity.duration)]
Bandwidth = Annotated[Distribution, _drawn(quantity.bandwidth)]


class Backoff(Part):
    """Wait `base` × 2ⁿ, at most `cap`, less up to `jitter` of it; give up after `attempts` (None: never)."""

    base: Duration = 1.0
    cap: Duration = 60.0
    jitter: Share = 0.5
    attempts: int | None = Field(None, ge=1)

    def delay(self, nth: int, u: float) -> float:
        """Seconds before attempt `nth` + 1 (nth from 0), for the draw `u`."""
        return dice.whole_us(min(self.cap, self.base * 2.0 ** min(nth, 60)) * (1.0 - self.jitter * u))


SERVICE_RECONNECT = Backoff(base=0.1, cap=5.0, jitter=0)  # of what is no device: backend and application

PhaseName = Literal[
    "idle", "downloading", "verifying", "installing", "rebooting", "confirming", "rolling-back", "reporting"
]
Stage = Literal["connect", "download", "verify", "install", "reboot", "report"]
Way = Literal["error", "hang", "crash", "slow", "lie"]


class Profile(Part):
    """What a device is like. Times and bandwidths are drawn for each device and each use."""

    latency: Delay = Field(0, description="one way, for each message")  # type: ignore[assignment]
    bandwidth: Bandwidth = Field(0, description="of a download; 0 is no limit")  # type: ignore[assignment]
    verify: Delay = 0  # type: ignore[assignment]
    install: Delay = Field("500ms")  # type: ignore[assignment]
    reboot: Delay = Field("1s")  # type: ignore[assignment]
    online: Delay | None = Field(None, description="time until the next offline window; absent: never offline")
    offline: Delay = Field("30s", description="length of an offline window")  # type: ignore[assignment]
    reconnect: Backoff = Backoff()
    resend: Backoff = Backoff(base=5, cap=300, attempts=10)
    download_retry: Backoff = Backoff(base=1, cap=60, attempts=8)
    download_timeout: Duration = 600.0
    answer_timeout: Duration = Field(30.0, description="how long an answer to `get` or for a credential may take")
    running_interval: Duration = Field(30.0, gt=0, description="a long phase reports RUNNING this often")
    keep_alive: Duration = 60.0
    clean_start: bool = True
    session_expiry: Duration = 0.0
    slow_factor: float = Field(10.0, ge=1)
    mishaps: dict[Stage, dict[Way, Share]] = Field(default_factory=dict, description="stage -> way -> share")

    @model_validator(mode="after")
    def _shares_fit(self) -> Profile:
        for stage, ways in self.mishaps.items():
            if sum(ways.values()) > 1:
                raise ValueError(f"mishaps.{stage}: the shares add up to more than 100%")
        return self


PROFILES: dict[str, Profile] = {
    "perfect": Profile(install=0, reboot=0),
    "wifi": Profile(
        latency={"lognormal": ["8ms", 0.5], "max": "500ms"},
        bandwidth={"lognormal": ["20mbit", 0.6], "min": "1mbit"},
        install={"lognormal": ["2s", 0.4]},
        reboot={"normal": ["5s", "1s"], "min": "2s"},
    ),
    "lte-m": Profile(
        latency={"lognormal": ["60ms", 0.5], "max": "2s"},
        bandwidth={"lognormal": ["375kbit", 0.4], "min": "50kbit"},
        install={"lognormal": ["6s", 0.4]},
        reboot={"normal": ["12s", "3s"], "min": "5s"},
        online={"exponential": "2h"},
        offline={"lognormal": ["20s", 1.0], "max": "10m"},
        keep_alive="4m",
    ),
    "nb-iot": Profile(
        latency={"lognormal": ["1500ms", 0.6], "max": "10s"},
        bandwidth={"lognormal": ["26kbit", 0.3], "min": "5kbit"},
        install={"lognormal": ["10s", 0.4]},
        reboot={"normal": ["20s", "5s"], "min": "8s"},
        online={"exponential": "1h"},
        offline={"lognormal": ["2m", 1.0], "max": "1h"},
        reconnect=Backoff(base=5, cap=600),
        keep_alive="10m",
        clean_start=False,
        session_expiry="1h",
    ),
    "flaky": Profile(
        latency={"lognormal": ["100ms", 1.0], "max": "5s"},
        bandwidth={"lognormal": ["2mbit", 1.0], "min": "50kbit"},
        install={"lognormal": ["3s", 0.8]},
        reboot={"normal": ["6s", "2s"], "min": "2s"},
        online={"exponential": "2m"},
        offline={"lognormal": ["10s", 1.0], "max": "2m"},
        mishaps={
            "connect": {"error": "5%"},
            "download": {"error": "2%", "crash": "2%", "slow": "5%"},
            "verify": {"error": "1%"},
            "install": {"error": "2%", "crash": "2%"},
            "reboot": {"error": "1%"},
        },
    ),
}


class Cohort(Part):
    """A part of the fleet with a profile of its own: an exact `count`, a `share`, or what the others leave."""

    name: str
    profile: str | None = Field(None, description="absent: the fleet's")
    count: int | None = Field(None, ge=0)
    share: Share | None = None

    @model_validator(mode="after")
    def _one_size(self) -> Cohort:
        if self.count is not None and self.share is not None:
            raise ValueError("give count or share, not both")
        return self


class Fleet(Part):
    """The devices: how many, how they are called, how fast they come."""

    devices: int = Field(100, ge=1, le=100_000_000)
    thing: str = Field("device-%i", description="%i is the index")
    client_id: str = Field("%u", description="%i is the index, %u the thing")
    username: str = Field("%u", description="%u is the thing, %c the client id; for an external broker")
    password: str | None = Field(None, description="for an external broker; %u and %c as in username")
    first_index: int = Field(0, ge=0)
    only: tuple[int, ...] = Field((), description="the only devices that are there, counted from 0; none: all of them")
    ramp: Ramp = Field("200/s", description="devices a second, or all within a time")  # type: ignore[assignment]
    version: str = Field("1.0.0", description="what runs at the start")
    profile: str = "perfect"
    cohorts: tuple[Cohort, ...] = ()

    @model_validator(mode="after")
    def _indexed(self) -> Fleet:
        if self.thing.count("%i") != 1:
            raise ValueError("thing: it must hold %i once, or all devices would share a name")
        if any(c in self.thing for c in "/+#"):
            raise ValueError("thing: it becomes a topic level and may hold none of / + #")
        if "%i" not in self.client_id and "%u" not in self.client_id:
            raise ValueError("client_id: it must hold %i or %u, or devices would take over each other's connection")
        if any(not 0 <= ordinal < self.devices for ordinal in self.only) or len(set(self.only)) < len(self.only):
            raise ValueError(f"only: each once, from 0 to {self.devices - 1}")
        names = [c.name for c in self.cohorts]
        if len(names) != len(set(names)):
            raise ValueError("cohorts: names must differ")
        self.cohort_counts()
        return self

    @property
    def present(self) -> Sequence[int]:
        """The ordinals of the devices that are there. Cohorts, shares and times are those of the whole fleet, so that
        leaving others out changes nothing for these."""
        return sorted(self.only) or range(self.devices)

    def name(self, ordinal: int) -> str:
        """The thing of the device with this ordinal (from 0)."""
        return self.thing.replace("%i", str(self.first_index + ordinal))

    @property
    def stranger(self) -> str:
        """A thing spelled as the devices' are, with the index after the last one's: nobody's."""
        return self.name(self.devices)

    def login(self, thing: str) -> tuple[str, str, str | None]:
        """A thing's (client id, user, password), spelled by the templates; the password is None without one."""
        before, _, after = self.thing.partition("%i")
        index = thing[len(before) : len(thing) - len(after)]
        client_id = self.client_id.replace("%i", index).replace("%u", thing)

        def spell(template: str) -> str:
            return template.replace("%i", index).replace("%c", client_id).replace("%u", thing)

        return client_id, spell(self.username), None if self.password is None else spell(self.password)

    def names(self) -> Iterator[str]:
        """All things, by ordinal."""
        return map(self.name, range(self.devices))

    def cohort_counts(self) -> dict[str, int]:
        """cohort -> exact number of devices. Raises ValueError when they do not add up to `devices`."""
        if not self.cohorts:
            return {"all": self.devices}
        counts: dict[str, int] = {}
        share, shared = 0.0, 0  # shares are rounded as they add up, so that their sum is exact
        for cohort in self.cohorts:
            share += cohort.share or 0.0
            upto = round(share * self.devices)
            counts[cohort.name] = upto - shared if cohort.count is None else cohort.count
            shared = upto
        rest = [c.name for c in self.cohorts if c.count is None and c.share is None]
        left = self.devices - sum(counts.values())
        if left < 0 or len(rest) > 1 or (left > 0 and not rest):
            raise ValueError(
                f"cohorts: they come to {self.devices - left} of {self.devices} devices; "
                "leave count and share out of exactly one cohort to give it the rest"
            )
        if rest:
            counts[rest[0]] = left
        return counts

    def cohort_of(self, seed: int) -> list[str]:
        """The cohort of each ordinal: each cohort takes the lowest hashes of (seed, cohort, ordinal) still free."""
        counts = self.cohort_counts()
        last = next(reversed(counts))
        cohorts = [last] * self.devices
        free: list[int] | range = range(self.devices)
        for name, count in list(counts.items())[:-1]:
            taken = dice.lowest(seed, f"cohort {name}", free, count)
            for ordinal in taken:
                cohorts[ordinal] = name
            free = [o for o in free if o not in taken]
        return cohorts

    def profile_of(self, cohort: str) -> str:
        """The profile's name of a cohort."""
        return next((c.profile for c in self.cohorts if c.name == cohort and c.profile is not None), self.profile)


# ---- what it runs against


class Target(Part):
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


# ---- who gets what, when


_SEGMENT = r"^[A-Za-z0-9_.+~@-]+$"  # it stands in the paths of URLs


class Words(Part):
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
            raise ValueError(f"marker: {_no_such('marker', self.marker, known)}; a share may follow it, such as 30%")
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


def _setting(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("write a number or a text")
    return value


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
        found: list[tuple[float, Deed]] = []
        if self.pause_after is not None:
            found += [(self.pause_after, "pause"), (self.pause_after + self.pause_for, "resume")]
        if self.abort_after is not None:
            found.append((self.abort_after, "abort"))
        return tuple(sorted(found))


# ---- faults


class Fault(Part):
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


class Limits(Part):
    """When the load generator counts as the bottleneck: the run is INVALID beyond these."""

    lateness_p99: Duration = 0.1
    lateness_share: Share = 0.05
    loop_lag_p99: Duration = 0.1
    offered: Share = 0.99
    warm_up: Duration = 2.0


class Scenario(Part):
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
    checks: tuple[str, ...] = Field((), description="names of checks; none: all")
    thresholds: dict[Literal["converged", "succeeded", "failed"], Threshold] = Field(
        default_factory=dict, description="shares of the targets"
    )
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _names_known(self) -> Scenario:
        named = {f"fleet.cohorts.{n}.profile": c.profile for n, c in enumerate(self.fleet.cohorts)}
        for key, profile in {"fleet.profile": self.fleet.profile, **named}.items():
            if profile is not None and profile not in self.profiles and profile not in PROFILES:
                raise ValueError(f"{key}: {_no_such('profile', profile, [*self.profiles, *PROFILES])}")
        cohorts = self.fleet.cohort_counts()
        asked = {"rollout.cohorts": self.rollout.cohorts}
        asked |= {f"operators.{nth}.cohorts": one.cohorts or () for nth, one in enumerate(self.operators)}
        for key, names in asked.items():
            for n, cohort in enumerate(names):
                if cohort not in cohorts:
                    raise ValueError(f"{key}.{n}: {_no_such('cohort', cohort, list(cohorts))}")
        if self.rollout.marker is not None and self.target.artifact_url is not None:
            raise ValueError("rollout.marker: what stands at target.artifact_url holds its own")
        return self

    def profile(self, name: str) -> Profile:
        """The profile of this name: the scenario's own, or a shipped one. Raises ValueError."""
        found = self.profiles.get(name) or PROFILES.get(name)
        if found is None:
            raise ValueError(_no_such("profile", name, [*self.profiles, *PROFILES]))
        return found

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
        one, spec = self.operators[nth], self.rollout
        name = f"{spec.name}-{nth + 1}" if len(self.operators) > 1 else spec.name
        cohorts = spec.cohorts if one.cohorts is None else one.cohorts
        update = {"name": name, "version": one.version or spec.version, "cohorts": cohorts}
        return self.model_copy(update={"rollout": spec.model_copy(update=update), "operators": (one,)})

    def operator(self) -> Operator:
        """Who begins the rollout, where there is but one."""
        return self.operators[0] if self.operators else Operator()

    def targets(self) -> tuple[int, ...]:
        """The ordinals that the rollouts are for. Of each: its cohorts' devices, of them the share with the lowest
        hashes, and of these its operator's part."""
        if len(self.operators) > 1:
            return tuple(sorted(set(itertools.chain.from_iterable(one.targets() for one in self.rollouts))))
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
        for nth, one in enumerate(scenario.rollouts if scenario.operators else ()):
            if _targets_of_all(one) < one.operator().part[0]:
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


def _no_such(what: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"no such {what}: {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}")


# ---- reading a file


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a date is a text, as any version is, and no key stands twice in a block."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if str(key.value) in keys:
                raise ComposerError(None, None, f"{key.value} stands twice in one block", key.start_mark)
            keys.add(str(key.value))
        return node


def load_scenario(
    path: Path, overrides: dict[str, Any] | None = None, flags: Mapping[str, str] | None = None
) -> Scenario:
    """Read a scenario file; `overrides` are dotted keys laid over it, each by the flag that `flags` tells of
    it. Raises ScenarioError naming file, line and key, or the flag."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from None
    return parse_scenario(text, str(path), overrides, default_name=path.stem, flags=flags)


def located(path: Path, error: ScenarioError) -> ScenarioError:
    """What a scenario's file alone did not tell, with the file and the line of the key that the error begins with."""
    key = re.match(r"([a-zA-Z_]\w*(?:\.\w+)*): ", str(error))
    if key is None:
        return error
    line = _line(yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader), key[1].split("."))
    return ScenarioError(f"{path}:{line}: {error}" if line else f"{path}: {error}")


def parse_scenario(
    text: str,
    where: str = "scenario",
    overrides: dict[str, Any] | None = None,
    default_name: str = "unnamed",
    flags: Mapping[str, str] | None = None,
) -> Scenario:
    """The same, from text."""
    try:
        data = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ScenarioError(f"{where}: its blocks are nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ScenarioError(f"{where}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ScenarioError(f"{where}: a scenario is a mapping of blocks, such as 'fleet:' and 'rollout:'")
    data.setdefault("name", default_name)
    for key, value in (overrides or {}).items():
        _lay(data, key.split("."), value)
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        node = yaml.compose(text, Loader=_Loader)
        given = {key: flag for key, flag in (flags or {}).items() if key in (overrides or {})}
        raise ScenarioError("\n".join(_explain(e, node, where, given) for e in error.errors())) from None


def _lay(data: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for key in parents:
        below = data.get(key)
        data[key] = data = below if isinstance(below, dict) else {}
    data[last] = value


def _explain(error: Any, node: Any, where: str, flags: Mapping[str, str]) -> str:
    path = [str(p) for p in error["loc"] if p != "[key]" and not str(p).startswith("function-")]
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and (key := re.match(r"([a-zA-Z_]\w*(?:\.\w+)*): ", text)):
        path += key[1].split(".")  # a block's own rule names the key below it
        text = text[key.end() :]
    elif error["type"] == "extra_forbidden" or "[key]" in error["loc"]:
        near = difflib.get_close_matches(path[-1], _keys_of(path[:-1]), 1)
        text = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    elif error["type"] == "string_type" and isinstance(error["input"], int | float):
        text += "; put it in quotes"
    elif error["type"] in ("tuple_type", "list_type"):
        text = "write a list, each entry on a line of its own behind a dash"
    elif error["type"] in ("model_type", "dict_type"):
        keys = _keys_of(path)
        text = "write a block of keys" + (f", such as {', '.join(keys[:4])}" if keys else " and values")
    if flag := flags.get(".".join(path)):
        return f"{flag}: {text}"
    line = _line(node, path)
    return f"{where}:{line}: {'.'.join(path)}: {text}" if line else f"{where}: {'.'.join(path) or 'scenario'}: {text}"


def _line(node: Any, path: list[str]) -> int | None:
    """The line of the deepest node on the path that stands in the file."""
    line = None
    for key in path:
        if isinstance(node, yaml.MappingNode):
            entry = next(((k, v) for k, v in node.value if k.value == key), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _keys_of(path: list[str]) -> list[str]:
    """The keys that the block at this path may hold."""
    schema: Any = Scenario.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    for key in path:
        schema = _resolved(schema, definitions)
        schema = (
            schema.get("items", {})
            if key.isdigit()
            else schema.get("properties", {}).get(key) or schema.get("additionalProperties", {})
        )
    found = _resolved(schema, definitions)
    return list(found.get("properties", {})) or found.get("propertyNames", {}).get("enum", [])


def _resolved(schema: Any, definitions: Any) -> Any:
    for option in [schema, *schema.get("anyOf", []), *schema.get("allOf", [])]:
        if "$ref" in option:
            return definitions[option["$ref"].rpartition("/")[2]]
    return schema
