"""The table of moves is closed: every phase can be reached, and none is a trap."""

import pytest

from simulator.model.update import MOVES, Phase, State


def reachable(start):
    found, ahead = set(), [start]
    while ahead:
        phase = ahead.pop()
        for step in MOVES[phase] - found:
            found.add(step)
            ahead.append(step)
    return found


def test_every_phase_has_its_moves_and_moves_lead_to_phases():
    assert set(MOVES) == set(Phase)
    assert all(moves for moves in MOVES.values())


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_can_be_reached_and_returns_to_idle(phase):
    assert phase in reachable(Phase.IDLE)
    assert Phase.IDLE in reachable(phase)


@pytest.mark.parametrize("phase", [p for p in Phase if p not in (Phase.REPORTING, Phase.IDLE)])
def test_no_update_ends_without_a_report_unless_it_was_given_up_before_the_reboot(phase):
    assert (Phase.IDLE in MOVES[phase]) is (phase in (Phase.DOWNLOADING, Phase.VERIFYING, Phase.INSTALLING))


def test_software_runs_only_after_it_was_verified_and_installed():
    assert [p for p in Phase if Phase.CONFIRMING in MOVES[p]] == [Phase.REBOOTING]
    assert [p for p in Phase if Phase.REBOOTING in MOVES[p]] == [Phase.INSTALLING]
    assert [p for p in Phase if Phase.INSTALLING in MOVES[p]] == [Phase.VERIFYING]


def test_only_two_states_of_an_execution_are_not_final():
    assert {s for s in State if not s.ended} == {State.QUEUED, State.IN_PROGRESS}
