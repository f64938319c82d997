"""How throughput grows with load: fits the Universal Scalability Law to measured points, and finds the knee.

The law (N. Gunther) is X(N) = λN / (1 + σ(N-1) + κN(N-1)), with the throughput X at a load of N. λ is the throughput at a
load of one, σ the share of the work that is done one at a time, κ what each pair costs by agreeing with each other.

`fit` uses another form of it: N/X = alone + serial·N + crosstalk·N(N-1), with λ = 1/(alone + serial), σ = λ·serial and κ
= λ·crosstalk. This is linear in its three parts, each at least 0. So the method of least squares has one solution, and
needs no first guess. `capacity.py` and the sweep's page use this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.model.quantity import many

Numbers = npt.NDArray[np.float64]

LEAST_LOADS = 4
FOR_THE_LAW = "to fit the law, which has three parameters"
BEYOND = 2.0  # times the last load that was measured: as far as the law is drawn
_PARTS = 3
_DRAWS = 2000
TIMES_MAX = 3.0  # an interval whose high end is more than so many times its low one tells nothing
_TURN = 0.1
KEPT_UP = 0.95


class Estimate(NamedTuple):
    """A value, and its interval of 90 %, from `low` to `high`."""

    value: float
    low: float
    high: float

    @property
    def tells(self) -> bool:
        """Whether the interval is narrow enough to say anything."""
        return self.low > 0 and self.high / self.low <= TIMES_MAX


class Fit:
    """The law fitted to some points. `scatter` is how far the points lie from it, as a share (standard deviation); `last` is
    the highest load that was measured."""

    def __init__(self, parts: Numbers, draws: Numbers, scatter: float, last: float) -> None:
        self._parts, self._draws, self.scatter, self.last = parts, draws, scatter, last

    @property
    def alone(self) -> Estimate:
        """λ: the throughput at a load of one."""
        return self._estimate(lambda parts: 1 / _first(parts))

    @property
    def contention(self) -> Estimate:
        """σ: from 0 (all at once) to 1 (one at a time)."""
        return self._estimate(lambda parts: parts[..., 1] / _first(parts))

    @property
    def crosstalk(self) -> Estimate:
        """κ: above 0, more load means less throughput in the end."""
        return self._estimate(lambda parts: parts[..., 2] / _first(parts))

    @property
    def peak(self) -> Estimate | None:
        """The load with the most throughput, √((1-σ)/κ); None if the points do not show that there is one up to BEYOND times
        the last load."""
        with np.errstate(divide="ignore", invalid="ignore"):
            estimate = self._estimate(
                lambda parts: np.nan_to_num(np.sqrt(parts[..., 0] / parts[..., 2]), nan=0, posinf=1e300)
            )
        return estimate if estimate.high <= BEYOND * self.last and estimate.tells else None

    def at(self, load: float) -> Estimate:
        """The throughput at a load."""
        return self._estimate(lambda parts: load / (parts @ _terms(np.array([load]))[0]))

    @property
    def reach(self) -> float:
        """The highest load, at most BEYOND times the last, at which the interval is narrow enough to say anything."""
        loads = np.linspace(self.last, BEYOND * self.last, 41)
        certain = [load for load in loads.tolist() if self.at(load).tells]
        return max(certain, default=self.last)

    def _estimate(self, of: Callable[[Numbers], Any]) -> Estimate:
        value, (low, high) = float(of(self._parts)), np.quantile(of(self._draws), [0.05, 0.95]).tolist()
        return Estimate(value, min(low, value), max(high, value))


def fit(loads: Sequence[float], rates: Sequence[float]) -> Fit | str:
    """Fit the law to points (load, throughput per second), which are taken to have the same relative error. Returns a
    sentence instead if the loads are too few or the points lie too far from the law.

    Intervals come from a simulation: points are drawn many times from the fitted law, with the scatter that was seen, and
    each set is fitted again. So few points tell their scatter only roughly, so it is drawn as well (χ²).
    """
    n, x = np.asarray(loads, float), np.asarray(rates, float)
    if (distinct := len(np.unique(n))) < LEAST_LOADS:
        return too_few(distinct, LEAST_LOADS, FOR_THE_LAW)
    terms, freedom = _terms(n), len(n) - _PARTS
    parts = _solved(terms, n / x)
    drawn = terms @ parts
    residues = drawn / (n / x) - 1
    left = float(residues @ residues)
    dice = np.random.default_rng(0)
    scatters = np.sqrt(left / dice.chisquare(freedom, _DRAWS))
    noise = np.exp(scatters[:, None].clip(max=2) * dice.standard_normal((_DRAWS, len(n))))
    draws = np.array([_solved(terms, drawn * row) for row in noise])
    fitted = Fit(parts, draws, float(np.sqrt(left / freedom)), float(n.max()))
    for load in np.unique(n)[::-1].tolist():
        if not (there := fitted.at(load)).tells:
            return (
                f"the points lie too far from the law, or are too few: at a load of {load:,.0f} the throughput could be "
                f"anything from {there.low:,.3g} to {there.high:,.3g} updates a second"
            )
    return fitted


def too_few(loads: int, least: int, what: str) -> str:
    """The sentence that says why so few different loads are not enough; `what` is what they are needed for."""
    found = f"only {many(loads, 'load')}" if loads else "no load"
    return f"{found} gave a throughput that counts; at least {least} loads are needed {what}"


def _first(parts: Numbers) -> Any:
    """The time that one takes alone: 1/λ."""
    return np.maximum(parts[..., 0] + parts[..., 1], 1e-12)


def _terms(loads: Numbers) -> Numbers:
    return np.column_stack([np.ones_like(loads), loads, loads * (loads - 1)])


def _solved(terms: Numbers, times: Numbers) -> Numbers:
    """The three parts, none below 0, for which the squares of the relative errors are least."""
    from scipy.optimize import nnls

    rows = terms / times[:, None]
    sizes = np.maximum(rows.max(axis=0), 1e-300)  # they differ by many powers of ten
    return np.asarray(nnls(rows / sizes, np.ones(len(times)))[0] / sizes)


def knee(loads: Sequence[float], rates: Sequence[float]) -> float | None:
    """The knee: the load from which on more load brings less than before. `loads` are in ascending order. It is the point
    that lies farthest above the straight line from (0, 0) to the last point (the "kneedle" of Satopää and others). None
    if no point lies above it by a tenth of the highest rate: throughput still grows in proportion."""
    x, y = (np.concatenate([[0.0], np.asarray(values, float)]) for values in (loads, rates))
    if len(x) < 4 or not y.max() > 0:
        return None
    above = (y - y[-1] * x / x[-1]) / y.max()
    best = int(above.argmax())
    return float(x[best]) if above[best] >= _TURN else None


def last_kept_up(offered: Sequence[float], achieved: Sequence[float]) -> float | None:
    """The highest offered rate up to which every rate was achieved, within 5 %; None if all of them were, or not even the
    first. Both sequences are in ascending order of `offered`."""
    kept = np.asarray(achieved, float) >= KEPT_UP * np.asarray(offered, float)
    upto = len(kept) if kept.all() else int(kept.argmin())
    return float(offered[upto - 1]) if 0 < upto < len(kept) else None
