"""What one device draws from its profile: times, bandwidths and mishaps, each keyed by purpose."""

from __future__ import annotations

from simulator.model.dice import Dice, whole_us
from simulator.model.scenario import Backoff, Distribution, Profile, Stage, Way


class Draws:
    """A profile and one thing's dice."""

    __slots__ = ("dice", "profile")

    def __init__(self, profile: Profile, dice: Dice) -> None:
        self.profile = profile
        self.dice = dice

    def value(self, purpose: str, distribution: Distribution) -> float:
        """The next draw for this purpose; a fixed value rolls no dice. Seconds, or bytes per second."""
        if distribution.fixed is not None:
            return distribution.fixed
        return whole_us(distribution.at(self.dice.roll(purpose)))

    def delay(self, purpose: str, backoff: Backoff, nth: int) -> float:
        """Seconds before attempt `nth` + 1."""
        return backoff.delay(nth, self.dice.roll(purpose) if backoff.jitter else 0.0)

    def mishap(self, stage: Stage) -> Way | None:
        """What goes wrong in this stage this time, if anything."""
        ways = self.profile.mishaps.get(stage)
        if not ways:
            return None
        u = self.dice.roll(f"mishap {stage}")
        for way, share in ways.items():
            if u < share:
                return way
            u -= share
        return None
