"""Our own engine: it carries rollouts out over MQTT, and learns how they go from messages alone.

Each rollout is a pure machine (`rollout.py`) that says whom to offer what, and when to ask it again. The engine goes
round: it asks the rollouts, sends the offers that are due, sends again those that nobody answered (`offers.py`), and
waits for a message or for the next clock to ring, whichever is first. What it hears goes back into the rollouts. All
of it is recorded (`record.py`).
"""

from __future__ import annotations

import asyncio

from simulator.application.news import Done, Offer
from simulator.application.offers import BrokerWaits, Offers, OpenOffer
from simulator.application.record import RolloutRecord
from simulator.application.rollout import Rollout
from simulator.dialects.base import ApplicationDialect, OfferAnswered, Reported
from simulator.links.base import MqttLink
from simulator.links.perform import perform
from simulator.model.errors import LinkError, PeerError
from simulator.model.io import Message
from simulator.model.scenario import SERVICE_RECONNECT
from simulator.model.update import Outcome, State
from simulator.trace.recorder import Record

_CHUNK = 64  # offers between two looks at what came in
_PASSING = (429, 500)  # refusals that say nothing of the offer: it is made again


class Application:
    """Carries rollouts out over one MQTT connection. It learns outcomes from messages alone.

    `rollouts` are by name, the oldest first. `versions` is what each thing last reported to run. `seed` is the run's, for the
    delays of resends; `epoch` + the loop's clock is Unix time.
    """

    def __init__(
        self, link: MqttLink, dialect: ApplicationDialect, record: Record, *, seed: int, epoch: float = 0.0
    ) -> None:
        self._link, self._dialect, self._epoch = link, dialect, epoch
        self._loop = asyncio.get_running_loop()
        self._notes, self._offers = RolloutRecord(record, self._loop.time), Offers(seed)
        self._waits = BrokerWaits()
        self.rollouts: dict[str, Rollout] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._halted: dict[str, asyncio.Event] = {}
        self._moved = True  # a rollout has changed other than by its clock
        self._wake_at: float | None = None  # when a rollout's clock rings next
        self.versions: dict[str, str] = {}
        self.begun = asyncio.Event()  # set once a rollout is there

    def add(self, rollout: Rollout) -> asyncio.Event:
        """Start a rollout; the event is set when it has ended."""
        name = rollout.spec.name
        self._notes.targets(name, rollout.artifact, rollout.targets())
        self.rollouts[name] = rollout
        self.begun.set()
        ended = self._ended[name] = asyncio.Event()
        self._halted[name] = asyncio.Event()
        self.stir()
        return ended

    def halted(self, name: str) -> asyncio.Event:
        """An event that is set while this rollout is paused and nothing of it is under way."""
        return self._halted[name]

    @property
    def unsent(self) -> int:
        """How many offers are due and have not been sent yet."""
        return len(self._offers.due)

    def stir(self) -> None:
        """Look at the rollouts now, whatever is waited for: one was added, or an operator has changed one."""
        self._moved = True
        for rollout in self.rollouts.values():
            self._note_halt(rollout)
        self._link.wake()

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled; `ready` is set once it is subscribed."""
        attempts, lost = 0, self._loop.time()
        while True:
            try:
                await self._link.connect()
                await perform(self._dialect.open(self._now()).outputs, self._link)
                self._waits.note(lost, self._loop.time())
                ready.set()
                attempts = 0
                while True:
                    await self._turn()
            except (LinkError, PeerError):
                lost = lost if attempts else self._loop.time()
                self._link.abort()
                await asyncio.sleep(SERVICE_RECONNECT.delay(attempts, 0.0))
                attempts += 1

    def clock(self) -> float:
        """The clock of its rollouts."""
        return self._loop.time()

    def _now(self) -> float:
        return self._loop.time() + self._epoch

    # ---- one turn: offer what is due, send again what was not answered, take what came

    async def _turn(self) -> None:
        if self._moved or (self._wake_at is not None and self._wake_at <= self._loop.time()):
            self._moved = False
            self._advance_all()
        else:
            for rollout in self.rollouts.values():
                self._count(rollout)
        due = self._offers.due
        while due:
            await self._offer(*due.popleft())
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
        self._offers.line_up(rollout, todo)
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
        self._offers.sent(rollout, execution, now)
        late_s = now - offer.due - self._waits.within(offer.due, now)
        self._notes.offer(execution, "sent", late_s, token=self._dialect.token(execution.id))
        await perform(self._dialect.offer(execution, self._now()).outputs, self._link)
        self._waits.note(now, self._loop.time())

    async def _resend(self) -> float | None:
        """Send again what was not answered in time, or give it up; when to come again."""
        while isinstance(offer := self._offers.overdue(self._loop.time()), OpenOffer):
            execution, since_s = offer.execution, self._loop.time() - offer.first
            if offer.given_up():
                self._offers.close(execution.id)
                self._notes.offer(execution, "unanswered", since_s)
                self._observe(Outcome(execution.thing, execution.id, State.UNKNOWN, "the offer was never answered"))
                continue
            self._notes.offer(execution, "resent", since_s, token=self._dialect.token(execution.id))
            self._offers.sent_again(offer, self._loop.time())
            await perform(self._dialect.offer(execution, self._now()).outputs, self._link)
        return offer

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
        offer = self._offers.unanswered(answer.job)
        status = "accepted" if answer.code is None else "rejected"
        detail = "" if answer.code is None else f"{answer.code} {answer.message}"
        if offer is None:
            if answer.token is not None:  # what a report alone tells is no answer
                self._notes.answer(answer.thing, status, detail, doc=answer.doc, token=answer.token)
            return
        span_s = self._loop.time() - offer.first
        self._notes.offer(offer.execution, status, span_s, detail, doc=answer.doc, token=answer.token)
        if answer.code in _PASSING:
            return
        self._offers.close(answer.job)
        if answer.code is not None:
            self._observe(Outcome(answer.thing, answer.job, State.REJECTED, detail))

    def _observe(self, outcome: Outcome) -> None:
        for rollout in self.rollouts.values():
            if rollout.observe(outcome, self._loop.time()):
                self._moved = True
                self._tell(rollout)
                return

    # ---- the record

    def _tell(self, rollout: Rollout) -> None:
        self._notes.news(rollout.spec.name, rollout.artifact, rollout.news())
        self._note_halt(rollout)
        self._count(rollout)

    def _note_halt(self, rollout: Rollout) -> None:
        event = self._halted[rollout.spec.name]
        if rollout.halted:
            event.set()
        else:
            event.clear()

    def _count(self, rollout: Rollout) -> None:
        name, final = rollout.spec.name, rollout.status == "ended"
        ended = self._ended[name]
        if not (final and ended.is_set()):
            self._notes.counts(name, rollout.size, rollout.counts, rollout.counts_by_state, final=final)
            if final:
                ended.set()
