"""What a device says and hears while it is on: steps 1 and 5 of the pattern.

Every connection is opened alike: subscribe, report the initial state, ask for what is desired. The question is repeated,
with the same initial report, until it is answered. After that the device waits for whichever comes first: a message, or
one of its own clocks (the question, a report's resend, a RUNNING report, the dialect's poll, the begin of an offline
window). What is heard is handed to the part that it concerns. When the connection is lost it is made again, as long as
the power is on."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from simulator.device.agent import UpdateAgent
from simulator.device.connection import Connection
from simulator.device.mishaps import Mishaps
from simulator.device.reports import NEVER, Reports
from simulator.device.work import Work
from simulator.dialects.base import (
    Answered,
    Chunk,
    CredentialGranted,
    CredentialRefused,
    InSync,
    Said,
    UpdateRequested,
)
from simulator.model.errors import LinkError, PeerError
from simulator.model.io import Subscribe
from simulator.model.update import Progress


class Conversation:
    """One device's. `ask_at` is when the question for the desired state is due again, by the loop's clock."""

    __slots__ = (
        "_loop",
        "_offline_at",
        "_opening",
        "agent",
        "ask_at",
        "connection",
        "mishaps",
        "reports",
        "work",
    )

    def __init__(self, agent: UpdateAgent, mishaps: Mishaps, reports: Reports, work: Work) -> None:
        self.agent, self.mishaps, self.reports, self.work = agent, mishaps, reports, work
        self.connection: Connection = reports.connection
        self._loop = asyncio.get_running_loop()
        self.forget()

    def forget(self) -> None:
        """The power is off: what was only in memory is gone."""
        self._opening: Progress | None = None  # the first report of the connection
        self.connection.back_at = 0.0
        self.ask_at = self._offline_at = NEVER

    async def go_on(self, due: float) -> None:
        """Connect, converse, and connect again, until cancelled; `due` is when the first attempt should have begun (the
        loop's clock)."""
        connection, draws = self.connection, self.mishaps.draws
        while True:
            way = await connection.connect(due)
            if way == "crash":
                await self.mishaps.power.cut()
            try:
                await self._converse(lie=way == "lie")
                connection.drop("offline")
                away = draws.value("offline", draws.profile.offline)
                connection.back_at = self._loop.time() + away
                await asyncio.sleep(away)
            except (LinkError, PeerError) as error:
                connection.drop("lost", str(error))
                await connection.back_off()
            due = self._loop.time()

    async def _converse(self, *, lie: bool) -> None:
        """Talk until an offline window begins. Raises LinkError when the connection is lost, PeerError when the
        broker refuses what the device listens to."""
        connection, draws = self.connection, self.mishaps.draws
        reports, work, power = self.reports, self.work, self.mishaps.power
        self._offline_at = NEVER
        if draws.profile.online is not None:
            self._offline_at = self._loop.time() + draws.value("online", draws.profile.online)
        await self.open(lie=lie)
        if self.agent.flash.pending is not None and not reports.hung:
            await self.report()
        while True:
            wake = connection.dialect.wake_at
            until = min(
                self.ask_at,
                reports.resend_at,
                work.running_at,
                self._offline_at,
                NEVER if wake is None else wake - connection.epoch,
            )
            signals = await connection.hear(None if until == NEVER else until)
            await power.on()  # what arrives with the loss of power is not heard, and the broker keeps it
            if signals is None:
                if self._loop.time() >= self._offline_at:
                    return
                await self._timers()
                continue
            for signal in signals:
                await self.hear(signal)

    async def open(self, *, lie: bool = False, again: bool = False) -> None:
        """Subscribe, report the initial state, ask for the desired one. `lie`: report another version than runs;
        `again`: nobody has answered, say the same once more."""  # atlas replica: on every (re)connect
        connection = self.connection
        if not again or self._opening is None:
            self._opening = self.agent.initial()
            if lie:
                self._opening = replace(self._opening, version=f"{self._opening.version}-lie")
        initial = self._opening  # atlas command: the same id on resend
        began = self._loop.time()
        step = connection.dialect.open(initial, connection.wall())
        first = 1 if step.outputs and isinstance(step.outputs[0], Subscribe) else 0
        await connection.perform(step.outputs[:first])
        span_us = round((self._loop.time() - began) * 1e6)  # until it was granted
        await connection.perform(step.outputs[first:])
        for signal in step.signals:
            if isinstance(signal, Said):
                answers = connection.dialect.answers
                self.mishaps.log.report("initial", signal.progress, 1, token=answers, span_us=span_us)
        self.ask_at = self._loop.time() + self.mishaps.draws.profile.answer_timeout

    async def report(self) -> None:
        """Send the pending report, or give it up. Raises LinkError."""
        await self.reports.send()

    async def _timers(self) -> None:
        """Whichever of the device's own clocks has rung."""
        now, connection = self._loop.time(), self.connection
        if now >= self.ask_at:
            await self.open(again=True)  # nobody answers: perhaps nobody heard the report either
        if now >= self.reports.resend_at:
            await self.report()
        if now >= self.work.running_at:
            await self.work.report_running(now)
        wake_at = connection.dialect.wake_at
        if wake_at is not None and now >= wake_at - connection.epoch:
            await connection.perform(connection.dialect.wake(connection.wall()).outputs)

    async def hear(self, signal: object) -> None:
        """Act upon what a message meant."""
        if isinstance(signal, UpdateRequested):
            if signal.source == "get":
                self.ask_at = NEVER
            await self.work.requested(signal)
        elif isinstance(signal, Answered):
            self.reports.answered(signal)
        elif isinstance(signal, InSync):
            self.ask_at = NEVER
        elif isinstance(signal, CredentialGranted | CredentialRefused):
            self.work.credential(signal)
        elif isinstance(signal, Chunk):
            self.work.chunk(signal)
