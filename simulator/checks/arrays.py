"""What several checks ask of arrays: counting, carrying forward and looking up within groups, without a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.trace.reader import Codes, View
from simulator.trace.targets import Mask


def nth(values: Codes) -> Codes:
    """For each value how many like it stand before it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else order
    counted = np.empty(len(values), np.int64)
    counted[order] = np.arange(len(ordered)) - np.repeat(begins, np.diff(np.append(begins, len(ordered))))
    return counted


def grouped(view: View, *by: str) -> View:
    """The view's rows with those of one group side by side, each group in the order of the record."""
    return View(view.trace, view.rows[np.lexsort([view[column] for column in reversed(by)])]) if len(view) else view


def follows(view: View, *by: str) -> Mask:
    """In a grouped view: which rows have a row of their own group right before them."""
    same = np.ones(len(view), bool)
    same[:1] = False
    for column in by:
        values = view[column]
        same[1:] &= values[1:] == values[:-1]
    return same


def carried(joined: Mask, given: Mask) -> Codes:
    """For each place the last one up to it, in its group, where something is `given`; -1 where there is none."""
    places = np.arange(len(joined))
    last = np.maximum.accumulate(np.where(given, places, -1)) if len(joined) else places
    begin = np.maximum.accumulate(np.where(joined, 0, places)) if len(joined) else places
    return np.where(last >= begin, last, -1)


def shifted(values: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
    """For each place the value of the one before it; `first` at the first."""
    return np.append(np.array([first], values.dtype), values[:-1])[: len(values)]


def streak(joined: Mask) -> Codes:
    """For each place how many places before it are joined to it without a break."""
    places = np.arange(len(joined))
    return places - np.maximum.accumulate(np.where(joined, 0, places)) if len(joined) else places


def taken(values: npt.NDArray[Any], places: Codes, missing: int = -1) -> npt.NDArray[Any]:
    """The values at these places; `missing` where a place is -1."""
    return np.append(values, missing)[places]


def rebound(values: Codes, joined: Mask) -> Mask:
    """Which values differ from the first one that their group tells."""
    known = values >= 0
    first = carried(joined, known & (_seen(joined, known) == 1))
    return np.asarray(known & (first >= 0) & (values != taken(values, first)))


def _seen(joined: Mask, known: Mask) -> Codes:
    """For each place how many up to it, in its group, are told."""
    total = np.cumsum(known)
    begin = np.maximum.accumulate(np.where(joined, 0, np.arange(len(joined)))) if len(joined) else total
    return np.asarray(total - np.append(0, total)[begin])
