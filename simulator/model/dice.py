"""Draws keyed by (seed, thing, purpose, nth): leaving out a device or a fault moves no other draw."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from hashlib import blake2b
from statistics import NormalDist

_NORMAL = NormalDist()
_SCALE = 1.0 / (1 << 53)


def draw(seed: int, thing: str, purpose: str, nth: int = 0) -> float:
    """A uniform number in (0, 1), the same for the same four keys on every machine."""
    digest = blake2b(f"{seed}\x1f{thing}\x1f{purpose}\x1f{nth}".encode(), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) * _SCALE


def lowest(seed: int, purpose: str, ordinals: Iterable[int], count: int) -> frozenset[int]:
    """The `count` ordinals with the lowest hashes of (seed, purpose, ordinal): an exact, stable pick."""
    ranked = heapq.nsmallest(count, ((draw(seed, str(o), purpose), o) for o in ordinals))
    return frozenset(o for _, o in ranked)


class Dice:
    """One thing's draws. Each purpose counts its own rolls, so that purposes never disturb one another."""

    __slots__ = ("_rolls", "seed", "thing")

    def __init__(self, seed: int, thing: str) -> None:
        self.seed = seed
        self.thing = thing
        self._rolls: dict[str, int] | None = None

    def roll(self, purpose: str) -> float:
        """The next uniform number in (0, 1) for this purpose."""
        rolls = self._rolls
        if rolls is None:
            rolls = self._rolls = {}
        nth = rolls.get(purpose, 0)
        rolls[purpose] = nth + 1
        return draw(self.seed, self.thing, purpose, nth)


def whole_us(seconds: float) -> float:
    """Seconds, rounded to whole microseconds: `exp` and `log` differ in their last bits between processors."""
    return round(seconds * 1e6) / 1e6


def normal(u: float, mean: float, sd: float) -> float:
    """The quantile `u` of a normal distribution."""
    return mean + sd * _NORMAL.inv_cdf(u)


def lognormal(u: float, median: float, sigma: float) -> float:
    """The quantile `u` of a lognormal distribution with this median and this sigma of the logarithm."""
    return median * math.exp(sigma * _NORMAL.inv_cdf(u))


def exponential(u: float, mean: float) -> float:
    """The quantile `u` of an exponential distribution."""
    return -mean * math.log1p(-u)
