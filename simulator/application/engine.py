"""The driver: carries rollouts' offers to the backend over MQTT, resends what is not answered, hears the outcomes."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque

import orjson

from simulator.application.rollout import Changed, Done, Moved, Offer, Rollout
from simulator.dialects.base import ApplicationDialect, OfferAnswered, Reported
from simulator.links.base import MqttLink
from simulator.model.dice import draw
from simulator.model.errors import LinkError, PeerError
from simulator.model.events import Kind
from simulator.model.io import Message, Publish, Step, Subscribe
from simulator.model.scenario import SERVICE_RECONNECT
from simulator.model.update import Artifact, Execution, Outcome, State
from simulator.trace.recorder import Record

_CHUNK = 64  # offers between two looks at what came in
_COUNTERS_S = 1.0
_PASSING = (429, 500)  # refusals that say nothing of the offer: it is made again


class _Open:
    """An offer not answered yet."""

    __slots__ = ("execution", "first", "rollout", "sent")

    def __init__(self, execution: Execution, rollout: Rollout, first: float) -> None:
        self.execution, self.rollout, self.first, self.sent = execution, rollout, first, 1


class Application:
    """Runs rollouts over one MQTT connection; it learns outcomes only from messages.

    `versions` is what each thing last reported to run. `epoch` + the loop's clock is Unix time.
    """

    def __init__(
        self, link: MqttLink, dialect: ApplicationDialect, record: Record, *, seed: int, epoch: float = 0.0
    ) -> None:
        self._link, self._dialect, self._record = link, dialect, record
        self._seed, self._epoch = seed, epoch
        self._loop = asyncio.get_running_loop()
        self.rollouts: dict[str, Rollout] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._counted: dict[str, tuple[float, list[int]]] = {}
        self._open: dict[str, _Open] = {}
        self._resends: list[tuple[float, int, str]] = []
        self._ticks = itertools.count()
        self._due: deque[tuple[Rollout, Offer]] = deque()  # to be sent; a lost connection loses none of them
        self._moved = True  # a rollout has changed other than by its clock
        self._wake_at: float | None = None  # when a rollout's clock rings next
        self.versions: dict[str, str] = {}
        self.begun = asyncio.Event()  # set once a rollout is there

    def add(self, rollout: Rollout) -> asyncio.Event:
        """Start a rollout; the event is set when it has ended."""
        name, artifact = rollout.spec.name, rollout.artifact
        for thing, cohort in rollout.targets():
            self._record(Kind.TARGET, thing, job=name, version=artifact.version, digest=artifact.sha256, detail=cohort)
        self.rollouts[name] = rollout
        self.begun.set()
        ended = self._ended[name] = asyncio.Event()
        self.stir()
        return ended

    @property
    def unsent(self) -> int:
        """How many offers are due and have not been sent yet."""
        return len(self._due)

    def stir(self) -> None:
        """Look at the rollouts now, whatever is waited for: one was added, or an operator has changed one."""
        self._moved = True
        self._link.wake()

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled; `ready` is set once it is subscribed."""
        attempts = 0
        while True:
            try:
                await self._link.connect()
                await self._perform(self._dialect.open(self._now()))
                ready.set()
                attempts = 0
                while True:
                    await self._turn()
            except (LinkError, PeerError):
                self._link.abort()
                await asyncio.sleep(SERVICE_RECONNECT.delay(attempts, 0.0))
                attempts += 1

    def clock(self) -> float:
        """The clock of its rollouts."""
        return self._loop.time()

    def _now(self) -> float:
        return self._loop.time() + self._epoch

    async def _perform(self, step: Step) -> None:
        for output in step.outputs:
            if isinstance(output, Publish):
                await self._link.publish(output.topic, output.payload, qos=output.qos, retain=output.retain)
            elif isinstance(output, Subscribe):
                await self._link.subscribe(output.filters, qos=output.qos, no_local=output.no_local)

    # ---- one turn: offer what is due, resend, hear what came

    async def _turn(self) -> None:
        if self._moved or (self._wake_at is not None and self._wake_at <= self._loop.time()):
            self._moved = False
            self._advance_all()
        else:
            for rollout in self.rollouts.values():
                self._count(rollout)
        while self._due:
            await self._offer(*self._due.popleft())
        until, resend_at = self._wake_at, await self._resend()
        if resend_at is not None and (until is None or resend_at < until):
            until = resend_at
        delivery = await self._link.receive(self._loop.time() if self._moved else until)
        if delivery is None:
            return
        message = Message(delivery.topic, delivery.payload, delivery.qos, delivery.retain)
        for signal in self._dialect.receive(message, self._now()).signals:
            self._hear(signal)
        delivery.ack()

    def _advance_all(self) -> None:
        until: float | None = None
        for rollout in self.rollouts.values():
            wake = self._advance(rollout)
            until = wake if until is None or (wake is not None and wake < until) else until
        self._wake_at = until

    def _advance(self, rollout: Rollout) -> float | None:
        """Line up a chunk of what is due; when to come again."""
        if self._ended[rollout.spec.name].is_set():
            return None
        now = self._loop.time()
        todo = rollout.op(now, _CHUNK)
        self._tell(rollout)
        if isinstance(todo, Done):
            return None
        if not isinstance(todo, list):
            return todo.wake_at
        self._due.extend((rollout, offer) for offer in todo)
        return now

    async def _offer(self, rollout: Rollout, offer: Offer) -> None:
        execution, now = offer.execution, self._loop.time()
        if not rollout.under_way(execution):
            return
        for older in self.rollouts.values():  # the newest wins
            if older is rollout:
                break
            older.give_way(execution.thing, rollout.spec.name)
            self._moved = True
        self._open[execution.id] = _Open(execution, rollout, now)
        self._note_offer(execution, "sent", now - offer.due, token=self._dialect.token(execution.id))
        self._arm(execution.id, rollout, 0)
        await self._perform(self._dialect.offer(execution, self._now()))

    def _arm(self, job: str, rollout: Rollout, nth: int) -> None:
        delay = rollout.spec.offer.delay(nth, draw(self._seed, job, "offer", nth))
        heapq.heappush(self._resends, (self._loop.time() + delay, next(self._ticks), job))

    async def _resend(self) -> float | None:
        """Say again what was not answered, the same job id, until the budget is spent."""  # atlas command
        while self._resends:
            due, _, job = self._resends[0]
            held = self._open.get(job)
            if held is not None and due > self._loop.time():
                return due
            heapq.heappop(self._resends)
            if held is None:
                continue
            attempts = held.rollout.spec.offer.attempts
            if not held.rollout.under_way(held.execution) or (attempts is not None and held.sent >= attempts):
                del self._open[job]
                self._note_offer(held.execution, "unanswered", self._loop.time() - held.first)
                self._observe(Outcome(held.execution.thing, job, State.UNKNOWN, "the offer was never answered"))
                continue
            held.sent += 1
            since_s = self._loop.time() - held.first
            self._note_offer(held.execution, "resent", since_s, token=self._dialect.token(job))
            self._arm(job, held.rollout, held.sent - 1)
            await self._perform(self._dialect.offer(held.execution, self._now()))
        return None

    def _hear(self, signal: object) -> None:
        if isinstance(signal, OfferAnswered):
            self._answered(signal)
        elif isinstance(signal, Reported):
            if signal.version:
                self.versions[signal.thing] = signal.version
            if signal.outcome is not None:
                self._answered(OfferAnswered(signal.thing, signal.outcome.execution))  # who speaks of it has it
                self._observe(signal.outcome)

    def _answered(self, answer: OfferAnswered) -> None:
        held = self._open.get(answer.job)
        status = "accepted" if answer.code is None else "rejected"
        detail = "" if answer.code is None else f"{answer.code} {answer.message}"
        if held is None:
            self._note_one_more(answer, status, detail)
            return
        span_s = self._loop.time() - held.first
        self._note_offer(held.execution, status, span_s, detail, doc=answer.doc, token=answer.token)
        if answer.code in _PASSING:
            return
        del self._open[answer.job]
        if answer.code is not None:
            self._observe(Outcome(answer.thing, answer.job, State.REJECTED, detail))

    def _observe(self, outcome: Outcome) -> None:
        for rollout in self.rollouts.values():
            if rollout.observe(outcome, self._loop.time()):
                self._moved = True
                self._tell(rollout)
                return

    # ---- the record

    def _note_offer(
        self,
        execution: Execution,
        status: str,
        span_s: float,
        detail: str = "",
        *,
        doc: int | None = None,
        token: str | None = None,
    ) -> None:
        self._record(
            Kind.OFFER,
            execution.thing,
            job=execution.id,
            status=status,
            version=execution.artifact.version,
            digest=execution.artifact.sha256,
            doc=doc,
            span_us=round(span_s * 1e6),
            detail=detail or None,
            token=token,
        )

    def _note_one_more(self, answer: OfferAnswered, status: str, detail: str) -> None:
        """An answer to an offer that had its answer; what a report alone told is none."""
        if answer.token is not None:
            self._record(
                Kind.ANSWER, answer.thing, status=status, doc=answer.doc, detail=detail or None, token=answer.token
            )

    def _tell(self, rollout: Rollout) -> None:
        name, artifact = rollout.spec.name, rollout.artifact
        for news in rollout.news():
            if isinstance(news, Changed):
                self._note_change(news, artifact)
            elif isinstance(news, Moved):
                self._record(
                    Kind.ROLLOUT,
                    job=name,
                    status=news.status,
                    version=artifact.version,
                    digest=artifact.sha256,
                    size=news.size,
                    detail=news.reason or None,
                )
        self._count(rollout)

    def _note_change(self, news: Changed, artifact: Artifact) -> None:
        if news.state is State.QUEUED:
            return
        self._record(
            Kind.EXECUTION,
            news.thing,
            job=news.job,
            status=news.state,
            version=artifact.version,
            digest=artifact.sha256,
            span_us=None if news.span is None else round(news.span * 1e6),
            detail=news.reason or None,
        )

    def _count(self, rollout: Rollout) -> None:
        """The rollout's own counts: once a second while it moves, and at its end."""
        final = rollout.status == "ended"
        if final and self._ended[rollout.spec.name].is_set():
            return
        name, now = rollout.spec.name, self._loop.time()
        last, counts = self._counted.get(name, (-_COUNTERS_S, []))
        if final or (now - last >= _COUNTERS_S and counts != rollout.counts):
            self._counted[name] = (now, list(rollout.counts))
            detail = orjson.dumps({s.value: n for s, n in rollout.counts_by_state().items()}).decode()
            status = "final" if final else "moving"
            self._record(Kind.COUNTERS, job=name, status=status, size=rollout.size, detail=detail)
        if final:
            self._ended[name].set()
