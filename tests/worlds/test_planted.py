"""Each check catches a bug planted in the party that can break its promise; without the bug all pass."""

import pytest

from simulator.application.drivers import Application
from simulator.application.rollout import Rollout
from simulator.backend.replica import Replica
from simulator.backend.storage import Storage
from simulator.broker.core import Broker
from simulator.broker.packets import Publish
from simulator.device.agent import Reaction, UpdateAgent
from simulator.model.update import State
from simulator.model.verdict import Verdict
from tests.worlds.virtually import judged, scenario


def fails(check, made, **parts):
    """The named check's finding, which must be a failure; its things."""
    _, findings = judged(made, **parts)
    assert check in findings, findings
    assert findings[check].verdict is Verdict.FAIL
    return set(findings[check].things)


def passes(made, **parts):
    _, findings = judged(made, **parts)
    assert findings == {}


class DeafBroker(Broker):
    """Loses what is meant for one device's delta topic."""

    def receive(self, conn, packet, now):
        out = super().receive(conn, packet, now)
        return [o for o in out if not (isinstance(o[1], Publish) and o[1].topic == "state/device-3/update/delta")]


def test_l2_a_broker_that_loses_deltas():
    made = scenario(devices=6, rollout={"timeoutConfig": {"inProgressTimeout": "5m"}})
    assert fails("L2-convergence", made, broker=DeafBroker) == {"device-3"}
    passes(made)


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


class Credulous(Rollout):
    """Takes RUNNING for a success."""

    def observe(self, outcome, now):
        return super().observe(outcome._replace(state=State.SUCCEEDED), now)


def test_s8_an_application_that_takes_any_word_for_a_success():
    made = scenario(devices=4, profile="slow", profiles={"slow": {"install": {"fixed": "5m"}}})
    assert fails("S8-counters", made, rollout=Credulous) == {f"device-{i}" for i in range(4)}
    passes(made)


class RottenStorage(Storage):
    """Serves device-2 a byte that is not the artifact's."""

    def serve(self, request, now, address=""):
        response, served = super().serve(request, now, address)
        if served.thing == "device-2" and response.body:
            response = response._replace(body=b"\0" + response.body[1:])
        return response, served


def test_s10_corrupt_bytes_on_a_device_that_does_not_verify():
    made = scenario(devices=5, profile="trusting", profiles={"trusting": {"mishaps": {"verify": {"lie": "100%"}}}})
    assert fails("S10-integrity", made, storage=RottenStorage) == {"device-2"}
    passes(made)
    _, findings = judged(scenario(devices=5), storage=RottenStorage)
    assert "S10-integrity" not in findings  # a device that verifies refuses them


@pytest.mark.parametrize(
    "lie",
    [
        {"reboot": {"error": "100%"}, "report": {"lie": "100%"}},
        {"install": {"lie": "100%"}},
        {"download": {"lie": "100%"}},
        {"reboot": {"lie": "100%"}},
        {"connect": {"lie": "100%"}},
    ],
    ids=["report", "install", "download", "reboot", "connect"],
)
def test_s11_a_device_that_lies(lie):
    fleet = {"devices": 5, "cohorts": [{"name": "bad", "count": 1, "profile": "liar"}, {"name": "rest"}]}
    made = scenario(fleet=fleet, profiles={"liar": {"mishaps": lie}})
    liar = {made.fleet.name(i) for i, cohort in enumerate(made.fleet.cohort_of(made.seed)) if cohort == "bad"}
    assert fails("S11-true-success", made) == liar
    passes(scenario(fleet={**fleet, "cohorts": []}))


class Backwards:
    """A replica's dialect whose document versions go back."""

    def __init__(self, dialect):
        self._dialect = dialect

    def __getattr__(self, name):
        return getattr(self._dialect, name)

    def delta(self, thing, state, version, now, **more):
        return self._dialect.delta(thing, state, 1000 - version, now, **more)

    def current(self, request, state, version, now, **more):
        return self._dialect.current(request, state, 1000 - version, now, **more)


def test_s12_versions_that_go_back_on_a_device_that_does_not_mind(monkeypatch):
    made = scenario(
        devices=3, profile="clumsy", profiles={"clumsy": {"mishaps": {"install": {"error": "100%"}}}},
        rollout={"retryConfig": {"failed": 1}},
    )  # fmt: skip
    careful = UpdateAgent.consider

    def careless(self, request):
        self.flash.doc = -1
        return careful(self, request)

    monkeypatch.setattr(UpdateAgent, "consider", careless)
    assert fails("S12-no-regress", made, replica=lambda dialect, **k: Replica(Backwards(dialect), **k)) == {
        "device-0", "device-1", "device-2",
    }  # fmt: skip
    monkeypatch.undo()
    _, findings = judged(made, replica=lambda dialect, **k: Replica(Backwards(dialect), **k))
    assert "S12-no-regress" not in findings  # a device that minds stays with the newer one


def test_s13_a_device_that_forgets_what_it_has_carried_through(monkeypatch):
    made = scenario(devices=3, profile="unlucky", profiles={"unlucky": {"mishaps": {"reboot": {"error": "60%"}}}})
    passes(made)
    monkeypatch.setattr(UpdateAgent, "end", lambda self, job: None)
    original = UpdateAgent.consider

    def again(self, request):
        reaction = original(self, request)
        return Reaction.START if reaction is Reaction.INSTALLED else reaction

    monkeypatch.setattr(UpdateAgent, "consider", again)
    assert fails("S13-at-most-once", made)


class Scatterbrained(Application):
    """Offers each execution to a thing that is no target."""

    async def _perform(self, step):
        outputs = tuple(
            o._replace(topic=o.topic.replace("device-", "device-1")) if hasattr(o, "topic") else o for o in step.outputs
        )
        await super()._perform(step._replace(outputs=outputs))


def test_s23_an_application_that_offers_to_others():
    made = scenario(fleet={"devices": 20, "cohorts": [{"name": "first", "count": 10}, {"name": "rest"}]},
                    rollout={"cohorts": ["first"], "timeoutConfig": {"inProgressTimeout": "5m"}})  # fmt: skip
    assert fails("S23-targeting", made, application=Scatterbrained)
    passes(made)


def borrowed(dialect, mint, **more):
    """A replica that signs every URL in the name of device-0."""
    return Replica(dialect, mint=lambda url, row, now: mint(url, row._replace(thing="device-0"), now), **more)


def test_s23_a_backend_that_gives_one_devices_url_to_another():
    made = scenario(devices=4)
    assert fails("S23-targeting", made, replica=borrowed) == {f"device-{i}" for i in range(1, 4)}
    passes(made)


@pytest.mark.parametrize("seed", range(3))
def test_without_a_bug_all_pass(seed):
    passes(scenario(devices=12, profile="wifi", seed=seed, run_time="6h"))
