"""Who is harmed by which faults now: one Harm for each device that any fault of the scenario befalls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import orjson

from simulator.faults.packages import Rules, package_of, rules_of
from simulator.faults.rules import Fate, Packet, Trouble
from simulator.links.base import Delivery
from simulator.model.events import Kind
from simulator.model.io import Request
from simulator.model.scenario import Fault, Profile, Scenario
from simulator.model.update import Phase
from simulator.trace.recorder import Record

_STRIKES = ("power-cut", "vanish")  # what the device itself has to act upon
_CLIENTS = ("rival", "half-open")  # what another connection of the same client id does
Saw = Callable[..., None]
"""Notes what a fault's own connection saw."""

_Met = TypeVar("_Met")
_Verdict = TypeVar("_Verdict", Fate, Trouble)


class _Active:
    """One fault on one device: whether it is there now, and how often it may still strike."""

    __slots__ = ("fault", "left", "nth", "on", "rules")

    def __init__(self, nth: int, fault: Fault, rules: Rules) -> None:
        self.nth, self.fault, self.rules = nth, fault, rules
        self.on = fault.from_the_start
        self.left = fault.times or package_of(fault, nth).times


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
        for one in active:
            if one.rules.inborn:
                self._note(one, {"nature": one.fault.fault})
            if one.rules.session is not None:
                self._note(one, one.rules.session._asdict())

    # ---- the device's nature

    def _rules(self) -> Iterator[Rules]:
        return (active.rules for active in self._active)

    def profile(self, profile: Profile) -> Profile:
        """The profile, as these faults make it."""
        for rules in self._rules():
            profile = rules.nature(profile) if rules.nature else profile
            if rules.session is not None:
                profile = profile.model_copy(update=rules.session._asdict())
        return profile

    @property
    def skew_s(self) -> float:
        """How much its clock is ahead."""
        return sum(rules.skew_s for rules in self._rules())

    @property
    def space_bytes(self) -> int | None:
        """Room for what it downloads; None for enough."""
        return min((r.space_bytes for r in self._rules() if r.space_bytes is not None), default=None)

    @property
    def label(self) -> str:
        """What its images add to their version."""
        return "".join(rules.label for rules in self._rules())

    @property
    def habits(self) -> frozenset[str]:
        """What it does as it should not."""
        return frozenset(rules.habit for rules in self._rules() if rules.habit)

    # ---- what befalls it now

    @property
    def road(self) -> str:
        """Whether its MQTT road is down or dark; empty when it is neither."""
        return next((a.rules.road for a in self._active if a.on and a.rules.road and not a.rules.idle_s), "")

    @property
    def idle_s(self) -> float | None:
        """How long nothing may pass before the road darkens for a connection; None for as long as it likes."""
        return min((a.rules.idle_s for a in self._active if a.on and a.rules.idle_s), default=None)

    def darkens(self) -> bool:
        """Whether the road darkens, now that nothing has passed for that long."""
        for active in self._active:
            if active.on and active.rules.idle_s and active.left != 0:
                self._spend(active, act="dark", idle_s=active.rules.idle_s)
                return True
        return False

    def replays(self, command: Delivery) -> bool:
        """Whether this last command comes again, now that the device is connected again."""
        for active in self._active:
            if active.on and active.rules.replays and active.left != 0:
                self._spend(active, message=command.topic, retained=True)
                return True
        return False

    def message(self, packet: Packet) -> Fate | None:
        """What becomes of this message."""
        said = {"message": packet.meaning.name, "size": len(packet.payload)}
        return self._struck(lambda rules: rules.message, packet, said)

    def exchange(self, request: Request) -> Trouble | None:
        """What becomes of this request and its response."""
        return self._struck(lambda rules: rules.exchange, request, {"request": request.method})

    def _struck(
        self, rule_of: Callable[[Rules], Callable[[_Met], _Verdict | None] | None], met: _Met, said: dict[str, Any]
    ) -> _Verdict | None:
        """The verdict of the first fault that is there and concerned."""
        for active in self._active:
            rule = rule_of(active.rules) if active.on and active.left != 0 else None
            verdict = rule(met) if rule is not None else None
            if verdict is not None:
                self._spend(active, **said, **_said(verdict))
                return verdict
        return None

    def at_phase(self, phase: Phase) -> str:
        """The device enters a phase: faults of this step begin. What befalls the device itself, if anything."""
        struck = ""
        for active in self._active:
            if active.fault.step == phase and active.left != 0:
                self._begin(active)
                if active.fault.lasts is not None:
                    self._loop.call_later(active.fault.lasts, self.switch, active.nth, False)
                struck = struck or (active.rules.act if active.rules.act in _STRIKES else "")
        return struck

    def switch(self, nth: int, on: bool) -> None:
        """A fault begins or ends, if it is one of this device's."""
        for active in self._active:
            if active.nth != nth or active.on == on:
                continue
            if on:
                self._begin(active)
                if active.rules.act in _STRIKES:
                    self.strike(active.rules.act)
            else:
                active.on = False
                self.turned()

    def _begin(self, active: _Active) -> None:
        active.on = True
        rules = active.rules
        if rules.act or (rules.road and not rules.idle_s):
            self._spend(active, act=rules.act or rules.road)
        if rules.act in _CLIENTS:
            self.other(rules.act, partial(self._saw, active))
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


def _said(verdict: Fate | Trouble) -> dict[str, Any]:
    """What differs from leaving it alone."""
    usual, said = type(verdict)()._asdict(), verdict._asdict()
    changed = {name: value for name, value in said.items() if value != usual[name]}
    if "answer" in changed:
        changed["answer"] = changed["answer"].status
    if "without" in changed:
        changed["without"] = sorted(changed["without"])
    return changed


class Harms:
    """The faults of a run, on the devices of one shard. Raises ScenarioError for faults that there are not."""

    def __init__(self, scenario: Scenario, record: Record) -> None:
        self._faults, self._record = scenario.faults, record
        self._rules = [rules_of(fault, nth) for nth, fault in enumerate(scenario.faults)]
        nobody: frozenset[int] = frozenset()
        self._harmed = [nobody if rules.server else scenario.harmed(nth) for nth, rules in enumerate(self._rules)]
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
