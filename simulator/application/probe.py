"""The probe: asks the replica what no device asks, to find out whether it refuses what it must and honours what it must.

It has a thing of its own, which no device is. About that it sends requests that are right, too large, too deep,
malformed, or out of date, and records what it asked and what came back. It judges nothing: the checks S2 and S22 do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from simulator.dialects.base import Answered, ProbeDialect
from simulator.links.base import MqttLink
from simulator.model.errors import LinkError, PeerError
from simulator.model.events import Kind
from simulator.model.io import Message, Publish
from simulator.model.scenario import SERVICE_RECONNECT, Target
from simulator.trace.recorder import Record

PATIENCE_S = 10.0  # what nobody has answered until then stays open
_TRIES = 6  # to learn the document's version, where no answer has given it yet
_QOS = 0  # what is lost is not judged, and half of the packets are saved
_ACCEPTED, _BAD, _TOO_LARGE, _CONFLICT = "accepted", "400", "413", "409"
_EMPTY_BYTES = len(b"{}")  # of a desired section that holds nothing


class _Question(NamedTuple):
    """One request; `must` is what has to come of it: accepted, or the code of the refusal. `version` is the one that it
    requires."""

    case: str
    number: int
    publish: Publish
    token: str
    must: str | None = None
    version: int | None = None


class Probe:
    """Asks its script once, over a connection of its own. `target` tells the limits; `epoch` + the loop's clock is Unix
    time."""

    def __init__(
        self, link: MqttLink, dialect: ProbeDialect, record: Record, target: Target, *, epoch: float = 0.0
    ) -> None:
        self._link, self._dialect, self._record, self._target = link, dialect, record, target
        self._loop = asyncio.get_running_loop()
        self._epoch = epoch
        self._salt = ""  # so that no run uses a token of an earlier run
        self._asked = 0
        self._by_token: dict[str, _Question] = {}
        self._doc: int | None = None  # the document's version, as last heard

    async def run(self, begin: asyncio.Event) -> None:
        """Wait for `begin`, ask everything, end. What is lost with a connection is not asked again."""
        await begin.wait()
        self._salt = f"probe-{int((self._loop.time() + self._epoch) * 1000)}"
        await self._connect()
        for asks in self._script():
            try:
                await self._ask(asks)
            except (LinkError, PeerError):
                await self._connect()
        await self._link.close()

    async def _connect(self) -> None:
        attempts = 0
        while True:
            try:
                await self._link.connect()
                await self._link.subscribe(self._dialect.answers, qos=_QOS)
                return
            except (LinkError, PeerError):
                self._link.abort()
                await asyncio.sleep(SERVICE_RECONNECT.delay(attempts, 0.0))
                attempts += 1

    # ---- what is asked

    def _script(self) -> Iterator[Sequence[_Question]]:
        """What is asked at once; each line waits for the answers to the one before it."""
        document_max, depth_max, token_max = (getattr(self._target, f"{n}_max") for n in ("document", "depth", "token"))
        first = self._update("update", _ACCEPTED, "first")
        yield [first]
        yield [first._replace(case="again", number=self._number())]  # atlas command: same token, same answer
        yield [
            self._update("too large", _TOO_LARGE, _filling(document_max + 1)),
            self._update("too deep", _BAD, _nested(depth_max, "deep")),
            self._update("long token", _BAD, "long", token_bytes=token_max + 1),
            self._update("null in an array", _BAD, [None]),
            _Question("no object", self._number(), self._dialect.malformed(), "", _BAD),
            self._get(),
        ]
        for _ in range(_TRIES):
            if self._doc is None:
                yield [self._update("update", _ACCEPTED, "first")]
        if (known := self._doc) is None:
            return
        most = _filling(document_max - _EMPTY_BYTES, depth_max - 1)
        yield [self._update("at the limits", _ACCEPTED, most, known, token_bytes=token_max)]
        yield [self._update("stale", _CONFLICT, "stale", known)]
        yield [self._update("twin", None, name, self._doc) for name in ("one", "other")]
        yield [self._get()]

    def _number(self) -> int:
        self._asked += 1
        return self._asked

    def _update(
        self, case: str, must: str | None, value: Any, version: int | None = None, *, token_bytes: int = 0
    ) -> _Question:
        number = self._number()
        token = f"{self._salt}-{number}".ljust(token_bytes, ".")
        return _Question(case, number, self._dialect.update({"probe": value}, token, version), token, must, version)

    def _get(self) -> _Question:
        number = self._number()
        token = f"{self._salt}-{number}"
        return _Question("get", number, self._dialect.get(token), token)

    # ---- what comes of it

    async def _ask(self, asks: Sequence[_Question]) -> None:
        """Say these, and hear what comes until all are answered or patience ends."""
        for ask in asks:
            self._by_token[ask.token] = ask
            self._note(ask, "sent", doc=ask.version, detail=ask.must)
            await self._link.publish(ask.publish.topic, ask.publish.payload, qos=_QOS)
        open_ = {ask.number for ask in asks}
        until = self._loop.time() + PATIENCE_S
        while open_:
            delivery = await self._link.receive(until)
            if delivery is None:
                return
            answer = self._dialect.receive(Message(delivery.topic, delivery.payload))
            delivery.ack()
            asked = self._by_token.get(answer.token) if answer is not None else None
            if answer is not None and asked is not None:
                self._answered(asked, answer)
                open_.discard(asked.number)

    def _answered(self, ask: _Question, answer: Answered) -> None:
        if answer.code is None:
            self._doc = answer.doc
            self._note(ask, _ACCEPTED, doc=answer.doc)
        else:
            self._note(ask, "rejected", detail=f"{answer.code} {answer.message}")

    def _note(self, ask: _Question, status: str, *, doc: int | None = None, detail: str | None = None) -> None:
        self._record(
            Kind.PROBE,
            self._dialect.thing,
            status=status,
            phase=ask.case,
            doc=doc,
            size=ask.number,
            detail=detail,
            token=ask.token or None,
        )


def _nested(levels: int, leaf: Any) -> Any:
    """An object so many levels deep."""
    for _ in range(levels):
        leaf = {"n": leaf}
    return leaf


def _filling(size_bytes: int, levels: int = 0) -> Any:
    """What makes a section of so many bytes, as deep as this beside its own level."""
    least = len(orjson.dumps({"probe": _nested(levels, "")}))
    return _nested(levels, "x" * max(0, size_bytes - least))
