"""When faults begin and end."""

from simulator.faults.schedule import Timeline, Turn
from simulator.model.scenario import Fault


def made(*faults):
    return [Fault.model_validate({"fault": "F3-offline", **fault}) for fault in faults]


def test_turns_come_when_their_time_has_come_and_but_once():
    line = Timeline(
        made({"at": "30s", "for": "1m"}, {"at": "10s"}, {"for": "40s"}, {}, {"step": "installing", "for": "5s"})
    )
    assert line.next_s == 10
    assert line.turns(9.9, 0.0) == []
    assert line.turns(30, 0.0) == [Turn(1, True), Turn(0, True)]
    assert line.turns(30, 0.0) == []
    assert line.next_s == 40
    assert line.turns(1000, 1.0) == [Turn(2, False), Turn(0, False)]
    assert line.next_s is None


def test_a_turn_does_not_wait_for_the_last_bit_of_its_time():
    line = Timeline(made({"at": 30.8}))
    began = 1.5
    assert (began + 30.8) - began < 30.8
    assert line.turns((began + 30.8) - began, 0.0) == [Turn(0, True)]


def test_a_fault_waits_for_a_share_and_lasts_from_then_on():
    line = Timeline(made({"converged": "50%", "for": "20s"}, {"converged": "20%"}))
    assert line.waits_for_share
    assert line.turns(5, 0.1) == []
    assert line.turns(6, 0.2) == [Turn(1, True)]
    assert line.turns(9, 0.7) == [Turn(0, True)]
    assert not line.waits_for_share
    assert line.next_s == 29
    assert line.turns(29, 0.9) == [Turn(0, False)]
