"""Applications with one bug each: the named check finds it, and without the bug all pass."""

from msgspec.structs import replace

from simulator.application import engine
from simulator.application.engine import Application
from simulator.application.news import Changed
from simulator.application.record import RolloutRecord
from simulator.application.rollout import Rollout
from simulator.model.update import State
from tests.planted.party import THREE, fails, passes
from tests.worlds.virtually import scenario


class OverCounting(Rollout):
    """Counts a success too many."""

    def counts_by_state(self):
        counts = super().counts_by_state()
        counts[State.SUCCEEDED] += 1
        return counts


def test_s8_an_application_that_miscounts():
    made = scenario(devices=4)
    fails("S8-counters", made, rollout=OverCounting)
    passes(made)


class Hasty(Rollout):
    """Counts one of those under way as a success, until the end."""

    def counts_by_state(self):
        counts = super().counts_by_state()
        if counts[State.IN_PROGRESS]:
            counts[State.SUCCEEDED] += 1
            counts[State.IN_PROGRESS] -= 1
        return counts


def test_s8_an_application_that_counts_what_nobody_has_reported():
    made = scenario(devices=4, profile="slow", profiles={"slow": {"install": {"uniform": ["5s", "30s"]}}})
    fails("S8-counters", made, rollout=Hasty)
    passes(made)


class Racing(Rollout):
    """Reads its counter, waits, and writes it back: of two ends at one moment it counts one."""

    lost, now = 0, None
    last = (None, None)

    def _settle(self, i, state):
        super()._settle(i, state)
        self.lost += state is State.SUCCEEDED and self.last == (self.now, state)
        self.last = (self.now, state)

    def observe(self, outcome, now):
        self.now = now
        return super().observe(outcome, now)

    def counts_by_state(self):
        counts = super().counts_by_state()
        counts[State.SUCCEEDED] -= self.lost
        return counts


def test_s8_an_application_that_counts_one_of_two_ends_at_one_moment():
    profile = {"profile": "steady", "profiles": {"steady": {"install": {"uniform": ["5s", "30s"]}}}}
    quiet = scenario(devices=10, **profile)
    made = scenario(devices=10, **profile, faults=[{"fault": "F23-at-once", "share": "60%"}])
    fails("S8-counters", made, rollout=Racing)
    passes(made)
    passes(quiet, rollout=Racing)


class Credulous(Rollout):
    """Takes RUNNING for a success."""

    def observe(self, outcome, now):
        return super().observe(replace(outcome, state=State.SUCCEEDED), now)


def test_s8_an_application_that_takes_any_word_for_a_success():
    made = scenario(devices=4, profile="slow", profiles={"slow": {"install": {"fixed": "5m"}}})
    assert fails("S8-counters", made, rollout=Credulous) == {f"device-{i}" for i in range(4)}
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


def test_s9_an_application_that_gives_one_job_to_two_things(monkeypatch):
    made = scenario(devices=3, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    passes(made)
    monkeypatch.setattr(Rollout, "_job", lambda self, i: f"job-{i // 2}")
    assert fails("S9-binding", made) == {"device-1"}


class Changeable(RolloutRecord):
    """Records another artifact at each second look at an execution."""

    def changed(self, news, artifact):
        super().changed(news, replace(artifact, sha256="0" * 64) if news.state.ended else artifact)


def test_s9_an_application_that_changes_the_artifact_of_a_job(monkeypatch):
    made = scenario(devices=3)
    with monkeypatch.context() as planted:
        planted.setattr(engine, "RolloutRecord", Changeable)
        assert fails("S9-binding", made) == THREE
    passes(made)


class ToAnother:
    """A dialect that offers each execution to a thing that is no target."""

    def __init__(self, dialect):
        self._dialect = dialect

    def __getattr__(self, name):
        return getattr(self._dialect, name)

    def offer(self, execution, now):
        step = self._dialect.offer(execution, now)
        outputs = tuple(replace(o, topic=o.topic.replace("device-", "device-1")) for o in step.outputs)
        return replace(step, outputs=outputs)


def scatterbrained(link, dialect, *given, **named):
    return Application(link, ToAnother(dialect), *given, **named)


def test_s23_an_application_that_offers_to_others():
    made = scenario(fleet={"devices": 20, "cohorts": [{"name": "first", "count": 10}, {"name": "rest"}]},
                    rollout={"cohorts": ["first"], "timeoutConfig": {"inProgressTimeout": "5m"}})  # fmt: skip
    assert fails("S23-targeting", made, application=scatterbrained)
    passes(made)
