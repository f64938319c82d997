"""fleetsim against a backend that is not its own: what keeps the pattern passes, and what breaks it is found.

Here a few bugs stand for each kind; `python -m tests.foreign.by_hand` runs them all.
"""

import pytest

from tests.foreign.bugs import BUGS
from tests.foreign.findings import CAUGHT, HARMLESS, NOT_SEEN, ONLY_BY_THRESHOLD, UNKNOWN
from tests.foreign.running import SHOWN_ON, occasion_of, run

TOLD = (
    "delta-missing", "same-version", "accepts-lost-version", "delta-after-end", "altered-bytes", "accepted-without-status",
    "serves-expired", "wrong-range",
)  # fmt: skip


@pytest.mark.parametrize("occasion", ["plain", "late parts"])
def test_a_backend_that_keeps_the_pattern_passes(tmp_path, occasion):
    code, failed, printed = run(tmp_path, occasion=occasion)
    assert (code, failed) == (0, []), printed


@pytest.mark.parametrize("bug", TOLD)
def test_a_bug_is_found(tmp_path, bug):
    code, failed, printed = run(tmp_path, bug, occasion=occasion_of(bug))
    assert code == 1, printed
    assert CAUGHT[bug] in failed, printed


def test_each_bug_is_in_one_table():
    tables = CAUGHT, ONLY_BY_THRESHOLD, UNKNOWN, NOT_SEEN, HARMLESS
    assert sorted(name for table in tables for name in table) == sorted(BUGS)
    assert {bug for bugs in SHOWN_ON.values() for bug in bugs} <= set(BUGS)
