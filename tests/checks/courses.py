"""Pieces of hand-written rollouts: events at the second given, as `traces.trace` takes them."""

from tests.checks.traces import NEW

SOFT = {"version": "2", "digest": NEW}
MOVE = {"job": "rollout-1", **SOFT}


def at(second, kind, thing="", **columns):
    """One event at this second."""
    return kind, thing, {"t_us": round(second * 1e6), **columns}


def move(second, status, detail=None, size=None):
    return at(second, "rollout", status=status, size=size, detail=detail, **MOVE)


def begun(size, wave=None, second=0.0):
    """That many targets, the rollout's begin, and its first wave."""
    named = [at(second, "target", f"d-{i}", **MOVE) for i in range(size)]
    return [*named, move(second, "begin", size=size), move(second, "wave", "wave 1", wave or size)]


def offer(second, *numbers, attempt=0):
    """These devices are offered to."""
    return [
        at(second, kind, f"d-{i}", job=f"r.d-{i}.{attempt}", status=status, **SOFT)
        for i in numbers
        for kind, status in (("execution", "IN_PROGRESS"), ("offer", "sent"))
    ]


def end(second, state, *numbers, attempt=0, detail=None):
    """These devices' executions end so."""
    return [
        at(second, "execution", f"d-{i}", job=f"r.d-{i}.{attempt}", status=state, detail=detail, **SOFT)
        for i in numbers
    ]


def done(second, state, *numbers):
    """Offered to, and ended a second later."""
    return [*offer(second, *numbers), *end(second + 1, state, *numbers)]


def running(second, number, *kinds):
    """That device reports RUNNING."""
    told = {
        "report": {"status": "RUNNING"},
        "replica.accepted": {"status": "reported"},
    }
    return [at(second, kind, f"d-{number}", job=f"r.d-{number}.0", **told[kind]) for kind in kinds]


def killed(second, status):
    """The broker is killed, or there again."""
    return at(second, "fault", status=status, size=0, detail='{"server":"broker"}')


def over(second, **outcome):
    """The run's end."""
    said = ", ".join(f'"{key}": {str(value).lower()}' for key, value in outcome.items())
    return [at(second, "run", status="end", detail=f"{{{said}}}")]


def finished(second, detail="all targets ended"):
    return [move(second, "end", detail), *over(second + 5, complete=True)]
