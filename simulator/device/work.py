"""The work of an update: steps 5 to 7 of the pattern. Download, verify and install follow each other in a task of their
own, beside the conversation, so that the device goes on listening: a newer order can stop the work at any phase. At its
end the new software stands in the inactive slot and the device reboots, or a failure is reported.

For the download the device needs a *grant*: a URL that somebody signed for it, or a plain URL and a credential. A grant
comes with the delta; one that is refused or about to expire is asked for anew over the device's own connection, and the
answer is handed to the download that waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar

from simulator.device.agent import Partial, Reaction, Software, UpdateAgent
from simulator.device.chunks import ChunkSource
from simulator.device.connection import Connection
from simulator.device.download import DownloadFailed, Terms, Transfer, download
from simulator.device.mishaps import Mishaps, StageFailed
from simulator.device.reports import NEVER, TRY_AGAIN, Reports
from simulator.device.sources import Grant, HttpSource, Source
from simulator.dialects.base import Chunk, CredentialGranted, CredentialRefused, UpdateRequested
from simulator.model.errors import LinkError
from simulator.model.marker import markers
from simulator.model.scenario import Stage
from simulator.model.update import Artifact, Download, Phase, Status

_IDLE = Phase.IDLE  # a member is looked up slowly in Python 3.11
_BEGINS = (Reaction.START, Reaction.SUPERSEDE, Reaction.INSTALLED)
_ASK_FRESH_S = 5.0  # a URL that expires sooner than this is not worth a request


class Work:
    """One device's. `running_at` is when a RUNNING report is due next, by the loop's clock; `pretends`: the update under
    way is only pretended (a mishap); `bound` is the most that is downloaded, in bytes, where no size was announced."""

    transfer: ClassVar[type[Transfer]] = Transfer

    __slots__ = (
        "_bound",
        "_chunks",
        "_fresh",
        "_loop",
        "_task",
        "agent",
        "connection",
        "download",
        "mishaps",
        "pretends",
        "reports",
        "running_at",
    )

    def __init__(self, agent: UpdateAgent, mishaps: Mishaps, reports: Reports, bound: int) -> None:
        self.agent, self.mishaps, self.reports = agent, mishaps, reports
        self.connection: Connection = reports.connection
        self._bound = bound
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self.forget()

    def forget(self) -> None:
        """The power is off: what was only in memory is gone."""
        self.download: Download | None = None  # the grant, as last heard
        self._fresh: asyncio.Future[Any] | None = None  # waits for a newer grant or a credential
        self._chunks: ChunkSource | None = None  # of the download under way, where it comes in chunks
        self.pretends = False
        self.running_at = NEVER

    def start(self) -> None:
        """Begin with the execution that the agent has begun."""
        self.pretends = False
        self.mishaps.enter(Phase.DOWNLOADING)
        self.running_at = self._loop.time() + self.mishaps.draws.profile.running_interval
        self._task = self._loop.create_task(self._update(), name=f"update {self.mishaps.log.thing}")

    async def stop(self) -> None:
        """End what is under way, if anything. Raises what broke it."""
        task, self._task = self._task, None
        self.running_at = NEVER
        if task is None:
            return
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()  # a bug in it ends the device

    async def report_running(self, now: float) -> None:
        """Say that the update is under way; `now` (the loop's clock) is when that was due, from which the time until the next
        report counts. Raises LinkError."""
        self.running_at = now + self.mishaps.draws.profile.running_interval
        await self.reports.say(Status.RUNNING, self.agent.progress(Status.RUNNING))

    # ---- an order

    async def requested(self, request: UpdateRequested) -> None:
        """A desired state that differs: the "software update" command. Begin with it, take the newer grant from it, or
        pass it over; the agent decides."""  # atlas software-update step 5
        agent = self.agent
        request = agent.completed(request)
        execution = request.execution
        reaction = agent.consider(request)
        if reaction is Reaction.DUPLICATE and self.reports.may_be_lost(execution.id):
            reaction = Reaction.AGAIN
        self.mishaps.log.delta(request, reaction)
        if reaction in _BEGINS:
            if agent.phase is not _IDLE:
                await self.stop()
                await self.reports.supersede()
            self.download = request.download
            agent.begin(execution)
            if reaction is Reaction.INSTALLED:
                agent.adopt(execution.artifact.url)
                self.reports.due(Status.SUCCESS)
            else:
                self.start()
        elif reaction is Reaction.RUNNING:
            self.download = request.download
            if request.source == "get" and not request.download.needs_credential:
                self._resolve(Grant(request.download.url))
        elif reaction is Reaction.AGAIN:
            self.reports.again()

    # ---- its stages

    async def _update(self) -> None:
        """Download, verify, install, then reboot; or report what failed."""  # atlas software-update step 7
        agent, enter = self.agent, self.mishaps.enter
        profile, draws = self.mishaps.draws.profile, self.mishaps.draws
        execution = agent.execution
        assert execution is not None
        artifact = execution.artifact
        try:
            await self.mishaps.power.on()
            fetched = await self._fetch(artifact)
            if fetched:
                self.mishaps.heed(markers(fetched.head))
            enter(Phase.VERIFYING)
            trusts = await self._stage("verify", draws.value("verify", profile.verify)) == "lie"
            digest = fetched.hasher.hexdigest() if fetched else artifact.sha256 or ""
            if fetched and not trusts:
                _verify(artifact, fetched.received, digest)
            enter(Phase.INSTALLING)
            if await self._stage("install", draws.value("install", profile.install)) == "lie":
                self.pretends = True
            harm = self.mishaps.harm
            software = Software(artifact.version + (harm.label if harm is not None else ""), artifact.url, digest)
            if self.pretends:  # says that it runs what it never installed
                self._end(Status.SUCCESS, claimed=software)
                return
            agent.commit(software)
            self.mishaps.log.commit(artifact.version, digest, fetched.received if fetched else None, artifact.sha256)
            enter(Phase.REBOOTING)
            self.mishaps.power.off("reboot")
        except (StageFailed, DownloadFailed) as failure:
            agent.flash.partial = None
            self._end(Status.FAILURE, str(failure))
        except Exception:
            self.mishaps.power.off("broken")  # a bug: `stop` raises it where it is seen
            raise

    def _end(self, status: Status, reason: str = "", claimed: Software | None = None) -> None:
        self.running_at = NEVER
        self.reports.due(status, reason, claimed)

    async def _stage(self, stage: Stage, seconds: float) -> str | None:
        """A stage's time, and what goes wrong in it; the way in which it went wrong and yet went on."""
        await self.mishaps.power.on()
        way = self.mishaps.draw(stage)
        if way == "slow":
            seconds *= self.mishaps.draws.profile.slow_factor
        elif way not in (None, "lie"):
            await self._suffer(stage, way, seconds)
        if seconds:
            await asyncio.sleep(seconds)
        return way

    async def _suffer(self, stage: Stage, way: str, seconds: float) -> None:
        if way == "hang":
            self.running_at = NEVER
        await self.mishaps.suffer(stage, way, seconds)

    async def _fetch(self, artifact: Artifact) -> Partial | None:
        """The download stage; None when it is only pretended."""
        draws, agent, connection = self.mishaps.draws, self.agent, self.connection
        profile, harm = draws.profile, self.mishaps.harm
        bandwidth = draws.value("bandwidth", profile.bandwidth)
        way = self.mishaps.draw("download")
        if way == "slow":
            bandwidth /= profile.slow_factor
        elif way == "lie":
            self.pretends = True
            return None
        elif way is not None:
            await self._suffer("download", way, 0.0)
        terms = Terms(
            bandwidth,
            self._bound,
            profile.download_timeout,
            profile.download_retry,
            lambda nth: draws.delay("download retry", profile.download_retry, nth),
            lambda: connection.back_at - self._loop.time(),
        )
        space = harm.space_bytes if harm is not None else None

        def keep(partial: Partial) -> None:
            if space is not None and partial.received > space:
                raise DownloadFailed("no space left")
            agent.flash.partial = partial

        return await download(
            self._source(),
            artifact,
            terms,
            agent.flash.partial,
            grant=self.grant,
            keep=keep,
            record=self.mishaps.log.piece,
            transfer=self.transfer,
        )

    def _source(self) -> Source:
        """Where the download comes from, as its grant says."""
        known, connection = self.download, self.connection
        self._chunks = None
        if known is None or not known.chunk_bytes:
            return HttpSource(connection.wires.http)
        patience_s = self.mishaps.draws.profile.answer_timeout
        self._chunks = ChunkSource(connection, self.agent.flash.job, known.chunk_bytes, patience_s)
        return self._chunks

    def chunk(self, chunk: Chunk) -> None:
        """A chunk of the artifact has come."""
        if self._chunks is not None:
            self._chunks.heard(chunk)

    # ---- permission to download

    async def grant(self, fresh: bool) -> Grant:
        """The grant as announced; `fresh`, or where it is about to expire, one that is asked for anew. Raises
        DownloadFailed when that is refused."""
        known = self.download
        assert known is not None
        stale = known.expires_at is not None and known.expires_at < self.connection.wall() + _ASK_FRESH_S
        answer = None
        if known.needs_credential or fresh or stale:  # after 403: publish get, go on under the same job id
            answer = await self._ask_for(credential=known.needs_credential)
        return answer or Grant((self.download or known).url)

    async def _ask_for(self, *, credential: bool) -> Grant | None:
        """Ask over the device's connection and wait for the answer; None when none came in time. Raises DownloadFailed
        when refused."""
        connection = self.connection
        self._fresh = self._loop.create_future()
        try:
            async with asyncio.timeout(self.mishaps.draws.profile.answer_timeout):
                if connection.connected:
                    dialect, wall = connection.dialect, connection.wall()
                    job = self.agent.flash.job
                    with contextlib.suppress(LinkError):
                        step = dialect.ask_credential(job, wall) if credential else dialect.ask_current(wall)
                        await connection.perform(step.outputs)
                answer = await self._fresh
        except TimeoutError:
            return None
        finally:
            self._fresh = None
        if isinstance(answer, Grant):
            return answer
        raise answer

    def credential(self, answer: CredentialGranted | CredentialRefused) -> None:
        """The answer to a question for a credential."""
        if answer.job not in ("", self.agent.flash.job):
            return  # of a job that was superseded
        if isinstance(answer, CredentialGranted):
            self._resolve(Grant(self.download.url if self.download else "", answer.authorization))
        elif answer.code not in TRY_AGAIN:
            self._resolve(DownloadFailed(f"credential refused: {answer.code} {answer.message}"))

    def _resolve(self, answer: Grant | DownloadFailed) -> None:
        if self._fresh is not None and not self._fresh.done():
            self._fresh.set_result(answer)


def _verify(artifact: Artifact, received: int, digest: str) -> None:
    """Whether what was downloaded is what was announced. Raises StageFailed."""
    if artifact.size_bytes is not None and received != artifact.size_bytes:
        raise StageFailed(f"size {received}, announced {artifact.size_bytes}")
    if artifact.sha256 is not None and digest != artifact.sha256:
        raise StageFailed(f"sha256 {digest[:12]}…, announced {artifact.sha256[:12]}…")
