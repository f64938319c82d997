"""The replica's decisions, by table: merge, versions, deltas, limits, idempotence."""

import orjson
import pytest

from simulator.dialects.atlas.replica import AtlasReplica
from simulator.model.io import Message
from simulator.replica.core import DocumentLimits, Replica

DIALECT = AtlasReplica()


def make(dialect=DIALECT):
    grant = {"url": "signed", "size": 1}
    return Replica(
        dialect,
        download=lambda url, thing, address, now: grant,
        credential=lambda url, thing, now: ("Bearer x", now + 60),
    )


def say(replica, topic, body, dialect=DIALECT):
    payload = body if isinstance(body, bytes) else orjson.dumps(body)
    decision = replica.decide(dialect.parse(Message(topic, payload)), 1000.0)
    return [(o.topic.removeprefix("state/d/"), orjson.loads(o.payload)) for o in decision.outputs]


def desire(version, /, **more):
    return {"state": {"desired": {"software": {"version": version, "softwareURL": f"u{version}"}}}, **more}


def report(version, /, **more):
    return {"state": {"reported": {"software": {"version": version, "softwareURL": f"u{version}"}}}, **more}


def test_a_desired_state_is_accepted_and_gives_a_delta_with_a_grant_to_download():
    replica = make()
    say(replica, "state/d/update", report("1"))
    (accepted, body), (delta, command) = say(replica, "state/d/update", desire("2", jobID="j", clientToken="c"))
    assert (accepted, delta) == ("update/accepted", "update/delta")
    assert (body["version"], body["clientToken"]) == (2, "c")
    assert command["state"] == {"software": {"version": "2", "softwareURL": "u2"}}
    assert (command["jobID"], command["download"]["url"]) == ("j", "signed")
    assert [topic for topic, _ in say(replica, "state/d/update", report("2"))] == ["update/accepted"]


def test_the_same_token_gets_the_same_answer_and_changes_nothing():
    replica = make()
    first = say(replica, "state/d/update", report("1", clientToken="t"))
    assert say(replica, "state/d/update", report("1", clientToken="t")) == first
    assert replica.rows["d"].version == 1


def test_what_one_side_says_does_not_make_the_replica_forget_what_the_other_has_said():
    replica = make()
    said = [desire("2", clientToken="offer"), *(report("1", clientToken=f"r{n}") for n in range(20))]
    first = [say(replica, "state/d/update", one)[0] for one in said]
    assert say(replica, "state/d/update", said[0])[0] == first[0]
    assert [say(replica, "state/d/update", one) for one in said[-4:]] == [[answer] for answer in first[-4:]]
    assert replica.rows["d"].version == 21
    assert len(replica.rows["d"].tokens) == 5


def test_what_is_said_again_and_again_is_not_forgotten():
    replica = make()
    first = say(replica, "state/d/update", report("1", clientToken="t"))
    for n in range(20):
        say(replica, "state/d/update", report("1", clientToken=f"r{n}"))
        assert say(replica, "state/d/update", report("1", clientToken="t")) == first


def test_words_of_running_do_not_make_it_forget_a_report_that_is_said_again():
    replica = make()
    first = say(replica, "state/d/update", report("1", clientToken="t"))
    for n in range(20):
        say(replica, "state/d/update", report("1", jobID="j", status="RUNNING", clientToken=f"r{n}"))
    assert say(replica, "state/d/update", report("1", clientToken="t")) == first


def test_a_desired_state_that_is_said_again_is_told_to_the_device_again():
    replica = make()
    first = say(replica, "state/d/update", desire("2", jobID="j", clientToken="c"))
    assert say(replica, "state/d/update", desire("2", jobID="j", clientToken="c")) == first
    assert [topic for topic, _ in first] == ["update/accepted", "update/delta"]
    say(replica, "state/d/update", report("2"))  # nothing differs any more
    assert say(replica, "state/d/update", desire("2", jobID="j", clientToken="c")) == first[:1]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"state": {"reported": {"a": 1}}, "version": 7}, 409),
        ({"state": {"reported": {"a": "x" * 9000}}}, 413),
        ({"state": {"reported": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}}}, 400),
        ({"state": {"reported": {"a": [1, None]}}}, 400),
        ({"state": {"reported": 3}}, 400),
        ({"state": {"other": {}}}, 400),
        ({"state": []}, 400),
        ({}, 400),
        ({"state": {}, "clientToken": "x" * 65}, 400),
        (b"not json", 400),
    ],
)
def test_what_is_refused_changes_nothing(body, code):
    replica = make()
    say(replica, "state/d/update", report("1"))
    ((topic, answer),) = say(replica, "state/d/update", body)
    assert (topic, answer["code"]) == ("update/rejected", code)
    assert replica.rows["d"].version == 1


def test_null_deletes_and_null_section_removes():
    replica = make()
    say(replica, "state/d/update", {"state": {"reported": {"a": 1, "b": {"c": 2, "d": 3}}}})
    say(replica, "state/d/update", {"state": {"reported": {"a": None, "b": {"c": None}}}})
    assert replica.rows["d"].reported == {"b": {"d": 3}}
    say(replica, "state/d/update", {"state": {"reported": None}})
    assert replica.rows["d"].reported == {}


def test_get_answers_what_is_desired_reported_and_different():
    replica = make()
    assert say(replica, "state/d/get", b"")[0][1]["code"] == 404
    say(replica, "state/d/update", desire("2", jobID="j"))
    ((topic, body),) = say(replica, "state/d/get", {"clientToken": "g"})
    assert (topic, body["clientToken"], body["jobID"]) == ("get/accepted", "g", "j")
    assert body["state"]["delta"]["software"]["softwareURL"] == "u2"


def test_a_credential_is_for_the_current_job_only():
    replica = make()
    say(replica, "state/d/update", desire("2", jobID="j"))
    assert say(replica, "state/d/credentials/get", {"jobID": "j"})[0][1]["authorization"] == "Bearer x"
    assert say(replica, "state/d/credentials/get", {"jobID": "old"})[0][1]["code"] == 404


def test_the_pages_own_code_completes_a_job_from_its_text():
    dialect = AtlasReplica(variant="atlas-example")
    replica = make(dialect)
    say(replica, "state/d/update", desire("2", jobID="j"), dialect)
    say(replica, "state/d/update/accepted", b"jobID:other SUCCESS", dialect)
    assert replica.rows["d"].reported == {}
    say(replica, "state/d/update/accepted", b"jobID:j SUCCESS", dialect)
    assert replica.rows["d"].reported == replica.rows["d"].desired


def test_the_delta_is_minimal_however_deep_and_keeps_the_software_url():
    replica = make()
    reported = {"software": {"version": "1", "softwareURL": "u"}, "a": {"b": {"same": 1, "other": 1}}, "list": [1, 2]}
    say(replica, "state/d/update", {"state": {"reported": {**reported, "only reported": 1}}})
    desired = {"software": {"version": "2", "softwareURL": "u"}, "a": {"b": {"same": 1, "other": True}}, "list": [1, 3]}
    _, (_, body) = say(replica, "state/d/update", {"state": {"desired": desired}})
    software = {"version": "2", "softwareURL": "u"}
    assert body["state"] == {"software": software, "a": {"b": {"other": True}}, "list": [1, 3]}


def test_a_version_that_is_the_current_one_is_no_conflict():
    replica = make()
    for version in (0, 1, 2):
        ((topic, body),) = say(replica, "state/d/update", report("1", version=version))
        assert (topic, body["version"]) == ("update/accepted", version + 1)
    ((topic, body),) = say(replica, "state/d/update", report("1", version=2, clientToken="c"))
    assert (topic, body["code"], body["clientToken"]) == ("update/rejected", 409, "c")


def test_limits_are_settings_and_what_just_fits_is_accepted():
    replica = Replica(DIALECT, download=lambda *_: None, credential=lambda *_: None, limits=DocumentLimits(40, 2, 3))
    fits = {"a": {"b": "x" * 24}}  # 38 bytes, and 2 of the empty section
    assert say(replica, "state/d/update", {"state": {"reported": fits}, "clientToken": "abc"})[0][1]["version"] == 1
    for body, code in (
        ({"state": {"reported": {"a": {"b": "x" * 25}}}}, 413),
        ({"state": {"desired": {"y": 1}}}, 413),
        ({"state": {"reported": {"a": {"b": {}}}}}, 400),
        ({"state": {}, "clientToken": "éé"}, 400),
    ):
        assert say(replica, "state/d/update", body)[0][1]["code"] == code
