"""The same bugs in a backend that records nothing: the checks find them by what devices and the application heard of it."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from simulator.checks.judge import judge
from simulator.faults.swarm import with_swarm
from simulator.replica.core import Replica
from simulator.trace.reader import Trace
from tests.planted.test_replicas import Forgetful, Mute, Talkative
from tests.planted.test_storages import Suspicious, Timeless, broken_off
from tests.worlds.virtually import run, scenario


def heard(made, **parts):
    """check -> finding, of a run of which no part of the backend has recorded anything, on a target that is external."""
    trace = run(made, **parts)
    kind = pc.cast(trace.table["kind"], pa.string())
    own = pc.or_(pc.starts_with(kind, "replica."), pc.starts_with(kind, "storage."))
    target = made.target.model_copy(update={"kind": "external", "probe": True, "artifact_url": "http://cdn/a"})
    external = made.model_copy(update={"target": target})
    return {f.check: f for f in judge(Trace(trace.table.filter(pc.invert(own))), external)}


def failed(findings):
    return {check: set(f.things) for check, f in findings.items() if f.verdict == "FAIL"}


class Relapsing(Replica):
    """Tells device-0, whenever it asks, of the desired state that it has carried through long ago."""

    def _different(self, row):
        return row.desired if row.thing == "device-0" and row.desired else super()._different(row)


SOON = {"timeoutConfig": {"inProgressTimeout": "5m"}}


@pytest.mark.parametrize(
    ("bug", "check", "things"),
    [
        (Mute, "S3-delta", {"device-1"}),
        (Talkative, "S3-delta", {"device-0", "device-1", "device-2"}),
        (Forgetful, "S1-version", {"device-0", "device-1", "device-2"}),
    ],
)
def test_a_replica_is_found_out_by_what_others_heard(bug, check, things):
    made = scenario(devices=3, rollout=SOON)
    assert failed(heard(made)) == {}
    assert failed(heard(made, replica=bug))[check] == things


def test_an_update_that_is_forgotten_is_seen_when_the_device_asks_again():
    profile = {"online": {"uniform": ["20s", "40s"]}, "offline": "5s"}
    made = scenario(devices=3, profile="away", profiles={"away": profile}, rollout=SOON, settle="5m")
    findings = heard(made)
    assert failed(findings) == {}
    assert failed(heard(made, replica=Relapsing))["S5-durability"] == {"device-0"}


@pytest.mark.parametrize(
    ("bug", "things"), [(Timeless, {"device-0", "device-1", "device-2"}), (Suspicious, {"device-1"})]
)
def test_a_storage_is_found_out_by_the_answers_that_devices_got(bug, things):
    made = broken_off(target={"url_ttl": "10s"})
    findings = heard(made)
    assert findings["S14-url"].verdict == "PASS"
    assert findings["S14-url"].summary.partition(" ")[0] != "0"
    assert failed(heard(made, storage=bug))["S14-url"] == things


def test_what_cannot_be_heard_is_not_judged():
    findings = heard(scenario(devices=3))
    assert [check for check, f in findings.items() if f.verdict == "NOT JUDGED"] == ["S20-offline-queue"]
    assert findings["S1-version"].summary.startswith("15 accepted updates, by their answers")


@pytest.mark.parametrize("seed", range(1, 31))
def test_a_swarm_of_harmless_faults_raises_no_alarm_there_either(seed):
    made = with_swarm(scenario(devices=12, profile="wifi", seed=seed, swarm=3, run_time="24h"))
    assert failed(heard(made)) == {}
