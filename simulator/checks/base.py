"""What every check is made of: a draft that collects offending events and becomes a finding.

A check takes the trace and the scenario, and looks for events that break one promise. It notes these with `offend`, and
notes with `doubt` what the trace does not hold. `decide` then makes the finding: FAIL if any event offends, else UNKNOWN if
there is any doubt, else PASS. A check passes only where it has `seen` something: each says how many occasions there were to
break its promise, and without any the finding is NO OCCASION.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding, Verdict
from simulator.trace.reader import Trace, View

Check = Callable[[Trace, Scenario], Finding]
REPLICA = (Kind.ACCEPTED, Kind.REJECTED, Kind.SENT_DELTA, Kind.CREDENTIAL)
"""What the replica alone records."""
STORAGE = (Kind.SERVED,)
"""What the storage alone records."""
_NAMED = 20
_SAID = 3


class Draft:
    """A check at work: `offend` with offending events, `doubt` where the trace does not hold enough, then `decide`."""

    def __init__(self, check: str, title: str, trace: Trace, *, safety: bool = True) -> None:
        self._check, self._title, self._trace, self._safety = check, title, trace, safety
        self._rows: list[npt.NDArray[Any]] = []
        self._things: list[npt.NDArray[Any]] = []
        self._doubts: list[str] = []

    def offend(self, rows: npt.NDArray[Any], things: npt.NDArray[Any] | None = None) -> None:
        """These events break the promise, by `things` (codes), else by the things that they name."""
        self._rows.append(rows)
        self._things.append(self._trace.column("thing")[rows] if things is None else things)

    def doubt(self, why: str) -> None:
        """Unless something offends, the finding is UNKNOWN."""
        self._doubts.append(why)

    def unknown(self, why: str) -> Finding:
        """The trace does not hold what is needed."""
        return self._finding(Verdict.UNKNOWN, why)

    def no_occasion(self, why: str) -> Finding:
        """Nothing happened that could have broken the promise."""
        return self._finding(Verdict.NO_OCCASION, why)

    def decide(self, good: str, noun: str, bad: str, *, seen: int, unseen: str) -> Finding:
        """The finding. FAIL says how many offending events there are: `noun` names one of them, and `bad` says what was
        wrong with it ("3 installations repeated a job ..."). UNKNOWN gives the doubts, PASS the sentence `good`. `seen` is
        how many occasions there were; for none NO OCCASION gives the sentence `unseen`."""
        rows = np.concatenate([np.empty(0, np.int64), *self._rows])
        if not len(rows):
            if self._doubts:
                return self._finding(Verdict.UNKNOWN, "; ".join(self._doubts))
            return self.passed(good) if seen else self.no_occasion(unseen)
        order = np.argsort(rows, kind="stable")
        events = list(dict.fromkeys(rows[order].tolist()))
        things = self._names(np.concatenate(self._things)[order])
        return self._finding(Verdict.FAIL, f"{many(len(events), noun)} {bad}".strip() + _named(things), events, things)

    def failed(self, bad: str, things: npt.NDArray[Any]) -> Finding:
        """FAIL with this sentence and these things (codes)."""
        named = self._names(things)
        return self._finding(Verdict.FAIL, f"{bad}, because of{_named(named)[1:]}", None, named)

    def passed(self, good: str) -> Finding:
        """PASS with this sentence."""
        return self._finding(Verdict.PASS, good)

    def _names(self, codes: npt.NDArray[Any]) -> list[str]:
        """Each thing once, in the order of its first offence."""
        words = self._trace.words("thing")
        return [word for code in dict.fromkeys(codes.tolist()) if code >= 0 and (word := words[code])]

    def _finding(
        self, verdict: Verdict, summary: str, events: list[int] | None = None, things: list[str] | None = None
    ) -> Finding:
        if events:
            first = self._trace.row(events[0])
            summary = (
                f"{summary}; first at {first['t_us'] / 1e6:.6f} s: {first['kind']} {first.get('status', '')}".strip()
            )
        shown = tuple((things or [])[:_NAMED]), tuple((events or [])[:_NAMED])
        return Finding(self._check, self._title, verdict, summary, self._safety, *shown)


def _named(things: list[str]) -> str:
    if not things:
        return ""
    more = f" and {len(things) - _SAID:,} more" if len(things) > _SAID else ""
    return f": {', '.join(things[:_SAID])}{more}"


def torn(trace: Trace) -> npt.NDArray[np.bool_]:
    """By the code of a thing: whether its own record does not reach to its end, so that what it did last is unknown."""
    return ~mentioned(trace.kind(Kind.RETIRED))


def clocks_us(trace: Trace) -> int:
    """By how many microseconds events of two hosts may stand in the wrong order; 0 where one clock orders all."""
    return 2 * int(trace.kind(Kind.CLOCK)["span_us"].max(initial=0))


def by_then(trace: Trace, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """For each row the first one that is surely later: what stands before it may have come before."""
    slack_us = clocks_us(trace)
    if not slack_us:
        return rows
    t_us = trace.column("t_us")
    return np.where(rows >= 0, np.searchsorted(t_us, t_us[rows] + slack_us, "right"), rows)


def reach(trace: Trace, *kinds: str) -> int:
    """The row to which the record of those reaches who recorded such events: a server's own, where it was a process of
    its own; -1 where nobody did."""
    events = trace.kind(*REPLICA, *STORAGE, Kind.HEALTH)
    rows = events.rows[np.isin(events["shard"], trace.kind(*kinds)["shard"])]
    return int(rows[-1]) if len(rows) else -1


def mentioned(events: View) -> npt.NDArray[np.bool_]:
    """By the code of a thing: whether any of these events is of it."""
    named = np.zeros(len(events.trace.words("thing")), bool)
    named[events["thing"]] = True
    return named


def link_events(trace: Trace, *more: str) -> View:
    """Connections and their ends, and events of these kinds; an attempt to connect that failed is neither."""
    events = trace.kind(Kind.CONNECT, Kind.LOST, *more)
    return events.only(events["status"] != trace.code("status", "failed"))
