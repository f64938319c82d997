"""What the scenario says of each thing's device, by the code of the thing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from simulator.model.scenario import Backoff, Distribution, Profile, Scenario
from simulator.trace.reader import Codes, Trace

Numbers = npt.NDArray[np.float64]
_EDGE = 2.0**-53  # of what is drawn from (0, 1)


def longest(drawn: Distribution) -> float:
    """The largest value that can be drawn."""
    return drawn.at(1.0 - _EDGE)


def least(drawn: Distribution) -> float:
    """The smallest value that can be drawn."""
    return drawn.at(_EDGE)


class Profiles:
    """The profile of each thing of the fleet; a stranger has none, and its numbers are NaN."""

    def __init__(self, trace: Trace, scenario: Scenario) -> None:
        fleet = scenario.fleet
        cohorts = list(fleet.cohort_counts())
        self._profiles = [scenario.profile(fleet.profile_of(cohort)) for cohort in cohorts]
        number = {cohort: n for n, cohort in enumerate(cohorts)}
        of_ordinal = [0] * fleet.devices
        if len(cohorts) > 1:
            of_ordinal = [number[cohort] for cohort in fleet.cohort_of(scenario.seed)]
        of_thing = dict(zip(fleet.names(), of_ordinal, strict=True))
        self._of = np.array([of_thing.get(thing, -1) for thing in trace.words("thing")], np.int64)

    def numbers(self, things: Codes, number: Callable[[Profile], float]) -> Numbers:
        """This number of each thing's profile."""
        values = np.array([*map(number, self._profiles), np.nan])
        return np.asarray(np.append(values[self._of], np.nan)[things])

    def least_us(self, things: Codes, backoff: Callable[[Profile], Backoff], nth: Codes) -> Numbers:
        """The shortest wait before attempt `nth` + 1 (nth from 0)."""
        base, cap, jitter = (
            self.numbers(things, lambda profile, name=name: getattr(backoff(profile), name))  # type: ignore[misc]
            for name in ("base", "cap", "jitter")
        )
        return np.asarray(np.minimum(cap, base * np.exp2(np.clip(nth, 0, 60))) * (1.0 - jitter) * 1e6)

    def known(self, things: Codes) -> npt.NDArray[np.bool_]:
        """Which of these things are the fleet's."""
        return np.append(self._of, -1)[things] >= 0
