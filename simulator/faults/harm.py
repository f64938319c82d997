"""Who is harmed by which faults now: one Harm for each device that any fault of the scenario befalls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import orjson

from simulator.faults.catalogue import entry_of, rule_of
from simulator.faults.rules import (
    Fate,
    Nature,
    OnExchange,
    OnMessage,
    OnRoad,
    OnServer,
    OtherClient,
    Packet,
    ReplayCommand,
    Rule,
    Strike,
    Trouble,
)
from simulator.links.base import Delivery
from simulator.model.events import Kind
from simulator.model.io import Request
from simulator.model.scenario import Fault, Profile, Scenario
from simulator.model.update import Phase
from simulator.trace.recorder import Record

Saw = Callable[..., None]
"""Notes what a fault's own connection saw."""

_Kind = TypeVar("_Kind", bound=Rule)


class _Active:
    """One fault on one device: whether it is there now, and how often it may still strike."""

    __slots__ = ("fault", "left", "nth", "on", "rule")

    def __init__(self, nth: int, fault: Fault, rule: Rule) -> None:
        self.nth, self.fault, self.rule = nth, fault, rule
        self.on = fault.from_the_start
        self.left = fault.times or entry_of(fault, nth).times


class Harm:
    """What befalls one thing. `strike`, `turned` and `other` are set by whom it concerns: the device, which is switched
    off, and its road, which is down, dark or whole again, or has another connection of the same client id."""

    __slots__ = ("_active", "_loop", "_record", "other", "strike", "thing", "turned")

    def __init__(self, thing: str, active: list[_Active], record: Record) -> None:
        self.thing, self._active, self._record = thing, active, record
        self._loop = asyncio.get_running_loop()
        self.strike: Callable[[str], None] = lambda act: None
        self.other: Callable[[str, Saw], None] = lambda act, saw: None
        self.turned: Callable[[], None] = lambda: None
        for harm in active:
            if isinstance(harm.rule, Nature):
                self._note(harm, {"nature": harm.fault.fault})
            elif isinstance(harm.rule, OnRoad) and harm.rule.session is not None:
                self._note(harm, harm.rule.session._asdict())

    def _all(self, kind: type[_Kind]) -> Iterator[_Kind]:
        """The rules of this kind, whether their faults are there now or not."""
        return (active.rule for active in self._active if isinstance(active.rule, kind))

    def _now(self, kind: type[_Kind]) -> Iterator[tuple[_Active, _Kind]]:
        """Each fault whose rule is of this kind, that is there now and may still strike; with its rule."""
        for active in self._active:
            rule = active.rule
            if active.on and active.left != 0 and isinstance(rule, kind):
                yield active, rule

    # ---- the device's nature

    def profile(self, profile: Profile) -> Profile:
        """The profile, as these faults make it."""
        for active in self._active:
            rule = active.rule
            if isinstance(rule, Nature) and rule.profile is not None:
                profile = rule.profile(profile)
            elif isinstance(rule, OnRoad) and rule.session is not None:
                profile = profile.model_copy(update=rule.session._asdict())
        return profile

    @property
    def skew_s(self) -> float:
        """How many seconds its clock is ahead."""
        return sum(nature.skew_s for nature in self._all(Nature))

    @property
    def space_bytes(self) -> int | None:
        """Room for what it downloads; None for enough."""
        return min((n.space_bytes for n in self._all(Nature) if n.space_bytes is not None), default=None)

    @property
    def label(self) -> str:
        """What its images add to their version."""
        return "".join(nature.label for nature in self._all(Nature))

    @property
    def habits(self) -> frozenset[str]:
        """What it does as it should not."""
        return frozenset(nature.habit for nature in self._all(Nature) if nature.habit)

    # ---- what befalls it now

    @property
    def road(self) -> str:
        """Whether its MQTT road is down or dark; empty when it is neither."""
        for active in self._active:
            if active.on and isinstance(active.rule, OnRoad) and not active.rule.idle_s:
                return active.rule.state
        return ""

    @property
    def idle_s(self) -> float | None:
        """How long nothing may pass before the road darkens for a connection; None where no fault darkens an idle connection."""
        roads = (active.rule for active in self._active if active.on and isinstance(active.rule, OnRoad))
        return min((road.idle_s for road in roads if road.idle_s), default=None)

    def darkens(self) -> bool:
        """Whether the road darkens, now that nothing has passed for that long."""
        for active, road in self._now(OnRoad):
            if road.idle_s:
                self._spend(active, act="dark", idle_s=road.idle_s)
                return True
        return False

    def replays(self, command: Delivery) -> bool:
        """Whether this last command comes again, now that the device is connected again."""
        for active, _ in self._now(ReplayCommand):
            self._spend(active, message=command.topic, retained=True)
            return True
        return False

    def message(self, packet: Packet) -> Fate | None:
        """What becomes of this message: the fate by the first fault that is there and concerned."""
        for active, rule in self._now(OnMessage):
            if (fate := rule.apply(packet)) is not None:
                self._spend(active, message=packet.meaning.name, size=len(packet.payload), **_changed(fate))
                return fate
        return None

    def exchange(self, request: Request) -> Trouble | None:
        """What becomes of this request and its response: the trouble by the first fault that is there and concerned."""
        for active, rule in self._now(OnExchange):
            if (trouble := rule.apply(request)) is not None:
                self._spend(active, request=request.method, **_changed(trouble))
                return trouble
        return None

    def at_phase(self, phase: Phase) -> str:
        """The device enters a phase: faults of this step begin. What befalls the device itself, if anything."""
        struck = ""
        for active in self._active:
            if active.fault.step == phase and active.left != 0:
                self._begin(active)
                if active.fault.lasts is not None:
                    self._loop.call_later(active.fault.lasts, self.switch, active.nth, False)
                if not struck and isinstance(active.rule, Strike):
                    struck = active.rule.act
        return struck

    def switch(self, nth: int, on: bool) -> None:
        """A fault begins or ends, if it is one of this device's."""
        for active in self._active:
            if active.nth != nth or active.on == on:
                continue
            if on:
                self._begin(active)
                if isinstance(active.rule, Strike):
                    self.strike(active.rule.act)
            else:
                active.on = False
                self.turned()

    def _begin(self, active: _Active) -> None:
        active.on = True
        rule = active.rule
        if isinstance(rule, Strike | OtherClient):
            self._spend(active, act=rule.act)
        elif isinstance(rule, OnRoad) and not rule.idle_s:
            self._spend(active, act=rule.state)
        if isinstance(rule, OtherClient):
            self.other(rule.act, partial(self._saw, active))
        self.turned()

    def _spend(self, active: _Active, **what: Any) -> None:
        if active.left is not None:
            active.left -= 1
        self._note(active, what)

    def _saw(self, active: _Active, **what: Any) -> None:
        self._note(active, what, "saw")

    def _note(self, active: _Active, what: dict[str, Any], status: str = "did") -> None:
        """What the fault changed, or what its own connection saw."""
        detail = orjson.dumps(what).decode()
        self._record(Kind.FAULT, self.thing, status=status, phase=active.fault.fault, size=active.nth, detail=detail)


def _changed(verdict: Fate | Trouble) -> dict[str, Any]:
    """What differs from leaving it alone, by field."""
    usual = type(verdict)()._asdict()
    changed = {name: value for name, value in verdict._asdict().items() if value != usual[name]}
    if "answer" in changed:
        changed["answer"] = changed["answer"].status
    if "without" in changed:
        changed["without"] = sorted(changed["without"])
    return changed


class Harms:
    """The faults of a run, on the devices of one shard. Raises ScenarioError for faults that there are not."""

    def __init__(self, scenario: Scenario, record: Record) -> None:
        self._faults, self._record = scenario.faults, record
        self._rules = [rule_of(fault, nth) for nth, fault in enumerate(scenario.faults)]
        nobody: frozenset[int] = frozenset()
        self._harmed = [
            nobody if isinstance(rule, OnServer) else scenario.harmed(nth) for nth, rule in enumerate(self._rules)
        ]
        self._harms: list[Harm] = []

    def harm(self, ordinal: int, thing: str) -> Harm | None:
        """What befalls this device; None for those that no fault befalls."""
        active = [
            _Active(nth, fault, self._rules[nth])
            for nth, fault in enumerate(self._faults)
            if ordinal in self._harmed[nth]
        ]
        if not active:
            return None
        self._harms.append(Harm(thing, active, self._record))
        return self._harms[-1]

    def switch(self, nth: int, on: bool) -> None:
        """A fault begins or ends."""
        for harm in self._harms:
            harm.switch(nth, on)
