"""Reporting: step 8 of the pattern, and the device's side of step 9.

An update ends with a report, and is complete only when that report is answered. Until then it is *pending*: it stays in
flash, where a power cut cannot take it, and is sent again after growing pauses, over whatever connection there is, each
time with the same job id and client token, so that a replica can tell the resend from a second report. It is given up
when the profile's attempts are spent, or when a newer order makes it worthless. A report that ended unanswered is
remembered as well: if the replica asks for that job once more over a newer connection, the report was lost, and is sent
again instead of doing the job twice.

A dialect may say nothing for a given progress (`report` returns no outputs): then nothing is sent and nothing recorded.
Where the dialect's service answers no reports, one that was sent is done."""

from __future__ import annotations

import asyncio
import contextlib
import math

from msgspec.structs import replace

from simulator.device.agent import Software, UpdateAgent
from simulator.device.connection import Connection
from simulator.device.log import Log
from simulator.device.mishaps import Mishaps
from simulator.dialects.base import Answered
from simulator.model.errors import LinkError
from simulator.model.update import Phase, Progress, Status

NEVER = math.inf
TRY_AGAIN = (429, 500)  # the replica's codes that say nothing about the request
_IDLE = Phase.IDLE  # a member is looked up slowly in Python 3.11


class Reports:
    """One device's reports. `resend_at` is when the pending one is due (again), by the loop's clock; `sent` how often it
    was sent since the boot; `hung`: a mishap, it is never sent."""

    __slots__ = (
        "_first_sent",
        "_repeats",
        "_said_on",
        "agent",
        "connection",
        "hung",
        "log",
        "loop",
        "mishaps",
        "resend_at",
        "sent",
    )

    def __init__(self, agent: UpdateAgent, log: Log, mishaps: Mishaps, connection: Connection) -> None:
        self.agent, self.log, self.mishaps, self.connection = agent, log, mishaps, connection
        self.loop = asyncio.get_running_loop()
        self._said_on = 0  # the connection over which the last report went
        self._repeats = 0  # how often a report that had ended unanswered was sent anew
        self.forget()

    def forget(self) -> None:
        """The power is off: what was only in memory is gone."""
        self.sent, self.hung = 0, False
        self._first_sent = 0.0
        self.resend_at = NEVER

    # ---- an update's end

    def due(self, status: Status, reason: str = "", claimed: Software | None = None) -> None:
        """The update ended: its report is due, and stays in flash until it is answered. `claimed` is what the device
        says that it runs, where that is not true."""
        # atlas software-update step 8
        agent = self.agent
        self._repeats = 0
        if agent.phase is not Phase.REPORTING:
            self.mishaps.enter(Phase.REPORTING)
        agent.flash.pending = agent.progress(status, reason, claimed)
        self._at_once()

    def again(self) -> None:
        """Say the report once more that had ended unanswered."""
        self._repeats += 1
        self.agent.flash.pending = self.agent.flash.unanswered
        self.mishaps.enter(Phase.REPORTING)
        self._at_once()

    def _at_once(self) -> None:
        self.sent, self.hung = 0, False
        self.resend_at = self.loop.time()
        self.connection.wake()

    def may_be_lost(self, job: str) -> bool:
        """Whether the report of this job's end went unanswered over a connection that is gone, and may be sent again."""
        # atlas command: a sender that hears nothing resends, a bounded number of times
        last, attempts = self.agent.flash.unanswered, self.mishaps.draws.profile.resend.attempts
        lost = last is not None and last.job == job and self._said_on < self.connection.connections
        return lost and self.agent.phase is _IDLE and (attempts is None or self._repeats < attempts)

    async def send(self) -> None:
        """Send the pending report, the same job id and token each time, or give it up. Raises LinkError."""
        pending, resend = self.agent.flash.pending, self.mishaps.draws.profile.resend
        assert pending is not None
        way = None
        if self.sent == 0:
            self._first_sent = self.loop.time()
            way = self.mishaps.draw("report")
            if way == "crash":
                await self.mishaps.power.cut()
            elif way == "lie":
                turned = Status.FAILURE if pending.status is Status.SUCCESS else Status.SUCCESS
                self.agent.flash.pending = pending = replace(pending, status=turned)
        elif resend.attempts is not None and self.sent >= resend.attempts:
            self.log.given_up(pending.job, first_sent=self._first_sent)
            self.done(answered=False)
            return
        self.resend_at = self.loop.time() + self._until_resend(way)
        self.sent += 1
        self._said_on = self.connection.connections
        if way in ("error", "hang", "slow"):  # lost before it left, or not sent yet
            self.hung = way == "hang"
            return
        await self.say(pending.status or "", pending, self.sent)
        if not self.connection.dialect.answers:
            self.done(answered=False)

    async def say(self, status: str, progress: Progress, nth: int = 1) -> None:
        """Send a report, if the dialect has words for it; it is recorded before anybody can have heard it."""
        connection = self.connection
        step = connection.dialect.report(progress, connection.wall())
        if step.outputs:
            self.log.report(status, progress, nth, token=connection.dialect.answers)
            await connection.perform(step.outputs)

    def _until_resend(self, way: str | None) -> float:
        if way == "hang":
            return NEVER
        if way == "slow":
            return self.mishaps.draws.profile.slow_factor
        return self.mishaps.draws.delay("resend", self.mishaps.draws.profile.resend, self.sent)

    # ---- its answer

    def answered(self, answer: Answered) -> None:
        """Accepted: only now is the update complete. Rejected with a code that says nothing about the report: it is sent
        again."""  # atlas software-update step 9
        pending = self.agent.flash.pending
        if pending is None or answer.token != pending.token:
            self.log.answer(answer, None, None)
            return
        self.log.answer(answer, pending.job, self._first_sent)
        if answer.code not in TRY_AGAIN:
            self.done()

    def done(self, *, answered: bool = True) -> None:
        """The report was answered, or given up: the job is carried through."""
        flash = self.agent.flash
        flash.pending, flash.unanswered = None, None if answered else flash.pending
        self.agent.end(flash.job)
        self.agent.execution = None
        self.resend_at = NEVER
        self.mishaps.enter(_IDLE)

    async def supersede(self) -> None:
        """A newer order has stopped the job under way: end it, and say so once, to whoever can hear it."""
        agent, flash = self.agent, self.agent.flash
        agent.end(flash.job)
        if flash.pending is not None:
            self.log.given_up(flash.job, detail="superseded")
            flash.pending = None
        else:
            last = agent.progress(Status.FAILURE, "superseded")
            with contextlib.suppress(LinkError):  # who listens learns of it, once the new order is under way
                await self.say(Status.FAILURE, last)
        self.mishaps.enter(_IDLE)
        self.resend_at = NEVER
