"""What became of each target, over several rollouts and retries."""

from simulator.model.events import Kind
from simulator.trace.targets import Targets, running
from tests.checks.traces import NEW, failure, trace, update

THIRD = {"version": "3", "digest": "3" * 64}


def again(**changed):
    """A second rollout, to version 3, over the device of the first."""
    return update(job="q.d-0.0", rollout="rollout-2", boot=None, connect=None, initial=None, **THIRD, **changed)


def test_one_row_for_each_thing_of_each_rollout():
    made = trace(*update(), *failure("d-1", "r.d-1.0"), *again())
    targets = Targets(made)
    assert targets.view.texts("thing") == ["d-0", "d-1", "d-0"]
    assert targets.outcomes() == {"FAILED": 1, "SUCCEEDED": 2}
    rollouts = targets.rollouts()
    assert {name: targets.outcomes(ours) for name, ours in rollouts.items()} == {
        "rollout-1": {"FAILED": 1, "SUCCEEDED": 1}, "rollout-2": {"SUCCEEDED": 1},
    }  # fmt: skip
    assert targets.replaced.tolist() == [True, False, False]


def test_targets_never_offered_are_queued_and_replace_nothing():
    unoffered = again(**dict.fromkeys(("begun", "offer", "delta", "commit", "confirm", "report", "ended"), None))
    targets = Targets(trace(*update(), *unoffered))
    assert targets.outcomes() == {"QUEUED": 1, "SUCCEEDED": 1}
    assert targets.last.tolist()[1] == -1
    assert not targets.replaced.any()


def test_the_last_attempt_says_the_state():
    retried = [
        *failure(end=None, counters=None),
        ("execution", "d-0", {"job": "r.d-0.1", "status": "IN_PROGRESS", "version": "2", "digest": NEW}),
        ("execution", "d-0", {"job": "r.d-0.1", "status": "SUCCEEDED", "version": "2", "digest": NEW}),
    ]
    made = trace(*retried)
    targets = Targets(made)
    assert targets.outcomes() == {"SUCCEEDED": 1}
    assert targets.last.tolist() == [len(retried) - 1]
    assert targets.of_execution.tolist() == [0, 0, 0, 0]
    assert targets.of_jobs(made.kind(Kind.COMMIT)).tolist() == [0]


def test_a_job_belongs_to_the_thing_it_was_offered_to():
    made = trace(*update(), *update("d-1", "r.d-1.0"), ("commit", "d-1", {"job": "r.d-0.0"}), ("commit", "d-1", {}))
    targets = Targets(made)
    assert targets.of_jobs(made.kind(Kind.COMMIT)).tolist() == [0, 1, -1, -1]
    owners = targets.owner(made.kind(Kind.COMMIT)).tolist()
    assert [made.words("thing")[code] if code >= 0 else None for code in owners] == ["d-0", "d-1", "d-0", None]


def converged(*events):
    made = trace(*events)
    kinds = [event[0] for event in events]
    return [kinds[at - 1] if at >= 0 else None for at in Targets(made).converged_us.tolist()]


def test_a_target_converges_when_it_runs_and_the_application_knows():
    assert converged(*update()) == ["execution"]
    assert converged(*failure()) == [None]
    assert converged(*update(ended={"status": "TIMED_OUT"})) == ["answer"]
    assert converged(*update(ended={"status": "TIMED_OUT"}, answer=None)) == ["replica.accepted"]
    assert converged(*update(ended={"status": "TIMED_OUT"}, answer=None, accepted=None)) == [None]
    assert converged(*update(ended={"status": "TIMED_OUT"}, answer=None, accepted={"version": "1"})) == [None]
    assert converged(*update(ended={"status": "TIMED_OUT"}, report={"status": "FAILURE"}, accepted=None)) == [None]
    assert converged(*update(retired={"digest": "o" * 64})) == [None]
    assert converged(*update(), *again()) == ["execution", "execution"]
    assert converged(*update(ended=None, answer=None, accepted=None), *update("d-7", target=None)) == [None]


def test_what_runs_is_the_last_that_the_device_said():
    made = trace(*failure(), *update("d-1", "r.d-1.0"))
    digests, versions = running(made)
    assert [made.words("version")[versions[made.code("thing", thing)]] for thing in ("d-0", "d-1")] == ["1", "2"]
    assert digests[made.code("thing", "")] == -1


def test_a_trace_of_nothing_has_no_targets():
    targets = Targets(trace())
    assert len(targets) == len(targets.converged_us) == 0
    assert targets.outcomes() == targets.rollouts() == {}
