"""The ramp, as pure functions: when each device is due to start, and which shard of the fleet starts it."""

from __future__ import annotations

from dataclasses import dataclass


def due(ramp: tuple[str, float], devices: int, ordinal: int) -> float:
    """Seconds after the ramp's begin at which the device with this ordinal starts.

    `ramp` is ("rate", devices a second) or ("over", seconds for all).
    """
    kind, value = ramp
    return ordinal / value if kind == "rate" else value * ordinal / devices


def length(ramp: tuple[str, float], devices: int) -> float:
    """How long the whole ramp takes, in seconds."""
    return due(ramp, devices, devices)


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of the fleet: shard `index` of `count` owns every count-th ordinal."""

    index: int = 0
    count: int = 1

    def owns(self, ordinal: int) -> bool:
        """Whether the device with this ordinal is this shard's."""
        return ordinal % self.count == self.index
