"""What a check finds, and the verdict and exit code of a whole run.

A check returns a `Finding`. `worlds/judgement.py` puts all findings of a run into a `Judgement`, with the reasons why the
run may not count. The judgement says which verdict follows, where several are possible the one that outweighs the others,
and which exit code. Reports show both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """A run's verdict is PASS, FAIL, UNKNOWN or INVALID. A check's is PASS, FAIL, UNKNOWN, or one of two that say nothing
    about the promise: NO OCCASION, where nothing happened that could have broken it, and NOT JUDGED, where this kind of
    backend leaves no evidence for it."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"
    INVALID = "INVALID"
    NO_OCCASION = "NO OCCASION"
    NOT_JUDGED = "NOT JUDGED"

    @property
    def against(self) -> bool:
        """Whether it keeps a run from passing."""
        return self in (Verdict.FAIL, Verdict.UNKNOWN, Verdict.INVALID)

    @property
    def silent(self) -> bool:
        """Whether it says nothing about the promise: neither passed nor against the run."""
        return self in (Verdict.NO_OCCASION, Verdict.NOT_JUDGED)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    `events` are row numbers of the trace, the first offending one first; `things` the devices concerned.
    """

    check: str
    title: str
    verdict: Verdict
    summary: str
    safety: bool = True
    things: tuple[str, ...] = ()
    events: tuple[int, ...] = ()


class Limit(NamedTuple):
    """A limit within which a run is valid: what was measured, and what is allowed, at most (`at_most`) or else at least."""

    name: str
    value: float
    allowed: float
    at_most: bool = True

    @property
    def held(self) -> bool:
        """Whether the run is within this limit."""
        return self.value <= self.allowed if self.at_most else self.value >= self.allowed


@dataclass(frozen=True, slots=True)
class Judgement:
    """All findings of a run, and the reasons why it may not count: `invalid` (the load generator was the bottleneck),
    `incomplete` (interrupted, or less was done than asked for), `died` (a part of ours). `limits` are those of validity."""

    findings: tuple[Finding, ...]
    invalid: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    died: tuple[str, ...] = field(default=())
    limits: tuple[Limit, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict of the run. A failed safety check outweighs that the run is invalid or incomplete, and this
        outweighs a failed liveness check. A run with an UNKNOWN finding, or without one
        that is PASS, does not pass."""
        if _any(self.findings, Verdict.FAIL, safety_only=True):
            return Verdict.FAIL
        if self.invalid:
            return Verdict.INVALID
        if self.incomplete or self.died:
            return Verdict.UNKNOWN
        if _any(self.findings, Verdict.FAIL):
            return Verdict.FAIL
        if _any(self.findings, Verdict.UNKNOWN) or not _any(self.findings, Verdict.PASS):
            return Verdict.UNKNOWN
        return Verdict.PASS

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings for which the run is FAIL. Those of liveness are among them only if the run is valid and complete."""
        counts = not (self.invalid or self.incomplete or self.died)
        return tuple(f for f in self.findings if f.verdict is Verdict.FAIL and (f.safety or counts))

    @property
    def exit_code(self) -> int:
        """0 for PASS; 1 for FAIL, a broken promise; 2 for any other verdict; 4 if a part of ours died, whatever the
        verdict."""
        if self.died:
            return 4
        return {Verdict.PASS: 0, Verdict.FAIL: 1}.get(self.verdict, 2)


def _any(findings: Iterable[Finding], verdict: Verdict, *, safety_only: bool = False) -> bool:
    return any(f.verdict is verdict and (f.safety or not safety_only) for f in findings)
