"""Bad habits of devices, known from the field: each a small class that does one step as it should not be done."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection
from typing import Any, cast

import orjson

from simulator.device.agent import Reaction, UpdateAgent
from simulator.device.connection import Session
from simulator.device.device import Device
from simulator.device.download import Again, Leave, Transfer
from simulator.dialects.base import Answered, DeviceDialect, UpdateRequested
from simulator.model.errors import LinkError
from simulator.model.io import NOTHING, Inbound, Message, Step, Subscribe
from simulator.model.update import Phase, Status


class _Gated:
    """A dialect that lets a delta pass only if its version is above all that were heard, whatever they came with."""

    def __init__(self, dialect: DeviceDialect) -> None:
        self._dialect, self._heard = dialect, -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def receive(self, inbound: Inbound, now: float) -> Step:
        """What the dialect makes of it, unless it is a delta that is taken for an old one."""
        step, before = self._dialect.receive(inbound, now), self._heard
        if isinstance(inbound, Message):
            self._heard = max(before, _version(inbound.payload))
        deltas = [s.doc for s in step.signals if isinstance(s, UpdateRequested) and s.source == "delta"]
        return NOTHING if any(doc is not None and doc <= before for doc in deltas) else step


def _version(payload: bytes) -> int:
    try:
        said = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return -1
    version = said.get("version") if isinstance(said, dict) else None
    return version if isinstance(version, int) else -1


class SingleGate(Device):
    """One gate for all versions: `accepted` raises it, and the delta of the same version does not pass any more."""

    def __init__(self, spec: Any, dialect: DeviceDialect, *more: Any) -> None:
        super().__init__(spec, cast(DeviceDialect, _Gated(dialect)), *more)


class NeverAsks(Device):
    """Says and asks nothing when it is connected again: whatever was desired meanwhile, it waits for a delta."""

    _met = False  # since the boot

    def _forget(self) -> None:
        super()._forget()
        self._met = False

    async def _open(self, *, lie: bool = False, again: bool = False) -> None:
        if not self._met:
            self._met = True
            await super()._open(lie=lie, again=again)
            return
        self._ask_at = math.inf
        said = self._session.dialect.open(self._agent.initial(), self._session.wall()).outputs
        await self._session.perform(Step(tuple(output for output in said if isinstance(output, Subscribe))))


class _Hasty(Session):
    hasty = True


class TakesTcpForSuccess(Device):
    """Begins its back-off anew as soon as TCP connects, whatever becomes of the connection."""

    session = _Hasty


class KeepsUrl(Device):
    """Downloads from the URL that it began with, however often that is refused and whatever newer one it hears of."""

    _first = ""

    def _start_work(self) -> None:
        super()._start_work()
        self._first = self._download.url if self._download is not None else ""

    async def _leave(self, fresh: bool) -> Leave:
        if self._download is None or self._download.needs_credential:
            return await super()._leave(fresh)
        return Leave(self._first)


class _Appending(Transfer):
    def _head(self, status: int, headers: dict[str, str]) -> Again | None:
        return None if status == 200 and self.partial.received else super()._head(status, headers)


class Appends(Device):
    """Takes whatever comes for the rest that it asked for."""

    transfer = _Appending


class MarksEarly(Device):
    """Notes a job as done when it begins with it: after a power cut it does not go on."""

    def _start_work(self) -> None:
        super()._start_work()
        self._agent.end(self._agent.flash.job)


class SaysOnce(Device):
    """Says its report once, whether anybody hears it or not."""

    async def _send_outcome(self) -> None:
        try:
            await super()._send_outcome()
        except LinkError:
            self._done()
            raise
        if self._sent and not self._hung and self._agent.flash.pending is not None:
            self._done()


class Parks(Device):
    """Waits for the answer to its report, and for nothing else, until it is started again."""

    async def _send_outcome(self) -> None:
        if self._sent:
            self._resend_at = math.inf
        else:
            await super()._send_outcome()

    async def _hear(self, signal: object) -> None:
        if self._agent.flash.pending is not None and self._sent and not isinstance(signal, Answered):
            self._ask_at = math.inf
        else:
            await super()._hear(signal)


class FailsLate(Device):
    """Calls a job failed whose success was not answered, and runs the new software all the same."""

    async def _send_outcome(self) -> None:
        pending = self._agent.flash.pending
        if self._sent and pending is not None and pending.status is Status.SUCCESS:
            self._agent.flash.pending = self._agent.progress(Status.FAILURE, "success was not answered")
        await super()._send_outcome()


class _Eager(UpdateAgent):
    def consider(self, request: UpdateRequested) -> Reaction:
        reaction = super().consider(request)
        if reaction not in (Reaction.DUPLICATE, Reaction.INSTALLED):
            return reaction
        return Reaction.START if self.phase is Phase.IDLE else Reaction.SUPERSEDE


class Redoes(Device):
    """Carries a job out again whenever it hears of it."""

    agent = _Eager


HABITS: dict[str, type[Device]] = {
    "single-gate": SingleGate,
    "never-asks": NeverAsks,
    "takes-tcp-for-success": TakesTcpForSuccess,
    "keeps-url": KeepsUrl,
    "appends": Appends,
    "marks-early": MarksEarly,
    "says-once": SaysOnce,
    "parks": Parks,
    "fails-late": FailsLate,
    "redoes": Redoes,
}


def device_with(habits: Collection[str]) -> type[Device]:
    """The device with these habits, in the table's order; without any, the one that does as it should."""
    return _made(tuple(name for name in HABITS if name in habits))


@functools.cache
def _made(habits: tuple[str, ...]) -> type[Device]:
    return type("Device", tuple(HABITS[name] for name in habits), {}) if habits else Device
