"""How much each figure differs between two runs, how sure that is, and whether it is a regression."""

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
    """How much worse a run may be: `relative` to the baseline's times, sizes and rates; `points` of the share that did
    not succeed. Both as fractions."""

    relative: float = 0.10
    points: float = 0.01


class Difference(NamedTuple):
    """One figure of two runs. `change`, and the interval from `low` to `high` in which it lies, are shares of the
    baseline's, or a difference of shares; inf: of a time that was never reached. `values`: of how many the figure is, in
    the run that has fewer. `gap`: the interval of the difference in the figure's own unit. `same`: each target is like
    itself in both runs."""

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
        """What kind of figure it is."""
        return FIGURES[self.name]

    def allowed(self, tolerances: Tolerances) -> float:
        """How much worse it may be."""
        return tolerances.points if self.figure.unit == "share" else tolerances.relative

    def judged(self, tolerances: Tolerances) -> Change:
        """A regression lies beyond the tolerance with its whole interval; where that straddles it, nobody can tell."""
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
    """Of each figure that either run has."""
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
    """The difference; none between what was reached neither here nor there."""
    both = np.isinf(baseline) & np.isinf(run)
    return np.where(both, 0.0, np.where(both, 0.0, run) - np.where(both, 0.0, baseline))


def _change(figure: Figure, baseline: Seconds, run: Seconds) -> Seconds:
    """The difference as a share of the baseline's; of shares, the difference itself."""
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
    """Within which all but the outermost drawings lie; nan where there are hardly any."""
    known = np.sort(drawn[~np.isnan(drawn)])
    if len(known) < DRAWINGS / 2:
        return np.nan, np.nan
    return float(known[_CUT]), float(known[-_CUT - 1])
