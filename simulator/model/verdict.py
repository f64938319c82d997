"""What a check finds, what all of them come to, which verdict outweighs which, and the exit code of a run."""

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
    """One check's answer.

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
    """A limit of validity: what was measured beside what is allowed. `at_most` False reads: at least."""

    name: str
    value: float
    allowed: float
    at_most: bool = True

    @property
    def held(self) -> bool:
        """Whether the run is within it."""
        return self.value <= self.allowed if self.at_most else self.value >= self.allowed


@dataclass(frozen=True, slots=True)
class Judgement:
    """All findings of a run, and why it may not count: `invalid` (the generator was the bottleneck),
    `incomplete` (interrupted, or less was sent than asked). `limits` are those of validity."""

    findings: tuple[Finding, ...]
    invalid: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    died: tuple[str, ...] = field(default=())
    limits: tuple[Limit, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Safety outweighs validity, validity outweighs liveness, and UNKNOWN is never a pass; nor is a run in which no
        check saw anything."""
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
        """The findings that make it FAIL; liveness counts in a valid and complete run alone."""
        counts = not (self.invalid or self.incomplete or self.died)
        return tuple(f for f in self.findings if f.verdict is Verdict.FAIL and (f.safety or counts))

    @property
    def exit_code(self) -> int:
        """0 PASS; 1 a promise was broken; 2 otherwise not PASS; 4 a part of ours died."""
        if self.died:
            return 4
        return {Verdict.PASS: 0, Verdict.FAIL: 1}.get(self.verdict, 2)


def _any(findings: Iterable[Finding], verdict: Verdict, *, safety_only: bool = False) -> bool:
    return any(f.verdict is verdict and (f.safety or not safety_only) for f in findings)
