"""Checks on requests and their answers: traces they pass, traces they fail, and where; traces they must call UNKNOWN."""

from simulator.model.scenario import Scenario
from tests.checks.tables import judged, proofs
from tests.checks.traces import backed, update
from tests.worlds.virtually import run, scenario

S4, L5 = "S4-correlation", "L5-answered"
S = 1_000_000
FLEET = {"fleet": {"thing": "d-%i", "devices": 3}}
SLOW = {**FLEET, "profiles": {"perfect": {"latency": "10s"}}}
ACCEPTED, REJECTED, ANSWER, OFFER, PROBE = "replica.accepted", "replica.rejected", "answer", "offer", "probe"


def told(kind, doc=None, token="t", thing="d-0", status="accepted", **fields):
    return (kind, thing, {"doc": doc, "token": token, "status": status, **fields})


def refused(kind, detail, token="t", thing="d-0"):
    return told(kind, None, token, thing, "rejected", detail=detail)


def at(seconds, kind, thing="d-0", **fields):
    return (kind, thing, {"t_us": round(seconds * S), **fields})


def report(seconds, token="t", thing="d-0", **fields):
    return at(seconds, "report", thing, status="initial", token=token, **fields)


def answer(seconds, token="t", thing="d-0", status="accepted", **fields):
    return at(seconds, ANSWER, thing, status=status, token=token, **fields)


def offer(seconds, status="sent", token="offer:j"):
    return at(seconds, OFFER, job="j", status=status, token=token)


def fault(seconds, thing="d-0", **detail):
    said = ",".join(f'"{k}":"{v}"' for k, v in detail.items())
    return at(seconds, "fault", thing, status="did", detail=f"{{{said}}}")


def outage(begin, end, server="broker"):
    detail = f'{{"server":"{server}"}}'
    return [at(begin, "fault", "", status="begin", size=0, detail=detail),
            at(end, "fault", "", status="end", size=0, detail=detail)]  # fmt: skip


def during(*events, until=100.0, retired=True):
    """A device that is connected from 1 s to the end, and these events."""
    last = at(until, "retired") if retired else at(until, "stage", "", phase="settle")
    return sorted([at(1, "connect", status="new"), *events, last], key=lambda event: event[2]["t_us"])


PASSES = {
    S4: {
        "success": backed(),
        "told by all": [told(ACCEPTED, 3), told(ANSWER, 3), told(OFFER, 3), told(PROBE, 3), told(ANSWER, 3)],
        "another request": [told(ACCEPTED, 3), told(ACCEPTED, 4, "u"), told(ANSWER, 4, "u"), told(ANSWER, 3)],
        "another thing": [told(ACCEPTED, 3), told(ACCEPTED, 4, thing="d-1")],
        "refused, and refused again": [told(REJECTED, status="409"), refused(ANSWER, "409 version conflict"),
                                       refused(ANSWER, "409 version conflict")],
        "made again after a refusal for now": [refused(OFFER, "429 busy"), refused(OFFER, "500 oh"), told(OFFER, 3),
                                               told(REJECTED, status="503")],
        "no version told": [told(ANSWER), told(ANSWER), told(ACCEPTED, 3)],
        "without a token": [told(ANSWER, 3, None), told(ANSWER, 4, None), told(ANSWER, 5)],
    },
    L5: {
        "success": (backed(), FLEET),
        "in time": (during(report(10), answer(40)), FLEET),
        "refused in time": (during(report(10), answer(20, status="rejected")), FLEET),
        "a slow road": (during(report(10), answer(59)), SLOW),
        "the connection did not last": (during(report(10), at(39, "lost", status="offline")), FLEET),
        "the record did not last": (during(report(10), until=39), FLEET),
        "said again over a new connection": (
            during(report(10), at(20, "lost", status="lost"), at(25, "connect", status="new"), report(30), answer(59)), FLEET),
        "said again after an outage": (during(report(10), *outage(20, 30), report(50), answer(79)), FLEET),
        "said again after a fault": (
            during(report(10), fault(11, message="update", lost="true"), report(60), answer(85)), FLEET),
        "said again before the answer came": (during(report(10), answer(39), report(39.5)), FLEET),
        "lost by a fault": (during(report(10), fault(20, message="accepted", lost="true")), FLEET),
        "held back by a fault": (during(report(10), fault(10, message="accepted", delay_s="60"), answer(70)), FLEET),
        "in the dark": (during(fault(5, act="dark"), report(10)), FLEET),
        "an outage": (during(report(10), *outage(20, 21)), FLEET),
        "an outage of the replica": (during(report(10), *outage(20, 21, "replica")), FLEET),
        "an outage of the whole backend": (during(report(10), *outage(20, 21, "backend")), FLEET),
        "just after an outage": (during(*outage(5, 6), report(10)), FLEET),
        "an offer": (during(offer(10), offer(40, "accepted")), FLEET),
        "an offer's second answer": (during(offer(10), answer(40, "offer:j")), FLEET),
        "nobody was connected": (during(report(0.5)), FLEET),
    },
}  # fmt: skip
FAILS = {
    S4: {
        "accepted twice": ([told(ACCEPTED, 3), told(ACCEPTED, 4)], ["d-0"], {"doc": 4}),
        "told otherwise than decided": ([told(ACCEPTED, 3), told(ANSWER, 4)], ["d-0"], {"kind": ANSWER}),
        "two versions": ([told(PROBE, 3), told(PROBE, 3), told(PROBE, 4)], ["d-0"], {"doc": 4}),
        "accepted, and refused": ([told(OFFER, 3), refused(ANSWER, "409 version conflict")], ["d-0"], {"kind": ANSWER}),
        "refused, and accepted": ([told(REJECTED, status="413"), told(ANSWER, 3)], ["d-0"], {"kind": ANSWER}),
        "refused for two reasons": ([refused(ANSWER, "400 a"), refused(ANSWER, "413 b")], ["d-0"], {"detail": "413 b"}),
        "of several, the one": ([told(ANSWER, 3), told(ANSWER, 3, thing="d-1"), told(ANSWER, 4, thing="d-1")], ["d-1"],
                                {"doc": 4}),
    },
    L5: {
        "never": ((during(report(10)), FLEET), ["d-0"], {"kind": "report"}),
        "too late": ((during(report(10), answer(41)), FLEET), ["d-0"], {"kind": "report"}),
        "another's answer": ((during(report(10), answer(20, thing="d-1"), answer(20, "u")), FLEET), ["d-0"], {}),
        "a slow road": ((during(report(10), answer(61)), SLOW), ["d-0"], {}),
        "said again in vain": ((during(report(10), report(60)), FLEET), ["d-0"], {"t_us": 10 * S}),
        "said again, and answered then": ((during(report(10), report(60), answer(85)), FLEET), ["d-0"], {"t_us": 10 * S}),
        "an offer that is sent again, and answered then": (
            (during(offer(10), at(20, "lost", status="lost"), at(25, "connect", status="new"), offer(60, "resent"),
                    offer(85, "accepted")), FLEET), ["d-0"], {"t_us": 10 * S}),
        "said again after a fault, in vain": (
            (during(report(10), fault(11, message="update", lost="true"), report(60)), FLEET), ["d-0"], {"t_us": 60 * S}),
        "given up": ((during(report(10), answer(20, None, status="given-up")), FLEET), ["d-0"], {}),
        "a fault on another": ((during(report(10), fault(20, "d-1", message="accepted", lost="true")), FLEET), ["d-0"], {}),
        "a fault before": ((during(fault(9, message="accepted", lost="true"), report(10)), FLEET), ["d-0"], {}),
        "a fault that loses nothing": ((during(report(10), fault(20, message="accepted", again_s="1")), FLEET), ["d-0"], {}),
        "a fault on a delta": ((during(report(10), fault(20, message="delta", lost="true")), FLEET), ["d-0"], {}),
        "the dark was another connection's": (
            (during(fault(3, act="dark"), at(5, "lost", status="lost"), at(6, "connect", status="new"), report(10)), FLEET),
            ["d-0"], {"kind": "report"}),
        "an outage before": ((during(*outage(2, 3), report(14)), FLEET), ["d-0"], {}),
        "an outage of the storage, which answers no report": (
            (during(report(10), *outage(20, 21, "storage")), FLEET), ["d-0"], {}),
        "an outage after": ((during(report(10), *outage(41, 42)), FLEET), ["d-0"], {}),
        "an offer": ((during(offer(10)), FLEET), ["d-0"], {"kind": OFFER}),
        "an offer that a report alone tells of": ((during(offer(10), offer(20, "accepted", None)), FLEET), ["d-0"],
                                                  {"status": "sent"}),
        "an offer, though the device lost something": (
            (during(offer(10), fault(20, message="accepted", lost="true")), FLEET), ["d-0"], {"kind": OFFER}),
    },
}  # fmt: skip
LACKS = {
    S4: {"tokens": update(), "answers": [at(1, "report", token="t")], "refusals of the request": [refused(ANSWER, "429 x")]},
    L5: {
        "tokens": (update(), FLEET),
        "the end of the device's record": (during(report(10), retired=False), FLEET),
        "the device's profile": during(report(10), answer(11)),
    },
}  # fmt: skip


NO_OCCASION = {
    "L5-answered": {"the connection did not last", "the record did not last", "nobody was connected"},
}
"""check -> the cases of PASSES in which nothing happens that could break its promise."""


test_passes, test_fails_and_says_where_and_who, test_unknown_without = proofs(PASSES, FAILS, LACKS, NO_OCCASION)


def test_an_answer_in_time_is_a_matter_of_liveness_and_one_answer_of_safety():
    assert not judged(L5, (during(report(10)), FLEET)).safety
    assert judged(S4, [told(ACCEPTED, 3), told(ACCEPTED, 4)]).safety


def test_a_run_tells_of_each_request_and_each_answer():
    trace = run(scenario(devices=3, settle="1m"))
    reports, answers = trace.kind("report"), trace.kind("answer").where("status", "accepted")
    assert sorted(reports.texts("token")) == sorted(answers.texts("token"))
    assert "" not in reports.texts("token")
    assert {job for job in answers.texts("job") if job} == {f"rollout-1.device-{i}.0" for i in range(3)}
    offers = trace.kind("offer")
    assert set(offers.texts("token")) == {f"offer:rollout-1.device-{i}.0" for i in range(3)}
    accepted = trace.kind("replica.accepted")
    assert {*reports.texts("token"), *offers.texts("token")} < set(accepted.texts("token"))
    assert (accepted["size"] > 0).all()


def test_the_pages_own_code_has_no_client_token():
    trace = run(scenario(devices=3, target={"dialect": "atlas-example"}))
    assert len(trace.kind("report"))
    assert set(trace.kind("report").texts("token")) == {""}
    assert Scenario().target.token_max == 64
