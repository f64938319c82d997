"""How many source addresses a fleet needs: its ports are a host's, and shards may be on hosts of their own."""

import pytest

from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario
from simulator.worlds.live import conductor, machine
from simulator.worlds.live.options import Options


@pytest.fixture(autouse=True)
def _enough_files(monkeypatch):
    monkeypatch.setattr(machine, "raise_open_files", lambda: 1 << 20)
    monkeypatch.setattr(machine, "ephemeral_ports", lambda: 28_000)


MANY = Scenario(fleet={"devices": 100_000}, target={"broker": "mosquitto"})


def test_shards_on_hosts_of_their_own_share_no_ports():
    assert conductor.prepare(MANY, Options(bind="192.0.2.1", processes=16, apart=True)) == [None]
    with pytest.raises(ScenarioError, match="100000 devices need 8 source addresses"):
        conductor.prepare(MANY, Options(bind="192.0.2.1", processes=16))
    with pytest.raises(ScenarioError, match="20000 devices need 2 source addresses"):
        conductor.prepare(MANY, Options(bind="192.0.2.1", processes=5, apart=True))


def test_on_loopback_all_shards_are_on_this_host():
    assert len(conductor.prepare(MANY, Options(processes=16, apart=True))) == 8
