"""The atlas dialect's two sides with one another, clause by clause, without a wire: device, replica, application."""

import orjson
import pytest
from msgspec.structs import replace

from simulator.broker.topics import matches
from simulator.dialects.atlas.application import AtlasApplication
from simulator.dialects.atlas.device import AtlasDevice
from simulator.dialects.atlas.documents import EXAMPLE, completion
from simulator.dialects.atlas.replica import AtlasReplica
from simulator.dialects.atlas.topics import TOPICS, AtlasTopics
from simulator.dialects.base import (
    Answered,
    Completion,
    CredentialGranted,
    CredentialRefused,
    InSync,
    OfferAnswered,
    Reported,
    UpdateRequested,
)
from simulator.model.io import NOTHING, Message, Publish, Response, Subscribe
from simulator.model.update import Artifact, Download, Execution, Outcome, Progress, State, Status
from simulator.replica.core import DocumentLimits, Replica

NOW = 1_700_000_000.0
OLD = Progress("1.0.0", "https://x/app-1.0.0.bin", token="r1")
NEW = Artifact("2.0.0", "https://x/app-2.0.0.bin")


class Pair:
    """One thing's device, its replica and an application; what any of them publishes reaches whom it reaches.

    `said` is everything that was published, `heard` what device and application understood of it.
    """

    def __init__(self, *, variant="atlas", topics=TOPICS, credential=False, thing="d", foreign=False):
        self.minted = 0
        self.dialect = AtlasReplica(topics=topics, variant=variant)
        self.replica = Replica(
            self.dialect,
            download=None if foreign else self.mint,
            credential=self.grant,
            limits=DocumentLimits(document_max=400),
        )
        if foreign:
            self.replica._grant_download = lambda url, thing, address, now: None
        self.device = AtlasDevice(thing, topics=topics, variant=variant, credential=credential)
        self.application = AtlasApplication(topics=topics, variant=variant)
        self.credential = credential
        self.filters = {"device": [], "application": [], "replica": []}
        self.said, self.heard = [], {"device": [], "application": []}
        self.do("replica", self.dialect.open())
        self.do("application", self.application.open(NOW))

    def mint(self, url, thing, address, now):
        self.minted += 1
        if self.credential:
            return {"url": url, "size": 7, "sha256": "AB12"}
        return {"url": f"{url}?signature={self.minted}", "expiresAt": int(now) + 60, "size": 7, "sha256": "AB12"}

    def grant(self, url, thing, now):
        return f"Bearer {thing}", now + 60.5

    def do(self, who, step):
        """Carry a step's outputs, and whatever they give rise to."""
        for output in step.outputs:
            if isinstance(output, Subscribe):
                self.filters[who] += [(f, output.no_local) for f in output.filters]
            else:
                self.publish(who, output.topic, output.payload)

    def publish(self, who, topic, payload):
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        self.said.append((topic, body))
        message = Message(topic, body)
        for other, filters in self.filters.items():
            if not any(matches(f, topic) and not (no_local and other == who) for f, no_local in filters):
                continue
            if other == "replica":
                request = self.dialect.parse(message)
                outputs = self.replica.decide(request, NOW).outputs if request else ()
            else:
                step = getattr(self, other).receive(message, NOW)
                self.heard[other] += step.signals
                outputs = step.outputs
            for output in outputs:
                self.publish(other, output.topic, output.payload)

    def connect(self, initial=OLD):
        self.do("device", self.device.open(initial, NOW))

    def offer(self, job="j1", artifact=NEW, thing="d"):
        self.do("application", self.application.offer(Execution(job, thing, artifact), NOW))

    def report(self, status, version="2.0.0", job="j1", **more):
        progress = Progress(
            version, f"https://x/app-{version}.bin", job, status, **{"token": f"t{len(self.said)}", **more}
        )
        self.do("device", self.device.report(progress, NOW))

    def bodies(self, topic):
        """All JSON bodies said on a topic of the thing `d`."""
        return [orjson.loads(body) for t, body in self.said if t == f"state/d/{topic}"]

    def requests(self):
        return [s for s in self.heard["device"] if isinstance(s, UpdateRequested)]

    def last(self, who="device"):
        return self.heard[who][-1]


def connected(**options):
    pair = Pair(**options)
    pair.connect()
    return pair


# ---- connecting


def test_a_device_subscribes_then_reports_then_asks():
    step = AtlasDevice("d").open(OLD, NOW)
    assert [type(o) for o in step.outputs] == [Subscribe, Publish, Publish]
    assert [o.topic for o in step.outputs[1:]] == ["state/d/update", "state/d/get"]
    answers = {"update/delta", "update/accepted", "update/rejected", "get/accepted", "get/rejected"}
    assert {f.removeprefix("state/d/") for f in step.outputs[0].filters} == answers
    assert all(o.qos == 1 for o in step.outputs)
    more = AtlasDevice("d", credential=True).open(OLD, NOW).outputs[0].filters
    credentials = {"credentials/get/accepted", "credentials/get/rejected"}
    assert {f.removeprefix("state/d/") for f in more} == answers | credentials


def test_the_first_report_speaks_of_no_update_and_its_answer_names_the_token():
    pair = connected()
    (report,) = pair.bodies("update")
    assert report == {
        "state": {"reported": {"software": {"version": OLD.version, "softwareURL": OLD.url}}},
        "clientToken": "r1",
    }
    assert pair.heard["device"] == [Answered("r1", "", 1), InSync(1)]
    assert pair.heard["application"] == [Reported("d", OLD.version, OLD.url)]


def test_get_is_answered_with_desired_reported_and_delta():
    pair = Pair()
    pair.offer()
    pair.connect()
    (answer,) = pair.bodies("get/accepted")
    software = {"version": NEW.version, "softwareURL": NEW.url}
    assert answer["state"]["desired"] == {"software": software}
    assert answer["state"]["reported"] == {"software": {"version": OLD.version, "softwareURL": OLD.url}}
    assert answer["state"]["delta"] == {"software": software}
    assert (answer["version"], answer["jobID"], answer["timestamp"]) == (2, "j1", int(NOW))
    assert [r.source for r in pair.requests()] == ["delta", "get"]


def test_get_echoes_the_token_and_of_an_unknown_thing_is_rejected_with_404():
    pair = Pair()
    pair.publish("device", "state/d/get", {"clientToken": "g"})
    (refused,) = pair.bodies("get/rejected")
    assert (refused["code"], refused["clientToken"]) == (404, "g")
    pair.connect()
    pair.publish("device", "state/d/get", {"clientToken": "g2"})
    assert pair.bodies("get/accepted")[-1]["clientToken"] == "g2"


# ---- one update


def test_an_offer_reaches_the_device_as_an_update_request():
    pair = connected()
    pair.offer()
    (request,) = pair.requests()
    assert request.execution == Execution("j1", "d", Artifact(NEW.version, NEW.url, 7, "ab12"))
    assert request.download == Download(f"{NEW.url}?signature=1", NOW + 60)
    assert (request.doc, request.source) == (2, "delta")
    assert OfferAnswered("d", "j1", doc=2, token="offer:j1") in pair.heard["application"]


def test_the_desired_state_on_the_wire_is_as_the_page_has_it():
    pair = connected()
    pair.offer()
    assert pair.bodies("update")[-1] == {
        "state": {"desired": {"software": {"version": NEW.version, "softwareURL": NEW.url}}},
        "jobID": "j1",
        "clientToken": "offer:j1",
    }


def test_accepted_and_delta_of_one_update_carry_the_same_version():
    pair = connected()
    for job in ("j1", "j2"):
        pair.offer(job, replace(NEW, version=job))
        assert pair.bodies("update/accepted")[-1]["version"] == pair.bodies("update/delta")[-1]["version"]
    assert pair.bodies("update/delta")[-1]["version"] == 3


def test_a_delta_holds_only_differing_leaves_and_always_the_url():
    pair = connected()
    pair.offer(artifact=Artifact("2.0.0", OLD.url))
    assert pair.bodies("update/delta")[-1]["state"] == {"software": {"version": "2.0.0", "softwareURL": OLD.url}}
    pair.offer("j2", Artifact(OLD.version, NEW.url))
    assert pair.bodies("update/delta")[-1]["state"] == {"software": {"softwareURL": NEW.url}}
    assert pair.requests()[-1].execution.artifact.url == NEW.url


def test_leave_to_download_is_minted_anew_for_each_delta_and_get_and_never_stored():
    pair = connected()
    pair.offer()
    pair.report(Status.RUNNING, OLD.version)
    pair.do("device", pair.device.ask_current(NOW))
    assert [r.download.url for r in pair.requests()] == [f"{NEW.url}?signature={n}" for n in (1, 2, 3)]
    assert {r.execution.id for r in pair.requests()} == {"j1"}
    assert {r.execution.artifact.url for r in pair.requests()} == {NEW.url}
    assert "signature" not in str(pair.replica.rows["d"])


def test_a_report_of_success_ends_the_delta_and_reaches_both_sides():
    pair = connected()
    pair.offer()
    pair.report(Status.SUCCESS, token="t9", phase="reporting")
    assert pair.bodies("update")[-1] == {
        "state": {"reported": {"software": {"version": NEW.version, "softwareURL": NEW.url}}},
        "jobID": "j1",
        "status": "SUCCESS",
        "phase": "reporting",
        "clientToken": "t9",
    }
    assert len(pair.bodies("update/delta")) == 1
    assert pair.last() == Answered("t9", "j1", 3)
    assert pair.last("application") == Reported("d", NEW.version, NEW.url, Outcome("d", "j1", State.SUCCEEDED))


@pytest.mark.parametrize(
    ("status", "state"), [(Status.RUNNING, State.IN_PROGRESS), (Status.FAILURE, State.FAILED)]
)  # fmt: skip
def test_running_and_failure_reach_the_application_with_the_reason(status, state):
    pair = connected()
    pair.offer()
    pair.report(status, OLD.version, reason="no space")
    assert pair.last("application").outcome == Outcome("d", "j1", state, "no space")


def test_failure_keeps_the_delta_until_the_desired_state_is_withdrawn():
    pair = connected()
    pair.offer()
    pair.report(Status.FAILURE, OLD.version)
    assert len(pair.bodies("update/delta")) == 2
    pair.do("device", pair.device.ask_current(NOW))
    assert pair.requests()[-1].execution.id == "j1"
    pair.publish("application", "state/d/update", {"state": {"desired": None}})
    pair.do("device", pair.device.ask_current(NOW))
    assert isinstance(pair.last(), InSync)


def test_cancelling_is_the_reported_version_desired_again_under_a_new_job():
    pair = connected()
    pair.offer()
    pair.offer("cancel-1", Artifact(OLD.version, OLD.url))
    assert len(pair.bodies("update/delta")) == 1  # nothing differs any more
    pair.do("device", pair.device.ask_current(NOW))
    assert isinstance(pair.last(), InSync)
    pair.report(Status.SUCCESS)  # it was too late: the device is sent back
    assert pair.requests()[-1].execution == Execution("cancel-1", "d", Artifact(OLD.version, OLD.url, 7, "ab12"))


def test_the_same_offer_again_has_the_same_id_changes_nothing_and_is_told_again():
    pair = connected()
    for _ in range(3):
        pair.offer()
    assert pair.heard["application"].count(OfferAnswered("d", "j1", doc=2, token="offer:j1")) == 3
    assert [b["version"] for b in pair.bodies("update/accepted")] == [1, 2, 2, 2]
    assert [(told.execution.id, told.doc) for told in pair.requests()] == [("j1", 2)] * 3


def test_the_same_report_again_gets_the_same_answer():
    pair = connected()
    pair.offer()
    for _ in range(2):
        pair.report(Status.SUCCESS, token="t")
    assert pair.heard["device"][-2:] == [Answered("t", "j1", 3)] * 2


def test_software_that_came_without_a_job_is_not_the_last_jobs():
    pair = connected()
    pair.offer()
    pair.report(Status.SUCCESS)
    third = {"version": "3.0.0", "softwareURL": "https://x/app-3.0.0.bin"}
    pair.publish("application", "state/d/update", {"state": {"desired": {"software": third}}})
    assert pair.requests()[-1].execution.id == third["softwareURL"]
    pair.publish("application", "state/d/update", {"state": {"desired": {"colour": "red"}}})
    assert pair.requests()[-1].execution.id == third["softwareURL"]
    assert len(pair.requests()) == 3


# ---- refusals


def test_a_version_conflict_is_409_and_echoes_the_token():
    pair = connected()
    wanted = {"state": {"desired": {"a": 1}}, "clientToken": "c"}
    pair.publish("application", "state/d/update", {**wanted, "version": 7})
    (refused,) = pair.bodies("update/rejected")
    assert refused == {"code": 409, "message": "version conflict", "timestamp": int(NOW), "clientToken": "c"}
    pair.publish("application", "state/d/update", {**wanted, "version": 1})
    assert pair.bodies("update/accepted")[-1]["clientToken"] == "c"


def test_a_refused_report_reaches_the_device_and_a_refused_offer_the_application():
    pair = connected()
    pair.report(Status.SUCCESS, "x" * 500, token="t")
    assert pair.last() == Answered("t", "", None, 413, "the document exceeds 400 bytes")
    before = len(pair.heard["application"])
    pair.offer("j1", Artifact("y" * 500, NEW.url))
    refused = OfferAnswered("d", "j1", 413, "the document exceeds 400 bytes", token="offer:j1")
    assert pair.heard["application"][before:] == [refused]


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"7", b'"text"', b"\xff\xfe", b"{}", b'{"state": 1}'])
def test_a_malformed_update_is_rejected_with_400(payload):
    pair = connected()
    pair.publish("application", "state/d/update", payload)
    assert [b["code"] for b in pair.bodies("update/rejected")] == [400]
    assert pair.replica.rows["d"].version == 1


@pytest.mark.parametrize("topic", ["get", "credentials/get"])
def test_a_malformed_request_is_rejected_where_its_sender_listens(topic):
    pair = connected()
    pair.publish("device", f"state/d/{topic}", b"{")
    assert [b["code"] for b in pair.bodies(f"{topic}/rejected")] == [400]


@pytest.mark.parametrize(
    "topic",
    ["update/delta", "update/accepted", "update/rejected", "get/accepted", "get/rejected", "credentials/get/accepted"],
)
@pytest.mark.parametrize("payload", [b"", b"{", b"[1]", b"null", b"\xff", b'{"state": [], "code": {}, "version": "x"}'])
def test_what_a_device_or_an_application_cannot_read_is_not_acted_upon(topic, payload):
    device, application = AtlasDevice("d"), AtlasApplication()
    message = Message(f"state/d/{topic}", payload)
    signals = device.receive(message, NOW).signals + application.receive(message, NOW).signals
    assert not any(isinstance(s, UpdateRequested | Reported | OfferAnswered) for s in signals)


def test_unknown_members_are_ignored_everywhere():
    pair = connected()
    more = {"x": 1, "y": {"z": []}}
    pair.publish("application", "state/d/update", {"state": {"desired": {"a": 1}}, "clientToken": "c", **more})
    assert pair.bodies("update/accepted")[-1]["clientToken"] == "c"
    software = {"version": "2", "softwareURL": "u", **more}
    body = {"state": {"software": software, **more}, "jobID": "j", "download": {"url": "v", **more}, **more}
    pair.publish("replica", "state/d/update/delta", body)
    assert pair.last().execution == Execution("j", "d", Artifact("2", "u"))
    accepted = {"state": {"reported": {"software": software}, **more}, "jobID": "j", "status": "SUCCESS", **more}
    pair.publish("replica", "state/d/update/accepted", accepted)
    assert pair.last("application").outcome == Outcome("d", "j", State.SUCCEEDED)


def test_messages_for_another_thing_are_ignored_by_a_device():
    device = AtlasDevice("d")
    body = orjson.dumps({"state": {"software": {"softwareURL": "u"}}, "jobID": "j"})
    assert device.receive(Message("state/d/update/delta", body), NOW).signals
    for topic in (
        "state/e/update/delta",
        "state/d2/update/delta",
        "other/d/update/delta",
        "state/d/delta",
        "state",
        "d",
    ):
        assert device.receive(Message(topic, body), NOW) == NOTHING
    assert device.receive(Response(200), NOW) == NOTHING


# ---- other people's backends


def test_without_a_download_the_device_uses_the_software_url_and_no_hash():
    pair = connected(foreign=True)
    pair.offer()
    (request,) = pair.requests()
    assert request.download == Download(NEW.url)
    assert request.execution.artifact == NEW


def test_without_a_job_id_the_url_is_the_job():
    body = orjson.dumps({"state": {"software": {"softwareURL": "u"}}})
    (request,) = AtlasDevice("d").receive(Message("state/d/update/delta", body), NOW).signals
    assert request.execution.id == "u"


# ---- credentials


def test_a_credential_is_asked_for_over_the_devices_own_channel():
    pair = connected(credential=True)
    pair.offer()
    assert pair.requests()[0].download == Download(NEW.url, None, needs_credential=True)
    pair.do("device", pair.device.ask_credential("j1", NOW))
    assert pair.last() == CredentialGranted("j1", "Bearer d", int(NOW + 60.5))


def test_a_credential_for_any_other_job_is_refused():
    pair = connected(credential=True)
    pair.offer()
    pair.do("device", pair.device.ask_credential("j0", NOW))
    assert pair.last() == CredentialRefused("j0", 404, "no such job for this thing")


def test_without_a_download_there_is_nothing_to_ask_a_credential_for():
    pair = connected(credential=True, foreign=True)
    pair.offer()
    assert not pair.requests()[0].download.needs_credential


# ---- the variant atlas-example


def test_the_pages_own_code_reports_nothing_but_the_end_as_text():
    pair = connected(variant=EXAMPLE)
    pair.report(Status.RUNNING)
    assert [t for t, _ in pair.said] == ["state/d/get", "state/d/get/rejected"]
    assert not pair.device.answers
    assert AtlasDevice("d").answers
    pair.report(Status.SUCCESS)
    assert pair.said[-1] == ("state/d/update/accepted", b"jobID:j1 SUCCESS")


def test_success_in_the_pages_own_code_completes_the_job():
    pair = connected(variant=EXAMPLE)
    pair.offer()
    assert pair.requests()[0].execution.id == "j1"
    pair.report(Status.SUCCESS)
    row = pair.replica.rows["d"]
    assert row.reported == row.desired
    assert pair.last("application") == Reported("d", "", "", Outcome("d", "j1", State.SUCCEEDED))
    assert len(pair.bodies("update/delta")) == 1


def test_failure_in_the_pages_own_code_keeps_the_delta():
    pair = connected(variant=EXAMPLE)
    pair.offer()
    pair.report(Status.FAILURE)
    assert pair.replica.rows["d"].reported == {}
    assert pair.last("application").outcome.state is State.FAILED


def test_a_foreign_jobs_text_changes_nothing_in_the_replica():
    pair = connected(variant=EXAMPLE)
    pair.offer()
    pair.report(Status.SUCCESS, job="j0")
    assert pair.replica.rows["d"].reported == {}


def test_each_side_of_the_pages_own_code_ignores_its_own_messages():
    pair = connected(variant=EXAMPLE)
    assert not any(matches(f, "state/d/update/accepted") for f, _ in pair.filters["device"])
    assert ("state/+/update/accepted", True) in pair.filters["replica"]
    pair.offer()
    ours = Message("state/d/update/accepted", pair.said[-2][1])
    assert ours.payload.startswith(b"{")
    assert pair.dialect.parse(ours) is None  # MQTT 3.1.1 has no No Local
    own = Message("state/d/update/accepted", b"jobID:j1 SUCCESS")
    assert pair.device.receive(own, NOW) == NOTHING


def test_the_default_dialect_takes_no_text_for_an_end():
    text = Message("state/d/update/accepted", b"jobID:j1 SUCCESS")
    assert AtlasApplication().receive(text, NOW) == NOTHING
    assert AtlasReplica().parse(text) is None


@pytest.mark.parametrize(
    ("payload", "read"),
    [
        (b"jobID:j1 SUCCESS", Completion("d", "j1", Status.SUCCESS)),
        (b"jobID:a b FAILURE", Completion("d", "a b", Status.FAILURE)),
        (b"jobID:j1 RUNNING", None),
        (b"jobID: SUCCESS", None),
        (b"jobID:j1SUCCESS", None),
        (b"jobID:j1 SUCCESS ", None),
        (b"jobID:j1 success", None),
        (b"", None),
        (b'{"jobID": "j1"}', None),
    ],
)
def test_the_text_of_an_end(payload, read):
    assert completion("d", payload) == read


# ---- topics


OWN = AtlasTopics(**{name: f"fleet/v1/{{thing}}/{name}" for name in TOPICS.templates()})


def test_an_update_under_topics_of_ones_own():
    pair = connected(topics=OWN)
    pair.offer()
    pair.report(Status.SUCCESS)
    assert pair.requests()[0].execution.id == "j1"
    assert pair.last("application").outcome.state is State.SUCCEEDED
    assert pair.last() == Answered(pair.last().token, "j1", 3)
    assert all(topic.startswith("fleet/v1/d/") for topic, _ in pair.said)


@pytest.mark.parametrize(
    ("templates", "says"),
    [
        ({"update": "state/update"}, "once, as a whole level"),
        ({"update": "state/{thing}/{thing}"}, "once, as a whole level"),
        ({"update": "state/x{thing}/update"}, "once, as a whole level"),
        ({"update": "state/{thing}/x{thing}"}, "once, as a whole level"),
        ({"update": "state/{thing}/+"}, "once, as a whole level"),
        ({"update": "state/{thing}/a+"}, "once, as a whole level"),
        ({"update": "state/{thing}/#"}, "once, as a whole level"),
        ({"update": "state/{thing}/{device}"}, "once, as a whole level"),
        ({"update": "a/state/{thing}/update"}, "at the same level"),
        ({"update": TOPICS.delta}, "must all differ"),
    ],
)
def test_bad_topic_templates_are_refused(templates, says):
    with pytest.raises(ValueError, match=says):
        AtlasTopics(**templates)


def test_a_topic_is_parsed_by_its_template_alone():
    assert TOPICS.parse("state/d/update") == ("update", "d")
    assert TOPICS.parse("state/d/credentials/get/accepted") == ("credentials_accepted", "d")
    for other in ("state/d/updates", "state/d", "state", "", "x/d/update", "state/d/update/"):
        assert TOPICS.parse(other)[0] == ""
