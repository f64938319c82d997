"""Bugs known from the field: each shipped scenario fails its checks beside the party that has its bug, and passes
without."""

import re

import pytest

from simulator.application.news import Changed
from simulator.application.rollout import Rollout
from simulator.checks.judge import judge
from simulator.faults.catalogue import CATALOGUE
from simulator.model.scenario import load_scenario
from simulator.model.update import State
from simulator.replica.core import Replica
from simulator.worlds.run import with_faults
from simulator.worlds.shipped import GROUPS, shipped
from tests.planted.test_applications import Racing
from tests.worlds.virtually import judged, run

FIELD = {name: path for name, path in shipped().items() if name.startswith("field/")}


class MintsOnce(Replica):
    """Gives each thing the URL that it signed for its job at first."""

    def _download(self, row, different, now):
        minted = self.__dict__.setdefault("minted", {})
        if (row.thing, row.job) not in minted:
            minted[row.thing, row.job] = super()._download(row, different, now)
        return minted[row.thing, row.job]


class Relapsing(Rollout):
    """Calls what is under way canceled when it is aborted, and ends it once more when its device has."""

    def _stop(self, reason):
        super()._stop(reason)
        for thing in self.things:
            standing = self.standing(thing)
            if standing.state is State.IN_PROGRESS:
                self._news.append(Changed(thing, standing.job, State.CANCELED, None, reason))


BUGS = [  # the scenario, the device's bad habit or the party, and the checks that it fails
    ("amazon-freertos-2361", "F17-says-once", {"threshold-succeeded"}),
    ("aws-iot-device-sdk-embedded-c-71", "F2-single-gate", {"L2-convergence", "L3-learns", "threshold-converged"}),
    ("aws-iot-device-sdk-js-100", "F3-never-asks", {"L2-convergence", "L3-learns", "threshold-converged"}),
    ("esp-idf-17960", "F9-appends", {"S15-range", "threshold-succeeded"}),
    ("iot-reference-esp32-120", "F18-redoes", {"S7-idempotence", "S13-at-most-once", "S21-no-replay"}),
    ("iot-reference-esp32-73", "F17-parks", {"L2-convergence", "L3-learns", "threshold-converged"}),
    ("mender-deployments-429", {"rollout": Racing}, {"S8-counters"}),
    ("nerves-hub-web-595", "F6-keeps-url", {"S14-url", "threshold-succeeded"}),
    ("nerves-hub-web-595", {"replica": MintsOnce}, {"L6-fresh-leave", "threshold-succeeded"}),
    ("ota-for-aws-iot-embedded-sdk-506", "F17-fails-late", {"threshold-succeeded", "threshold-failed"}),
    ("rauc-hawkbit-updater-158", "F21-retry-storm", {"L9-backoff"}),
    ("rauc-hawkbit-updater-161", "F16-early-success", {"L2-convergence", "S11-true-success"}),
    ("teleport-6889", "F5-herd", {"L9-backoff"}),
    ("thingsboard-10191", "F14-marks-early", {"L2-convergence", "threshold-converged"}),
    ("zephyr-71691", {"rollout": Relapsing}, {"S6-states", "S7-idempotence"}),
]


@pytest.mark.parametrize("name", FIELD)
def test_a_scenario_of_the_field_passes_as_it_is(name):
    made = load_scenario(FIELD[name])
    assert [f for f in judge(run(made), made) if f.verdict.against] == []
    assert made.world == "virtual"
    assert made.fleet.devices <= 100


@pytest.mark.parametrize(("name", "bug", "checks"), BUGS, ids=[name for name, _, _ in BUGS])
def test_it_fails_its_checks_beside_the_party_with_the_bug(name, bug, checks):
    made = load_scenario(FIELD[f"field/{name}"])
    if isinstance(bug, str):
        made, bug = with_faults(made, [bug]), {}
    _, findings = judged(made, **bug)
    assert set(findings) == checks


def test_each_has_a_party_and_names_its_thread():
    assert {f"field/{name}" for name, _, _ in BUGS} == set(FIELD)
    assert {name.rpartition("/")[0] for name in shipped()} - {""} == set(GROUPS)
    for name, path in FIELD.items():
        thread = re.search(r"\((?:[\w-]+)/([\w.-]+)#(\d+)\)$", load_scenario(path).description)
        repository, number = thread.groups()
        assert name.endswith(f"{repository.lower().replace('_', '-')}-{number}")


def test_a_habit_that_breaks_a_check_says_so():
    for _, bug, checks in BUGS:
        if isinstance(bug, str):
            assert {check for check in checks if not check.startswith("threshold")} <= set(CATALOGUE[bug].breaks)
