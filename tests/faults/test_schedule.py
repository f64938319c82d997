"""When faults begin and end."""

from simulator.faults.schedule import Turn, from_the_start, timeline
from simulator.model.scenario import Fault


def made(*faults):
    return [Fault.model_validate({"fault": "F3-offline", **fault}) for fault in faults]


def test_turns_come_in_the_order_of_time():
    faults = made({"at": "30s", "for": "1m"}, {"at": "10s"}, {"for": "40s"}, {}, {"step": "installing", "for": "5s"})
    assert timeline(faults) == [Turn(10, 1, True), Turn(30, 0, True), Turn(40, 2, False), Turn(90, 0, False)]
    assert [from_the_start(fault) for fault in faults] == [False, False, True, True, False]
