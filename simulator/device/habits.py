"""Bad habits of devices, known from the field. Each is a small subclass of one part of the device, which does one step as
it should not be done; `device_with` makes the device with the parts of its habits, and mixes habits of the same part."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any, cast

import orjson

from simulator.device.agent import Reaction, UpdateAgent
from simulator.device.connection import MqttConnection
from simulator.device.conversation import Conversation
from simulator.device.device import Device
from simulator.device.download import Retry, Transfer
from simulator.device.reports import NEVER, Reports
from simulator.device.sources import Grant
from simulator.device.work import Work
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
        body = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return -1
    version = body.get("version") if isinstance(body, dict) else None
    return version if isinstance(version, int) else -1


class SingleGate(MqttConnection):
    """One gate for all versions: `accepted` raises it, and the delta of the same version does not pass any more."""

    def __init__(self, dialect: DeviceDialect, *more: Any) -> None:
        super().__init__(cast(DeviceDialect, _Gated(dialect)), *more)


class NeverAsks(Conversation):
    """Says and asks nothing when it is connected again: whatever was desired meanwhile, it waits for a delta."""

    _met = False  # since the boot

    def forget(self) -> None:
        """It asks after a boot."""
        super().forget()
        self._met = False

    async def open(self, *, lie: bool = False, again: bool = False) -> None:
        """Subscribe, and no more unless it has just booted."""
        if not self._met:
            self._met = True
            await super().open(lie=lie, again=again)
            return
        self.ask_at = NEVER
        outputs = self.connection.dialect.open(self.agent.initial(), self.connection.wall()).outputs
        await self.connection.perform(tuple(output for output in outputs if isinstance(output, Subscribe)))


class TakesTcpForSuccess(MqttConnection):
    """Begins its back-off anew as soon as TCP connects, whatever becomes of the connection."""

    hasty = True


class KeepsUrl(Work):
    """Downloads from the URL that it began with, however often that is refused and whatever newer one it hears of."""

    _first = ""

    def start(self) -> None:
        """Note the URL."""
        super().start()
        self._first = self.download.url if self.download is not None else ""

    async def grant(self, fresh: bool) -> Grant:
        """The first one, for ever."""
        if self.download is None or self.download.needs_credential:
            return await super().grant(fresh)
        return Grant(self._first)


class _Appending(Transfer):
    def _head(self, status: int, headers: dict[str, str]) -> Retry | None:
        return None if status == 200 and self.partial.received else super()._head(status, headers)


class Appends(Work):
    """Takes whatever comes for the rest that it asked for."""

    transfer = _Appending


class MarksEarly(Work):
    """Notes a job as done when it begins with it: after a power cut it does not go on."""

    def start(self) -> None:
        """Begin, and note it as done."""
        super().start()
        self.agent.end(self.agent.flash.job)


class SaysOnce(Reports):
    """Says its report once, whether anybody hears it or not."""

    async def send(self) -> None:
        """Send it; then it is done."""
        try:
            await super().send()
        except LinkError:
            self.done()
            raise
        if self.sent and not self.hung and self.agent.flash.pending is not None:
            self.done()


class Parks(Conversation):
    """Waits for the answer to its report, and for nothing else, until it is started again."""

    async def report(self) -> None:
        """Send it once."""
        if self.reports.sent:
            self.reports.resend_at = NEVER
        else:
            await super().report()

    async def hear(self, signal: object) -> None:
        """Pass over all that is no answer, once it is sent."""
        if self.agent.flash.pending is not None and self.reports.sent and not isinstance(signal, Answered):
            self.ask_at = NEVER
        else:
            await super().hear(signal)


class FailsLate(Reports):
    """Calls a job failed whose success was not answered, and runs the new software all the same."""

    async def send(self) -> None:
        """A success that is sent again is a failure."""
        pending = self.agent.flash.pending
        if self.sent and pending is not None and pending.status is Status.SUCCESS:
            self.agent.flash.pending = self.agent.progress(Status.FAILURE, "success was not answered")
        await super().send()


class Redoes(UpdateAgent):
    """Carries a job out again whenever it hears of it."""

    def consider(self, request: UpdateRequested) -> Reaction:
        """Begin with what is done already."""
        reaction = super().consider(request)
        if reaction not in (Reaction.DUPLICATE, Reaction.INSTALLED):
            return reaction
        return Reaction.START if self.phase is Phase.IDLE else Reaction.SUPERSEDE


HABITS: dict[str, type] = {
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
_PARTS: dict[str, type] = {
    "agent_kind": UpdateAgent,
    "connection_kind": MqttConnection,
    "reports_kind": Reports,
    "work_kind": Work,
    "conversation_kind": Conversation,
}


def device_with(habits: Collection[str]) -> type[Device]:
    """The device with these habits, in the table's order; without any, the one that does as it should."""
    return _made(tuple(name for name in HABITS if name in habits))


@functools.cache
def _made(habits: tuple[str, ...]) -> type[Device]:
    kinds = {}
    for attribute, part in _PARTS.items():
        mixed = tuple(HABITS[name] for name in habits if issubclass(HABITS[name], part))
        if mixed:
            kinds[attribute] = type(mixed[0].__name__, mixed, {})
    return type("Device", (Device,), kinds) if kinds else Device
