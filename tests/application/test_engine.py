"""The driver over memory links in virtual time: offers, resends, answers, lost connections, several rollouts."""

import asyncio
import itertools
import json

import pytest

from simulator.application.offers import BrokerWaits
from simulator.application.rollout import Rollout
from simulator.dialects.atlas.documents import EXAMPLE
from simulator.links.memory import MemoryMqtt
from simulator.model.errors import LinkError
from simulator.model.events import Kind
from simulator.model.scenario import RolloutSpec
from simulator.model.update import Artifact, Outcome, State
from tests.application.scene import ACCEPT, SILENCE, counts, scene

OFTEN = {"offer": {"base": "1s", "cap": "8s", "jitter": "50%", "attempts": 7}}


# ---- offers and their answers


@scene()
async def test_what_was_accepted_is_offered_once_and_ends_only_by_a_report(play):
    rollout, ended = play.roll(3)
    await asyncio.sleep(600)
    assert [thing for _, thing, _ in play.offers] == ["d-0", "d-1", "d-2"]
    assert counts(rollout) == {"IN_PROGRESS": 3}
    for n, status in enumerate(["SUCCESS", "FAILURE", "SUCCESS"]):
        assert not ended.is_set()
        await play.report(f"d-{n}", play.job(f"d-{n}"), status)
    assert ended.is_set()
    assert counts(rollout) == {"SUCCEEDED": 2, "FAILED": 1}
    assert play.application.versions == {"d-0": "2", "d-1": "2", "d-2": "2"}


@scene()
async def test_what_is_not_accepted_is_resent_with_the_same_id_and_in_the_end_unknown(play):
    play.answer = lambda thing, job: SILENCE
    rollout, ended = play.roll(2, **OFTEN)
    await ended.wait()
    assert counts(rollout) == {"UNKNOWN": 2}
    gaps = {}
    for thing in ("d-0", "d-1"):
        bodies = [body for _, other, body in play.offers if other == thing]
        assert len(bodies) == 7
        assert all(body == bodies[0] for body in bodies)
        gaps[thing] = [b - a for a, b in itertools.pairwise(play.times(thing))]
        for gap, longest in zip(gaps[thing], [1, 2, 4, 8, 8, 8], strict=True):
            assert longest * 0.5 <= gap <= longest
        assert play.noted(Kind.OFFER, thing) == ["sent", *["resent"] * 6, "unanswered"]
    assert gaps["d-0"] != gaps["d-1"]
    last = max(play.times("d-0") + play.times("d-1"))
    assert last + 4 <= play.loop.time() <= last + 8


@scene()
async def test_an_answer_ends_the_resends(play):
    play.answer = lambda thing, job: ACCEPT if len(play.offers) == 3 else SILENCE
    rollout, _ = play.roll(1, **OFTEN)
    await asyncio.sleep(1000)
    assert len(play.times()) == 3
    assert play.noted(Kind.OFFER, "d-0") == ["sent", "resent", "resent", "accepted"]
    assert counts(rollout) == {"IN_PROGRESS": 1}


@scene()
async def test_a_report_on_the_job_is_an_answer_too(play):
    play.answer = lambda thing, job: SILENCE
    rollout, _ = play.roll(1, **OFTEN)
    await asyncio.sleep(0.1)
    await play.report("d-0", play.job(), "RUNNING")
    await asyncio.sleep(1000)
    assert len(play.times()) == 1
    assert counts(rollout) == {"IN_PROGRESS": 1}


@scene()
async def test_each_answer_is_recorded_with_its_token_and_what_a_report_told_without_one(play):
    play.answer = lambda thing, job: ACCEPT if thing == "d-0" else SILENCE
    play.roll(2)
    await asyncio.sleep(0.1)
    token = f"offer:{play.job('d-0')}"
    await play.say("d-0", "rejected", code=409, message="no", clientToken=token)
    await play.report("d-1", play.job("d-1"), "RUNNING")
    await play.report("d-1", play.job("d-1"), "RUNNING")
    answers = [(kind, thing, c["token"], c["doc"]) for _, kind, thing, c in play.events
               if kind in (Kind.OFFER, Kind.ANSWER) and c["status"] in ("accepted", "rejected")]  # fmt: skip
    assert answers == [
        (Kind.OFFER, "d-0", token, 1),
        (Kind.ANSWER, "d-0", token, None),
        (Kind.OFFER, "d-1", None, None),
    ]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 413])
def test_a_rejected_offer_is_rejected(code):
    @scene()
    async def played(play):
        play.answer = lambda thing, job: code
        rollout, ended = play.roll(1, **OFTEN)
        await ended.wait()
        assert counts(rollout) == {"REJECTED": 1}
        assert len(play.offers) == 1
        assert play.events[-1][1] == Kind.COUNTERS
        details = [c["detail"] for _, kind, _, c in play.events if kind == Kind.EXECUTION]
        assert details[-1] == f"{code} no"

    played()


@pytest.mark.parametrize("code", [429, 500])
def test_a_refusal_that_passes_is_resent(code):
    @scene()
    async def played(play):
        play.answer = lambda thing, job: ACCEPT if len(play.offers) == 3 else code
        rollout, _ = play.roll(1, **OFTEN)
        await asyncio.sleep(100)
        assert play.noted(Kind.OFFER, "d-0") == ["sent", "rejected", "resent", "rejected", "resent", "accepted"]
        assert counts(rollout) == {"IN_PROGRESS": 1}

    played()


@scene()
async def test_an_execution_that_was_silent_for_too_long_is_offered_no_more(play):
    play.answer = lambda thing, job: SILENCE
    rollout, ended = play.roll(1, **OFTEN, timeoutConfig={"inProgressTimeout": "3s"}, retryConfig={"timedOut": 1})
    await ended.wait()
    await asyncio.sleep(100)
    assert counts(rollout) == {"TIMED_OUT": 1}
    first, second = dict.fromkeys(body["jobID"] for _, _, body in play.offers)
    jobs = [body["jobID"] for _, _, body in play.offers]
    assert jobs == sorted(jobs, key=[first, second].index)  # the first job never comes again after the second
    assert max(play.times()) <= 6.02


@scene()
async def test_late_and_foreign_reports_change_nothing(play):
    rollout, _ = play.roll(3)
    await asyncio.sleep(1)
    jobs = [play.job(f"d-{n}") for n in range(3)]
    await play.report("d-0", jobs[0], "SUCCESS")
    for thing, job in [
        ("d-0", jobs[0]),  # late
        ("d-1", jobs[2]),  # another thing's
        ("d-1", "foreign"),
        ("d-1", ""),
        ("stranger", jobs[1]),
    ]:
        await play.report(thing, job, "FAILURE")
    await play.report("d-1", jobs[1], "DONE")  # no status of ours
    await play.say("d-1", "accepted", state={"desired": {}}, jobID=jobs[1], status="FAILURE")  # no report
    await play.say("d-1", "rejected", code=400, message="", clientToken="r7")  # the device's own
    await play.replica.publish("state/d-1/update/accepted", b"{")
    await asyncio.sleep(1)
    assert counts(rollout) == {"SUCCEEDED": 1, "IN_PROGRESS": 2}
    await play.report("d-1", jobs[1], "SUCCESS")
    assert counts(rollout) == {"SUCCEEDED": 2, "IN_PROGRESS": 1}


@scene(variant=EXAMPLE)
async def test_the_pages_own_code_ends_executions_by_its_text(play):
    rollout, ended = play.roll(2)
    await asyncio.sleep(1)
    for n, word in enumerate(["SUCCESS", "FAILURE"]):
        await play.replica.publish(f"state/d-{n}/update/accepted", f"jobID:{play.job(f'd-{n}')} {word}".encode())
    await ended.wait()
    assert counts(rollout) == {"SUCCEEDED": 1, "FAILED": 1}


# ---- the connection


class Breaking(MemoryMqtt):
    """A link that is cut when it publishes for the third time."""

    __slots__ = ("published",)

    def __init__(self, fabric, options):
        super().__init__(fabric, options)
        self.published = 0

    async def publish(self, topic, payload, *, qos=1, retain=False):
        self.published += 1
        if self.published == 3:
            self.abort()
            raise LinkError("cut")
        await super().publish(topic, payload, qos=qos, retain=retain)


@scene(link=Breaking)
async def test_a_connection_lost_amid_a_chunk_of_offers_loses_none_of_them(play):
    rollout, _ = play.roll(10)
    await asyncio.sleep(30)
    assert {thing for _, thing, _ in play.offers} == {f"d-{n}" for n in range(10)}
    assert counts(rollout) == {"IN_PROGRESS": 10}
    assert all(play.noted(Kind.OFFER, f"d-{n}")[-1] == "accepted" for n in range(10))


@scene(link=Breaking)
async def test_what_ended_before_it_could_be_sent_is_not_sent(play):
    rollout, ended = play.roll(10, timeoutConfig={"inProgressTimeout": "1m"})
    await asyncio.sleep(0.01)
    play.fabric.down = True
    play.link.abort()
    await asyncio.sleep(120)
    play.fabric.down = False
    await ended.wait()
    await asyncio.sleep(60)
    assert {thing for _, thing, _ in play.offers} < {"d-0", "d-1", "d-2"}
    assert counts(rollout) == {"TIMED_OUT": 10}


@scene()
async def test_a_lost_connection_is_made_again_and_open_offers_are_resent(play):
    play.answer = lambda thing, job: SILENCE
    rollout, _ = play.roll(2, **OFTEN)
    await asyncio.sleep(0.1)
    play.fabric.down = True
    play.link.abort()
    await asyncio.sleep(5)
    assert len(play.offers) == 2
    play.fabric.down, play.answer = False, lambda thing, job: ACCEPT
    await asyncio.sleep(20)
    assert [thing for _, thing, _ in play.offers[2:]] in (["d-0", "d-1"], ["d-1", "d-0"])
    assert {body["jobID"] for _, _, body in play.offers[2:]} == {body["jobID"] for _, _, body in play.offers[:2]}
    for n in range(2):
        await play.report(f"d-{n}", play.job(f"d-{n}"), "SUCCESS")
    assert counts(rollout) == {"SUCCEEDED": 2}


@scene()
async def test_what_was_reported_while_the_connection_was_lost_is_heard_afterwards(play):
    rollout, ended = play.roll(1)
    await asyncio.sleep(1)
    play.link.abort()
    await play.report("d-0", play.job(), "SUCCESS")
    await asyncio.sleep(1)
    assert ended.is_set()
    assert counts(rollout) == {"SUCCEEDED": 1}


@scene()
async def test_a_broker_that_is_away_for_hours_is_found_within_seconds_of_its_return(play):
    play.fabric.down = True
    play.link.abort()
    await asyncio.sleep(3 * 3600)
    play.fabric.down = False
    play.roll(1)
    await asyncio.sleep(5.1)
    assert len(play.offers) == 1


# ---- several rollouts


@scene()
async def test_the_newest_rollout_wins(play):
    older, older_ended = play.roll(4, maximumConcurrent=2, retryConfig={"failed": 3})
    await asyncio.sleep(1)
    newer, newer_ended = play.roll(3, "3", "s")
    await asyncio.sleep(1)
    assert counts(older) == {
        "IN_PROGRESS": 2,
        "QUEUED": 1,
        "CANCELED": 1,
    }  # d-2 was not offered yet; d-3 is not newer's
    for n in range(2):
        await play.report(f"d-{n}", f"r.d-{n}.0", "FAILURE", "1", reason="superseded")
    assert counts(older) == {"FAILED": 2, "CANCELED": 1, "IN_PROGRESS": 1}  # no retry; d-3 has its turn
    for n in range(3):
        await play.report(f"d-{n}", play.job(f"d-{n}"), "SUCCESS", "3")
    await play.report("d-3", play.job("d-3"), "SUCCESS")
    assert older_ended.is_set()
    assert newer_ended.is_set()
    assert (counts(older), counts(newer)) == ({"SUCCEEDED": 1, "FAILED": 2, "CANCELED": 1}, {"SUCCEEDED": 3})
    wanted = {thing: body["state"]["desired"]["software"]["version"] for _, thing, body in play.offers}
    assert wanted == {"d-0": "3", "d-1": "3", "d-2": "3", "d-3": "2"}


@scene()
async def test_a_failure_that_a_newer_rollout_caused_is_not_retried_whatever_reason_comes(play):
    older, _ = play.roll(1, retryConfig={"failed": 3, "timedOut": 3})
    await asyncio.sleep(1)
    play.roll(1, "3", "s")
    await asyncio.sleep(1)
    await play.report("d-0", play.job(nth=0), "FAILURE", "1")
    await asyncio.sleep(100)
    assert counts(older) == {"FAILED": 1}
    assert len(play.offers) == 2


@scene()
async def test_an_unanswered_offer_is_not_resent_over_a_newer_one(play):
    play.answer = lambda thing, job: SILENCE if job.startswith("r.") else ACCEPT
    older, ended = play.roll(1, **OFTEN)
    await asyncio.sleep(0.1)
    newer, _ = play.roll(1, "3", "s")
    await ended.wait()
    assert [body["jobID"] for _, _, body in play.offers] == ["r.d-0.0", "s.d-0.0"]
    assert counts(older) == {"UNKNOWN": 1}
    assert counts(newer) == {"IN_PROGRESS": 1}


@scene()
async def test_rollouts_to_different_things_do_not_disturb_each_other(play):
    first, first_ended = play.roll(1)
    await asyncio.sleep(1)
    other = Rollout(RolloutSpec(name="s"), Artifact("3", "u3"), [("e-0", "all")], begin_at=play.application.clock())
    other_ended = play.application.add(other)
    await asyncio.sleep(1)
    await play.report("e-0", play.job("e-0"), "SUCCESS", "3")
    assert (first_ended.is_set(), other_ended.is_set()) == (False, True)
    await play.report("d-0", play.job("d-0"), "SUCCESS")
    assert first_ended.is_set()
    assert (counts(first), counts(other)) == ({"SUCCEEDED": 1}, {"SUCCEEDED": 1})


# ---- what happens at once


@scene()
async def test_a_rollout_added_while_another_waits_begins_at_once(play):
    play.roll(1)
    await asyncio.sleep(100)
    other = Rollout(RolloutSpec(name="s"), Artifact("3", "u3"), [("e-0", "all")], begin_at=play.application.clock())
    play.application.add(other)
    await asyncio.sleep(0.001)
    assert [thing for _, thing, _ in play.offers] == ["d-0", "e-0"]


class Slow(MemoryMqtt):
    """A link that takes a second to publish."""

    __slots__ = ()

    async def publish(self, topic, payload, *, qos=1, retain=False):
        await asyncio.sleep(1)
        await super().publish(topic, payload, qos=qos, retain=retain)


@scene(link=Slow)
async def test_a_rollout_added_while_another_is_being_resent_is_not_overlooked(play):
    play.answer = lambda thing, job: SILENCE
    play.roll(1, offer={"base": "10s", "jitter": 0})
    await asyncio.sleep(10.5)
    other = Rollout(RolloutSpec(name="s"), Artifact("3", "u3"), [("e-0", "all")], begin_at=play.application.clock())
    play.application.add(other)
    await asyncio.sleep(2)
    assert [thing for _, thing, _ in play.offers] == ["d-0", "d-0", "e-0"]


@scene()
async def test_a_resumed_rollout_goes_on_at_once(play):
    rollout, _ = play.roll(2, maximumConcurrent=1)
    await asyncio.sleep(1)
    rollout.pause()
    await play.report("d-0", play.job("d-0"), "SUCCESS")
    await asyncio.sleep(100)
    assert len(play.offers) == 1
    rollout.resume()
    play.application.stir()
    await asyncio.sleep(0.001)
    assert len(play.offers) == 2


@scene()
async def test_an_aborted_rollout_ends_at_once_and_its_last_counts_are_recorded(play):
    rollout, ended = play.roll(5, maximumConcurrent=1)
    await asyncio.sleep(1)
    rollout.pause()
    await play.report("d-0", play.job("d-0"), "SUCCESS")
    rollout.abort()
    play.application.stir()
    await asyncio.sleep(0.001)
    assert ended.is_set()
    assert play.noted(Kind.ROLLOUT) == ["begin", "wave", "pause", "abort", "end"]
    (final,) = [c for _, kind, _, c in play.events if kind == Kind.COUNTERS and c["status"] == "final"]
    assert {s: n for s, n in json.loads(final["detail"]).items() if n} == {"SUCCEEDED": 1, "CANCELED": 4}
    assert final["size"] == 5


@scene()
async def test_a_rollout_ends_by_silence_even_when_a_foreign_report_comes_at_that_instant(play):
    rollout, ended = play.roll(1, timeoutConfig={"inProgressTimeout": "10s"})
    began = play.loop.time()
    await asyncio.sleep(0.5)
    rollout.observe(Outcome("stranger", "j", State.SUCCEEDED), began + 11)  # its timer has not rung yet
    await asyncio.sleep(10)
    assert ended.is_set()
    assert counts(rollout) == {"TIMED_OUT": 1}


@scene()
async def test_being_stirred_often_or_amid_messages_disturbs_nothing(play):
    rollout, ended = play.roll(2)
    await asyncio.sleep(1)
    for n in range(2):
        for _ in range(3):
            play.application.stir()
        await play.report(f"d-{n}", play.job(f"d-{n}"), "SUCCESS")
    assert ended.is_set()
    assert counts(rollout) == {"SUCCEEDED": 2}


@scene()
async def test_an_application_that_is_stirred_and_cancelled_ends(play):
    play.roll(1)
    await asyncio.sleep(1)
    play.application.stir()
    play.tasks[1].cancel()
    await asyncio.sleep(0.001)
    assert play.tasks[1].cancelled()


# ---- the record


@scene()
async def test_each_execution_is_recorded_from_offer_to_end(play):
    _, ended = play.roll(2, retryConfig={"failed": 1})
    await asyncio.sleep(1)
    await play.report("d-0", play.job("d-0"), "FAILURE", reason="no space")
    await play.report("d-0", play.job("d-0"), "SUCCESS")
    await play.report("d-1", play.job("d-1"), "RUNNING")
    await play.report("d-1", play.job("d-1"), "SUCCESS")
    assert ended.is_set()
    assert play.noted(Kind.EXECUTION, "d-0") == ["IN_PROGRESS", "FAILED", "IN_PROGRESS", "SUCCEEDED"]
    assert play.noted(Kind.EXECUTION, "d-1") == ["IN_PROGRESS", "SUCCEEDED"]
    assert play.noted(Kind.OFFER, "d-0") == ["sent", "accepted"] * 2
    failed = next(c for _, k, _, c in play.events if k == Kind.EXECUTION and c["status"] == "FAILED")
    assert (failed["job"], failed["detail"]) == ("r.d-0.0", "no space")
    assert failed["span_us"] == pytest.approx(1e6, abs=2e4)
    assert [c["size"] for _, k, _, c in play.events if k == Kind.COUNTERS and c["status"] == "final"] == [2]


@scene()
async def test_an_offers_lateness_is_counted_from_when_it_was_due(play):
    play.roll(3, maximumPerMinute=60)
    await asyncio.sleep(10)
    sent = [c["span_us"] for _, k, _, c in play.events if k == Kind.OFFER and c["status"] == "sent"]
    assert sent == [0, 0, 0]
    assert [round(t) for t, _, _ in play.offers] == [0, 1, 2]


@scene(link=Slow)
async def test_what_the_broker_makes_an_offer_wait_is_not_lateness(play):
    play.roll(5)  # all due at once, and each takes the broker a second
    await asyncio.sleep(10)
    sent = [c["span_us"] for _, k, _, c in play.events if k == Kind.OFFER and c["status"] == "sent"]
    assert sent == [0] * 5
    assert [round(t) for t, _, _ in play.offers[:5]] == [1, 2, 3, 4, 5]


def test_of_the_waits_for_a_broker_counts_what_falls_into_the_span():
    waits = BrokerWaits()
    for begin, end in ((1, 2), (5, 8), (9, 9.0005)):
        waits.note(begin, end)
    assert waits.within(0, 10) == 4
    assert waits.within(1.5, 6) == 1.5
    assert waits.within(2, 5) == 0
    assert waits.within(6, 7) == 1
