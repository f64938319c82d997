"""Which devices are mine: shard `index` of `count` owns every count-th ordinal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of the fleet."""

    index: int = 0
    count: int = 1

    def owns(self, ordinal: int) -> bool:
        """Whether the device with this ordinal is this shard's."""
        return ordinal % self.count == self.index
