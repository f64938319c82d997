"""`fleetsim shrink`: the fewest devices, the fewest faults and the shortest times that still fail the same check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import yaml

from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario
from simulator.model.verdict import Finding
from simulator.trace.rundir import Run
from simulator.worlds import judgement as judging
from simulator.worlds import run as running
from simulator.worlds.reproduce import replay

_T = TypeVar("_T")
_HALVINGS = 6
_NAMED = 5  # how many of the devices that a finding names are tried together


class Shrunk(NamedTuple):
    """What is left. `finding` is how the check fails now, `again` the run in which; both None where it does not fail
    again at all. `runs` were made."""

    scenario: Scenario
    check: str
    finding: Finding | None
    again: replay.Again | None
    runs: int


def shrink(run: Run, check: str | None = None, tell: Callable[[str], None] = lambda line: None) -> Shrunk:
    """Shrink a run that failed, by its first failed check or the one named. Raises ScenarioError for a run that has not
    failed so, and for one of the live world."""
    scenario = judging.scenario_of(run)
    if scenario.world != "virtual":
        raise ScenarioError(f"{run.path}: a run of the {scenario.world} world; only virtual runs can be shrunk")
    failed = [finding.check for finding in judging.judge_again(run, ()).failed]
    if not failed or (check is not None and check not in failed):
        what = f"failed {', '.join(failed)}" if failed else "failed no check"
        raise ScenarioError(f"{run.path}: it {what}; there is nothing to shrink" + (f" of {check}" if check else ""))
    return _Shrinker(check or failed[0], tell).shrink(running.to_run_again(run))


class _Shrinker:
    """Tries smaller scenarios, and keeps each that still fails the check."""

    def __init__(self, check: str, said: Callable[[str], None]) -> None:
        self._check, self._said = check, said
        self._runs = 0
        self._last: tuple[Finding, replay.Again] | None = None  # of what is kept

    def shrink(self, scenario: Scenario) -> Shrunk:
        kept = scenario
        if not self._fails(kept):
            return Shrunk(kept, self._check, None, None, self._runs)
        for step in (self._devices, self._faults, self._devices, self._times, self._rest):
            kept = step(kept)
        assert self._last is not None
        return Shrunk(kept, self._check, *self._last, self._runs)

    def _fails(self, scenario: Scenario) -> bool:
        self._runs += 1
        again = replay.again(scenario)
        finding = next((f for f in again.judgement.failed if f.check == self._check), None)
        if finding is not None:
            self._last = finding, again
        return finding is not None

    def _tried(self, kept: Scenario, smaller: Scenario, what: str) -> Scenario:
        try:
            if smaller == kept or not self._fails(smaller):
                return kept
        except ScenarioError:  # it makes no sense: a server is killed, but not so often to each device
            return kept
        self._said(what)
        return smaller

    # ---- steps, each from the greatest leap to the smallest

    def _devices(self, kept: Scenario) -> Scenario:
        """First those that the finding names, then half of what is left, again and again."""
        assert self._last is not None
        things = {kept.fleet.name(ordinal): ordinal for ordinal in kept.fleet.present}
        named = [things[thing] for thing in self._last[0].things if thing in things]
        for few in [named[:1], named[:_NAMED], named]:
            if few and len(few) < len(kept.fleet.present):
                smaller = self._tried(kept, _only(kept, few), f"{len(few)} of {len(kept.fleet.present)} devices")
                if smaller is not kept:
                    return smaller
        return self._fewer(kept, list(kept.fleet.present), _only, "devices")

    def _faults(self, kept: Scenario) -> Scenario:
        """All of the faults, half of them, a quarter, one."""
        kept = self._tried(kept, _with(kept, ()), "no faults")
        return self._fewer(kept, list(kept.faults), _with, "faults")

    def _fewer(
        self, kept: Scenario, parts: list[_T], make: Callable[[Scenario, Sequence[_T]], Scenario], noun: str
    ) -> Scenario:
        """Leave out half of the parts, a quarter, ... one, as long as the check fails (delta debugging)."""
        size = len(parts) // 2
        while size:
            start = 0
            while start < len(parts) and size < len(parts):
                fewer = parts[:start] + parts[start + size :]
                smaller = self._tried(kept, make(kept, fewer), f"{len(fewer)} of {len(parts)} {noun}")
                if smaller is kept:
                    start += size
                else:
                    kept, parts = smaller, fewer
            size //= 2
        return kept

    def _times(self, kept: Scenario) -> Scenario:
        """Each fault as soon, as short and as seldom as still does it."""
        for nth in range(len(kept.faults)):
            kept = self._tried(kept, _changed(kept, nth, times=1), f"{kept.faults[nth].fault} once")
            for name in ("lasts", "at"):
                for _ in range(_HALVINGS):
                    value = getattr(kept.faults[nth], name)
                    if not value:
                        break
                    half = float(round(value / 2)) if value > 2 else value / 2
                    smaller = self._tried(kept, _changed(kept, nth, **{name: half}), f"{name} {half:g} s")
                    if smaller is kept:
                        break
                    kept = smaller
        return kept

    def _rest(self, kept: Scenario) -> Scenario:
        """What the failure does not need: waves, rates, latency and a large artifact."""
        plain: dict[str, dict[str, Any]] = {
            "no waves": {"waves": ()},
            "no rate": {"maximum_per_minute": None, "exponential_rate": None},
            "no limit of executions": {"maximum_concurrent": None},
            "an artifact of 4 KiB": {"size": min(kept.rollout.size, 4096)},
        }
        for what, update in plain.items():
            rollout = kept.rollout.model_copy(update=update)
            kept = self._tried(kept, kept.model_copy(update={"rollout": rollout}), what)
        fleet = kept.fleet.model_copy(update={"profile": "perfect", "cohorts": ()})
        return self._tried(kept, kept.model_copy(update={"fleet": fleet}), "perfect devices")


def _only(scenario: Scenario, ordinals: Sequence[int]) -> Scenario:
    if not ordinals:
        return scenario
    return scenario.model_copy(update={"fleet": scenario.fleet.model_copy(update={"only": tuple(sorted(ordinals))})})


def _with(scenario: Scenario, faults: Sequence[Any]) -> Scenario:
    return scenario.model_copy(update={"faults": tuple(faults)})


def _changed(scenario: Scenario, nth: int, **update: Any) -> Scenario:
    faults = list(scenario.faults)
    faults[nth] = faults[nth].model_copy(update=update)
    return _with(scenario, faults)


def written(scenario: Scenario) -> str:
    """The scenario as a file of its own, with what differs from the defaults."""
    document = scenario.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document |= {"name": scenario.name, "seed": scenario.seed, "world": "virtual"}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
