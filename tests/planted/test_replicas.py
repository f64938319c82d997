"""Replicas, and a database, with one bug each: the named check finds it, and without the bug all pass."""

import pytest
from msgspec.structs import replace

from simulator.model.events import Kind
from simulator.replica.core import Decision, DocumentLimits, Replica
from simulator.replica.database import MemoryDatabase
from tests.planted.party import THREE, fails, passes
from tests.worlds.virtually import scenario

PROBED = {"device-3"}  # the probe's own thing, of a fleet of three


class Skipping(Replica):
    """Leaves out a version at each desired state."""

    def _committing(self, row, answer, request, now, *more):
        if "desired" in (getattr(request, "state", None) or {}):
            row = replace(row, version=row.version + 1)
        return super()._committing(row, answer, request, now, *more)


def test_s1_a_replica_that_leaves_versions_out():
    made = scenario(devices=3)
    assert fails("S1-version", made, replica=Skipping) == THREE
    passes(made)


class Oblivious(MemoryDatabase):
    """Says that it has committed, and keeps only what is older than the third version."""

    async def commit(self, rows):
        await super().commit([row for row in rows if row.version < 3])


@pytest.mark.parametrize("name", ["F4-replica-killed", "F8-backend-killed"])
def test_s5_a_database_that_has_not_committed_what_it_said(name):
    made = scenario(devices=20, profile="wifi", rollout={"maximumPerMinute": 60}, run_time="2h",
                    faults=[{"fault": name, "at": "12s", "for": "3s"}])  # fmt: skip
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

    def _committing(self, row, answer, request, now, *more):
        return super()._committing(replace(row, job="r.device-0.7"), answer, request, now, *more)


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
        self.rows[request.thing] = replace(row, version=max(0, row.version - 2))
        return decision


class Premature(Replica):
    """Says accepted to reports of device-0 that it never keeps."""

    def _update(self, request, now):
        decision = super()._update(request, now)
        if request.thing != "device-0" or request.status != "SUCCESS":
            return decision
        return Decision(None, decision.outputs, tuple(n for n in decision.notes if n.kind != Kind.ACCEPTED))


@pytest.mark.parametrize(("bug", "things"), [(Forgetful, THREE | PROBED), (Premature, {"device-0"})])
def test_s5_a_replica_that_takes_back_what_it_accepted(bug, things):
    made = scenario(devices=3, rollout={"maximumPerMinute": 60})
    assert fails("S5-durability", made, replica=bug) == things
    passes(made)


def thrifty(dialect, download, **more):
    """A replica that mints a thing's URL but once."""
    minted = {}
    return Replica(
        dialect, download=lambda url, thing, *to: minted.setdefault(thing, download(url, thing, *to)), **more
    )


def hurried(dialect, download, **more):
    """A replica whose URLs are good for two seconds."""
    return Replica(dialect, download=lambda url, thing, address, now: download(url, thing, address, now - 8), **more)


class Taciturn(Replica):
    """Answers no device that asks while it downloads."""

    def _get(self, request, now):
        decision = super()._get(request, now)
        desired = self.rows[request.thing].desired if request.thing in self.rows else None
        return Decision(None, (), ()) if desired else decision


@pytest.mark.parametrize("bug", [thrifty, hurried, Taciturn])
def test_l6_a_replica_without_fresh_urls(bug):
    late = {"fault": "F6-late-download", "with": {"wait": "20s"}}
    made = scenario(devices=3, profile="mute", profiles={"mute": {"running_interval": "1h"}}, faults=[late],
                    target={"url_ttl": "10s"})  # fmt: skip
    assert fails("L6-fresh-leave", made, replica=bug) == THREE
    passes(made)


def borrowed(dialect, download, **more):
    """A replica that signs every URL in the name of device-0."""
    return Replica(dialect, download=lambda url, thing, *to: download(url, "device-0", *to), **more)


def test_s23_a_backend_that_gives_one_devices_url_to_another():
    made = scenario(devices=4)
    assert fails("S23-targeting", made, replica=borrowed) == {f"device-{i}" for i in range(1, 4)}
    passes(made)


# ---- requests and their answers


class Amnesiac(Replica):
    """Does not know a request that comes again."""

    def _update(self, request, now):
        if row := self.rows.get(request.thing):
            self.rows[request.thing] = replace(row, tokens=())
        return super()._update(request, now)


class Renumbering(Replica):
    """Answers a request that comes again with the version after."""

    def _update(self, request, now):
        row = self.rows.get(request.thing)
        again = row is not None and request.token in [token for token, *_ in row.tokens]
        decision = super()._update(request, now)
        if not again:
            return decision
        version = self.rows[request.thing].version + 1
        return replace(decision, outputs=(self._dialect.accepted(request, version, now),))


class TwoFaced(Replica):
    """Answers each request about device-1 with yes and with no."""

    def _update(self, request, now):
        decision = super()._update(request, now)
        if request.thing != "device-1" or decision.row is None:
            return decision
        no = self._dialect.rejected(request, 409, "version conflict", now)
        return replace(decision, outputs=(*decision.outputs, no))


@pytest.mark.parametrize(
    ("bug", "things"), [(Amnesiac, PROBED), (Renumbering, PROBED), (TwoFaced, {"device-1"})]
)  # fmt: skip
def test_s4_a_replica_that_gives_one_request_two_answers(bug, things):
    made = scenario(devices=3)
    assert fails("S4-correlation", made, replica=bug) == things
    passes(made)


class Obliging(Replica):
    """Asks for no version, whatever was required."""

    def _update(self, request, now):
        return super()._update(replace(request, version=None), now)


class Polite(Replica):
    """Says accepted to everybody who requires the version before."""

    def refuse(self, request, code, message, now):
        if code != 409 or request.version != self.rows[request.thing].version - 1:
            return super().refuse(request, code, message, now)
        return Decision(None, (self._dialect.accepted(request, request.version + 1, now),), ())


class Contrary(Replica):
    """Takes any version that is required for another one."""

    def _update(self, request, now):
        return super()._update(request if request.version is None else replace(request, version=-1), now)


@pytest.mark.parametrize("bug", [Obliging, Polite, Contrary])
def test_s2_a_replica_that_does_not_heed_the_version_that_is_required(bug):
    made = scenario(devices=3)
    assert fails("S2-conditional", made, replica=bug) == PROBED
    passes(made)


def limited(**limits):
    """A replica with other limits."""
    return lambda dialect, **k: Replica(dialect, **{**k, "limits": k["limits"].__class__(**limits)})


class Lax(Replica):
    """Does not mind what an array holds."""

    def _checked(self, request):
        if isinstance(request.state, dict) and request.state.get("reported") == {"probe": [None]}:
            return request.token
        return super()._checked(request)


class Counting(Replica):
    """Counts what it refuses as a version."""

    def refuse(self, request, code, message, now):
        if row := self.rows.get(request.thing):
            self.rows[request.thing] = replace(row, version=row.version + 1)
        return super().refuse(request, code, message, now)


class Vague(Replica):
    """Refuses all with one code."""

    def refuse(self, request, code, message, now):
        return super().refuse(request, 422, message, now)


@pytest.mark.parametrize(
    "bug",
    [
        limited(document_max=1 << 20), limited(depth_max=60), limited(token_max=640), Lax, Counting, Vague,
        limited(document_max=4096), limited(depth_max=3), limited(token_max=40),
    ],
    ids=["too large", "too deep", "a long token", "null", "versions", "codes", "small", "flat", "a short token"],
)  # fmt: skip
def test_s22_a_replica_with_other_limits(bug):
    made = scenario(devices=3)
    assert fails("S22-validation", made, replica=bug) == PROBED
    passes(made)


class Greedy(Replica):
    """Keeps whatever device-1 says, however long."""

    def _update(self, request, now):
        if request.thing == "device-1":
            request = replace(request, state={**request.state, "desired": {"blob": "x" * 9000}})
            self._limits, held = DocumentLimits(document_max=1 << 20), self._limits
            try:
                return super()._update(request, now)
            finally:
                self._limits = held
        return super()._update(request, now)


def test_s22_a_replica_that_keeps_more_than_it_may_where_no_probe_asks():
    made = scenario(devices=3, target={"probe": False}, rollout={"timeoutConfig": {"inProgressTimeout": "1m"}})
    assert fails("S22-validation", made, replica=Greedy) == {"device-1"}
    passes(made)


class Taciturn(Replica):
    """Keeps what device-1 reports first, and does not say so."""

    def _update(self, request, now):
        decision = super()._update(request, now)
        return replace(decision, outputs=()) if request.thing == "device-1" and not request.status else decision


class Aloof(Replica):
    """Sends device-1 what is desired, and does not tell the application."""

    def _update(self, request, now):
        decision = super()._update(request, now)
        if request.thing != "device-1" or "desired" not in request.state:
            return decision
        return replace(decision, outputs=tuple(o for o in decision.outputs if o.topic.endswith("delta")))


@pytest.mark.parametrize("bug", [Taciturn, Aloof])
def test_l5_a_replica_that_does_not_answer(bug):
    made = scenario(devices=3, settle="1m")
    assert fails("L5-answered", made, replica=bug) == {"device-1"}
    passes(made)
