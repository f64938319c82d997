"""The device in virtual time, situation by situation: what it does, and what it never does."""

import asyncio
import itertools

import pytest

from simulator.broker.core import Broker
from simulator.model.events import Kind
from simulator.model.io import Response
from simulator.model.update import Phase
from tests.device.scripted import (
    DONE,
    INSTALLING,
    MOMENTS,
    NAMES,
    WORKING,
    content,
    digest,
    phases,
    play,
    ranges,
    updated,
)


def gaps(times):
    return [round(b - a, 6) for a, b in itertools.pairwise(times)]


# ---- the conversation


def test_every_connection_begins_with_the_initial_report_and_the_question_what_is_desired():
    async def story(world):
        world.lose()
        await world.until(10)

    world = play(story)
    assert [h.name for h in world.heard] == ["update", "get"] * 2
    assert all(h.state == {"reported": {"software": {"version": "1", "softwareURL": "http://s/1"}}}
               for h in world.heard if h.name == "update")  # fmt: skip
    assert len(world.of(Kind.LOST, "lost")) == 1


def test_what_was_desired_while_the_device_was_away_is_found_on_connecting():
    async def story(world):
        world.order("2")
        world.lose()
        await world.until(DONE)

    world = play(story)
    assert world.runs == "2"
    assert world.of(Kind.DELTA)[0].detail == "get"


def test_the_opening_is_repeated_until_somebody_answers():
    async def story(world):
        world.mute = {"get", "update"}
        world.lose()
        await world.until(40)
        world.mute = set()
        await world.until(200)

    world = play(story, answer_timeout=10)
    for name in ("update", "get"):
        assert gaps([h.t for h in world.heard if h.name == name][1:]) == [10, 10, 10, 10]


def test_an_update_goes_through_its_phases_and_is_complete_when_it_is_accepted():
    world = play(updated)
    assert phases(world, "j2") == [
        "downloading", "verifying", "installing", "rebooting", "confirming", "reporting", "idle",
    ]  # fmt: skip
    assert [(h.jobID, h.state["reported"]["software"]["version"]) for h in world.said("SUCCESS")] == [("j2", "2")]
    assert [e.t for e in world.answered("accepted")] == [19.0]
    assert world.runs == "2"


def test_reconnecting_waits_longer_after_each_failure_and_starts_afresh_once_something_was_heard():
    async def story(world):
        world.fabric.down = True
        world.lose()
        await world.until(200)
        world.fabric.down = False
        await world.until(300)
        world.fabric.down = True
        world.lose()
        await world.until(310)

    world = play(story, reconnect={"base": 1, "cap": 20, "jitter": 0})
    tried = [e.t for e in world.of(Kind.CONNECT)]
    lost = [e.t for e in world.of(Kind.LOST)]
    assert gaps([lost[0], *tried[1:8]]) == [1, 2, 4, 8, 16, 20, 20]
    assert gaps([lost[1], *(t for t in tried if t > lost[1])])[:2] == [1, 2]


def test_a_connection_that_never_lasts_does_not_start_the_back_off_afresh():
    async def story(world):
        world.mute = {"get", "update"}
        for pause in (1, 2, 4, 8, 8, 8):
            world.lose()
            await asyncio.sleep(pause + 0.5)

    world = play(story, reconnect={"base": 1, "cap": 8, "jitter": 0})
    waited = [b.t - a.t for a, b in zip(world.of(Kind.LOST), world.of(Kind.CONNECT)[1:], strict=True)]
    assert waited == [1, 2, 4, 8, 8, 8]


def test_a_refused_subscription_is_a_failure_like_any_other():
    async def story(world):
        await world.until(100)

    allowed = []
    world = play(story, broker=Broker(may=lambda user, topic: "delta" not in topic or len(allowed) > 3 or
                                      allowed.append(topic)))  # fmt: skip
    lost = world.of(Kind.LOST, "lost")
    assert len(lost) == 4
    assert "refused the subscription" in lost[0].detail
    assert world.of(Kind.REPORT, "initial")


def test_a_connection_lost_while_it_is_being_opened_is_made_again():
    async def story(world):
        world.lose()
        for moment in (2.15, 4.65, 7.15):  # at the CONNACK, at the SUBACK, before the initial report
            await world.until(moment)
            world.lose()
        await world.until(60)

    world = play(story, latency=0.1, reconnect={"base": 1, "cap": 2, "jitter": 0})
    assert [h.name for h in world.heard] == ["update", "get"] * 2
    assert [e.status for e in world.of(Kind.CONNECT)] == ["new"] * 5


def test_a_device_that_loses_power_while_it_connects_connects_when_it_is_on_again():
    async def story(world):
        world.lose()
        await world.until(2.15)  # the broker knows the connection already
        world.cut_power()
        await world.until(60)

    world = play(story, latency=0.1)
    assert [(e.t, e.status) for e in world.of(Kind.CONNECT)] == [(0.2, "new"), (5.35, "new")]
    assert [h.name for h in world.heard] == ["update", "get"] * 2


# ---- repeated, older and newer orders


@pytest.mark.parametrize("at", [*MOMENTS, DONE], ids=[*NAMES, "done"])
def test_a_repeated_delta_is_not_applied_twice(at):
    async def story(world):
        await world.desire("2")
        await world.until(at)
        for _ in range(2):
            await world.say("update/delta", world.order("2", doc=world.doc))
        await world.until(60)

    world = play(story)
    assert (world.runs, len(world.of(Kind.COMMIT))) == ("2", 1)
    assert len(world.said("SUCCESS")) == 1


@pytest.mark.parametrize("at", [*WORKING, DONE], ids=[*NAMES[:3], "done"])
def test_an_older_delta_is_never_followed(at):
    async def story(world):
        world.doc = 10
        await world.desire("2")
        await world.until(at)
        await world.desire("3", doc=9)
        await world.until(60)

    world = play(story)
    assert world.runs == "2"
    assert [e.status for e in world.of(Kind.DELTA, job="j3")] == ["stale"]


def test_a_delta_older_than_what_get_told_of_the_running_job_is_never_followed():
    async def story(world):
        await world.desire("2")
        world.doc += 5
        world.lose()  # get tells of the same job under a newer document
        await world.until(5)
        await world.desire("3", doc=world.doc - 2)
        await world.until(60)

    world = play(story)
    assert [e.status for e in world.of(Kind.DELTA)] == ["start", "running", "stale"]


@pytest.mark.parametrize("at", MOMENTS, ids=NAMES)
def test_a_newer_delta_supersedes_the_one_under_way(at):
    async def story(world):
        await world.desire("2")
        await world.until(at)
        await world.desire("3")
        await world.until(60)

    world = play(story)
    assert world.runs == "3"
    working = at in WORKING
    assert [h.phase for h in world.said("FAILURE", "j2")] == ([NAMES[MOMENTS.index(at)]] if working else [])
    assert [e.job for e in world.of(Kind.COMMIT)] == (["j3"] if working else ["j2", "j3"])


def test_what_was_superseded_is_not_taken_up_again_even_where_documents_have_no_version():
    async def story(world):
        await world.desire("2")
        first = world.order("2", doc=world.doc)
        await world.until(INSTALLING)
        await world.desire("3")
        await world.say("update/delta", {**first, "version": None})
        await world.until(60)

    world = play(story)
    assert [e.status for e in world.of(Kind.DELTA)] == ["start", "supersede", "duplicate"]
    assert world.runs == "3"


def test_a_newer_delta_supersedes_a_report_that_nobody_answers():
    async def story(world):
        await world.desire("2")
        await world.until(18)
        world.mute = {"update"}
        await world.until(40)
        world.mute = set()
        await world.desire("3")
        await world.until(80)

    world = play(story)
    assert world.runs == "3"
    assert [(e.job, e.status, e.detail) for e in world.answered()] == [
        ("j2", "given-up", "superseded"), ("j3", "accepted", None),
    ]  # fmt: skip
    assert [h.jobID for h in world.said("SUCCESS") if h.t > 40] == ["j3"]


@pytest.mark.parametrize("stage", ["download", "verify", "install"])
def test_a_newer_delta_frees_a_device_that_hangs(stage):
    async def story(world):
        await world.desire("2")
        await world.until(500)
        world.device.mishaps.draws.profile.mishaps.clear()
        await world.desire("3")
        await world.until(600)

    world = play(story, mishaps={stage: {"hang": 1}}, running_interval=10)
    assert world.runs == "3"
    assert {h.jobID for h in world.said("RUNNING") if h.t > 20} <= {"j3"}


def test_what_arrives_in_the_very_turn_in_which_the_reboot_begins_is_not_heard():
    async def story(world):
        await world.desire("2")
        await world.until(16)
        world.now("update/delta", world.order("3"))
        await world.until(60)

    world = play(story)
    assert [e.t for e in world.of(Kind.COMMIT)] == [16, 34]
    assert (world.runs, world.of(Kind.DELTA, job="j3")[0].detail) == ("3", "get")


def test_a_connection_lost_while_superseding_leaves_the_newer_order_under_way():
    async def story(world):
        await world.desire("2")
        await world.until(INSTALLING)
        world.now("update/delta", world.order("3"))
        world.lose()
        await world.until(60)

    world = play(story)
    assert [e.status for e in world.of(Kind.DELTA)] == ["start", "supersede", "running"]
    assert world.of(Kind.DOWNLOAD, job="j3")[0].t == INSTALLING + 8
    assert world.runs == "3"


def test_a_newer_order_right_behind_the_answer_that_the_download_waits_for_supersedes_it():
    async def story(world):
        world.storage.script = [Response(403)]
        await world.desire("2")
        world.mute = {"get"}
        await world.until(5)
        world.now("get/accepted", world.order("2", doc=world.doc) | {"state": {"delta": world.desired}})
        world.now("update/delta", world.order("3"))
        await world.until(6)
        assert world.phase is Phase.DOWNLOADING
        await world.until(60)

    world = play(story)
    assert [e.status for e in world.of(Kind.DELTA)] == ["start", "running", "supersede"]
    assert [e.job for e in world.of(Kind.COMMIT)] == ["j3"]


def test_after_a_failure_the_same_job_is_not_started_again():
    async def story(world):
        world.storage.contents["2"] = b"x" * (1 << 19)
        await world.desire("2")
        await world.until(20)
        await world.say("update/delta", world.order("2", doc=world.doc))
        world.lose()
        await world.until(40)
        world.cut_power()
        await world.until(80)

    world = play(story)
    assert [(h.jobID, h.state["reported"]["software"]["version"]) for h in world.said("FAILURE")] == [("j2", "1")]
    assert "sha256" in world.said("FAILURE")[0].reason
    assert [e.status for e in world.of(Kind.DELTA)] == ["start", "duplicate", "duplicate", "duplicate"]


@pytest.mark.parametrize(
    "more", [{"leave": False}, {"sha256": None}, {}, {"url": "http://elsewhere/2"}],
    ids=["no download", "no hash", "a hash", "the same hash elsewhere"],
)  # fmt: skip
def test_another_signature_of_what_runs_is_acknowledged_and_never_installed(more):
    async def story(world):
        await world.desire("2")
        await world.until(DONE)
        await world.desire("2", "again", **{"url": "http://s/2?signed=2", **more})
        await world.until(60)

    world = play(story)
    assert len(world.of(Kind.COMMIT)) == len(world.storage.requests) == 1
    assert [(h.jobID, h.state) for h in world.said("SUCCESS")][1] == ("again", {"reported": world.desired})
    assert world.answered()[-1].status == "accepted"


def test_what_runs_already_takes_an_order_back_that_is_under_way():
    async def story(world):
        await world.desire("2")
        await world.until(INSTALLING)
        await world.desire("1", "back")
        await world.until(60)

    world = play(story)
    assert world.runs == "1"
    assert [(h.jobID, h.status) for h in world.heard if h.jobID] == [("j2", "FAILURE"), ("back", "SUCCESS")]


def test_a_delta_that_names_no_version_means_the_one_that_runs():
    async def story(world):
        body = world.order("1", "moved", url="http://s/2", sha256=digest("2"))
        del body["state"]["software"]["version"]
        await world.say("update/delta", body)
        await world.until(60)

    world = play(story, check=False)
    assert (world.runs, world.reported) == ("1", {"software": {"version": "1", "softwareURL": "http://s/2"}})
    assert world.of(Kind.CONFIRM)[0].digest == digest("2")


def test_another_version_under_the_same_url_is_another_software():
    async def story(world):
        world.storage.contents["1"] = content("2")
        await world.desire("2", url="http://s/1", leave=False)
        await world.until(60)

    world = play(story)
    assert world.of(Kind.CONFIRM)[0].digest == digest("2")


# ---- the report


def test_a_report_is_resent_with_growing_pauses_under_the_same_job_and_token_until_it_is_answered():
    async def story(world):
        await world.desire("2")
        await world.until(18)
        world.mute = {"update"}
        await world.until(100)
        world.mute = set()
        await world.until(300)

    world = play(story, resend={"base": 2, "cap": 20, "jitter": 0, "attempts": 10})
    sent = world.said("SUCCESS")
    assert gaps([h.t for h in sent]) == [2, 4, 8, 16, 20, 20, 20]
    assert {(h.jobID, h.clientToken) for h in sent} == {("j2", sent[0].clientToken)}
    assert [e.size for e in world.of(Kind.REPORT, "SUCCESS")] == list(range(1, 9))
    assert world.answered()[0].span_us == 90_000_000


def test_a_report_is_given_up_when_its_budget_is_spent():
    async def story(world):
        await world.desire("2")
        await world.until(18)
        world.mute = {"update"}
        await world.until(300)

    world = play(story, resend={"base": 2, "cap": 20, "jitter": 0, "attempts": 4})
    assert len(world.said("SUCCESS")) == 4
    assert [(e.t, e.status) for e in world.answered()] == [(19 + 2 + 4 + 8 + 16, "given-up")]
    assert world.phase is Phase.IDLE


def test_pauses_between_reports_are_jittered():
    async def story(world):
        await world.desire("2")
        await world.until(18)
        world.mute = {"update"}
        await world.until(300)

    pauses = gaps(
        [h.t for h in play(story, resend={"base": 8, "cap": 8, "jitter": 0.5, "attempts": 6}).said("SUCCESS")]
    )
    assert len(set(pauses)) == 5
    assert all(4 <= pause <= 8 for pause in pauses)


def test_a_failure_is_resent_in_time_though_nothing_else_happens():
    async def story(world):
        world.storage.script = [Response(404)]
        await world.desire("2")
        world.mute = {"update"}
        await world.until(60)

    world = play(story, resend={"base": 2, "cap": 20, "jitter": 0}, running_interval=3600)
    assert gaps([h.t for h in world.said("FAILURE")]) == [2, 4, 8, 16, 20]


@pytest.mark.parametrize(("code", "times"), [(400, 1), (409, 1), (429, 3), (500, 3)])
def test_a_rejected_report_is_resent_only_where_the_code_says_nothing_about_it(code, times):
    async def answer(name, body):
        if name == "update" and body.get("status") == "SUCCESS":
            await worlds[0].say("update/rejected", {"code": code, "message": "no", "clientToken": body["clientToken"]})

    worlds = []

    async def story(world):
        worlds.append(world)
        await world.desire("2")
        await world.until(18)
        world.answer = answer
        await world.until(300)

    world = play(story, resend={"base": 2, "jitter": 0, "attempts": 3})
    assert len(world.said("SUCCESS")) == times
    assert world.answered()[0].detail == f"{code} no"


def test_an_answer_to_another_report_is_no_answer():
    async def story(world):
        await world.desire("2")
        await world.until(18)
        world.mute = {"update"}
        await world.until(20)
        for token in ("", "r1", None):
            await world.say("update/accepted", {"state": {"reported": {}}, "version": 9, "clientToken": token})
        await world.until(21)
        assert world.phase is Phase.REPORTING

    play(story)


def test_a_report_under_way_when_the_connection_is_lost_is_sent_again_on_the_next():
    async def story(world):
        await world.desire("2")
        await world.until(18)
        world.mute = {"update"}
        await world.until(20)
        world.mute = set()
        world.lose()
        await world.until(60)

    world = play(story, resend={"base": 30, "jitter": 0})
    assert [h.t for h in world.said("SUCCESS")] == [19, 21]
    assert world.answered("accepted")


def test_a_long_update_reports_running_at_its_interval():
    world = play(updated, running_interval=4.75)
    assert [(h.t, h.phase) for h in world.said("RUNNING")] == [
        (5.75, "downloading"), (10.5, "verifying"), (15.25, "installing"),
    ]  # fmt: skip


def test_running_counts_from_when_it_was_due_whatever_was_asked_anew_before_it():
    async def story(world):
        await world.desire("2")
        await world.until(2.5)
        world.mute = {"get", "update"}
        world.lose()
        await world.until(40)

    # it is due while there is no connection, and then at the very moments at which nobody has answered what was asked
    wait = {"base": 8, "cap": 8, "jitter": 0}
    world = play(story, latency=0.25, running_interval=5, answer_timeout=5, install=60, reconnect=wait, check=False)
    times = [h.t for h in world.said("RUNNING")]
    assert times[2] - times[0] == 10


def test_no_token_is_used_twice_not_even_by_the_same_thing_in_another_run():
    tokens = [h.clientToken for epoch in (1.7e9, 1.7e9 + 60) for h in play(updated, epoch=epoch).heard
              if h.name == "update"]  # fmt: skip
    assert len(tokens) == len(set(tokens)) == 6


def test_the_pages_own_code_reports_once_and_nobody_answers():
    said = []

    class Listening(Broker):
        def receive(self, conn, packet, now):
            if getattr(packet, "topic", "") == "state/d/update/accepted":
                said.append((now, packet.payload))
            return super().receive(conn, packet, now)

    world = play(updated, variant="atlas-example", broker=Listening())
    assert said == [(19, b"jobID:j2 SUCCESS")]
    assert world.phase is Phase.IDLE
    assert not world.of(Kind.ANSWER)


def test_an_end_that_may_be_lost_with_its_connection_is_said_again_on_the_next_but_not_for_ever():
    async def story(world):  # its replica understands no such report: each get says that the software still differs
        await world.desire("2")
        await world.until(40)
        for n in range(4):
            world.link.abort()
            await world.until(60 + 20 * n)

    world = play(story, variant="atlas-example", resend={"base": 5, "attempts": 2})
    assert [(e.job, e.status) for e in world.of(Kind.REPORT)] == [("j2", "SUCCESS")] * 3
    assert [e.status for e in world.of(Kind.DELTA)][:4] == ["start", "duplicate", "again", "again"]
    assert world.runs == "2"
    assert world.phase is Phase.IDLE


def test_a_failure_that_was_given_up_is_said_again_when_the_replica_still_asks_for_that_job():
    async def story(world):
        world.mute = {"update"}
        await world.desire("2")
        await world.until(100)
        world.mute = set()
        world.link.abort()
        await world.until(150)

    world = play(story, resend={"base": 5, "cap": 5, "attempts": 2}, mishaps={"install": {"error": 1}})
    assert [e.status for e in world.answered()] == ["given-up", "accepted"]
    assert [h.reason for h in world.said("FAILURE")] == ["install error"] * 3
    assert world.phase is Phase.IDLE


# ---- the download


def test_a_refused_url_is_asked_for_anew_and_the_download_goes_on_under_the_same_job():
    half = Response(200, (("etag", '"2"'), ("content-length", str(1 << 19))), content("2")[: 1 << 18])

    async def story(world):
        world.storage.script = [half, Response(403)]
        await world.desire("2")
        world.leave["download"]["url"] = "http://s/2?second"
        await world.until(60)

    world = play(story, download_retry={"base": 1, "jitter": 0})
    assert [url for url, _ in world.storage.requests] == ["http://s/2?first"] * 2 + ["http://s/2?second"]
    assert ranges(world) == [None, "bytes=262144-", "bytes=262144-"]
    assert [h.name for h in world.heard].count("get") == 3  # of two connections, and this
    assert {e.job for e in world.of(Kind.PHASE)} == {"j2"}
    assert world.runs == "2"


def test_leave_that_is_about_to_expire_is_asked_for_anew_at_once():
    async def story(world):
        await world.desire("2", expiresAt=1003, url="http://s/2")
        world.leave["download"].update(url="http://s/2?second", expiresAt=9999)
        await world.until(60)

    assert [url for url, _ in play(story, epoch=1000.0).storage.requests] == ["http://s/2?second"]


def test_without_a_download_the_software_url_is_fetched_within_a_bound_and_without_a_hash():
    async def story(world):
        await world.desire("2", leave=False)
        await world.until(60)

    async def too_much(world):
        world.storage.contents["2"] = b"x" * ((1 << 20) + 1)
        await story(world)

    world = play(story)
    assert (world.runs, world.storage.requests[0][0]) == ("2", "http://s/2")
    world = play(too_much, download_retry={"attempts": 2})
    assert (world.runs, world.said("FAILURE")[0].reason) == ("1", "more than 1048576 bytes")


def test_no_download_goes_on_in_an_offline_window_and_it_resumes_after():
    async def story(world):
        await world.desire("2")
        await world.until(100)

    world = play(story, online=5, offline=20)
    pieces = [(e.t, e.status, e.size) for e in world.of(Kind.DOWNLOAD)]
    assert pieces == [(5.0, "200", 4 << 16), (29.0, "206", 4 << 16)]
    assert ranges(world) == [None, "bytes=262144-"]
    assert world.runs == "2"


def test_a_download_goes_on_while_only_the_broker_is_gone():
    async def story(world):
        await world.desire("2")
        await world.until(2)
        world.fabric.down = True
        world.lose()
        await world.until(40)
        world.fabric.down = False
        await world.until(80)

    world = play(story, reconnect={"base": 1, "cap": 4, "jitter": 0})
    assert [e.t for e in world.of(Kind.COMMIT)] == [16]
    assert world.said("SUCCESS")


def test_a_credential_is_asked_for_before_the_download_and_again_when_it_is_refused():
    async def story(world):
        world.storage.script = [Response(401)]
        await updated(world)

    world = play(story, credential=True, download_retry={"base": 1, "jitter": 0})
    assert [h.jobID for h in world.heard if h.name == "credentials/get"] == ["j2", "j2"]
    assert [headers["authorization"] for _, headers in world.storage.requests] == ["Bearer b", "Bearer b"]
    assert world.runs == "2"


@pytest.mark.parametrize(("code", "job", "fails"), [(404, "j2", True), (404, "j1", False), (500, "j2", False)])
def test_a_refused_credential_fails_its_own_job_unless_the_code_says_try_again(code, job, fails):
    async def story(world):
        world.mute = {"credentials"}
        await world.desire("2")
        await world.until(2)
        await world.say("credentials/get/rejected", {"code": code, "message": "no", "jobID": job})
        world.mute = set()
        await world.say("credentials/get/accepted", {"authorization": "Bearer b", "jobID": "j2"})
        await world.until(60)

    assert play(story, credential=True).runs == ("1" if fails else "2")
