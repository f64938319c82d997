"""What a device is like: distributions that its times and bandwidths are drawn from, back-offs, mishaps; and the shipped
profiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from simulator.model import dice, quantity
from simulator.model.scenario.units import Block, Duration, Share


class Distribution(Block):
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


class Backoff(Block):
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


class Profile(Block):
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
