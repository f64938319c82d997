"""Which updates are under way, as parts tell it and the conductor joins it."""

from simulator.model.events import Kind
from simulator.trace.recorder import Recorder
from simulator.worlds.live.protocol import Phases
from simulator.worlds.live.underway import Underway, Updates


def recorded(*events):
    """What a process that recorded (t_us, kind, thing, columns) tells."""
    told, clock = Underway(), iter(event[0] for event in events)
    recorder = Recorder(lambda: next(clock), told)
    for _, kind, thing, columns in events:
        recorder.record(kind, thing, **columns)
    recorder.flush()
    return told


def move(t_us, thing, left, entered):
    return t_us, Kind.PHASE, thing, {"job": f"j-{thing}", "phase": left, "status": entered}


def offer(t_us, thing, late_us=0):
    return t_us, Kind.OFFER, thing, {"job": f"j-{thing}", "status": "sent", "span_us": late_us}


def end(t_us, thing, state):
    return t_us, Kind.EXECUTION, thing, {"job": f"j-{thing}", "status": state}


def updates(**parts):
    joined = Updates()
    for name, told in parts.items():
        joined.receive(name, told.now())
    return joined


def test_a_device_is_in_the_phase_that_it_entered_last_and_in_none_when_idle():
    told = recorded(
        move(1, "a", "idle", "downloading"), move(2, "b", "idle", "downloading"), move(3, "a", "downloading", "verifying"),
        move(4, "c", "idle", "downloading"), move(5, "c", "downloading", "idle"),
    )  # fmt: skip
    assert told.now().phases == {"downloading": 1, "verifying": 1}
    assert told.phases_of(["a", "c", "nobody"]) == {"a": "verifying"}


def test_phases_of_all_parts_are_added_up():
    one, two = recorded(move(1, "a", "idle", "downloading")), recorded(move(1, "b", "idle", "downloading"))
    assert updates(one=one, two=two).phases() == {"downloading": 2}


def test_an_execution_is_open_from_when_its_offer_was_due_until_it_has_ended_otherwise_than_in_progress():
    told = recorded(
        offer(5_000_000, "a", 1_000_000), offer(5_000_001, "b"), offer(5_000_002, "c"),
        end(6_000_000, "a", "IN_PROGRESS"), end(6_000_001, "b", "SUCCEEDED"), end(6_000_002, "c", "TIMED_OUT"),
    )  # fmt: skip
    assert told.now().open == [("a", 4_000_000)]


def test_the_slowest_are_told_with_their_phases_once_these_were_asked_for():
    joined = updates(application=recorded(offer(2_000_000, "b"), offer(1_000_000, "a")))
    assert joined.slowest(3_000_000) == []
    assert joined.ask() == ["a", "b"]
    joined.receive("shard-0", Phases({"a": "installing"}))
    assert joined.slowest(4_000_000) == [
        {"thing": "a", "phase": "installing", "seconds": 3.0},
        {"thing": "b", "phase": "", "seconds": 2.0},
    ]


def test_of_many_ten_are_told_and_twenty_asked_for():
    joined = updates(application=recorded(*(offer(nth, f"device-{nth}") for nth in range(100))))
    assert len(joined.ask()) == 20
    slowest = joined.slowest(1_000_000)
    assert [one["thing"] for one in slowest] == [f"device-{nth}" for nth in range(10)]
