"""The checks of replica, storage and executions each catch a bug planted in the party that can break its promise."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from simulator.application.drivers import Application
from simulator.application.rollout import Changed, Rollout
from simulator.backend.database import MemoryDatabase
from simulator.backend.replica import Decision, Replica
from simulator.backend.storage import Storage
from simulator.checks.judge import judge
from simulator.device.agent import Reaction, UpdateAgent
from simulator.device.profile import Draws
from simulator.model.events import Kind
from simulator.model.io import Response
from simulator.model.update import State
from tests.worlds.test_planted import DeafBroker, fails, passes
from tests.worlds.virtually import judged, run, scenario

THREE = {"device-0", "device-1", "device-2"}


class Skipping(Replica):
    """Leaves out a version at each desired state."""

    def _committing(self, row, answer, request, now):
        if "desired" in (getattr(request, "state", None) or {}):
            row = row._replace(version=row.version + 1)
        return super()._committing(row, answer, request, now)


def test_s1_a_replica_that_leaves_versions_out():
    made = scenario(devices=3)
    assert fails("S1-version", made, replica=Skipping) == THREE
    passes(made)


class Oblivious(MemoryDatabase):
    """Says that it has committed, and keeps only what is older than the third version."""

    async def commit(self, rows):
        await super().commit([row for row in rows if row.version < 3])


def test_s5_a_database_that_has_not_committed_what_it_said():
    made = scenario(devices=20, profile="wifi", rollout={"maximumPerMinute": 60}, run_time="2h",
                    faults=[{"fault": "F8-backend-killed", "at": "12s", "for": "3s"}])  # fmt: skip
    passes(made)
    things = fails("S5-durability", made, database=Oblivious)
    assert things == fails("S1-version", made, database=Oblivious)
    assert 0 < len(things) < 20


class Mute(Replica):
    """Publishes no delta to device-1."""

    def _different(self, row):
        return {} if row.thing == "device-1" else super()._different(row)


class Talkative(Replica):
    """Publishes a delta, whether anything differs or not."""

    def _different(self, row):
        return super()._different(row) or row.desired


class Mistaken(Replica):
    """Publishes its deltas under the job before."""

    def _committing(self, row, answer, request, now):
        return super()._committing(row._replace(job="r.device-0.7"), answer, request, now)


@pytest.mark.parametrize(("bug", "things"), [(Mute, {"device-1"}), (Talkative, THREE), (Mistaken, THREE)])
def test_s3_a_replica_whose_deltas_are_not_the_difference(bug, things):
    made = scenario(devices=3, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    assert fails("S3-delta", made, replica=bug) == things
    passes(made)


class Forgetful(Replica):
    """Loses the last two updates of a document that it is asked for, as a crash without a commit would."""

    def _get(self, request, now):
        decision = super()._get(request, now)
        row = self.rows[request.thing]
        self.rows[request.thing] = row._replace(version=max(0, row.version - 2))
        return decision


class Premature(Replica):
    """Says accepted to reports of device-0 that it never keeps."""

    def _update(self, request, now):
        decision = super()._update(request, now)
        if request.thing != "device-0" or request.status != "SUCCESS":
            return decision
        return Decision(None, decision.outputs, tuple(n for n in decision.notes if n.kind != Kind.ACCEPTED))


@pytest.mark.parametrize(("bug", "things"), [(Forgetful, THREE), (Premature, {"device-0"})])
def test_s5_a_replica_that_takes_back_what_it_accepted(bug, things):
    made = scenario(devices=3, rollout={"maximumPerMinute": 60})
    assert fails("S5-durability", made, replica=bug) == things
    passes(made)


class Relenting(Rollout):
    """Takes a late end for one that has timed out, and says so; nothing else changes."""

    def observe(self, outcome, now):
        taken = super().observe(outcome, now)
        if not taken and outcome.state.ended:
            self._news.append(Changed(outcome.thing, outcome.execution, outcome.state, None))
        return True


def test_s6_an_application_that_ends_what_has_timed_out():
    made = scenario(
        devices=3, profile="slow", profiles={"slow": {"reboot": "2m"}},
        rollout={"timeoutConfig": {"inProgressTimeout": "1m"}}, settle="5m",
    )  # fmt: skip
    assert fails("S6-states", made, rollout=Relenting) == THREE
    passes(made)


class Echoing(Rollout):
    """Ends an execution as often as it hears of its end."""

    def _end(self, i, state, reason, now):
        super()._end(i, state, reason, now)
        if state is State.SUCCEEDED:
            self._news.append(Changed(self.things[i], self._job(i), state, 0.0))


def test_s7_an_application_that_ends_an_execution_twice():
    made = scenario(devices=3)
    assert fails("S7-idempotence", made, rollout=Echoing) == THREE
    passes(made)


def test_s7_a_device_that_applies_a_repeated_delta(monkeypatch):
    made = scenario(devices=3, profile="clumsy", profiles={"clumsy": {"mishaps": {"reboot": {"error": "100%"}}}})
    passes(made)
    careful = UpdateAgent.consider

    def eager(self, request):
        reaction = careful(self, request)
        return Reaction.START if reaction is Reaction.DUPLICATE else reaction

    monkeypatch.setattr(UpdateAgent, "consider", eager)
    assert fails("S7-idempotence", made) == THREE


def test_s9_an_application_that_gives_one_job_to_two_things(monkeypatch):
    made = scenario(devices=3, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    passes(made)
    monkeypatch.setattr(Rollout, "_job", lambda self, i: f"job-{i // 2}")
    assert fails("S9-binding", made) == {"device-1"}


class Changeable(Application):
    """Records another artifact at each second look at an execution."""

    def _note_change(self, news, artifact):
        super()._note_change(news, artifact._replace(sha256="0" * 64) if news.state.ended else artifact)


def test_s9_an_application_that_changes_the_artifact_of_a_job():
    made = scenario(devices=3)
    assert fails("S9-binding", made, application=Changeable) == THREE
    passes(made)


class Timeless(Storage):
    """Looks at no clock: a URL is good for ever."""

    def serve(self, request, now, address=""):
        return super().serve(request, 0, address)


class Suspicious(Storage):
    """Refuses device-1, whatever it shows."""

    def _who(self, request, path, query, now, address):
        thing, why_not = super()._who(request, path, query, now, address)
        return ("", "expired") if thing == "device-1" else (thing, why_not)


def broken_off(**blocks):
    """Three devices whose downloads outlast their connections, and their URLs."""
    profile = {"bandwidth": "64kbit", "online": {"uniform": ["8s", "15s"]}, "offline": "5s"}
    return scenario(devices=3, profile="away", profiles={"away": profile}, rollout={"size": "256KiB"}, **blocks)


@pytest.mark.parametrize(("bug", "things"), [(Timeless, THREE), (Suspicious, {"device-1"})])
def test_s14_a_storage_that_does_not_heed_the_leave(bug, things):
    made = broken_off(target={"url_ttl": "10s"})
    assert fails("S14-url", made, storage=bug) == things
    passes(made)


def test_s14_a_storage_that_does_not_heed_the_end_of_a_credential():
    made = broken_off(target={"url_ttl": "10s", "access": "credential"})
    assert fails("S14-url", made, storage=Timeless) == THREE
    passes(made)


class Shifted(Storage):
    """Answers a range with one that begins elsewhere."""

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        headers = tuple((k, v.replace("-", "0-", 1) if k == "content-range" else v) for k, v in response.headers)
        return response._replace(headers=headers), served


class Curt(Storage):
    """Has no ranges to give."""

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        if response.status != 206:
            return response, served
        total = dict(response.headers)["content-range"].rpartition("/")[2]
        headers = (("content-range", f"bytes */{total}"), ("content-length", "0"))
        return response._replace(status=416, headers=headers, body=b""), served._replace(status=416, size=0)


class Halving(Storage):
    """Sends device-1 half of an artifact as the whole."""

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        if response.status != 200 or served.thing != "device-1":
            return response, served
        body = response.body[: len(response.body) // 2]
        headers = tuple((k, str(len(body)) if k == "content-length" else v) for k, v in response.headers)
        return response._replace(headers=headers, body=body), served._replace(size=len(body))


@pytest.mark.parametrize(("bug", "things"), [(Shifted, THREE), (Curt, THREE), (Halving, {"device-1"})])
def test_s15_a_storage_with_wrong_ranges(bug, things):
    made = broken_off()
    assert fails("S15-range", made, storage=bug) == things
    passes(made)


def test_l3_a_broker_that_loses_deltas():
    made = scenario(devices=6, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    assert fails("L3-learns", made, broker=DeafBroker) == {"device-3"}
    passes(made)


class HardOfHearing(Replica):
    """Does not hear an outcome before it was said three times."""

    def _update(self, request, now):
        self.said = getattr(self, "said", Counter())
        self.said[request.thing, request.token] += 1
        if request.status == "SUCCESS" and self.said[request.thing, request.token] < 4:
            return Decision(None, (), ())
        return super()._update(request, now)


@dataclass
class Busy(Storage):
    """Has no time for anybody before the third request."""

    asked: Counter = field(default_factory=Counter)

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        self.asked[served.thing] += 1
        if self.asked[served.thing] > 2:
            return response, served
        return Response(503, (("content-length", "0"),), b""), served._replace(status=503, size=0)


UNREACHABLE = {"profile": "unlucky", "profiles": {"unlucky": {"mishaps": {"connect": {"error": "60%"}}}}}


@pytest.mark.parametrize(
    ("parts", "blocks"), [({"replica": HardOfHearing}, {}), ({"storage": Busy}, {}), ({}, UNREACHABLE)],
    ids=["reports", "downloads", "connections"],
)  # fmt: skip
def test_l9_a_device_that_does_not_wait(monkeypatch, parts, blocks):
    made = scenario(devices=3, **blocks)
    passes(made, **parts)
    monkeypatch.setattr(Draws, "delay", lambda self, purpose, backoff, nth: 0.01)
    assert fails("L9-backoff", made, **parts)


def test_l9_a_device_that_says_it_too_often():
    told = {"profile": "calm", "profiles": {"calm": {"resend": {"base": "5s", "attempts": 2}}}}
    heeds = scenario(devices=3, **told, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    _, findings = judged(heeds, replica=HardOfHearing)
    assert "L9-backoff" not in findings
    trace = run(scenario(devices=3), replica=HardOfHearing)
    found = {f.check: f for f in judge(trace, heeds)}["L9-backoff"]
    assert (found.verdict, set(found.things)) == ("FAIL", THREE)
