"""The catalogue of faults: what may be asked for, and what is said of what may not."""

import json

import pytest

from simulator.checks.judge import CHECKS
from simulator.faults.catalogue import CATALOGUE, entry_of, rule_of
from simulator.faults.harm import Harms
from simulator.faults.rules import Nature, OnServer, OtherClient, Rule, Strike
from simulator.links.clock import run_virtual
from simulator.model.errors import ScenarioError
from simulator.model.io import Purpose, Request
from simulator.model.scenario import Fault, Profile, Scenario


def fault(name, **more):
    return Fault.model_validate({"fault": name, **more})


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_fault_does_something_and_breaks_only_checks_that_there_are(name):
    rule = CATALOGUE[name].make(**dict.fromkeys(CATALOGUE[name].settings, 1))
    assert isinstance(rule, Rule)
    assert rule != Nature()
    when = {"at": "5s"} if isinstance(rule, Strike | OtherClient | OnServer) else {}
    rule_of(fault(name, **when), 0)
    assert set(CATALOGUE[name].breaks) <= set(CHECKS)
    assert name.startswith("F")
    assert CATALOGUE[name].text


def test_settings_are_written_as_everywhere():
    assert rule_of(fault("F7-clock-skew", **{"with": {"by": "1h30m"}}), 0).skew_s == 5400
    assert rule_of(fault("F7-clock-skew", **{"with": {"by": "-15m"}}), 0).skew_s == -900
    assert rule_of(fault("F13-disk-full", **{"with": {"space": "2KiB"}}), 0).space_bytes == 2048
    trouble = rule_of(fault("F8-storage-refuses", **{"with": {"status": 429, "retry_after": "7s"}}), 0).apply(
        Request("GET", "u", purpose=Purpose.DOWNLOAD)
    )
    assert (trouble.answer.status, trouble.answer.header("retry-after")) == (429, "7")
    poisoned = rule_of(fault("F22-poisoned-build", **{"with": {"odds": "25%"}}), 0).profile(Profile())
    assert poisoned.mishaps["reboot"] == {"error": 0.25}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"fault": "F14-powercut", "step": "idle"}, "faults.3.fault: no such fault: 'F14-powercut'; did you mean 'F14-power-cut'"),
        ({"fault": "gremlins"}, "faults.3.fault: no such fault: 'gremlins'; there are F1-duplicate"),
        ({"fault": "F9-cut", "with": {"after": 1}}, "faults.3.with.after: F9-cut has no such setting; its settings are at"),
        ({"fault": "F19-vanish", "with": {"at": 1}}, "faults.3.with.at: F19-vanish has no such setting; it has none"),
        ({"fault": "F3-offline", "with": {"session": "dirty"}}, "faults.3.with.session: 'dirty' is none of as-is, clean"),
        ({"fault": "F5-herd", "with": {"policy": "none"}}, "faults.3.with.policy: 'none' is none of no-jitter, reset-on-con"),
        ({"fault": "F1-duplicate", "with": {"packet_id": "old"}}, "faults.3.with.packet_id: 'old' is none of new, same"),
        ({"fault": "F8-storage-refuses", "with": {"status": 99}}, "faults.3.with.status: 99 is not the status of a refusal"),
        ({"fault": "F8-storage-refuses", "with": {"status": "teapot"}}, "faults.3.with.status: 'teapot' is not the status"),
        ({"fault": "F9-cut", "with": {"at": "half"}}, "faults.3.with.at: 'half' is not a share"),
        ({"fault": "F1-duplicate", "with": {"name": "beta"}}, "faults.3.with.name: 'beta' is none of delta"),
        ({"fault": "F18-label-mismatch", "with": {"label": ""}}, "faults.3.with.label: '' is no addition to a version"),
        ({"fault": "F18-label-mismatch", "with": {"label": 2}}, "faults.3.with.label: 2 is no addition to a version"),
        ({"fault": "F23-at-once", "with": {"every": 0}}, "faults.3.with.every: it must be more than 0"),
        ({"fault": "F23-at-once", "with": {"copies": 1.5}}, "faults.3.with.copies: 1.5 is not a number of copies"),
        ({"fault": "F17-parks", "at": "5s"}, "faults.3: F17-parks is of a device's nature"),
        ({"fault": "F14-power-cut"}, "faults.3: F14-power-cut needs at, converged or step"),
        ({"fault": "F15-boot-fails", "at": "5s"}, "faults.3: F15-boot-fails is of a device's nature"),
        ({"fault": "F7-clock-skew", "for": "5s"}, "faults.3: F7-clock-skew is of a device's nature"),
        ({"fault": "F4-broker-killed", "for": "5s"}, "faults.3: F4-broker-killed needs at or converged: when"),
        ({"fault": "F4-broker-killed", "at": "5s", "share": "10%"}, "faults.3: F4-broker-killed befalls no device"),
        ({"fault": "F20-cancel", "step": "idle"}, "faults.3: F20-cancel befalls no device"),
    ],
)  # fmt: skip
def test_what_may_not_be_asked_for_is_said_with_its_place(made, said):
    with pytest.raises(ScenarioError) as error:
        rule_of(Fault.model_validate(made), 3)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("session", "terms"), [("as-is", (False, 60)), ("clean", (True, 0)), ("persistent", (False, 3600)), ("expired", (False, 1))]
)  # fmt: skip
def test_a_device_is_offline_with_a_session_as_it_had_asked_for(session, terms):
    made = {"fleet": {"devices": 1}, "faults": [{"fault": "F3-offline", "at": "9s", "with": {"session": session}}]}
    record = []

    async def main(loop):
        nemesis = Harms(Scenario.model_validate(made), lambda kind, thing, **columns: record.append(columns["detail"]))
        return nemesis.harm(0, "d").profile(Profile(clean_start=False, session_expiry=60))

    profile = run_virtual(main)
    assert (profile.clean_start, profile.session_expiry) == terms
    said = [{"clean_start": terms[0], "session_expiry": terms[1]}] if session != "as-is" else []
    assert [json.loads(detail) for detail in record] == said  # from the start, and before it goes offline


def test_a_fault_has_its_own_number_of_strikes_unless_told():
    assert entry_of(fault("F8-storage-refuses"), 0).times == 3
