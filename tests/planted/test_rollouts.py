"""Each check of a rollout catches a bug planted in the application, and no other check does; without it all pass."""

import pytest

from simulator.application.engine import Application
from simulator.application.gates import Gate
from simulator.application.pace import Pace
from simulator.application.rollout import Rollout
from simulator.model.scenario import AbortConfig, AbortCriterion, TimeoutConfig
from simulator.model.update import State
from tests.worlds.virtually import judged, scenario

SLOW = {"profile": "slow", "profiles": {"slow": {"install": {"uniform": ["20s", "40s"]}}}}
LONG = {"profile": "long", "profiles": {"long": {"install": {"uniform": ["80s", "100s"]}}}}
BAD = {"profile": "bad", "profiles": {"bad": {"mishaps": {"reboot": {"error": "40%"}}}}}
HALF = [{"share": "50%"}, {"share": "50%"}]


def misread(**changes):
    """A rollout that takes its spec for another."""
    return lambda spec, *given, **named: Rollout(spec.model_copy(update=changes), *given, **named)


class Racing(Rollout):
    """Paces itself at twice the rate."""

    def __init__(self, spec, *given, **named):
        super().__init__(spec, *given, **named)
        self._pace = Pace(2 * spec.maximum_per_minute, spec.exponential_rate)


class Growing(Pace):
    """Grows with every offer, whatever the criterion."""

    def grow(self, notified, succeeded):
        super().grow(notified, notified)


class Hopeful(Rollout):
    """Grows its rate before anybody has succeeded."""

    def __init__(self, spec, *given, **named):
        super().__init__(spec, *given, **named)
        self._pace = Growing(spec.maximum_per_minute, spec.exponential_rate)


class Stubborn(Rollout):
    """Never aborts itself."""

    def _stop(self, reason):
        pass


class Nervous(Rollout):
    """Aborts at the first failure."""

    def _settle(self, i, state):
        super()._settle(i, state)
        if state is State.FAILED and self.status == "running":
            self._stop("a failure")
            self._finish_or_judge(None)


class Relentless(Rollout):
    """Aborts, and offers what waits all the same."""

    def _stop(self, reason):
        super()._stop(reason)
        self.status = "running"
        for i, state in enumerate(self._state):
            if state == tuple(State).index(State.CANCELED):
                self._move(i, tuple(State).index(State.QUEUED))

    def news(self):
        return (item for item in super().news() if getattr(item, "state", None) is not State.CANCELED)


class Opened(Gate):
    """Lets everybody pass."""

    def passed(self):
        return True


class Impatient(Rollout):
    """Opens all waves at once."""

    def _open_waves(self):
        self._gates, gates = [Opened(gate.spec, gate.size, gate.end) for gate in self._gates], self._gates
        super()._open_waves()
        self._gates = gates


class Unguarded(Rollout):
    """Offers to any wave before it has started."""

    def _head(self):
        self._limit = self.size
        return super()._head()


class Patient(Rollout):
    """Waits for ever."""

    def _expire(self, now):
        self._deadlines.clear()


class Deaf(Rollout):
    """Does not hear that an update is under way: silence counts from the offer."""

    def observe(self, outcome, now):
        return super().observe(outcome, now) if outcome.state.ended else False


class Endless(Rollout):
    """Does not see that all of its targets have ended."""

    def _finish_or_judge(self, gate):
        if self.counts_by_state()[State.SUCCEEDED] < self.size:
            super()._finish_or_judge(gate)


class Forgetful(Rollout):
    """Passes over one target."""

    def _head(self):
        i = super()._head()
        if i is not None and self.things[i] == "device-3" and self._cursor < self._limit:
            self._cursor += 1
            return super()._head()
        return i


class Sleepy(Rollout):
    """Looks for new work every two minutes."""

    def _due(self, now, limit):
        return super()._due(now, limit) if now % 120 < 1 else ([], now - now % 120 + 120)


class Meddled(Application):
    """An operator pauses, resumes and aborts the rollout."""

    deeds = ()

    def add(self, rollout):
        for after, deed in self.deeds:
            self._loop.call_later(after, self._do, getattr(rollout, deed))
        return super().add(rollout)

    def _do(self, deed):
        deed()
        self.stir()


def meddled(*deeds):
    return type("Operated", (Meddled,), {"deeds": deeds})


ABORT = {"abortConfig": {"criteriaList": [{"minNumberOfExecutedThings": 5, "thresholdPercentage": 20}]}}
EARLY = AbortConfig(criteria_list=(AbortCriterion(threshold_percentage=10, of="targets"),))
PACED = {"maximumPerMinute": 6}
GROWTH = {
    "maximumPerMinute": 60,
    "exponentialRate": {
        "baseRatePerMinute": 2, "incrementFactor": 2, "rateIncreaseCriteria": {"numberOfSucceededThings": 4}},
}  # fmt: skip
HANG = {"profile": "stuck", "profiles": {"stuck": {"mishaps": {"install": {"hang": "30%"}}}}}
PLANTED = {
    "one too many at once": ("S16-limits", misread(maximum_concurrent=3), SLOW, {"maximumConcurrent": 2}),
    "twice the rate": ("S16-limits", Racing, {}, PACED),
    "a rate that grows too early": ("S16-limits", Hopeful, SLOW, GROWTH),
    "no abort": ("S17-abort", Stubborn, BAD, {**ABORT, **PACED}),
    "an abort for nothing": ("S17-abort", Nervous, BAD, PACED),
    "an abort of other thresholds": ("S17-abort", misread(abort_config=EARLY), BAD, {**ABORT, **PACED}),
    "offers after the abort": ("S17-abort", Relentless, BAD, {**ABORT, **PACED}),
    "all waves at once": ("S18-gate", Impatient, SLOW, {"waves": HALF}),
    "offers before the wave": ("S18-gate", Unguarded, SLOW, {"waves": HALF}),
    "no timeout": ("L4-timeout", Patient, HANG, {"timeoutConfig": {"inProgressTimeout": "2m"}}),
    "an eighth of the timeout": (
        "L4-timeout", misread(timeout_config=TimeoutConfig(in_progress_timeout=15)), {**SLOW, "settle": "2m"},
        {"timeoutConfig": {"inProgressTimeout": "2m"}}),
    "no ear for RUNNING": (
        "L4-timeout", Deaf, {**LONG, "settle": "5m"}, {"timeoutConfig": {"inProgressTimeout": "1m"}}),
    "no end": ("L7-rollout-ends", Endless, {}, {}),
    "a target forgotten": ("L10-no-starvation", Forgetful, {}, {"maximumConcurrent": 2}),
    "a slot never used": ("L10-no-starvation", misread(maximum_concurrent=1), SLOW, {"maximumConcurrent": 2}),
    "asleep": ("L10-no-starvation", Sleepy, SLOW, {"maximumConcurrent": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_fails_its_check_alone(name):
    check, rollout, blocks, settings = PLANTED[name]
    _, findings = judged(scenario(devices=12, rollout=settings, **blocks), rollout=rollout)
    assert set(findings) == {check}, findings


@pytest.mark.parametrize("name", PLANTED)
def test_without_the_bug_all_pass(name):
    _, _, blocks, settings = PLANTED[name]
    _, findings = judged(scenario(devices=12, rollout=settings, **blocks))
    assert findings.keys() <= ({"L2-convergence"} if blocks is HANG else set()), findings


def test_a_forgotten_target_is_named():
    _, findings = judged(scenario(devices=12, rollout={"maximumConcurrent": 2}), rollout=Forgetful)
    assert findings["L10-no-starvation"].things == ("device-3",)


@pytest.mark.parametrize(
    "deeds",
    [
        ((5, "pause"), (600, "resume")),
        ((5, "abort"),),
        ((5, "pause"), (60, "abort")),
        ((5, "pause"),),
    ],
    ids=lambda deeds: ", ".join(deed for _, deed in deeds),
)
def test_what_an_operator_does_is_no_bug(deeds):
    settings = {**PACED, "maximumConcurrent": 4, "waves": HALF}
    _, findings = judged(scenario(devices=12, rollout=settings, **SLOW), application=meddled(*deeds))
    assert findings == {}
