"""Runs a system with one party that has a bug, and without it."""

from simulator.model.verdict import Verdict
from tests.worlds.virtually import judged


def fails(check, made, **parts):
    """The named check's finding, which must be a failure; its things."""
    _, findings = judged(made, **parts)
    assert check in findings, findings
    assert findings[check].verdict is Verdict.FAIL
    return set(findings[check].things)


def passes(made, unplanted=False, **parts):
    """No check fails; where these parts fail requests though nobody planted it, L11 alone does."""
    _, findings = judged(made, **parts)
    assert set(findings) == ({"L11-unplanted"} if unplanted else set()), findings


THREE = {"device-0", "device-1", "device-2"}
