"""Checks on what a probe asked: traces they pass, traces they fail, and where; traces they must call UNKNOWN."""

from simulator.checks.judge import judge, not_judged
from simulator.model.scenario import Scenario
from tests.checks.tables import proofs
from tests.checks.traces import trace, update, without

S2, S22 = "S2-conditional", "S22-validation"
ACCEPTED = "replica.accepted"


def sent(number, case="update", must="accepted", doc=None, token=None, thing="p"):
    fields = {
        "status": "sent",
        "phase": case,
        "size": number,
        "detail": must,
        "doc": doc,
        "token": token or f"t{number}",
    }
    return ("probe", thing, fields)


def came(number, doc=None, thing="p"):
    return ("probe", thing, {"status": "accepted", "size": number, "doc": doc, "token": f"t{number}"})


def refused(number, detail, thing="p"):
    return ("probe", thing, {"status": "rejected", "size": number, "detail": detail, "token": f"t{number}"})


def given(number, doc, must="accepted", case="update", required=None):
    """A request, accepted."""
    return [sent(number, case, must, required), came(number, doc)]


def denied(number, code, must, case="bad", required=None):
    """A request, refused."""
    return [sent(number, case, must, required), refused(number, f"{code} no")]


def get(number, doc):
    return [sent(number, "get", None), came(number, doc)]


def stored(doc, token=None, thing="p", **fields):
    return (ACCEPTED, thing, {"doc": doc, "token": token, "status": "reported", **fields})


def twins(*answers):
    """After version 1, two requests at once that require it, and what came of them."""
    return [*given(1, 1), sent(2, "twin", None, 1), sent(3, "twin", None, 1), *answers]


CONFLICT = "409 version conflict"
REFUSALS = [*denied(2, 413, "413"), *denied(3, 400, "400"), *denied(4, 400, "400")]
PASSES = {
    S2: {
        "the next version": [*given(1, 1), *given(2, 2, required=1)],
        "a stale one refused": [*given(1, 1), *given(2, 2, required=1), *denied(3, 409, "409", required=1)],
        "one of two": twins(came(2, 2), refused(3, CONFLICT)),
        "the other of two": twins(refused(2, CONFLICT), came(3, 2)),
        "one of two has no answer": twins(refused(3, CONFLICT)),
        "neither has": twins(),
        "another had no answer before": [*given(1, 1), sent(2), *denied(3, 409, None, required=1)],
        "another is under way": [*given(1, 1), sent(2), sent(3, must=None, doc=1), refused(3, CONFLICT), came(2, 2)],
        "refused for another reason": [*given(1, 1), *denied(2, 413, "accepted", required=1)],
        "the version is not known": denied(1, 409, None, required=4),
        "nobody asked for it": given(1, 1),
        "no probe": [stored(1)],
        "told by the replica alone": [*given(1, 1), sent(2, doc=1), stored(2, "t2"), *denied(3, 409, "409", required=1)],
        "two things": [*given(1, 1), *given(2, 2, required=1), sent(1, thing="q"), came(1, 1, "q"),
                       sent(2, doc=1, thing="q"), came(2, 2, "q")],
    },
    S22: {
        "refused, and no other version": [*given(1, 1), *REFUSALS, *get(5, 1), *given(6, 2)],
        "a document that is older": [*given(1, 7), *REFUSALS, *get(5, 7)],
        "one without an answer took effect": [*given(1, 1), sent(2), *get(3, 2)],
        "one without an answer did not": [*given(1, 1), sent(2), *get(3, 1)],
        "one whose answer is late": [*given(1, 1), sent(2), *get(3, 2), came(2, 2)],
        "the same again": [*given(1, 1), *given(2, 1, case="again"), *get(3, 1)],
        "not for now": [*given(1, 1), *denied(2, 429, "413"), *denied(3, 503, "accepted"), *get(4, 1)],
        "a conflict of versions": [*given(1, 1), *denied(2, 409, "accepted", required=1)],
        "accepted in spite of its version": [*given(1, 1), *given(2, 2, "409", required=9)],
        "no answer": [*given(1, 1), sent(2, "bad", "413"), *get(3, 1)],
        "no thing yet": denied(1, 404, None, "get"),
        "at the limits": [stored(1, "t" * 64, size=8192)],
        "larger limits": ([stored(1, "t" * 80, size=9000)], {"target": {"document_max": 9000, "token_max": 80}}),
    },
}  # fmt: skip
FAILS = {
    S2: {
        "a stale one accepted": ([*given(1, 1), *given(2, 2), *given(3, 3, "409", required=1)], ["p"], {"doc": 3}),
        "not the next one": ([*given(1, 1), *given(2, 4, required=1)], ["p"], {"doc": 4}),
        "both of two": (twins(came(2, 2), came(3, 2)), ["p"], {"size": 3}),
        "neither of two": (twins(refused(2, CONFLICT), refused(3, CONFLICT)), ["p"], {"size": 2}),
        "the current one refused": ([*given(1, 1), *denied(2, 409, "accepted", required=1)], ["p"], {"size": 2}),
        "the current one, told by get": ([*given(1, 1), *get(2, 3), *denied(3, 409, None, required=3)], ["p"], {"size": 3}),
        "of what was refused before": ([*given(1, 1), *REFUSALS, *denied(5, 409, None, required=1)], ["p"], {"size": 5}),
        "told by the replica alone": ([*given(1, 1), sent(2, doc=1), stored(5, "t2")], ["p"], {"kind": ACCEPTED}),
    },
    S22: {
        "accepted": ([*given(1, 1), *given(2, 2, "413")], ["p"], {"size": 2}),
        "refused with another code": ([*given(1, 1), *denied(2, 400, "413")], ["p"], {"size": 2}),
        "what is allowed": ([*given(1, 1), *denied(2, 413, "accepted")], ["p"], {"size": 2}),
        "another version after it": ([*given(1, 1), *REFUSALS, *get(5, 2)], ["p"], {"size": 5}),
        "another version, and refused ones without an answer": (
            [*given(1, 1), sent(2, "bad", "413"), *get(3, 2)], ["p"], {"size": 3}),
        "more than the one without an answer": ([*given(1, 1), sent(2), *get(3, 3)], ["p"], {"size": 3}),
        "a document too large": ([stored(1, size=8193, thing="d-0")], ["d-0"], {"doc": 1}),
        "a token too long": ([stored(1, "t" * 65, size=8, thing="d-0")], ["d-0"], {"doc": 1}),
        "a token of few letters and many bytes": ([stored(1, "é" * 33, size=8)], ["p"], {"doc": 1}),
    },
}  # fmt: skip
BACKENDLESS = without(update(), (ACCEPTED, "reported"), ("storage.served", "200"))
LACKS = {S2: {"the replica": BACKENDLESS}, S22: {"the replica": BACKENDLESS, "sizes": update()}}


NO_OCCASION = {S2: {"neither has", "nobody asked for it", "no probe"}, S22: {"no thing yet"}}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS, NO_OCCASION)


def test_of_a_backend_that_is_already_there_a_probe_alone_decides():
    external = Scenario.model_validate({"target": {"kind": "external"}})
    assert {S2, S22} <= set(not_judged(external))
    assert {f.check: f.verdict for f in judge(trace(*update()), external)}[S2] == "NOT JUDGED"
    probed = Scenario.model_validate({"target": {"kind": "external", "probe": True}})
    assert not {S2, S22} & set(not_judged(probed))
    assert not {S2, S22} & set(not_judged(Scenario.model_validate({"target": {"probe": False}})))
