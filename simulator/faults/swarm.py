"""Faults drawn from a run's seed: each seed its own, none of which breaks a check by itself."""

from __future__ import annotations

from typing import Any

from simulator.dialects.registry import dialect_of
from simulator.faults.catalogue import CATALOGUE, Entry
from simulator.faults.rules import Nature, OnRoad, OnServer, OtherClient, Rule, Strike, of_connections
from simulator.model.dice import draw
from simulator.model.scenario import Fault, Scenario
from simulator.model.update import Phase

_STEPS = [phase for phase in Phase if phase is not Phase.ROLLING_BACK]
_AT_S, _LASTS_S = 60.0, (5.0, 120.0)


def with_swarm(scenario: Scenario) -> Scenario:
    """The scenario with as many faults more as its `swarm` asks for; they are named in it from then on."""
    if not scenario.swarm:
        return scenario
    connected = dialect_of(scenario.target.dialect).can.sessions
    harmless = [
        entry for entry in CATALOGUE.values() if not entry.breaks and (connected or not of_connections(_example(entry)))
    ]
    drawn = tuple(_drawn(harmless, scenario.seed, nth) for nth in range(scenario.swarm))
    return scenario.model_copy(update={"faults": (*scenario.faults, *drawn), "swarm": 0})


def _example(entry: Entry) -> Rule:
    """A rule of this fault, with some settings: they do not change its kind."""
    return entry.make(**dict.fromkeys(entry.settings, 1))


def _drawn(harmless: list[Entry], seed: int, nth: int) -> Fault:
    def roll(what: str) -> float:
        return draw(seed, "swarm", f"{what} {nth}")

    entry = harmless[int(roll("fault") * len(harmless))]
    rule = _example(entry)
    fields: dict[str, Any] = {"fault": entry.name, **_when(rule, roll)}
    if not isinstance(rule, OnServer):
        fields["share"] = round(0.05 + 0.45 * roll("share"), 2)
    return Fault.model_validate(fields)


def _when(rule: Rule, roll: Any) -> dict[str, Any]:
    """From the start, at a time or at a step, and for how long: what goes with this fault."""
    if isinstance(rule, Nature):
        return {}
    shortest, longest = _LASTS_S
    instant = isinstance(rule, Strike | OtherClient) or rule == OnServer("rollout")
    lasts = {} if instant else {"for": round(shortest + (longest - shortest) * roll("for"))}
    if isinstance(rule, OnServer):
        return {"at": round(_AT_S * roll("at"), 1), **lasts}
    if roll("step") < 0.5:
        return {"step": str(_STEPS[int(roll("which step") * len(_STEPS))]), **lasts}
    if isinstance(rule, Strike | OtherClient | OnRoad) or roll("later") < 0.5:
        return {"at": round(_AT_S * roll("at"), 1), **lasts}
    return {}
