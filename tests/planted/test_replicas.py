"""Replicas, and a database, with one bug each: the named check finds it, and without the bug all pass."""

import pytest

from simulator.backend.database import MemoryDatabase
from simulator.backend.replica import Decision, Replica
from simulator.model.events import Kind
from tests.planted.party import THREE, fails, passes
from tests.worlds.virtually import scenario


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


def thrifty(dialect, mint, **more):
    """A replica that mints a thing's URL but once."""
    minted = {}
    return Replica(dialect, mint=lambda url, row, now: minted.setdefault(row.thing, mint(url, row, now)), **more)


def hurried(dialect, mint, **more):
    """A replica whose URLs are good for two seconds."""
    return Replica(dialect, mint=lambda url, row, now: mint(url, row, now - 8), **more)


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


def borrowed(dialect, mint, **more):
    """A replica that signs every URL in the name of device-0."""
    return Replica(dialect, mint=lambda url, row, now: mint(url, row._replace(thing="device-0"), now), **more)


def test_s23_a_backend_that_gives_one_devices_url_to_another():
    made = scenario(devices=4)
    assert fails("S23-targeting", made, replica=borrowed) == {f"device-{i}" for i in range(1, 4)}
    passes(made)
