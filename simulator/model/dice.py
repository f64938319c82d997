"""Random numbers that depend on their key alone: (seed, thing, purpose, nth).

A number is a hash of its key; there is no generator with a state. So leaving out a device or a fault changes no other
draw, and a run can be repeated. `Dice` counts nth for one thing. `normal`, `lognormal` and `exponential` turn a uniform
number into one of their distribution.
"""

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
    """Pick `count` of the ordinals: those with the lowest hashes of (seed, purpose, ordinal). The same seed and purpose pick
    the same ones."""
    ranked = heapq.nsmallest(count, ((draw(seed, str(o), purpose), o) for o in ordinals))
    return frozenset(o for _, o in ranked)


class Dice:
    """The random numbers of one thing. Each purpose has a count of its own, so that a roll for one changes no other."""

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
