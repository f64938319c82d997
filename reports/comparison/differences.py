"""How much each figure differs between two runs, how sure that is, and whether it is a regression.

`differences` takes the samples of the baseline and of another run (`samples.py`), draws their targets anew many times
(`resampling.py`), and gives a `Difference` for each figure: how much it changed, and the interval in which that change lies.
`Difference.judged` sets this interval against what is tolerated. `compare.py` puts the result into comparison.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from reports.comparison.resampling import DRAWINGS, drawings, paired
from reports.comparison.samples import FIGURES, Figure, Sample, figures
from simulator.trace.targets import Seconds

CONFIDENCE = 0.95  # that all intervals of one comparison hold together
LEAST_S = 0.001  # a time that differs by less than a turn of the loop does not differ
_CUT = int(DRAWINGS * (1 - CONFIDENCE) / 2 / len(FIGURES))  # by Bonferroni; so many drawings are beyond each end


class Change(StrEnum):
    """What became of a figure or a check, from the baseline to another run."""

    WORSE = "regression"
    BETTER = "better"
    SAME = "none"
    UNSURE = "cannot tell"
    FEW = "too few"
    ABSENT = "no value"


class Tolerances(NamedTuple):
    """How much worse a run may be, as fractions. `relative`: of the baseline's times, sizes and rates. `points`: by how much
    more of the targets may not succeed."""

    relative: float = 0.10
    points: float = 0.01


class Difference(NamedTuple):
    """One figure of two runs: its values in the `baseline` and in the `run`, in its own unit (inf: a time that was never
    reached). `change` is how much it differs, and `low` to `high` the interval in which that lies: as shares of the
    baseline's value, or, of a figure that is a share itself, as the plain difference. `gap` is the interval of the
    difference in the figure's own unit. `values`: from how many values the figure is computed, in the run that has
    fewer. `same`: each target is alike in both runs, so that there is no doubt."""

    name: str
    baseline: float
    run: float
    change: float
    low: float
    high: float
    gap: tuple[float, float]
    values: int
    same: bool

    @property
    def figure(self) -> Figure:
        """Its unit, which way is worse, and how many values it needs."""
        return FIGURES[self.name]

    def allowed(self, tolerances: Tolerances) -> float:
        """How much worse it may be, as `change` says it."""
        return tolerances.points if self.figure.unit == "share" else tolerances.relative

    def judged(self, tolerances: Tolerances) -> Change:
        """What to make of it: a regression if the whole interval is worse than tolerated; UNSURE if only a part of it is."""
        if np.isnan([self.baseline, self.run, self.low]).any():
            return Change.ABSENT
        if self.same:
            return Change.SAME
        if self.values < self.figure.least:
            return Change.FEW
        allowed, least = self.allowed(tolerances), LEAST_S if self.figure.unit == "s" else -np.inf
        low, high = (-self.high, -self.low) if self.figure.less_is_worse else (self.low, self.high)
        if low > allowed and self.gap[0] > least:
            return Change.WORSE
        if high > allowed and self.gap[1] > least:
            return Change.UNSURE
        return Change.BETTER if high < -allowed and self.gap[1] < -least else Change.SAME


def differences(a: Sample, b: Sample) -> Iterator[Difference]:
    """The difference of each figure that at least one of the runs has; `a` is the baseline."""
    baseline, run = figures(a), figures(b)
    drawn_baseline, drawn_run = drawings(a, b)
    counts, together = (a.counts(), b.counts()), paired(a, b)
    for name, figure in FIGURES.items():
        if np.isnan(baseline[name][0]) and np.isnan(run[name][0]):
            continue
        change = _change(figure, baseline[name], run[name])
        low, high = _interval(_change(figure, drawn_baseline[name], drawn_run[name]))
        apart = _interval(_gap(drawn_baseline[name], drawn_run[name]))
        # each target is like itself in both runs: nothing to be unsure of
        same = together and np.array_equal(drawn_baseline[name], drawn_run[name])
        values = min(count[name] for count in counts)
        yield Difference(
            name, float(baseline[name][0]), float(run[name][0]), float(change[0]), low, high, apart, values, same
        )


def _gap(baseline: Seconds, run: Seconds) -> Seconds:
    """The run's values minus the baseline's; 0 where neither was ever reached (both are inf)."""
    both = np.isinf(baseline) & np.isinf(run)
    return np.where(both, 0.0, np.where(both, 0.0, run) - np.where(both, 0.0, baseline))


def _change(figure: Figure, baseline: Seconds, run: Seconds) -> Seconds:
    """The difference as a share of the baseline's value; of a figure that is a share, the difference itself."""
    gap = _gap(baseline, run)
    if figure.unit == "share":
        return gap
    reached = np.isfinite(baseline) & (baseline != 0)
    relative = gap / np.where(reached, np.abs(baseline), 1.0)
    beyond = np.where(
        gap == 0, 0.0, np.where(np.isinf(baseline), -1.0, np.inf)
    )  # never reached; or nothing, and now more
    return np.where(reached | np.isnan(gap), relative, beyond)


def _interval(drawn: Seconds) -> tuple[float, float]:
    """The interval that holds all drawings but the outermost `_CUT` at each end; NaN if fewer than half have a value."""
    known = np.sort(drawn[~np.isnan(drawn)])
    if len(known) < DRAWINGS / 2:
        return np.nan, np.nan
    return float(known[_CUT]), float(known[-_CUT - 1])
