"""A rollout that somebody else's API carries out: this engine orders it as a job, and writes down what the API says of
it.

Our own engine (`engine.py`) offers every execution itself. A backend such as AWS IoT Jobs or hawkBit does that by
itself, and three things are left to do: create the job with one request, ask every `poll_s` seconds how it goes, and
hand on what operators want. What the API lists becomes the same events that our own engine records, so that the checks
and reports work as for ours: an execution that is listed as offered is an OFFER, sent and accepted, and an EXECUTION
in progress; one that has ended is an EXECUTION of that state; the API's counts are COUNTERS. An event is as late as
the poll that saw it, and what came and went between two polls is not seen.

Who speaks which API is a `JobsDialect` (`simulator/dialects/jobs.py`). Requests that nobody answers, or that are
answered with 429 or 500 and above, are made again: the creation as often as `rollout.offer` says, polls for as long as
it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Literal

from simulator.application.news import Changed, Moved
from simulator.application.port import FleetState, NoSuch, RolloutRequest, RolloutState, ThingState
from simulator.application.record import RolloutRecord
from simulator.application.rollout import STATES, WrongState
from simulator.dialects.jobs import JobExecution, JobOrder, JobsDialect, JobStatus
from simulator.links.base import HttpLink
from simulator.model.dice import draw
from simulator.model.errors import LinkError, PeerError, ScenarioError
from simulator.model.io import Request, Response
from simulator.model.scenario import SERVICE_RECONNECT, RolloutSpec
from simulator.model.update import Artifact, Execution, State
from simulator.trace.recorder import Record

_TIMEOUT_S = 30.0
_BOUND = 1 << 28  # bytes of a response
_LATER = 429  # too many requests: the same one is right a little later


class _LastTry:
    """What is known of one thing's latest execution."""

    __slots__ = ("id", "offered", "state", "tries")

    def __init__(self) -> None:
        self.id, self.state, self.offered, self.tries = "", State.QUEUED, 0.0, 0


class _Job:
    """A rollout at the API: what was ordered, and what the last poll told."""

    def __init__(self, spec: RolloutSpec, artifact: Artifact, targets: list[tuple[str, str]], job: str) -> None:
        self.spec, self.artifact, self.job = spec, artifact, job
        self.cohorts = dict(targets)
        self.turns = {thing: _LastTry() for thing in self.cohorts}
        self.status, self.reason, self.aborted = "running", "", False
        self.counts: dict[State, int] | None = None  # as the API counts
        self.ended = asyncio.Event()

    @property
    def size(self) -> int:
        """How many targets it has."""
        return len(self.cohorts)

    def counts_by_state(self) -> dict[State, int]:
        """How many targets are in each state: as the API says, else counted from its executions."""
        seen = self.counts
        if seen is None:
            seen = Counter(self.turns[thing].state for thing in self.cohorts)
        return {state: seen.get(state, 0) for state in STATES}

    def seen(self, execution: JobExecution, now: float) -> list[Changed]:
        """The news in what the API says of an execution; a thing that is no target is looked at too."""
        turn = self.turns.setdefault(execution.thing, _LastTry())
        news: list[Changed] = []
        if execution.id != turn.id:
            if turn.id and not turn.state.ended:
                news.append(self._end(execution.thing, State.UNKNOWN, "another try took its place", now))
            turn.tries += bool(turn.id)
            turn.id, turn.state = execution.id, State.QUEUED
        if execution.state is turn.state:
            return news
        if turn.state is State.QUEUED and execution.state is not State.CANCELED:
            turn.state, turn.offered = State.IN_PROGRESS, now
            news.append(Changed(execution.thing, turn.id, State.IN_PROGRESS, None))
        if execution.state is not turn.state:
            news.append(self._end(execution.thing, execution.state, execution.reason, now))
        return news

    def _end(self, thing: str, state: State, reason: str, now: float) -> Changed:
        turn = self.turns[thing]
        span = None if turn.state is State.QUEUED else now - turn.offered
        turn.state = state
        return Changed(thing, turn.id, state, span, reason)

    def leftover(self, now: float) -> list[Changed]:
        """The job has ended: what the API left without an end has one nevertheless."""
        news = []
        for thing in self.cohorts:
            turn = self.turns[thing]
            turn.id = turn.id or f"{self.job}.{thing}"
            if turn.state is State.QUEUED and self.aborted:
                news.append(self._end(thing, State.CANCELED, self.reason, now))
            elif not turn.state.ended:
                news.append(
                    self._end(thing, State.UNKNOWN, "the job ended, and its API did not tell how this went", now)
                )
        return news

    def moved(self, status: JobStatus) -> list[Moved]:
        """The news in what the API says of the job itself; its end comes last of all, and is not among them."""
        news: list[Moved] = []
        if status.aborted and not self.aborted:
            self.aborted, self.reason = True, f"aborted: {status.reason}"
            news.append(Moved("abort", self.size, status.reason))
        if status.status == "paused" and self.status == "running":
            self.status, self.reason = "paused", status.reason
            news.append(Moved("pause", self.size, status.reason))
        elif status.status == "running" and self.status == "paused":
            self.status, self.reason = "running", ""
            news.append(Moved("resume", self.size))
        self.counts = dict(status.counts) if status.counts is not None else None
        return news

    def facts(self) -> RolloutState:
        """The same for an operator."""
        cohorts: dict[str, dict[str, int]] = {}
        for thing, cohort in self.cohorts.items():
            counts, state = cohorts.setdefault(cohort, {}), self.turns[thing].state
            counts[state] = counts.get(state, 0) + 1
        return RolloutState(
            name=self.spec.name,
            version=self.artifact.version,
            status="aborting" if self.aborted and self.status != "ended" else self.status,
            reason=self.reason,
            wave=0,
            size=self.size,
            states={state.value: n for state, n in self.counts_by_state().items() if n},
            cohorts=cohorts,
        )


class DelegatedRollouts:
    """The rollouts' port on an API that carries them out. `run` polls, and must go on for as long as anything is to be
    learned. `prefix` makes names of jobs unique among runs; `seed` is the run's, for the delays of retries."""

    unsent = 0  # offers are the API's business

    def __init__(
        self,
        http: HttpLink,
        dialect: JobsDialect,
        record: Record,
        *,
        seed: int,
        prefix: str = "",
        poll_s: float = 1.0,
    ) -> None:
        self._http, self._dialect = http, dialect
        self._seed, self._prefix, self._poll_s = seed, prefix, poll_s
        self._loop = asyncio.get_running_loop()
        self._notes = RolloutRecord(record, self._loop.time)
        self._jobs: dict[str, _Job] = {}
        self._polling = asyncio.Lock()  # two polls that overlap would record the same news twice
        self.begun = asyncio.Event()  # set once a rollout is there

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled: poll each job until it has ended. Raises PeerError for an API that refuses a poll, or says what
        makes no sense."""
        ready.set()
        failures = 0
        while True:
            try:
                for job in list(self._jobs.values()):
                    await self._poll(job)
                failures = 0
                await asyncio.sleep(self._poll_s)
            except LinkError:
                await asyncio.sleep(max(self._poll_s, SERVICE_RECONNECT.delay(failures, 0.0)))
                failures += 1

    # ---- asking the API

    async def _once(self, request: Request) -> Response:
        """Ask once. Raises LinkError where nobody answers, or not now."""
        response = await self._http.request(request, timeout_s=_TIMEOUT_S, bound=_BOUND)
        if response.status >= 500 or response.status == _LATER:
            raise LinkError(f"{request.method} {request.url}: {response.status}")
        return response

    async def _read(self, request: Request) -> Response:
        response = await self._once(request)
        if why := self._dialect.refusal(response):
            raise PeerError(f"{request.method} {request.url}: {why}", code=response.status)
        return response

    async def _poll(self, job: _Job) -> None:
        async with self._polling:
            if job.status != "ended":
                await self._look(job)

    async def _look(self, job: _Job) -> None:
        """Status first: what it calls ended has no executions to come."""
        status = self._dialect.read_status(await self._read(self._dialect.status(job.job)))
        listed: list[JobExecution] = []
        page: str | None = ""
        while page is not None:
            part = self._dialect.read_executions(await self._read(self._dialect.executions(job.job, page)))
            listed += part.executions
            page = part.next or None
        self._note(job, job.moved(status))
        now = self._loop.time()
        for execution in listed:
            self._note(job, job.seen(execution, now))
        if status.status == "ended":
            self._note(job, job.leftover(now))
            job.status, job.reason = "ended", job.reason if job.aborted else status.reason or "all targets ended"
            self._note(job, [Moved("end", job.size, job.reason)])
        self._count(job)
        if status.status == "ended":
            job.ended.set()

    # ---- the record

    def _note(self, job: _Job, news: list[Moved] | list[Changed]) -> None:
        for item in news:
            if (
                isinstance(item, Changed) and item.state is State.IN_PROGRESS
            ):  # the API has offered it, and took it to do so
                execution = Execution(item.job, item.thing, job.artifact, job.spec.name)
                self._notes.offer(execution, "sent", 0.0)
                self._notes.offer(execution, "accepted", 0.0)
        self._notes.news(job.spec.name, job.artifact, news)

    def _count(self, job: _Job) -> None:
        counts = job.counts_by_state()
        final = job.status == "ended"
        self._notes.counts(job.spec.name, job.size, list(counts.values()), lambda: counts, final=final)

    # ---- the port

    async def create(self, request: RolloutRequest) -> RolloutState:
        """Order the job. Raises ScenarioError for a name in use, a thing named twice, or what the API refuses; LinkError
        where the API does not take it."""
        spec, facts = request.spec, request.artifact
        if spec.name in self._jobs:
            raise ScenarioError(f"there is a rollout called {spec.name!r} already")
        targets = [(target.thing, target.cohort) for target in request.targets]
        if len(dict(targets)) != len(targets):
            raise ScenarioError(f"rollout {spec.name!r}: a thing stands among its targets twice")
        artifact = Artifact(facts.version, facts.url, facts.size, facts.sha256)
        order = JobOrder(f"{self._prefix}{spec.name}", artifact, [thing for thing, _ in targets], spec)
        response = await self._insist(spec, "create", self._dialect.create(order))
        if why := self._dialect.refusal(response):
            raise ScenarioError(f"rollout {spec.name!r}: the backend refused the job: {why}")
        job = self._jobs[spec.name] = _Job(spec, artifact, targets, self._dialect.created(order, response))
        self._notes.targets(spec.name, artifact, targets)
        self._note(job, [Moved("begin", job.size)])
        self.begun.set()
        with contextlib.suppress(LinkError, PeerError):  # `run` will meet it again
            await self._poll(job)
        return job.facts()

    async def _insist(self, spec: RolloutSpec, deed: str, request: Request) -> Response:
        """The answer to what an operator does, which is asked again where none comes, as often as an offer would be sent.
        Raises LinkError where none comes at all."""
        offer, tries = spec.offer, 1
        while True:
            try:
                return await self._once(request)
            except LinkError as error:
                if offer.attempts is not None and tries >= offer.attempts:
                    raise LinkError(
                        f"rollout {spec.name!r}: the backend did not {deed} it in {tries} tries: {error}"
                    ) from None
                name = f"{self._prefix}{spec.name}"
                await asyncio.sleep(offer.delay(tries - 1, draw(self._seed, name, deed, tries - 1)))
                tries += 1

    def _find(self, name: str) -> _Job:
        if name not in self._jobs:
            raise NoSuch(f"no rollout {name!r}")
        return self._jobs[name]

    def counts(self) -> Counter[State]:
        """How many targets of all rollouts are in each state, as the last polls told."""
        counts: Counter[State] = Counter()
        for job in self._jobs.values():
            counts.update(job.counts_by_state())
        return counts

    async def names(self) -> list[str]:
        """All rollouts, by age."""
        return list(self._jobs)

    async def state(self, name: str) -> RolloutState:
        """Where a rollout is, as the last poll told."""
        return self._find(name).facts()

    async def ended(self, name: str) -> None:
        """Wait until a rollout has ended."""
        await self._find(name).ended.wait()

    async def _operate(self, name: str, verb: Literal["pause", "resume", "abort"]) -> RolloutState:
        job = self._find(name)
        request = self._dialect.operate(job.job, verb)
        if request is None:
            raise WrongState(f"rollout {name!r}: the backend's API cannot {verb}")
        if why := self._dialect.refusal(await self._insist(job.spec, verb, request)):
            raise WrongState(f"rollout {name!r}: the backend refused to {verb}: {why}")
        with contextlib.suppress(LinkError, PeerError):  # `run` will meet it again
            await self._poll(job)
        return job.facts()

    async def pause(self, name: str) -> RolloutState:
        """Have the API offer nothing more until resumed."""
        return await self._operate(name, "pause")

    async def resume(self, name: str) -> RolloutState:
        """Have it go on."""
        return await self._operate(name, "resume")

    async def abort(self, name: str) -> RolloutState:
        """Have it cancel what it may."""
        return await self._operate(name, "abort")

    async def fleet(self) -> FleetState:
        """The whole fleet, each thing counted once: with the latest job that targets it. Versions are not the API's to
        tell."""
        states: Counter[str] = Counter()
        cohorts: dict[str, Counter[str]] = {}
        seen: set[str] = set()
        for job in reversed(self._jobs.values()):
            for thing, cohort in job.cohorts.items():
                if thing not in seen:
                    seen.add(thing)
                    states[job.turns[thing].state] += 1
                    cohorts.setdefault(cohort, Counter())[job.turns[thing].state] += 1
        counted = {cohort: dict(counts) for cohort, counts in cohorts.items()}
        return FleetState(things=len(seen), states=dict(states), cohorts=counted, versions={})

    async def thing(self, thing: str) -> ThingState:
        """One thing, with the latest job that targets it."""
        for name, job in reversed(self._jobs.items()):
            if thing in job.cohorts:
                turn = job.turns[thing]
                job_id = turn.id or None
                return ThingState(thing=thing, rollout=name, job=job_id, state=turn.state, attempt=turn.tries, wave=0)
        raise NoSuch(f"nothing is known of {thing!r}")
