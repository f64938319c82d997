"""One virtual device as one coroutine, the same over real wires and in virtual time.

power on -> connect -> report, get -> wait for a delta
                          ^                  |
                          |        download, verify, install   (a task of its own, so that a newer
                          |                  |                  delta can supersede it at any phase)
confirm or roll back <- reboot <-------------'
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
from msgspec.structs import replace

from simulator.device.agent import Flash, Partial, Reaction, Software, UpdateAgent
from simulator.device.connection import Session
from simulator.device.download import DownloadFailed, Leave, Piece, Terms, Transfer, download
from simulator.device.profile import Draws
from simulator.dialects.base import (
    Answered,
    CredentialGranted,
    CredentialRefused,
    DeviceDialect,
    InSync,
    UpdateRequested,
)
from simulator.faults.harm import Harm
from simulator.links.base import Wires
from simulator.model.dice import Dice
from simulator.model.errors import LinkError, PeerError
from simulator.model.events import Kind
from simulator.model.marker import Marker, markers
from simulator.model.scenario import Profile, Stage
from simulator.model.update import Download, Phase, Progress, Status
from simulator.trace.recorder import Record

_NEVER = math.inf
_IDLE = Phase.IDLE  # a member is looked up slowly in Python 3.11
_BEGINS = (Reaction.START, Reaction.SUPERSEDE, Reaction.INSTALLED)
_TRY_AGAIN = (429, 500)  # the replica's codes that say nothing about the request
_DARK_S = 1.0  # no power cut is shorter: one at every start would let no virtual time pass
_AGES_S = 1e9  # whatever a backend says of its leave, the record can hold it
_ASK_FRESH_S = 5.0  # leave that expires sooner than this is not worth a request


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """What one device is: its identity, its nature, what it runs at first, and the bound of a download whose size
    nobody announced. `epoch` + the loop's clock is Unix time, as the device has it; `harm` is what befalls it."""

    thing: str
    profile: Profile
    software: Software
    bound: int = 1 << 30
    epoch: float = 0.0
    harm: Harm | None = None


class _StageFailed(Exception):
    """A stage of the update failed; the text is the reason that the device reports."""


class Device:
    """One device. What it is made of, and each of its steps, is a habit's to replace (habits.py)."""

    agent: ClassVar[type[UpdateAgent]] = UpdateAgent
    transfer: ClassVar[type[Transfer]] = Transfer
    session: ClassVar[type[Session]] = Session

    __slots__ = (
        "_agent",
        "_ask_at",
        "_back_at",
        "_download",
        "_draws",
        "_entered",
        "_first_sent",
        "_fresh",
        "_hung",
        "_lie",
        "_loop",
        "_off",
        "_offline_at",
        "_opening",
        "_power",
        "_record",
        "_repeats",
        "_resend_at",
        "_running_at",
        "_said_on",
        "_sent",
        "_session",
        "_spec",
        "_thing",
        "_work",
    )

    def __init__(self, spec: DeviceSpec, dialect: DeviceDialect, wires: Wires, record: Record, dice: Dice) -> None:
        self._spec, self._thing, self._record = spec, spec.thing, record
        self._draws = Draws(spec.profile, dice)
        self._session = self.session(spec.thing, dialect, wires, record, self._draws, spec.epoch)
        # no run begins where an earlier one's tokens may still be known: a replica answers a token but once
        self._agent = self.agent(Flash(spec.software, reports=int(self._session.wall() * 1000)))
        self._loop = asyncio.get_running_loop()
        self._work: asyncio.Task[None] | None = None
        self._power: asyncio.Timeout | None = None
        self._off = ""  # why the power went
        self._said_on = self._repeats = 0  # the connection over which the last report went; how often it was said anew
        self._entered = 0.0
        if spec.harm is not None:
            spec.harm.strike = self._power_off
        self._forget()

    def _forget(self) -> None:
        """What was only in memory."""
        self._opening: Progress | None = None  # the first report of the connection
        self._download: Download | None = None  # leave to download, as last heard
        self._fresh: asyncio.Future[Any] | None = None  # waits for newer leave or a credential
        self._lie = False  # the update under way is only pretended
        self._hung = False  # the pending report is never sent
        self._sent = 0  # how often the pending report was sent since the boot
        self._first_sent = self._back_at = 0.0
        self._ask_at = self._resend_at = self._running_at = self._offline_at = _NEVER

    # ---- power

    async def live(self, due: float) -> None:
        """Until cancelled; `due` is when it should have started (the loop's clock)."""
        how = "cold"
        try:
            while True:
                began = due if how == "cold" else self._loop.time()
                if how in ("reboot", "power-cut"):
                    await self._start(self._draws.value("reboot", self._spec.profile.reboot), cut=how == "power-cut")
                elif how == "vanish":
                    await self._loop.create_future()
                self._boot(how, began)
                how = await self._run(due if how == "cold" else self._loop.time())
        finally:
            self._retire()

    async def _start(self, seconds: float, *, cut: bool) -> None:
        """The time that a start takes; what can go wrong with it is that a candidate does not come up."""
        if cut:
            seconds = max(_DARK_S, seconds)
        if self._agent.flash.candidate is None:
            await asyncio.sleep(seconds)
        elif await self._sleep_stage("reboot", seconds) == "lie":
            self._lie, self._off = True, "boot-failed"

    def _boot(self, how: str, began: float) -> None:
        """The bootloader tries the candidate, if there is one, and keeps it only if its self-test passes."""
        agent, flash = self._agent, self._agent.flash
        tried = flash.candidate
        boots = self._off != "boot-failed"
        self._off = self._off if boots else ""
        keeps = tried is not None and agent.try_candidate(boots)
        active = flash.active
        self._record(
            Kind.BOOT,
            self._thing,
            status=how,
            version=active.version,
            digest=active.digest,
            span_us=round((self._loop.time() - began) * 1e6),
        )
        if tried is None:
            return
        if keeps:
            self._enter(Phase.CONFIRMING)
            self._record(Kind.CONFIRM, self._thing, job=flash.job, version=active.version, digest=active.digest)
            self._outcome(Status.SUCCESS)
        else:
            self._enter(Phase.ROLLING_BACK)
            self._record(
                Kind.ROLLBACK,
                self._thing,
                job=flash.job,
                version=active.version,
                digest=active.digest,
                detail="boot failed",
            )
            if self._lie:
                self._outcome(Status.SUCCESS, claimed=tried)
            else:
                self._outcome(Status.FAILURE, "boot failed")

    async def _run(self, due: float) -> str:
        """Stay on until the power goes; why it went."""
        try:
            async with asyncio.timeout(0 if self._off else None) as self._power:
                await self._powered()
                await self._stay_connected(due)
        except TimeoutError:
            if not self._off:
                raise
        finally:
            self._power = None  # it knows the task, and the task's end this device: a circle that nobody would break
            await self._stop_work()
        self._forget()
        off, self._off, self._session.deaf = self._off, "", False
        if off == "reboot":
            await self._session.close("reboot")
        else:
            self._session.drop(off)
            self._agent.power_lost()
        return off

    def _power_off(self, why: str) -> None:
        """Switch off at once, from wherever the device is; the first reason counts."""
        if not self._off:
            self._off, self._session.deaf = why, True
            if self._power is not None:
                self._power.reschedule(self._loop.time())

    async def _powered(self) -> None:
        """Go no further in the turn in which the power went. A start goes on to its end: nobody would end its wait."""
        if self._off and self._power is not None:
            await self._loop.create_future()

    async def _cut_power(self) -> None:
        """Switch off, and go no further: the power's timeout ends whoever waits here."""
        self._power_off("power-cut")
        await self._loop.create_future()

    def _retire(self) -> None:
        active = self._agent.flash.active
        self._record(Kind.RETIRED, self._thing, status=self._agent.phase, version=active.version, digest=active.digest)
        self._session.connected = False
        self._session.wires.mqtt.abort()

    # ---- the conversation

    async def _stay_connected(self, due: float) -> None:
        session, profile = self._session, self._spec.profile
        while True:
            way = await session.connect(due)
            if way == "crash":
                await self._cut_power()
            try:
                await self._converse(lie=way == "lie")
                session.drop("offline")
                away = self._draws.value("offline", profile.offline)
                self._back_at = self._loop.time() + away
                await asyncio.sleep(away)
            except (LinkError, PeerError) as error:
                session.drop("lost", str(error))
                await session.back_off()
            due = self._loop.time()

    async def _converse(self, *, lie: bool) -> None:
        """Talk until an offline window begins. Raises LinkError when the connection is lost, PeerError when the
        broker refuses what the device listens to."""
        session, profile = self._session, self._spec.profile
        self._offline_at = _NEVER
        if profile.online is not None:
            self._offline_at = self._loop.time() + self._draws.value("online", profile.online)
        await self._open(lie=lie)
        if self._agent.flash.pending is not None and not self._hung:
            await self._send_outcome()
        while True:
            wake = session.dialect.wake_at
            until = min(
                self._ask_at,
                self._resend_at,
                self._running_at,
                self._offline_at,
                _NEVER if wake is None else wake - self._spec.epoch,
            )
            signals = await session.hear(None if until == _NEVER else until)
            await self._powered()  # what arrives with the loss of power is not heard, and the broker keeps it
            if signals is None:
                if self._loop.time() >= self._offline_at:
                    return
                await self._timers()
                continue
            for signal in signals:
                await self._hear(signal)

    async def _open(self, *, lie: bool = False, again: bool = False) -> None:
        """Subscribe, report the initial state, ask for the desired one."""  # atlas replica: on every (re)connect
        if not again or self._opening is None:
            self._opening = self._agent.initial()
            if lie:
                self._opening = replace(self._opening, version=f"{self._opening.version}-lie")
        initial = self._opening  # atlas command: the same id on resend
        began = self._loop.time()
        await self._session.perform(self._session.dialect.open(initial, self._session.wall()))
        if self._session.dialect.answers:
            self._note_report("initial", initial, 1, span_us=round((self._session.granted_s - began) * 1e6))
        self._ask_at = self._loop.time() + self._spec.profile.answer_timeout

    async def _timers(self) -> None:
        """Whichever of the device's own clocks has rung."""
        now, session = self._loop.time(), self._session
        if now >= self._ask_at:
            await self._open(again=True)  # nobody answers: perhaps nobody heard the report either
        if now >= self._resend_at:
            await self._send_outcome()
        if now >= self._running_at:
            self._running_at = now + self._spec.profile.running_interval
            await self._say(Status.RUNNING, self._agent.progress(Status.RUNNING))
        if session.dialect.wake_at is not None and session.wall() >= session.dialect.wake_at:
            await session.perform(session.dialect.wake(session.wall()))

    async def _hear(self, signal: object) -> None:
        if isinstance(signal, UpdateRequested):
            await self._requested(signal)
        elif isinstance(signal, Answered):
            self._answered(signal)
        elif isinstance(signal, InSync):
            self._ask_at = _NEVER
        elif isinstance(signal, CredentialGranted | CredentialRefused):
            self._credential(signal)

    def _credential(self, answer: CredentialGranted | CredentialRefused) -> None:
        if answer.job not in ("", self._agent.flash.job):
            return  # of a job that was superseded
        if isinstance(answer, CredentialGranted):
            self._resolve(Leave(self._download.url if self._download else "", answer.authorization))
        elif answer.code not in _TRY_AGAIN:
            self._resolve(DownloadFailed(f"credential refused: {answer.code} {answer.message}"))

    async def _requested(self, request: UpdateRequested) -> None:
        """A desired state that differs: the "software update" command."""  # atlas software-update step 5
        agent = self._agent
        request = agent.completed(request)
        execution = request.execution
        if request.source == "get":
            self._ask_at = _NEVER
        reaction = agent.consider(request)
        if reaction is Reaction.DUPLICATE and self._may_be_lost(execution.id):
            reaction = Reaction.AGAIN
        expires = request.download.expires_at
        self._record(
            Kind.DELTA,
            self._thing,
            job=execution.id,
            status=reaction,
            version=execution.artifact.version,
            digest=execution.artifact.sha256,
            doc=request.doc,
            size=execution.artifact.size_bytes,
            span_us=None if expires is None else self._until(expires),
            detail=request.source,
        )
        if reaction in _BEGINS:
            if agent.phase is not _IDLE:
                await self._supersede()
            self._download = request.download
            agent.begin(execution)
            if reaction is Reaction.INSTALLED:
                agent.adopt(execution.artifact.url)
                self._outcome(Status.SUCCESS)
            else:
                self._start_work()
        elif reaction is Reaction.RUNNING:
            self._download = request.download
            if request.source == "get" and not request.download.needs_credential:
                self._resolve(Leave(request.download.url))
        elif reaction is Reaction.AGAIN:
            self._repeats += 1
            agent.flash.pending = agent.flash.unanswered
            self._enter(Phase.REPORTING)
            self._report_end()

    async def _supersede(self) -> None:
        """A newer order: stop what is under way, and say so once."""
        agent, flash = self._agent, self._agent.flash
        await self._stop_work()
        agent.end(flash.job)
        if flash.pending is not None:
            self._record(Kind.ANSWER, self._thing, job=flash.job, status="given-up", detail="superseded")
            flash.pending = None
        else:
            last = agent.progress(Status.FAILURE, "superseded")
            with contextlib.suppress(LinkError):  # who listens learns of it, once the new order is under way
                await self._say(Status.FAILURE, last)
        self._enter(_IDLE)
        self._resend_at = _NEVER

    # ---- reporting

    def _outcome(self, status: Status, reason: str = "", claimed: Software | None = None) -> None:
        """The update ended: its report is due, and stays in flash until it is answered."""
        # atlas software-update step 8
        agent = self._agent
        self._running_at, self._repeats = _NEVER, 0
        if agent.phase is not Phase.REPORTING:
            self._enter(Phase.REPORTING)
        agent.flash.pending = agent.progress(status, reason, claimed)
        self._report_end()

    def _report_end(self) -> None:
        self._sent, self._hung = 0, False
        self._resend_at = self._loop.time()
        self._session.wires.mqtt.wake()

    def _may_be_lost(self, job: str) -> bool:
        """Whether the report of this job's end went unanswered over a connection that is gone, and may be said again."""
        # atlas command: a sender that hears nothing resends, a bounded number of times
        last, attempts = self._agent.flash.unanswered, self._spec.profile.resend.attempts
        lost = last is not None and last.job == job and self._said_on < self._session.connections
        return lost and self._agent.phase is _IDLE and (attempts is None or self._repeats < attempts)

    async def _send_outcome(self) -> None:
        """Send the pending report, the same job id and token each time, or give it up."""
        session, resend, pending = self._session, self._spec.profile.resend, self._agent.flash.pending
        assert pending is not None
        way = None
        if self._sent == 0:
            self._first_sent = self._loop.time()
            way = self._mishap("report")
            if way == "crash":
                await self._cut_power()
            elif way == "lie":
                turned = Status.FAILURE if pending.status is Status.SUCCESS else Status.SUCCESS
                self._agent.flash.pending = pending = replace(pending, status=turned)
        elif resend.attempts is not None and self._sent >= resend.attempts:
            self._record(
                Kind.ANSWER, self._thing, job=pending.job, status="given-up", span_us=self._since(self._first_sent)
            )
            self._done(answered=False)
            return
        self._resend_at = self._loop.time() + self._until_resend(way)
        self._sent += 1
        self._said_on = session.connections
        if way in ("error", "hang", "slow"):  # lost before it left, or not sent yet
            self._hung = way == "hang"
            return
        await self._say(pending.status or "", pending, self._sent)
        if not session.dialect.answers:
            self._done(answered=False)

    async def _say(self, status: str, progress: Progress, nth: int = 1) -> None:
        """Send a report, if the dialect has words for it; it is recorded before anybody can have heard it."""
        session = self._session
        step = session.dialect.report(progress, session.wall())
        if step.outputs:
            self._note_report(status, progress, nth)
            await session.perform(step)

    def _until_resend(self, way: str | None) -> float:
        if way == "hang":
            return _NEVER
        if way == "slow":
            return self._spec.profile.slow_factor
        return self._draws.delay("resend", self._spec.profile.resend, self._sent)

    def _answered(self, answer: Answered) -> None:
        """Accepted: only now is the update complete."""  # atlas software-update step 9
        pending = self._agent.flash.pending
        awaited = pending is not None and answer.token == pending.token
        accepted = answer.code is None
        self._record(
            Kind.ANSWER,
            self._thing,
            job=pending.job if pending is not None and awaited else None,
            status="accepted" if accepted else "rejected",
            doc=answer.doc,
            span_us=self._since(self._first_sent) if awaited else None,
            detail=None if accepted else f"{answer.code} {answer.message}",
            token=answer.token or None,
        )
        if awaited and (accepted or answer.code not in _TRY_AGAIN):
            self._done()

    def _done(self, *, answered: bool = True) -> None:
        """The report was answered, or given up: the job is carried through."""
        flash = self._agent.flash
        flash.pending, flash.unanswered = None, None if answered else flash.pending
        self._agent.end(flash.job)
        self._agent.execution = None
        self._resend_at = _NEVER
        self._enter(_IDLE)

    # ---- the work

    def _start_work(self) -> None:
        self._lie = self._hung = False
        self._enter(Phase.DOWNLOADING)
        self._running_at = self._loop.time() + self._spec.profile.running_interval
        self._work = self._loop.create_task(self._perform_update(), name=f"update {self._spec.thing}")

    async def _stop_work(self) -> None:
        work, self._work = self._work, None
        self._running_at = _NEVER
        if work is None:
            return
        if not work.done():
            work.cancel()
            await asyncio.wait([work])
        if not work.cancelled():
            work.result()  # a bug in it ends the device

    async def _perform_update(self) -> None:
        """Download, verify, install, then reboot; or report what failed."""  # atlas software-update step 7
        profile, agent = self._spec.profile, self._agent
        execution = agent.execution
        assert execution is not None
        artifact = execution.artifact
        try:
            await self._powered()
            fetched = await self._fetch()
            if fetched:
                self._heed(markers(fetched.head))
            self._enter(Phase.VERIFYING)
            trusts = await self._sleep_stage("verify", self._draws.value("verify", profile.verify)) == "lie"
            digest = fetched.hasher.hexdigest() if fetched else artifact.sha256 or ""
            if fetched and not trusts:
                if artifact.size_bytes is not None and fetched.received != artifact.size_bytes:
                    raise _StageFailed(f"size {fetched.received}, announced {artifact.size_bytes}")
                if artifact.sha256 is not None and digest != artifact.sha256:
                    raise _StageFailed(f"sha256 {digest[:12]}…, announced {artifact.sha256[:12]}…")
            self._enter(Phase.INSTALLING)
            if await self._sleep_stage("install", self._draws.value("install", profile.install)) == "lie":
                self._lie = True
            label = self._spec.harm.label if self._spec.harm is not None else ""
            software = Software(artifact.version + label, artifact.url, digest)
            if self._lie:  # says that it runs what it never installed
                self._outcome(Status.SUCCESS, claimed=software)
                return
            agent.commit(software)
            self._record(
                Kind.COMMIT,
                self._thing,
                job=execution.id,
                version=artifact.version,
                digest=digest,
                size=fetched.received if fetched else None,
                detail=artifact.sha256,
            )
            self._enter(Phase.REBOOTING)
            self._power_off("reboot")
        except (_StageFailed, DownloadFailed) as failure:
            agent.flash.partial = None
            self._outcome(Status.FAILURE, str(failure))
        except Exception:
            self._power_off("broken")  # a bug: _stop_work raises it where it is seen
            raise

    async def _fetch(self) -> Partial | None:
        """The download stage; None when it is only pretended."""
        profile, agent, execution = self._spec.profile, self._agent, self._agent.execution
        assert execution is not None
        bandwidth = self._draws.value("bandwidth", profile.bandwidth)
        way = self._mishap("download")
        if way == "slow":
            bandwidth /= profile.slow_factor
        elif way == "lie":
            self._lie = True
            return None
        elif way is not None:
            await self._go_wrong("download", way, 0.0)
        terms = Terms(
            bandwidth,
            self._spec.bound,
            profile.download_timeout,
            profile.download_retry,
            lambda nth: self._draws.delay("download retry", profile.download_retry, nth),
            lambda: self._back_at - self._loop.time(),
        )

        space = self._spec.harm.space_bytes if self._spec.harm is not None else None

        def keep(partial: Partial) -> None:
            if space is not None and partial.received > space:
                raise DownloadFailed("no space left")
            agent.flash.partial = partial

        return await download(
            self._session.wires.http,
            execution.artifact,
            terms,
            agent.flash.partial,
            leave=self._leave,
            keep=keep,
            record=self._note_piece,
            transfer=self.transfer,
        )

    async def _leave(self, fresh: bool) -> Leave:
        """Leave to download: as announced, or minted anew over the device's own channel."""
        leave = self._download
        assert leave is not None
        stale = leave.expires_at is not None and leave.expires_at < self._session.wall() + _ASK_FRESH_S
        answer = None
        if leave.needs_credential or fresh or stale:  # after 403: publish get, go on under the same job id
            answer = await self._ask_for(credential=leave.needs_credential)
        return answer or Leave((self._download or leave).url)

    async def _ask_for(self, *, credential: bool) -> Leave | None:
        """Ask over MQTT and wait for the answer; None when none came in time. Raises DownloadFailed when refused."""
        session = self._session
        self._fresh = self._loop.create_future()
        try:
            async with asyncio.timeout(self._spec.profile.answer_timeout):
                if session.connected:
                    dialect, wall = session.dialect, session.wall()
                    job = self._agent.flash.job
                    with contextlib.suppress(LinkError):
                        await session.perform(
                            dialect.ask_credential(job, wall) if credential else dialect.ask_current(wall)
                        )
                answer = await self._fresh
        except TimeoutError:
            return None
        finally:
            self._fresh = None
        if isinstance(answer, Leave):
            return answer
        raise answer

    def _resolve(self, answer: Leave | DownloadFailed) -> None:
        if self._fresh is not None and not self._fresh.done():
            self._fresh.set_result(answer)

    # ---- mishaps

    def _heed(self, found: list[Marker]) -> None:
        """What markers in the software make go wrong on this device."""
        meant = []
        for marker in found:
            if not marker.stage:
                self._note_mishap("download", "ignored", marker.text)
            elif marker.share == 1 or self._draws.dice.roll(f"marker {marker.stage} {marker.way}") < marker.share:
                meant.append(marker)
        self._agent.flash.marks = tuple(meant)

    def _mishap(self, stage: Stage) -> str | None:
        """How this stage goes wrong, by the profile or by a marker in the software; None where it does not."""
        way: str | None = self._draws.mishap(stage)
        cause = None
        for mark in self._agent.flash.marks:
            if way is None and mark.stage == stage:
                way, cause = mark.way, mark.text
        if way is not None:
            self._note_mishap(stage, way, cause)
        return way

    def _note_mishap(self, stage: Stage, way: str, cause: str | None) -> None:
        self._record(Kind.MISHAP, self._thing, job=self._agent.flash.job, phase=stage, status=way, detail=cause)

    async def _sleep_stage(self, stage: Stage, seconds: float) -> str | None:
        """A stage's time, and what the profile makes go wrong in it; the way it went wrong and yet went on."""
        await self._powered()
        way = self._mishap(stage)
        if way == "slow":
            seconds *= self._spec.profile.slow_factor
        elif way not in (None, "lie"):
            await self._go_wrong(stage, way, seconds)
        if seconds:
            await asyncio.sleep(seconds)
        return way

    async def _go_wrong(self, stage: Stage, way: str, seconds: float) -> None:
        if stage == "reboot":
            if way == "hang":
                await self._loop.create_future()
            self._off = "boot-failed"  # error and crash: the new slot does not come up
        elif way == "error":
            await asyncio.sleep(seconds)
            raise _StageFailed(f"{stage} error")
        elif way == "crash":
            await asyncio.sleep(seconds * self._draws.dice.roll(f"crash {stage}"))
            await self._cut_power()
        elif way == "hang":
            self._running_at = _NEVER
            await self._loop.create_future()
        elif way == "vanish":
            self._power_off("vanish")
            await self._loop.create_future()

    # ---- the record

    def _since(self, then: float) -> int:
        return round((self._loop.time() - then) * 1e6)

    def _until(self, wall_s: float) -> int:
        return round(max(-_AGES_S, min(wall_s - self._session.wall(), _AGES_S)) * 1e6)

    def _enter(self, phase: Phase) -> None:
        """Move to another phase, by the table, and record how long the last one took."""
        left, now = self._agent.move(phase), self._loop.time()
        span_us = None if left is _IDLE else round((now - self._entered) * 1e6)
        self._entered = now
        self._record(Kind.PHASE, self._thing, job=self._agent.flash.job, phase=left, status=phase, span_us=span_us)
        if self._spec.harm is not None and (act := self._spec.harm.at_phase(phase)):
            self._power_off(act)

    def _note_report(self, status: str, progress: Progress, nth: int, span_us: int | None = None) -> None:
        self._record(
            Kind.REPORT,
            self._thing,
            job=progress.job or None,
            status=status,
            version=progress.version,
            digest=self._agent.flash.active.digest,
            phase=progress.phase or None,
            size=nth,
            span_us=span_us,
            detail=progress.reason or None,
            token=progress.token if self._session.dialect.answers else None,
        )

    def _note_piece(self, piece: Piece) -> None:
        detail: dict[str, object] = {"offset": piece.offset, "etag": piece.etag}
        if piece.error:
            detail["error"] = piece.error
        if piece.retry_after_s:
            detail["retry_after_s"] = piece.retry_after_s
        self._record(
            Kind.DOWNLOAD,
            self._thing,
            job=self._agent.flash.job,
            status=str(piece.status),
            size=piece.received,
            span_us=self._since(piece.began),
            detail=orjson.dumps(detail).decode(),
        )


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
