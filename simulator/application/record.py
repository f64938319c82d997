"""What an application writes down of its rollouts: targets, offers, the course of every execution, and its own counts.

Both engines use it: our own, and the one that has somebody else's API carry rollouts out. So the checks and reports
find the same events whoever did the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import orjson

from simulator.application.news import Changed, Moved
from simulator.model.events import Kind
from simulator.model.update import Artifact, Execution, State
from simulator.trace.recorder import Record

_COUNTERS_S = 1.0  # between two records of counts that move


class RolloutRecord:
    """Writes the events of kinds TARGET, ROLLOUT, OFFER, ANSWER, EXECUTION and COUNTERS; `clock()` is that of the rollouts,
    in seconds."""

    def __init__(self, record: Record, clock: Callable[[], float]) -> None:
        self._record, self._clock = record, clock
        self._counted: dict[str, tuple[float, list[int]]] = {}  # rollout -> when, and the counts that were recorded

    def targets(self, rollout: str, artifact: Artifact, targets: Iterable[tuple[str, str]]) -> None:
        """A rollout begins, to these (thing, cohort)."""
        for thing, cohort in targets:
            self._record(
                Kind.TARGET, thing, job=rollout, version=artifact.version, digest=artifact.sha256, detail=cohort
            )

    def offer(
        self,
        execution: Execution,
        status: str,
        span_s: float,
        detail: str = "",
        *,
        doc: int | None = None,
        token: str | None = None,
    ) -> None:
        """An offer was sent, resent, accepted, rejected or never answered: `span_s` seconds after it was due, if sent, or
        after it was first sent."""
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

    def answer(self, thing: str, status: str, detail: str, *, doc: int | None, token: str) -> None:
        """One more answer, to an offer that had been answered."""
        self._record(Kind.ANSWER, thing, status=status, doc=doc, detail=detail or None, token=token)

    def news(self, rollout: str, artifact: Artifact, news: Iterable[Moved | Changed]) -> None:
        """What has happened to a rollout and its executions, in order."""
        for item in news:
            if isinstance(item, Changed):
                self.changed(item, artifact)
            else:
                self._record(
                    Kind.ROLLOUT,
                    job=rollout,
                    status=item.status,
                    version=artifact.version,
                    digest=artifact.sha256,
                    size=item.size,
                    detail=item.reason or None,
                )

    def changed(self, news: Changed, artifact: Artifact) -> None:
        """An execution has come to another state; that it waits for another try is not recorded."""
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

    def counts(
        self, rollout: str, size: int, counts: list[int], by_state: Callable[[], Mapping[State, int]], *, final: bool
    ) -> None:
        """How many of its `size` targets are in each state: `by_state()`, asked once a second while `counts` change, and at
        the end."""
        now = self._clock()
        last, before = self._counted.get(rollout, (-_COUNTERS_S, []))
        if final or (now - last >= _COUNTERS_S and before != counts):
            self._counted[rollout] = (now, list(counts))
            detail = orjson.dumps({state.value: n for state, n in by_state().items()}).decode()
            self._record(Kind.COUNTERS, job=rollout, status="final" if final else "moving", size=size, detail=detail)
