"""What every check is made of: a draft that collects offending events and becomes a finding."""

from __future__ import annotations

from collections.abc import Callable

from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding, Verdict
from simulator.trace.reader import Trace, describe

Check = Callable[[Trace, Scenario], Finding]
_NAMED = 20


class Draft:
    """A check at work: `offend` for each offending event, then `decide`."""

    def __init__(self, check: str, title: str, trace: Trace, *, safety: bool = True) -> None:
        self._check, self._title, self._trace, self._safety = check, title, trace, safety
        self.rows: list[int] = []
        self._things: dict[str, None] = {}

    def offend(self, row: int, thing: str) -> None:
        """This event breaks the promise."""
        self.rows.append(row)
        self._things[thing] = None

    def unknown(self, why: str) -> Finding:
        """The trace does not hold what is needed."""
        return self._finding(Verdict.UNKNOWN, why)

    def decide(self, good: str, bad: str) -> Finding:
        """PASS with the sentence `good`, or FAIL with the count of offences and `bad`."""
        if not self.rows:
            return self._finding(Verdict.PASS, good)
        self.rows.sort()
        first = describe(self._trace.row(self.rows[0])).strip() if self.rows[0] >= 0 else ""
        said = f"{len(self.rows)} {bad}, by {len(self._things)} devices"
        return self._finding(Verdict.FAIL, f"{said}; first: {first}" if first else said)

    def _finding(self, verdict: Verdict, summary: str) -> Finding:
        things = tuple(list(self._things)[:_NAMED])
        return Finding(self._check, self._title, verdict, summary, self._safety, things, tuple(self.rows[:_NAMED]))
