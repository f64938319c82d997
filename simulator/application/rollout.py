"""A rollout as a pure machine: whom to offer what now, and what each outcome changes.

The queue. A rollout has targets, in the order given. Each is QUEUED, then IN_PROGRESS once it was offered, then in one
of the states that end it. It is counted once, by its latest execution: one that fails or times out and may be tried
again goes back to QUEUED under a new job id, behind all that wait for their first turn. When a newer rollout offers to
the same thing, its target here is canceled if it is QUEUED; if it is IN_PROGRESS it ends freely, but is not tried again.

Waves. The queue is open up to the end of the current wave. Each wave has a gate (`gates.py`) over the outcomes of its
own targets: the next wave opens when it passes, and too many errors pause or abort the rollout. Abort criteria look at
the whole rollout. Within what is open, the pace (`pace.py`) and `maximumConcurrent` say how many offers may go, and
when.

Deadlines. Silence counts as failure: an execution of which nothing was heard for `inProgressTimeout` is TIMED_OUT. A
heap holds one entry for each target under way. What is heard of a target does not move its entry; the entry is put
back, at the later time, when it comes up. So a report costs nothing here.

The engine drives it with three calls: `op(now)` says what is due or when to ask again, `observe(outcome, now)` takes
what was heard, and `news()` gives what has changed since, in order, for the record. An operator's `pause`, `resume`
and `abort` come in between.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from simulator.application.gates import Gate, aborting, gates
from simulator.application.news import Changed, Done, Moved, Offer, Pending, Standing
from simulator.application.pace import Pace
from simulator.model.errors import FleetsimError
from simulator.model.scenario import RolloutSpec
from simulator.model.update import Artifact, Execution, Outcome, State

STATES = tuple(State)
_CODE = {state: code for code, state in enumerate(STATES)}
_QUEUED, _IN_PROGRESS = _CODE[State.QUEUED], _CODE[State.IN_PROGRESS]
_SUCCEEDED, _CANCELED = _CODE[State.SUCCEEDED], _CODE[State.CANCELED]
_JOB_BYTES_MAX = 58  # a client token holds 64 bytes, "offer:" included
SUPERSEDED = "superseded"


class WrongState(FleetsimError):
    """The rollout cannot do that now: it is paused already, or not paused, or has ended."""


class Rollout:
    """One rollout. `targets` are pairs (thing, cohort); times are seconds of one clock, which never goes back.

    `prefix` makes job ids unique among runs. Raises ValueError when a thing stands among the targets twice.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        artifact: Artifact,
        targets: Sequence[tuple[str, str]],
        *,
        begin_at: float = 0.0,
        prefix: str = "",
    ) -> None:
        self.spec, self.artifact, self.status, self.reason = spec, artifact, "waiting", ""
        self.things = [thing for thing, _ in targets]
        self._index = {thing: i for i, thing in enumerate(self.things)}
        if len(self._index) != len(targets):
            raise ValueError(f"rollout {spec.name!r}: a thing stands among its targets twice")
        self.size = size = len(targets)
        self._begin_at = begin_at
        # a thing may hold a dot: with one in the name too, two rollouts could spell the same job id
        named = spec.name if "." not in spec.name else blake2b(spec.name.encode(), digest_size=8).hexdigest()
        self._prefix = f"{prefix}{named}."
        self._state = bytearray([_QUEUED]) * size
        self._failures, self._lapses = bytearray(size), bytearray(size)  # retries used, by kind
        self._offered, self._heard = array("d", bytes(8 * size)), array("d", bytes(8 * size))
        self._armed = bytearray(size)  # whether the target has its entry in the heap of deadlines
        self._deadlines: list[tuple[float, int]] = []
        self.counts = [0] * len(STATES)
        self.counts[_QUEUED] = size
        self.cohorts: dict[str, list[int]] = {}
        self._cohort = array("H", bytes(2 * size))
        self._assign(targets)
        self._by_cohort = list(self.cohorts.values())
        self._gates = gates(spec.waves, size)
        self._gate_ends = [gate.end for gate in self._gates]
        self.wave = -1
        self._cursor, self._limit = 0, 0
        self._again: deque[int] = deque()
        self._barred: set[int] = set()
        self._pace = Pace(spec.maximum_per_minute, spec.exponential_rate)
        self._notified, self._rested = 0, True
        self._news: deque[Moved | Changed | Iterator[Changed]] = deque()

    def _assign(self, targets: Sequence[tuple[str, str]]) -> None:
        numbers: dict[str, int] = {}
        for i, (_, cohort) in enumerate(targets):
            number = numbers.get(cohort)
            if number is None:
                number = numbers[cohort] = len(numbers)
                self.cohorts[cohort] = [0] * len(STATES)
            self._cohort[i] = number
            self.cohorts[cohort][_QUEUED] += 1

    # ---- what to do

    def op(self, now: float, limit: int = 1024) -> list[Offer] | Pending | Done:
        """What is due now: at most `limit` offers (0: only the clock moves on), or when to ask again."""
        if self.status == "waiting" and now >= self._begin_at:
            self._begin(now)
        self._expire(now)
        if self.status == "ended":
            return Done(self.reason)
        if self.status == "waiting":
            return Pending(self._begin_at)
        offers, pace_wake = self._due(now, limit) if limit and self.status == "running" else ([], None)
        if offers:
            return offers
        deadline = self._deadlines[0][0] if self._deadlines else None
        if deadline is None or pace_wake is None:
            return Pending(pace_wake if deadline is None else deadline)
        return Pending(min(deadline, pace_wake))

    def _due(self, now: float, limit: int) -> tuple[list[Offer], float | None]:
        offers: list[Offer] = []
        most = self.spec.maximum_concurrent
        if most is not None:
            limit = min(limit, most - self.counts[_IN_PROGRESS])
        while len(offers) < limit:
            i = self._head()
            if i is None:
                break
            if self._rested:
                self._pace.rest(now)
                self._rested = False
            due = self._pace.due(now)
            if due > now:
                return offers, due
            self._pace.take(due, now)
            offers.append(Offer(self._offer(i, now), due))
        self._rested = not offers
        return offers, None

    def _head(self) -> int | None:
        """The next target in line, which stays there."""
        while self._cursor < self._limit and self._state[self._cursor] != _QUEUED:
            self._cursor += 1
        if self._cursor < self._limit:
            return self._cursor
        while self._again and self._state[self._again[0]] != _QUEUED:
            self._again.popleft()
        return self._again[0] if self._again else None

    def _offer(self, i: int, now: float) -> Execution:
        if self._cursor < self._limit:
            self._cursor += 1
            self._notified += 1  # things, not executions: a retry makes the rate grow no further
            self._pace.grow(self._notified, self.counts[_SUCCEEDED])
        else:
            self._again.popleft()
        self._move(i, _IN_PROGRESS)
        self._offered[i] = self._heard[i] = now
        if not self._armed[i]:
            self._armed[i] = 1
            heapq.heappush(self._deadlines, (now + self.spec.timeout_config.in_progress_timeout, i))
        job = self._job(i)
        self._news.append(Changed(self.things[i], job, State.IN_PROGRESS, None))
        return Execution(job, self.things[i], self.artifact, self.spec.name)

    # ---- what happened

    def observe(self, outcome: Outcome, now: float) -> bool:
        """Take news of an execution; False where it is foreign, or late for one that has ended, and changes nothing."""
        self._expire(now)
        i = self._index.get(outcome.thing)
        if i is None or self._state[i] != _IN_PROGRESS or outcome.execution != self._job(i):
            return False
        if outcome.state.ended:
            self._end(i, outcome.state, outcome.reason, now)
        else:
            self._heard[i] = now
        return True

    def _expire(self, now: float) -> None:
        # atlas command: silence is recognised as failure
        heap, silence = self._deadlines, self.spec.timeout_config.in_progress_timeout
        while heap and heap[0][0] <= now:
            i = heapq.heappop(heap)[1]
            self._armed[i] = 0
            if self._state[i] != _IN_PROGRESS:
                continue
            deadline = self._heard[i] + silence
            if deadline > now:
                self._armed[i] = 1
                heapq.heappush(heap, (deadline, i))
            else:
                self._end(i, State.TIMED_OUT, f"silent for {silence:g} s", now)

    def _end(self, i: int, state: State, reason: str, now: float) -> None:
        self._news.append(Changed(self.things[i], self._job(i), state, now - self._offered[i], reason))
        if self._tries_again(i, state, reason):
            self._move(i, _QUEUED)
            self._again.append(i)
            self._news.append(Changed(self.things[i], self._job(i), State.QUEUED, None))
        else:
            self._settle(i, state)

    def _settle(self, i: int, state: State) -> None:
        """The target has ended for good: count it, and see what that changes."""
        self._move(i, _CODE[state])
        self._pace.grow(self._notified, self.counts[_SUCCEEDED])
        gate = self._gates[bisect_right(self._gate_ends, i)]
        gate.count(state)
        if self.status != "aborting" and (why := aborting(self.spec.abort_config, self.counts_by_state(), self.size)):
            self._stop(why)
        self._finish_or_judge(gate)

    def _tries_again(self, i: int, state: State, reason: str) -> bool:
        if self.status == "aborting" or reason == SUPERSEDED or i in self._barred:
            return False
        retry = self.spec.retry_config
        if state is State.FAILED and self._failures[i] < retry.failed:
            self._failures[i] += 1
            return True
        if state is State.TIMED_OUT and self._lapses[i] < retry.timed_out:
            self._lapses[i] += 1
            return True
        return False

    def _finish_or_judge(self, gate: Gate | None) -> None:
        if self.counts[_QUEUED] + self.counts[_IN_PROGRESS] == 0:
            self.status, self.reason = "ended", self.reason if self.status == "aborting" else "all targets ended"
            self._news.append(Moved("end", self.size, self.reason))
            return
        if self.status == "aborting":
            return
        if gate is not None and (why := gate.too_many_errors()):
            if gate.spec.error_action == "abort":
                self._stop(why)
                self._finish_or_judge(None)
                return
            if self.status == "running":
                gate.excused = True
                self._pause(why)
        if self.status == "running":
            self._open_waves()

    def _open_waves(self) -> None:
        """Open the next wave, and the next, as long as each one's gate stands open."""
        while self.wave + 1 < len(self._gates):
            gate = self._gates[self.wave] if self.wave >= 0 else None
            if gate is not None and not gate.passed():
                if gate.over() and not gate.excused:
                    gate.excused = True
                    self._halt(gate)
                if not (gate.over() and gate.excused) or self.status != "running":
                    return
            self.wave += 1
            self._limit = self._gates[self.wave].end
            self._news.append(Moved("wave", self._gates[self.wave].size, f"wave {self.wave + 1}"))

    def _halt(self, gate: Gate) -> None:
        if gate.spec.error_action == "abort":
            self._stop(gate.shortfall())
            self._finish_or_judge(None)
        else:
            self._pause(gate.shortfall())

    def _begin(self, now: float) -> None:
        self.status = "running"
        self._news.append(Moved("begin", self.size))
        self._pace.rest(now)
        if self.size == 0:
            self._finish_or_judge(None)
        else:
            self._open_waves()

    def give_way(self, thing: str, newer: str) -> None:
        """A newer rollout offers to this thing: what waits for it here is canceled, and nothing is tried again."""
        i = self._index.get(thing)
        if i is None:
            return
        self._barred.add(i)
        if self._state[i] == _QUEUED:
            self._news.append(Changed(thing, self._job(i), State.CANCELED, None, f"superseded by rollout {newer!r}"))
            self._settle(i, State.CANCELED)

    # ---- what an operator may do

    def pause(self, reason: str = "by an operator") -> None:
        """Offer nothing more until resumed. Raises WrongState."""
        if self.status != "running":
            raise WrongState(f"rollout {self.spec.name!r} is {self.status}: it cannot be paused")
        self._pause(reason)

    def resume(self) -> None:
        """Go on, past the gate that held it. Raises WrongState."""
        if self.status != "paused":
            raise WrongState(f"rollout {self.spec.name!r} is {self.status}: it cannot be resumed")
        self.status, self.reason, self._rested = "running", "", True
        self._news.append(Moved("resume", self.size))
        for gate in self._gates[: self.wave + 1]:
            if self.status == "running":
                self._finish_or_judge(gate)

    def abort(self, reason: str = "by an operator") -> None:
        """Cancel what was not offered yet; what is under way ends freely. Raises WrongState."""
        if self.status in ("ended", "aborting"):
            raise WrongState(f"rollout {self.spec.name!r} is {self.status}: it cannot be aborted")
        self._stop(reason)
        self._finish_or_judge(None)

    def _pause(self, reason: str) -> None:
        self.status, self.reason = "paused", reason
        self._news.append(Moved("pause", self.size, reason))

    def _stop(self, reason: str) -> None:
        # AWS Jobs: an abort cancels QUEUED only, IN_PROGRESS is left alone
        self.status, self.reason = "aborting", f"aborted: {reason}"
        self._news.append(Moved("abort", self.size, reason))
        canceled = [i for i in range(self.size) if self._state[i] == _QUEUED]
        for i in canceled:
            self._move(i, _CANCELED)
        self._news.append(Changed(self.things[i], self._job(i), State.CANCELED, None, reason) for i in canceled)

    # ---- what it knows

    @property
    def halted(self) -> bool:
        """Whether it is paused and nothing is under way: only an operator moves it on."""
        return self.status == "paused" and not self.counts[_IN_PROGRESS]

    def under_way(self, execution: Execution) -> bool:
        """Whether it was offered and has not ended, and no newer rollout has offered to its thing."""
        i = self._index[execution.thing]
        return self._state[i] == _IN_PROGRESS and i not in self._barred and execution.id == self._job(i)

    def _move(self, i: int, code: int) -> None:
        before, cohort = self._state[i], self._by_cohort[self._cohort[i]]
        self._state[i] = code
        for counts in (self.counts, cohort):
            counts[before] -= 1
            counts[code] += 1

    def _job(self, i: int) -> str:
        """The job id of the target's latest execution: the same on every machine, new for each attempt."""
        job = f"{self._prefix}{self.things[i]}.{self._failures[i] + self._lapses[i]}"
        if len(job.encode()) <= _JOB_BYTES_MAX:
            return job
        return blake2b(job.encode(), digest_size=20).hexdigest()

    def counts_by_state(self) -> dict[State, int]:
        """How many targets are in each state; they add up to the number of targets."""
        return dict(zip(STATES, self.counts, strict=True))

    def targets(self) -> Iterator[tuple[str, str]]:
        """(thing, cohort) of every target, in the order of their turns."""
        names = list(self.cohorts)
        for thing, number in zip(self.things, self._cohort, strict=True):
            yield thing, names[number]

    def standing(self, thing: str) -> Standing | None:
        """One target's latest execution; None for a thing that is no target."""
        i = self._index.get(thing)
        if i is None:
            return None
        wave = bisect_right(self._gate_ends, i)
        return Standing(self._job(i), STATES[self._state[i]], self._failures[i] + self._lapses[i], wave)

    def news(self) -> Iterator[Moved | Changed]:
        """What has happened since it was last asked, in order."""
        while self._news:
            item = self._news.popleft()
            if isinstance(item, Moved | Changed):
                yield item
            else:
                yield from item
