"""The rollouts' port on our own engine, in this process."""

from __future__ import annotations

from collections.abc import Callable

from simulator.application.engine import Application
from simulator.application.port import FleetState, NoSuch, RolloutRequest, RolloutState, ThingState
from simulator.application.rollout import Rollout
from simulator.model.errors import ScenarioError
from simulator.model.update import Artifact


class LocalRollouts:
    """The port on an Application in this process. `prefix` makes job ids unique among runs."""

    def __init__(self, engine: Application, *, prefix: str = "") -> None:
        self._engine, self._prefix = engine, prefix

    async def create(self, request: RolloutRequest) -> RolloutState:
        """Begin a rollout. Raises ScenarioError for a name in use or a thing named twice."""
        spec, facts = request.spec, request.artifact
        if spec.name in self._engine.rollouts:
            raise ScenarioError(f"there is a rollout called {spec.name!r} already")
        artifact = Artifact(facts.version, facts.url, facts.size, facts.sha256)
        try:
            rollout = Rollout(
                spec,
                artifact,
                [(t.thing, t.cohort) for t in request.targets],
                begin_at=self._engine.clock(),
                prefix=self._prefix,
            )
        except ValueError as twice:
            raise ScenarioError(str(twice)) from None
        self._engine.add(rollout)
        return _state(rollout)

    async def names(self) -> list[str]:
        """All rollouts, by age."""
        return list(self._engine.rollouts)

    def _find(self, name: str) -> Rollout:
        rollout = self._engine.rollouts.get(name)
        if rollout is None:
            raise NoSuch(f"no rollout {name!r}")
        return rollout

    def _changed(self, name: str, deed: Callable[[Rollout], None]) -> RolloutState:
        rollout = self._find(name)
        deed(rollout)
        self._engine.stir()
        return _state(rollout)

    async def state(self, name: str) -> RolloutState:
        """Where a rollout is."""
        return _state(self._find(name))

    async def pause(self, name: str) -> RolloutState:
        """Offer nothing more until resumed."""
        return self._changed(name, Rollout.pause)

    async def resume(self, name: str) -> RolloutState:
        """Go on."""
        return self._changed(name, Rollout.resume)

    async def abort(self, name: str) -> RolloutState:
        """Cancel what was not offered yet."""
        return self._changed(name, Rollout.abort)

    async def fleet(self) -> FleetState:
        """The whole fleet, each thing counted once: with the latest rollout that targets it."""
        engine = self._engine
        states: dict[str, int] = {}
        cohorts: dict[str, dict[str, int]] = {}
        versions: dict[str, int] = {}
        seen: set[str] = set()
        for rollout in reversed(engine.rollouts.values()):
            for thing, cohort in rollout.targets():
                standing = rollout.standing(thing)
                if thing in seen or standing is None:
                    continue
                seen.add(thing)
                states[standing.state] = states.get(standing.state, 0) + 1
                counts = cohorts.setdefault(cohort, {})
                counts[standing.state] = counts.get(standing.state, 0) + 1
        for version in engine.versions.values():
            versions[version] = versions.get(version, 0) + 1
        return FleetState(things=len(seen | engine.versions.keys()), states=states, cohorts=cohorts, versions=versions)

    async def thing(self, thing: str) -> ThingState:
        """One thing, with the latest rollout that targets it."""
        version = self._engine.versions.get(thing)
        for name, rollout in reversed(self._engine.rollouts.items()):
            standing = rollout.standing(thing)
            if standing is not None:
                return ThingState(
                    thing=thing,
                    version=version,
                    rollout=name,
                    job=standing.job,
                    state=standing.state,
                    attempt=standing.attempt,
                    wave=standing.wave,
                )
        if version is None:
            raise NoSuch(f"nothing is known of {thing!r}")
        return ThingState(thing=thing, version=version)


def _state(rollout: Rollout) -> RolloutState:
    return RolloutState(
        name=rollout.spec.name,
        version=rollout.artifact.version,
        status=rollout.status,
        reason=rollout.reason,
        wave=rollout.wave,
        size=rollout.size,
        states={state.value: n for state, n in rollout.counts_by_state().items() if n},
        cohorts={
            cohort: {state.value: n for state, n in zip(rollout.counts_by_state(), counts, strict=True) if n}
            for cohort, counts in rollout.cohorts.items()
        },
    )
