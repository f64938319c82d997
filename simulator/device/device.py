"""The life of one virtual device, the same over real wires and in virtual time.

power on -> connect -> report, get -> wait for a delta
                          ^                  |
                          |        download, verify, install   (a task of its own, so that a newer
                          |                  |                  delta can supersede it at any phase)
confirm or roll back <- reboot <-------------'

A device is one coroutine, `live`, which alternates between being off and being on. While it is on it converses with its
service (conversation.py), and an order begins its work (work.py), which ends in a report (reports.py). When the power
goes (power.py), by a reboot, a cut or a fault, all of that ends in the same turn; what was in memory is forgotten, and
what was in flash (agent.py) is there at the next boot. Then the bootloader tries the slot that was written, and keeps it
or goes back, which is the outcome that the device reports.

The parts are made here, in an order in which each knows only those before it:

power, log <- mishaps <- connection <- reports <- work <- conversation <- device

Each part is a class attribute of Device, for which a bad habit puts in another one (habits.py)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from simulator.device.agent import Flash, Software, UpdateAgent
from simulator.device.connection import Connection, HttpConnection, MqttConnection
from simulator.device.conversation import Conversation
from simulator.device.log import Log
from simulator.device.mishaps import Mishaps
from simulator.device.power import Power
from simulator.device.profile import Draws
from simulator.device.reports import Reports
from simulator.device.work import Work
from simulator.dialects.base import DeviceDialect
from simulator.faults.harm import Harm
from simulator.links.base import Wires
from simulator.model.dice import Dice
from simulator.model.errors import NotSimulated
from simulator.model.scenario import Profile
from simulator.model.update import Phase, Status
from simulator.trace.recorder import Record

_DARK_S = 1.0  # no power cut is shorter: one at every start would let no virtual time pass


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """What one device is: its identity, its nature, what it runs at first, and the bound of a download (bytes) whose
    size nobody announced. `epoch` + the loop's clock is Unix time, as the device has it; `harm` is what befalls it."""

    thing: str
    profile: Profile
    software: Software
    bound: int = 1 << 30
    epoch: float = 0.0
    harm: Harm | None = None


class Device:
    """One device, made of its parts."""

    agent_kind: ClassVar[type[UpdateAgent]] = UpdateAgent
    connection_kind: ClassVar[type[MqttConnection]] = MqttConnection
    reports_kind: ClassVar[type[Reports]] = Reports
    work_kind: ClassVar[type[Work]] = Work
    conversation_kind: ClassVar[type[Conversation]] = Conversation

    __slots__ = ("_log", "_loop", "agent", "connection", "conversation", "mishaps", "power", "reports", "work")

    def __init__(self, spec: DeviceSpec, dialect: DeviceDialect, wires: Wires, record: Record, dice: Dice) -> None:
        self._loop = asyncio.get_running_loop()
        draws = Draws(spec.profile, dice)
        # no run begins where an earlier one's tokens may still be known: a replica answers a token but once
        flash = Flash(spec.software, reports=int((self._loop.time() + spec.epoch) * 1000))
        agent = self.agent = self.agent_kind(flash)
        power = self.power = Power()
        log = self._log = Log(record, spec.thing, agent, spec.epoch)
        mishaps = self.mishaps = Mishaps(power, log, agent, draws, spec.harm)
        kind: type[Connection] = self.connection_kind
        if "mqtt" not in dialect.roads:
            if kind is not MqttConnection:
                raise NotSimulated(f"the habit {kind.__name__} of {spec.thing}, whose dialect speaks over HTTP alone")
            kind = HttpConnection
        self.connection = kind(dialect, wires, power, log, draws, spec.epoch)
        self.reports = self.reports_kind(agent, log, mishaps, self.connection)
        self.work = self.work_kind(agent, mishaps, self.reports, spec.bound)
        self.conversation = self.conversation_kind(agent, mishaps, self.reports, self.work)
        if spec.harm is not None:
            spec.harm.strike = power.off

    async def live(self, due: float) -> None:
        """Until cancelled; `due` is when it should have started (the loop's clock)."""
        how, draws = "cold", self.mishaps.draws
        try:
            while True:
                began, boots = due if how == "cold" else self._loop.time(), True
                if how in ("reboot", "power-cut"):
                    seconds = draws.value("reboot", draws.profile.reboot)
                    boots = await self._start(max(_DARK_S, seconds) if how == "power-cut" else seconds)
                elif how == "vanish":
                    await self._loop.create_future()
                self._boot(how, began, boots)
                how = await self._run(due if how == "cold" else self._loop.time())
        finally:
            self._log.retired()
            self.connection.abort()

    async def _start(self, seconds: float) -> bool:
        """The time that a start takes; False when the software that it should try does not come up. Power that goes
        meanwhile is off once the start has ended: `_run` finds it gone."""
        if self.agent.flash.candidate is None:
            await asyncio.sleep(seconds)
            return True
        way = self.mishaps.draw("reboot")
        if way == "hang":
            await self._loop.create_future()
        if way == "slow":
            seconds *= self.mishaps.draws.profile.slow_factor
        if seconds:
            await asyncio.sleep(seconds)
        self.work.pretends = way == "lie"
        return way in (None, "slow")

    def _boot(self, how: str, began: float, boots: bool) -> None:
        """The bootloader tries the candidate, if there is one, and keeps it only if its self-test passes."""
        agent = self.agent
        tried = agent.flash.candidate
        keeps = tried is not None and agent.try_candidate(boots)
        self._log.boot(how, began)
        if tried is None:
            return
        if keeps:
            self.mishaps.enter(Phase.CONFIRMING)
            self._log.confirm()
            self.reports.due(Status.SUCCESS)
        else:
            self.mishaps.enter(Phase.ROLLING_BACK)
            self._log.rollback()
            if self.work.pretends:
                self.reports.due(Status.SUCCESS, claimed=tried)
            else:
                self.reports.due(Status.FAILURE, "boot failed")

    async def _run(self, due: float) -> str:
        """Stay on until the power goes; why it went."""
        power = self.power
        try:
            async with power.supply():
                await power.on()
                await self.conversation.go_on(due)
        except TimeoutError:
            if not power.why:
                raise
        finally:
            power.ended()
            await self.work.stop()
        for part in (self.reports, self.work, self.conversation):
            part.forget()
        off = power.reset()
        if off == "reboot":
            await self.connection.close("reboot")
        else:
            self.connection.drop(off)
            self.agent.power_lost()
        return off


async def run_device(
    spec: DeviceSpec,
    dialect: DeviceDialect,
    wires: Wires,
    record: Record,
    dice: Dice,
    due: float | None = None,
    made: type[Device] = Device,
) -> None:
    """Run one device until cancelled. `due` is when it should have started (the loop's clock); `made` is how it was
    built."""
    device = made(spec, dialect, wires, record, dice)
    await device.live(asyncio.get_running_loop().time() if due is None else due)
