"""The course of the scenario's rollout, rebuilt from the trace: who was offered when, how it ended, what was left."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.model.events import Kind
from simulator.model.scenario import RolloutSpec, Wave
from simulator.model.update import State
from simulator.trace.reader import Codes, Trace
from simulator.trace.targets import Mask, Targets

STATES = tuple(State)
CODE = {state: code for code, state in enumerate(STATES)}
FAILURES = (State.FAILED, State.TIMED_OUT, State.REJECTED, State.UNKNOWN)
_ENDED = [CODE[state] for state in STATES if state.ended]


class Waves(NamedTuple):
    """The waves of a rollout; one that has none is one wave. `of_target`: the wave of each target, from 0. `opened`: each
    wave's row in the trace, its length where it never opened."""

    specs: tuple[Wave, ...]
    of_target: Codes
    sizes: Codes
    opened: Codes


class _Groups(NamedTuple):
    """Events side by side by their targets: the places in that order, and which continue the target before."""

    order: Codes
    continues: Mask


class Course:
    """One value for each target (from 0, in the order of their turns), or for each event of an execution (by row).

    `thing`: of each target. `rows`, `of` (its target), `state`, `prior` (the target's event before, -1 for none): of each
    event; an offer sent of which no execution tells is an event too. `retried`: ended, and the rollout owes the target
    another turn. `moves`: the events of the rollout itself.
    """

    def __init__(self, trace: Trace, spec: RolloutSpec) -> None:
        self.trace, self.spec = trace, spec
        targets = trace.once(Targets)
        mine = targets.rollout == trace.code("job", spec.name)
        self.thing = targets.thing[mine]
        self.moves = trace.kind(Kind.ROLLOUT).where("job", spec.name)
        self.waves = self._waves()
        self._take(targets, np.append(np.where(mine, np.cumsum(mine) - 1, -1), -1))
        self.retried = self._owed(self._barred(targets, mine))

    def _waves(self) -> Waves:
        specs = self.spec.waves or (Wave(share=1.0),)
        ends = _wave_ends(specs, self.size)
        opened = self.moved("wave")[: len(specs)]
        return Waves(
            specs,
            np.searchsorted(ends, np.arange(self.size), side="right"),
            np.diff(ends, prepend=0),
            np.append(opened, np.full(len(specs) - len(opened), len(self.trace))),
        )

    @property
    def size(self) -> int:
        """How many targets there are."""
        return len(self.thing)

    @property
    def t_us(self) -> Codes:
        """When each event was recorded."""
        return np.asarray(self.trace.column("t_us")[self.rows])

    @property
    def offered(self) -> Mask:
        """Which events are offers."""
        return self.moved_to(State.IN_PROGRESS)

    @property
    def settled(self) -> Mask:
        """Which events ended an execution for good."""
        return np.isin(self.state, _ENDED) & ~self.retried

    def _take(self, targets: Targets, number: Codes) -> None:
        """The events of our executions, with the offers that no execution tells of."""
        trace, executions = self.trace, self.trace.kind(Kind.EXECUTION)
        sent = trace.kind(Kind.OFFER).where("status", "sent")
        sent = sent.only(sent.latest(executions.where("status", State.IN_PROGRESS), "thing", "job") < 0)
        rows = np.concatenate([executions.rows, sent.rows])
        of = number[np.concatenate([targets.of_execution, targets.of(sent)])]
        states = np.full(len(trace.words("status")) + 1, -1)
        for word, code in CODE.items():
            if (at := trace.code("status", word)) >= 0:
                states[at] = code
        state = np.concatenate([states[executions["status"]], np.full(len(sent), CODE[State.IN_PROGRESS])])
        order = np.argsort(rows)
        order = order[(of[order] >= 0) & (state[order] >= 0)]
        self.rows, self.of, self.state = rows[order], of[order], state[order]
        grouped = np.argsort(self.of, kind="stable")
        self._groups = _, continues = _Groups(grouped, np.diff(self.of[grouped], prepend=-1) == 0)
        self.prior = np.full(len(self.rows), -1)
        self.prior[grouped[continues]] = grouped[:-1][continues[1:]]

    def _barred(self, targets: Targets, mine: Mask) -> Codes:
        """For each target the row of a newer rollout's first offer to its thing: nothing is tried again from then."""
        sent = self.trace.kind(Kind.OFFER).where("status", "sent")
        place, number = (np.full(len(self.trace.words("thing")) + 1, -1) for _ in range(2))
        place[self.thing], number[self.thing] = np.flatnonzero(mine), np.arange(self.size)
        newer = (targets.of(sent) > place[sent["thing"]]) & (place[sent["thing"]] >= 0)
        first = np.full(self.size, len(self.trace))
        np.minimum.at(first, number[sent["thing"][newer]], sent.rows[newer])
        return first

    def _owed(self, barred: Codes) -> Mask:
        """Which ends the scenario's retries do not let stand."""
        retry, owed = self.spec.retry_config, np.zeros(len(self.rows), bool)
        for state, most in ((State.FAILED, retry.failed), (State.TIMED_OUT, retry.timed_out)):
            so = self.moved_to(state)
            owed |= so & (self._so_far(so) <= most)
        superseded = self.trace.column("detail")[self.rows] == self.trace.code("detail", "superseded")
        aborted = self.moved("abort")
        stopped = np.minimum(barred[self.of], aborted[0] if len(aborted) else len(self.trace))
        return np.asarray(owed & ~superseded & (self.rows < stopped))

    def _so_far(self, mask: Mask) -> Codes:
        """For each event how many of its target's events up to it are in the mask."""
        grouped, continues = self._groups
        total = np.cumsum(mask[grouped])
        before = np.where(continues, 0, total - mask[grouped])
        so_far = np.empty(len(mask), np.int64)
        so_far[grouped] = total - np.maximum.accumulate(before)
        return so_far

    # ---- what happened when

    def moved(self, *status: str) -> Codes:
        """The rows in which the rollout moved so."""
        return self.moves.where("status", *status).rows

    def reason(self, row: int) -> str:
        """The reason that stands in this row."""
        return str(self.trace.row(row).get("detail", ""))

    def moved_to(self, state: State) -> Mask:
        """Which events moved an execution to this state."""
        return np.asarray(self.state == CODE[state])

    def by_operator(self, row: int) -> bool:
        """Whether an operator asked for what this row tells."""
        return self.reason(row) == "by an operator"

    def paused_at(self, row: int) -> bool:
        """Whether the rollout was paused before this row."""
        pauses = self.moves.where("status", "pause", "resume")
        before = pauses.only(pauses.rows < row)
        return len(before) > 0 and before["status"][-1] == self.trace.code("status", "pause")

    def time_us(self, row: int) -> int:
        """When that row was recorded."""
        return int(self.trace.column("t_us")[row])

    def was_waiting(self) -> Mask:
        """For each event whether its target waited for a turn until then."""
        return np.asarray((self.prior < 0) | np.append(self.retried, False)[self.prior])

    def under_way(self) -> Codes:
        """How many executions were offered and had not ended, after each event."""
        offered = self.offered
        return np.cumsum(offered.astype(np.int64) - np.append(offered, False)[self.prior])

    def latest(self, row: int) -> Codes:
        """For each target its last event before this row; -1 for none."""
        last = np.full(self.size, -1)
        past = np.searchsorted(self.rows, row)
        last[self.of[:past]] = np.arange(past)
        return last

    def waiting(self, row: int) -> Codes:
        """The targets that waited for a turn before this row."""
        last = self.latest(row)
        return np.flatnonzero((last < 0) | np.append(self.retried, False)[last])

    def open_ends(self) -> Codes:
        """The targets that had not ended for good when the record does."""
        done = np.zeros(self.size, bool)
        done[self.of[self.settled]] = True
        return np.flatnonzero(~done)

    def rates(self) -> npt.NDArray[np.float64]:
        """The rate that the scenario allowed when each event came, in offers a minute; infinite without one."""
        maximum, curve = self.spec.maximum_per_minute, self.spec.exponential_rate
        if curve is None:
            return np.full(len(self.rows), np.inf if maximum is None else maximum)
        criteria = curve.rate_increase_criteria
        notified, succeeded = criteria.number_of_notified_things, criteria.number_of_succeeded_things
        counted = self.offered & (self.prior < 0) if notified else self.moved_to(State.SUCCEEDED)
        level = (np.cumsum(counted) - counted) // (notified or succeeded or 1)
        with np.errstate(over="ignore"):
            grown = curve.base_rate_per_minute * curve.increment_factor**level
        return np.asarray(np.minimum(maximum or np.inf, grown))

    # ---- what the record lacks

    def lacks(self) -> str:
        """Why nothing can be said; empty where something can."""
        if not self.size:
            return f"the trace names no targets of {self.spec.name}"
        begun = self.moves.where("status", "begin")
        if not len(begun):
            return f"the trace does not tell that {self.spec.name} began"
        if int(begun["size"][0]) not in (-1, self.size):
            return f"the trace names {self.size:,} of {int(begun['size'][0]):,} targets"
        return ""

    def broken_off(self) -> str:
        """What the record does not reach to; empty where it reaches to the rollout's end, or to the run's."""
        if len(self.moved("end")) or self.closing() is not None:
            return ""
        return f"the record breaks off before {self.spec.name} had ended"

    def closing(self) -> dict[str, object] | None:
        """How the run ended, by its own word; None where no part of ours lived to its end."""
        view = self.trace.kind(Kind.RUN).where("status", "end")
        outcome = json.loads(view.texts("detail")[-1] or "{}") if len(view) else {"died": ""}
        return None if "died" in outcome else outcome

    def seen_us(self) -> int:
        """Up to when the application's record is known to be whole."""
        if self.closing() is not None:
            return self.time_us(len(self.trace) - 1)
        last = max(self.rows[-1] if len(self.rows) else 0, self.moves.rows[-1] if len(self.moves) else 0)
        return self.time_us(int(last))


def _wave_ends(waves: tuple[Wave, ...], size: int) -> Codes:
    """The number behind each wave's last target: shares are rounded as they add up."""
    upto = np.cumsum([wave.share for wave in waves])
    return np.where(upto > 1 - 1e-9, size, np.round(upto * size)).astype(np.int64)
