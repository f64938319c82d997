"""The replica at work: it takes requests from MQTT, commits them, and only then answers.

Two tasks share the work. The listener takes one request after the other, has the core decide it, and puts the decision
in line. The committer takes all decisions that have gathered, commits their rows at once, and then sends the answers
and acknowledges the requests. What comes in while one commit runs makes up the next one, so that a slow disk makes
commits larger, not more numerous. A request that was not answered, because the connection was lost, was not
acknowledged to the broker either: it comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from simulator.dialects.base import ReplicaDialect
from simulator.links.base import MqttLink
from simulator.links.perform import perform
from simulator.model.errors import LinkError, PeerError
from simulator.model.events import Kind
from simulator.model.io import Message
from simulator.model.scenario import SERVICE_RECONNECT
from simulator.replica.core import Decision, Replica, Row
from simulator.replica.database import Database
from simulator.trace.recorder import Record

_NOTHING = Decision(None, (), ())
_LOOK_S = 1.0  # so long after a delta it is looked whether all have their PUBACKs


def _nobody() -> None:
    """Nobody asked."""


class BackendService:
    """Binds a replica and its database to an MQTT link. `epoch` + the loop's clock is Unix time."""

    def __init__(
        self,
        link: MqttLink,
        dialect: ReplicaDialect,
        replica: Replica,
        database: Database,
        record: Record,
        epoch: float,
    ) -> None:
        self._link, self._dialect, self._replica, self._database = link, dialect, replica, database
        self._record, self._epoch = record, epoch
        self._loop = asyncio.get_running_loop()
        self._pending: list[tuple[Decision, Callable[[], None]]] = []  # with what to call when it was answered
        self._idle: asyncio.Future[None] | None = None  # what the committer waits for
        self._refused = link.refused  # messages, as of the last look
        self._look_at: asyncio.TimerHandle | None = None  # while deltas may have no PUBACK
        self._resumes = False  # it started over rows, whose deltas may never have been published

    async def load(self) -> None:
        """Fill the replica with what the database holds, before it runs."""
        replica = self._replica
        replica.rows.update((row.thing, row) for row in await self._database.load())
        self._resumes = bool(replica.rows)
        for note in replica.loaded():
            self._record(note.kind, note.thing, **note.columns)

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled; `ready` is set once it is subscribed. Raises PartDied when the database fails."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._commit_forever(), name="committer")
                tasks.create_task(self._listen(ready), name="listener")
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            if self._look_at is not None:
                self._look_at.cancel()
                self._note_acknowledged()

    async def read(self, thing: str) -> Row | None:
        """A thing's row, once it is committed: what a reader saw is not taken back by a crash."""
        row = self._replica.rows.get(thing)
        committed = asyncio.Event()
        self._line_up(_NOTHING, committed.set)
        await committed.wait()
        return row

    async def _listen(self, ready: asyncio.Event) -> None:
        attempts = 0
        while True:
            try:
                unacknowledged = self._link.unacknowledged
                resumed = await self._link.connect()
                if unacknowledged and not resumed:
                    self._record(Kind.ACKNOWLEDGED, status="lost")
                await perform(self._dialect.open().outputs, self._link)
                if self._resumes:
                    self._resumes = False
                    for decision in self._replica.outstanding(self._loop.time() + self._epoch):
                        self._line_up(decision, _nobody)
                ready.set()
                attempts = 0
                while True:
                    await self._hear()
            except (LinkError, PeerError):
                self._link.abort()
                await asyncio.sleep(SERVICE_RECONNECT.delay(attempts, 0.0))
                attempts += 1

    async def _hear(self) -> None:
        delivery = await self._link.receive()
        if delivery is None:
            return
        request = self._dialect.parse(Message(delivery.topic, delivery.payload))
        if request is None:
            delivery.ack()
            return
        self._line_up(self._replica.decide(request, self._loop.time() + self._epoch), delivery.ack)

    def _line_up(self, decision: Decision, answered: Callable[[], None]) -> None:
        self._pending.append((decision, answered))
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _commit_forever(self) -> None:
        """What gathers while one commit runs is the next commit."""
        while True:
            if not self._pending:
                self._idle = self._loop.create_future()
                await self._idle
            batch, self._pending = self._pending, []
            rows = [decision.row for decision, _ in batch if decision.row is not None]
            if rows:
                await self._database.commit(rows)
            for decision, answered in batch:
                await self._answer(decision, answered)

    async def _answer(self, decision: Decision, answered: Callable[[], None]) -> None:
        """Only now: it is committed. A lost connection leaves the request unacknowledged, to come again."""
        deltas = False
        for note in decision.notes:
            self._record(note.kind, note.thing, **note.columns)
            deltas |= note.kind == Kind.SENT_DELTA
        try:
            await perform(decision.outputs, self._link)
        except LinkError:
            if deltas:
                self._record(Kind.ACKNOWLEDGED, status="lost")
            return
        answered()
        if deltas and self._look_at is None:
            self._look_at = self._loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._look_at = None if self._note_acknowledged() else self._loop.call_later(_LOOK_S, self._look)

    def _note_acknowledged(self) -> bool:
        """Say whether the broker has taken all deltas, once all have their PUBACKs."""
        if self._link.unacknowledged:
            return False
        before, self._refused = self._refused, self._link.refused
        self._record(Kind.ACKNOWLEDGED, status="all" if self._refused == before else "lost")
        return True
