"""What a run says of each of its targets, as numbers that can be drawn again, and every figure that two runs are
compared by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reports.run import effort, flow
from reports.run.times import converged_s, heard_of_offer, since_due
from simulator.model.events import Kind
from simulator.model.update import State
from simulator.trace.reader import Codes, Trace, View
from simulator.trace.targets import Seconds, Targets

Weights = npt.NDArray[np.int64]
"""How often each target (column) is in each drawing (row)."""
Figures = dict[str, npt.NDArray[np.float64]]
TO_HAVE, _BEYOND = 20, 10  # values that a figure needs: in all, and on either side of a quantile


class Values(NamedTuple):
    """Values in ascending order, and the place of the target that each is of; inf: what never came."""

    of: Codes
    value: Seconds


class Figure(NamedTuple):
    """One figure that runs are compared by: its unit (s, share, ratio or rate), whether less of it is worse, and the
    values that it needs before anything is said of it."""

    unit: str
    less_is_worse: bool = False
    least: int = TO_HAVE


def _quantile(percent: int) -> Figure:
    return Figure("s", least=_BEYOND * 100 // min(percent, 100 - percent))


_REACHED, _LATENCIES = (50, 90, 99), {50: "med", 95: "p95", 99: "p99"}
FIGURES: dict[str, Figure] = {
    **{f"{percent}% converged": _quantile(percent) for percent in _REACHED},
    **{f"whole update, {name}": _quantile(percent) for percent, name in _LATENCIES.items()},
    **{f"offer to delta, {name}": _quantile(percent) for percent, name in _LATENCIES.items()},
    "did not succeed": Figure("share"),
    "deltas a second": Figure("rate", less_is_worse=True, least=_BEYOND * 10),
    "messages per update": Figure("ratio"),
    "bytes per installed byte": Figure("ratio"),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """The targets of one run, ordered by cohort and name: `targets` (their names, none twice), `cohort` (a number for
    each), and what is known of them. Counts have one value for each target; those of a thing that was a target several
    times stand at its last."""

    targets: list[str]
    cohort: Codes
    converged: Values
    whole_update: Values
    offer_to_delta: Values
    heard: Values
    succeeded: Codes
    messages: Codes
    downloaded: Codes
    installed: Codes

    def __len__(self) -> int:
        return len(self.targets)

    def only(self, chosen: Codes) -> Sample:
        """The sample of these targets alone; their places are in ascending order."""
        place = np.full(len(self), -1)
        place[chosen] = np.arange(len(chosen))
        parts: dict[str, Any] = {name: _placed(getattr(self, name), place) for name in _TIMES}
        parts |= {name: getattr(self, name)[chosen] for name in ("cohort", *_COUNTS)}
        return replace(self, targets=[self.targets[at] for at in chosen.tolist()], **parts)

    def counts(self) -> dict[str, int]:
        """Figure -> of how many values it is."""
        sizes = {
            "converged": len(self),
            "whole update": len(self.whole_update.of),
            "offer to delta": len(self.offer_to_delta.of),
            "deltas a second": len(self.heard.of),
        }
        return {name: next((n for head, n in sizes.items() if head in name), len(self)) for name in FIGURES}


_TIMES = ("converged", "whole_update", "offer_to_delta", "heard")
_COUNTS = ("succeeded", "messages", "downloaded", "installed")


def _placed(values: Values, place: Codes) -> Values:
    of = place[values.of]
    return Values(of[of >= 0], values.value[of >= 0])


def sample(trace: Trace) -> Sample:
    """What this trace says of each of its targets."""
    targets = trace.once(Targets)
    names = _names(targets)
    order = np.array(sorted(range(len(targets)), key=names.__getitem__), np.int64)
    place = np.empty(len(targets), np.int64)
    place[order] = np.arange(len(targets))
    cohorts = [names[at][0] for at in order.tolist()]
    counts = {
        "succeeded": targets.ended_as(State.SUCCEEDED).astype(np.int64),
        "messages": _of_things(targets, *effort.messages_by_meaning(trace).values()),
        "downloaded": _of_things(targets, trace.kind(Kind.DOWNLOAD), sizes=True),
        "installed": _of_things(targets, trace.kind(Kind.COMMIT), sizes=True),
    }
    at, heard = trace.once(converged_s, targets), trace.once(flow.heard_s, targets)
    return Sample(
        [" ".join(names[at]) for at in order.tolist()],
        np.unique(cohorts, return_inverse=True)[1],
        _ascending(place, np.where(np.isnan(at), np.inf, at)),
        _of_jobs(trace, targets, place, trace.kind(Kind.EXECUTION).where("status", State.SUCCEEDED)),
        _of_jobs(trace, targets, place, heard_of_offer(trace)),
        _ascending(place[~np.isnan(heard)], heard[~np.isnan(heard)]),
        **{name: count[order] for name, count in counts.items()},
    )


def _names(targets: Targets) -> list[tuple[str, str, str]]:
    """(cohort, number of the rollout, thing) of each target."""
    number = {name: str(nth) for nth, name in enumerate(targets.rollouts())}
    rollout = [number[name] for name in targets.view.texts("job")]
    return list(zip(targets.view.texts("detail"), rollout, targets.view.texts("thing"), strict=True))


def _of_jobs(trace: Trace, targets: Targets, place: Codes, ends: View) -> Values:
    jobs, spans = since_due(trace, ends)
    of = targets.of_job[jobs]
    return _ascending(place[of[of >= 0]], spans.took_s[of >= 0])


def _ascending(of: Codes, value: Seconds) -> Values:
    order = np.argsort(value, kind="stable")
    return Values(of[order], value[order])


def _of_things(targets: Targets, *views: View, sizes: bool = False) -> Codes:
    """For each target how many such events its thing has, or bytes in them."""
    whole = len(targets.view.trace.words("thing")) + 1  # the last is of no thing
    count = np.zeros(whole, np.int64)
    for view in views:
        weights = view["size"].clip(min=0) if sizes else None
        count += np.bincount(view["thing"] % whole, weights, minlength=whole).astype(np.int64)
    last = np.full(whole, -1)
    last[targets.thing] = np.arange(len(targets))
    return np.where(last[targets.thing] == np.arange(len(targets)), count[targets.thing], 0)


# ---- figures


def figures(sample: Sample, weights: Weights | None = None) -> Figures:
    """Every figure, for each drawing; without weights, of the run as it was. nan: there is none; inf: never reached."""
    if weights is None:
        weights = np.ones((1, len(sample)), np.int64)
    converged, heard = _Drawn(sample.converged, weights), _Drawn(sample.heard, weights)
    reached = [converged.at(-(-converged.total * percent // 100) - 1) for percent in _REACHED]
    for values in (sample.whole_update, sample.offer_to_delta):
        drawn = _Drawn(values, weights)
        reached += [drawn.quantile(percent) for percent in _LATENCIES]
    whole = weights.sum(axis=1)
    succeeded, messages, downloaded, installed = (weights @ getattr(sample, name) for name in _COUNTS)
    reached += [
        _each(whole - succeeded, whole),
        _slope(heard),
        _each(messages, succeeded),
        _each(downloaded, installed),
    ]
    return dict(zip(FIGURES, reached, strict=True))


def _each(count: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Seconds:
    return np.where(whole > 0, count / np.maximum(whole, 1), np.nan)


class _Drawn:
    """Values in ascending order, each as often as its target was drawn; `total` of them in each drawing."""

    def __init__(self, values: Values, weights: Weights) -> None:
        self._value, rows = values.value, len(weights)
        upto = weights.take(values.of, axis=1).cumsum(axis=1)
        self.total = upto[:, -1].copy() if len(values.of) else np.zeros(rows, np.int64)
        self._base = np.arange(rows) * (int(self.total.max(initial=0)) + 1)
        upto += self._base[:, None]
        self._upto = upto.ravel()  # one ascending array for all drawings

    def at(self, rank: Codes) -> Seconds:
        """The value of this rank, from 0, in each drawing; nan where nothing was drawn."""
        if not len(self._value):
            return np.full(len(self.total), np.nan)
        size = len(self._value)
        first = np.searchsorted(self._upto, rank.clip(min=0) + self._base, "right") - np.arange(len(rank)) * size
        return np.where(self.total > 0, self._value[first.clip(0, size - 1)], np.nan)

    def quantile(self, percent: int) -> Seconds:
        """Between the two values next to it, in proportion, as the summary's."""
        rank = (self.total - 1).clip(min=0) * percent / 100
        low, high = self.at(np.floor(rank).astype(np.int64)), self.at(np.ceil(rank).astype(np.int64))
        return np.asarray(low + (high - low) * (rank % 1))


def _slope(heard: _Drawn) -> Seconds:
    """Devices a second between the tenth and the ninetieth percent that heard, as the summary's."""
    tenth = heard.total // 10
    span = heard.at(heard.total - tenth - 1) - heard.at(tenth)
    return np.where(span > 0, (heard.total - 2 * tenth - 1) / np.where(span > 0, span, 1), np.nan)
