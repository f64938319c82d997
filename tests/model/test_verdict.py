"""Which verdict outweighs which, and the exit code it gives, by table."""

import itertools

import pytest

from simulator.model.verdict import Finding, Judgement, Verdict


def found(verdict, *, safety=True):
    return Finding("C1", "a promise", Verdict(verdict), "", safety)


KEPT, BROKEN, UNSEEN = found("PASS"), found("FAIL"), found("UNKNOWN")
IDLE, MUTE = found("NO OCCASION"), found("NOT JUDGED")
LATE = found("FAIL", safety=False)  # a liveness check or a threshold

# findings, what else is known of the run, its verdict, its exit code
TABLE = [
    ([KEPT, KEPT], {}, "PASS", 0),
    ([], {}, "UNKNOWN", 2),
    ([KEPT, UNSEEN], {}, "UNKNOWN", 2),
    ([KEPT, IDLE, MUTE], {}, "PASS", 0),
    ([IDLE, MUTE], {}, "UNKNOWN", 2),
    ([IDLE, UNSEEN], {}, "UNKNOWN", 2),
    ([IDLE, LATE], {}, "FAIL", 1),
    ([KEPT, LATE], {}, "FAIL", 1),
    ([UNSEEN, LATE], {}, "FAIL", 1),
    ([UNSEEN, BROKEN], {}, "FAIL", 1),
    ([KEPT], {"invalid"}, "INVALID", 2),
    ([UNSEEN], {"invalid"}, "INVALID", 2),
    ([LATE], {"invalid"}, "INVALID", 2),
    ([BROKEN], {"invalid"}, "FAIL", 1),
    ([KEPT], {"incomplete"}, "UNKNOWN", 2),
    ([LATE], {"incomplete"}, "UNKNOWN", 2),
    ([BROKEN], {"incomplete"}, "FAIL", 1),
    ([KEPT], {"invalid", "incomplete"}, "INVALID", 2),
    ([BROKEN], {"invalid", "incomplete"}, "FAIL", 1),
    ([KEPT], {"died"}, "UNKNOWN", 4),
    ([LATE], {"died"}, "UNKNOWN", 4),
    ([BROKEN], {"died"}, "FAIL", 4),
    ([BROKEN], {"died", "invalid", "incomplete"}, "FAIL", 4),
]


@pytest.mark.parametrize(("findings", "known", "verdict", "code"), TABLE)
def test_what_outweighs_what(findings, known, verdict, code):
    for ordered in itertools.permutations(findings):
        judgement = Judgement(ordered, **dict.fromkeys(known, ("why",)))
        assert (judgement.verdict, judgement.exit_code) == (verdict, code)
