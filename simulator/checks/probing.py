"""Checks on what a probe asked of the replica: conditional updates, and what must be refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from simulator.checks.base import Draft
from simulator.checks.requests import refusals, tells
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace

_CONFLICT = 409
_OPEN = 1 << 62  # the row of an answer that never came


@dataclass(slots=True)
class _ProbeRequest:
    """One request of a probe: where it stands, the version that it requires (-1: none), what must come of it, and what
    came: the row of the first answer, the version of what was accepted, the code of a refusal."""

    row: int
    case: str
    token: str
    required: int
    must: str
    answer: int = _OPEN
    doc: int = -1
    code: int = 0

    @property
    def accepted(self) -> bool:
        """Whether it is known to have been accepted."""
        return self.answer < _OPEN and self.code == 0

    @property
    def refused(self) -> bool:
        """Whether it was refused for what it asks, and so changed nothing."""
        return bool(tells(self.code))


def _asked(trace: Trace) -> list[list[_ProbeRequest]]:
    """What probes asked, thing by thing; few events, so that a loop may do. An answer that nobody heard may be in the
    replica's own record."""
    probes = trace.kind(Kind.PROBE)
    stories: dict[str, dict[int, _ProbeRequest]] = {}
    columns = ("thing", "status", "phase", "token", "detail")
    for row, number, doc, code, *texts in zip(
        probes.rows.tolist(), probes["size"].tolist(), probes["doc"].tolist(), refusals(trace, probes).tolist(),
        *(probes.texts(name) for name in columns), strict=True
    ):  # fmt: skip
        thing, status, case, token, detail = texts
        asks = stories.setdefault(thing, {})
        if status == "sent":
            asks[number] = _ProbeRequest(row, case, token, doc, detail)
        elif number in asks and asks[number].answer == _OPEN:
            asks[number].answer, asks[number].doc, asks[number].code = row, doc, code
    for thing, asks in stories.items():
        _recorded(trace, thing, asks.values())
    return [list(asks.values()) for asks in stories.values()]


def _recorded(trace: Trace, thing: str, asks: Iterable[_ProbeRequest]) -> None:
    """Take an acceptance that nobody heard from the replica's record."""
    by_token = {ask.token: ask for ask in asks if ask.answer == _OPEN and ask.token}
    if by_token:
        accepted = trace.kind(Kind.ACCEPTED).where("thing", thing)
        for row, token, doc in zip(
            accepted.rows.tolist(), accepted.texts("token"), accepted["doc"].tolist(), strict=True
        ):
            if token in by_token:
                by_token[token].answer, by_token[token].doc = row, doc


# ---- conditional updates


def conditional(trace: Trace, scenario: Scenario) -> Finding:
    """S2: an update that requires a version is accepted as the next one, one for each version; it is refused with 409
    only if the document had another version at some moment between request and answer. Who asks is alone with its
    thing; what has no answer counts once or not at all."""
    draft = Draft(
        "S2-conditional",
        "an update that requires a version is accepted once, and only at that version; otherwise it is refused (409)",
        trace,
    )
    if not len(trace.kind(Kind.PROBE, Kind.ACCEPTED)):
        return draft.unknown("the trace holds neither a probe nor anything of the replica")
    asked = 0
    for story in _asked(trace):
        conditions = [ask for ask in story if ask.required >= 0 and ask.answer < _OPEN]
        asked += len(conditions)
        draft.offend(_rows(_unconditional(story, conditions)))
    return draft.decide(
        f"{many(asked, 'conditional update')}, each answered by its condition",
        "answer",
        "did not follow the condition of the update",
        seen=asked,
        unseen="no conditional update was asked for and answered",
    )


def _rows(rows: Iterable[int]) -> Codes:
    return np.array(list(rows), np.int64)


def _unconditional(story: list[_ProbeRequest], conditions: list[_ProbeRequest]) -> Iterator[int]:
    taken: set[int] = set()
    for ask in sorted(conditions, key=lambda ask: ask.answer):
        if ask.accepted:
            if ask.doc not in (-1, ask.required + 1) or ask.required in taken:
                yield ask.answer
            taken.add(ask.required)
        elif ask.code == _CONFLICT and _throughout(story, ask) == ask.required:
            yield ask.answer


def _throughout(story: list[_ProbeRequest], ask: _ProbeRequest) -> int | None:
    """The version that the document had from this request to its answer; None where it is not sure or not one."""
    others = [other for other in story if other is not ask and other.row < ask.answer and not other.refused]
    if any(other.answer > ask.row for other in others if other.case != "get"):
        return None
    return max((other.doc for other in others if other.answer < ask.row), default=None)


# ---- what must be refused


def validation(trace: Trace, scenario: Scenario) -> Finding:
    """S22: what is too large, too deep or not well-formed is refused with its code, and changes no version; what keeps to
    the limits is not refused. The replica's own record holds no document or token beyond them."""
    draft = Draft(
        "S22-validation",
        "a document or token that is malformed or beyond the limits is refused, and changes nothing",
        trace,
    )
    accepted = trace.kind(Kind.ACCEPTED)
    if not len(trace.kind(Kind.PROBE)) and not len(accepted):
        return draft.unknown("the trace holds neither a probe nor anything of the replica")
    if not len(trace.kind(Kind.PROBE)) and not (accepted["size"] >= 0).any():
        draft.doubt("the trace tells the size of no document")
    target = scenario.target
    draft.offend(accepted.rows[accepted["size"] > target.document_max])
    lengths = pc.fill_null(pc.binary_length(trace.dictionary("token")), 0).to_numpy()
    draft.offend(accepted.rows[np.append(lengths, 0)[accepted["token"]] > target.token_max])
    judged = 0
    for story in _asked(trace):
        judged += sum(bool(ask.must) and ask.answer < _OPEN for ask in story)
        draft.offend(_rows((*_misjudged(story), *_changed(story))))
    good = f"{many(len(accepted), 'accepted update')} and {many(judged, 'request')} of a probe, each within the limits or refused"
    return draft.decide(
        good,
        "answer",
        "did not keep to the limits of documents and tokens",
        seen=len(accepted) + judged,
        unseen="no request of a probe was answered",
    )


def _misjudged(story: list[_ProbeRequest]) -> Iterator[int]:
    """Answers other than what must come. A conflict of versions is no matter of limits."""
    for ask in story:
        if ask.must == str(_CONFLICT) or not ask.must:
            continue
        if ask.must == "accepted":
            if ask.refused and ask.code != _CONFLICT:
                yield ask.answer
        elif ask.accepted or (ask.refused and str(ask.code) != ask.must):
            yield ask.answer


def _changed(story: list[_ProbeRequest]) -> Iterator[int]:
    """Answers with a version above what the accepted updates, and those without an answer, can have come to."""
    accepted = sorted((ask for ask in story if ask.accepted and ask.doc >= 0), key=lambda ask: ask.answer)
    changing = [ask for ask in story if ask.case != "get" and ask.must in ("accepted", "") and not ask.refused]
    reached = accepted[0].doc if accepted else 0
    for ask in accepted:
        reached = max(reached, ask.doc) if ask.case != "get" else reached
        if ask.doc > reached + sum(other.row < ask.answer < other.answer for other in changing):
            yield ask.answer
