"""How reports spell what they know: times with their unit, marks of verdicts, targets by state, why a run does not count.

The terminal, the pages and the Markdown of a run, of a comparison and of a sweep all say these things in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.model.quantity import many
from simulator.model.verdict import Verdict

MARKS = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✗",
    Verdict.UNKNOWN: "?",
    Verdict.INVALID: "!",
    Verdict.NO_OCCASION: "–",
    Verdict.NOT_JUDGED: "–",
}
_COUNTED = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.UNKNOWN: "unknown",
    Verdict.NO_OCCASION: "had no occasion",
    Verdict.NOT_JUDGED: "could not be judged",
}
_UNITS = (("s", 1.0, 0.1), ("ms", 1e-3, 1e-4), ("µs", 1e-6, 0.0))  # its seconds, and from how many seconds on


def seconds(value: float | None) -> str:
    """A time in a unit in which it can be read; None is one that never came."""
    if value is None:
        return "not reached"
    unit, size, _ = next(row for row in _UNITS if abs(value) >= row[2])
    if unit == "s":
        return f"{value:.3f} s" if value < 10 else f"{value:,.1f} s"
    return f"{value / size:.3g} {unit}" if value else "0 s"


def named(broker: Mapping[str, Any]) -> str:
    """A broker's name and version, as far as they are known."""
    return " ".join(str(broker[key]) for key in ("name", "version") if broker.get(key))


def spelled(part: dict[str, Any]) -> str:
    """Targets by state, in words."""
    if not part["targets"]:
        return "no targets"
    counts = ", ".join(f"{count:,} {state.lower().replace('_', ' ')}" for state, count in part["outcomes"].items())
    return f"{many(part['targets'], 'target')}: {counts}"


def tally(summary: dict[str, Any]) -> str:
    """How many checks and thresholds passed, failed, had no occasion and so on, in words."""
    verdicts = [finding["verdict"] for finding in summary["findings"]]
    counts = {words: verdicts.count(verdict) for verdict, words in _COUNTED.items()}
    listed = [f"{count} {words}" for words, count in counts.items() if count]
    return f"checks and thresholds: {', '.join(listed)}" if listed else "no check was made"


def struck(fault: dict[str, Any]) -> str:
    """Whom a fault struck, and how often."""
    if fault["on"]:
        return f"on the {fault['on']}"
    return f"{many(fault['devices'], 'device')}, {many(fault['strikes'], 'strike')}"


def limited(limit: dict[str, Any]) -> tuple[str, str, str]:
    """What is limited, what was measured of it, and what is allowed; a name that ends in its unit, s, is a time's, any
    other a share's."""
    what = limit["name"].removesuffix(", s")
    of = seconds if what != limit["name"] else "{:.2%}".format
    value, bound = of(limit["value"]), of(limit["allowed"])
    return what, value, f"{'at most' if limit['at_most'] else 'at least'} {bound}"


def clocks(summary: dict[str, Any]) -> list[str]:
    """How exactly times of other hosts compare with those of the conductor's, in sentences."""
    return [
        f"{clock['process']} recorded on {clock['host']}: its times are right to {seconds(clock['error_s'])}"
        for clock in summary["clocks"]
    ]


def stops(summary: dict[str, Any]) -> list[str]:
    """Which rollouts were aborted, or are paused with nobody to resume them, and why; in sentences."""
    return [f"{name} was {why}" for name, why in summary["stopped"].items()]


def reasons(summary: dict[str, Any]) -> list[str]:
    """Why the run does not count, in sentences."""
    return [
        *summary["died"],
        *(f"the load generator was the bottleneck: {reason}" for reason in summary["invalid"]),
        *(f"not complete: {reason}" for reason in [*summary["incomplete"], *summary["missing"]]),
    ]
