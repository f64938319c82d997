"""How sure a difference between two runs is: the bootstrap. Targets are drawn anew, with replacement, as many as there
are, each from its own cohort; always the same ones, so that the same runs give the same page."""

from __future__ import annotations

import numpy as np

from reports.comparison.samples import FIGURES, Figures, Sample, Weights, figures
from simulator.trace.reader import Codes

DRAWINGS = 2000
TARGETS_MOST = 10_000
_COHORT_LEAST = 10
_CELLS = 500_000  # of one array
_SEED = 1


def paired(a: Sample, b: Sample) -> bool:
    """Whether both runs have the same targets in the same cohorts: then a target is drawn in both or in neither, and
    what is peculiar to it makes no difference."""
    return a.targets == b.targets


def drawings(a: Sample, b: Sample) -> tuple[Figures, Figures]:
    """Each figure of both runs, once for each drawing. Of more than TARGETS_MOST targets as many are drawn from, which
    makes it less sure than it could be."""
    rng, together = np.random.default_rng(_SEED), paired(a, b)
    chosen = _few(rng, len(a))
    a, b = a.only(chosen), b.only(chosen if together else _few(rng, len(b)))
    rows = max(1, _CELLS // max(len(a), len(b), 1))
    drawn: tuple[list[Figures], list[Figures]] = ([], [])
    for start in range(0, DRAWINGS, rows):
        size = min(rows, DRAWINGS - start)
        ours = _drawn(rng, a, size)
        theirs = ours if together else _drawn(rng, b, size)
        for figured, sample, weights in zip(drawn, (a, b), (ours, theirs), strict=True):
            figured.append(figures(sample, weights))
    one, two = ({name: np.concatenate([part[name] for part in parts]) for name in FIGURES} for parts in drawn)
    return one, two


def _few(rng: np.random.Generator, count: int) -> Codes:
    return np.sort(rng.choice(count, TARGETS_MOST, replace=False)) if count > TARGETS_MOST else np.arange(count)


def _drawn(rng: np.random.Generator, sample: Sample, rows: int) -> Weights:
    """Each target's place is drawn from those of its cohort; from all where a cohort is too small to tell."""
    count = len(sample)
    sizes = np.bincount(sample.cohort) if count else np.zeros(0, np.int64)
    if len(sizes) and sizes[sizes > 0].min() >= _COHORT_LEAST:
        first, size = (np.cumsum(sizes) - sizes)[sample.cohort], sizes[sample.cohort]
    else:
        first, size = np.zeros(count, np.int64), np.full(count, count)
    places = first + (rng.random((rows, count)) * size).astype(np.int64)
    places += np.arange(rows)[:, None] * count
    return np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count)
