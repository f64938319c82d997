"""The rollouts' HTTP face, and a client of it: one port, on the local engine or on a remote API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import quote

import orjson
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from simulator import __version__
from simulator.application.engine import Application
from simulator.application.rollout import Rollout, WrongState
from simulator.links.asgi import error, guarded
from simulator.links.base import HttpLink
from simulator.model.errors import PeerError, ScenarioError
from simulator.model.io import Request
from simulator.model.scenario import RolloutSpec
from simulator.model.update import Artifact

_Told = TypeVar("_Told")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ArtifactFacts(_Body):
    """The new software; `size` and `sha256` are absent where nobody told them."""

    version: str
    url: str
    size: int | None = None
    sha256: str | None = None


class TargetFacts(_Body):
    """A target and the cohort it is counted with."""

    thing: str = Field(pattern=r"^[^/+#\x00]+$")  # it becomes a topic level
    cohort: str = "all"


class RolloutRequest(_Body):
    """What to roll out, to whom, and how: `spec` is the scenario file's `rollout` block."""

    spec: RolloutSpec
    artifact: ArtifactFacts
    targets: list[TargetFacts]


class RolloutState(_Body):
    """Where a rollout is; the counts by state add up to `size`."""

    name: str
    version: str
    status: str
    reason: str
    wave: int
    size: int
    states: dict[str, int]
    cohorts: dict[str, dict[str, int]]


class FleetState(_Body):
    """What is known of all things: `states` and `cohorts` of the latest rollout that targets each, and `versions` as
    last reported."""

    things: int
    states: dict[str, int]
    cohorts: dict[str, dict[str, int]]
    versions: dict[str, int]


class ThingState(_Body):
    """What is known of one thing; the fields of an execution are absent where no rollout targets it."""

    thing: str
    version: str | None = None
    rollout: str | None = None
    job: str | None = None
    state: str | None = None
    attempt: int | None = None
    wave: int | None = None


class Refusal(_Body):
    """Why a request was refused."""

    error: str


class NoSuch(ScenarioError):
    """There is no such rollout or thing."""


class Rollouts(Protocol):
    """What an operator may ask and do. Raises NoSuch, WrongState, and ScenarioError for what makes no sense."""

    async def create(self, request: RolloutRequest) -> RolloutState:
        """Begin a rollout."""

    async def names(self) -> list[str]:
        """All rollouts, by age."""

    async def state(self, name: str) -> RolloutState:
        """Where a rollout is."""

    async def pause(self, name: str) -> RolloutState:
        """Offer nothing more until resumed."""

    async def resume(self, name: str) -> RolloutState:
        """Go on."""

    async def abort(self, name: str) -> RolloutState:
        """Cancel what was not offered yet."""

    async def fleet(self) -> FleetState:
        """The whole fleet."""

    async def thing(self, thing: str) -> ThingState:
        """One thing."""


# ---- the local engine


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


# ---- the HTTP face


def _refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Refusal} for code in (401, 422, *codes)}


def app(rollouts: Rollouts, token: str) -> FastAPI:
    """The port over HTTP, with an OpenAPI description; all but /health wants the token."""
    face = guarded("fleetsim rollouts", token)

    @face.exception_handler(ScenarioError)
    async def refused(_: Any, refusal: Exception) -> Any:
        return error(404 if isinstance(refusal, NoSuch) else 422, str(refusal))

    @face.get("/health")
    async def healthy() -> dict[str, Any]:
        """Whether it is up. Needs no token."""
        return {"status": "ok", "version": __version__, "rollouts": len(await rollouts.names())}

    @face.post("/rollouts", status_code=201, responses=_refusals())
    async def create(request: RolloutRequest) -> RolloutState:
        """Begin a rollout; 422 for one that makes no sense."""
        return await rollouts.create(request)

    @face.get("/rollouts", responses=_refusals())
    async def names() -> list[str]:
        """All rollouts, by age."""
        return await rollouts.names()

    @face.get("/rollouts/{name}", responses=_refusals(404))
    async def state(name: str) -> RolloutState:
        """Where a rollout is."""
        return await rollouts.state(name)

    @face.post("/rollouts/{name}/{verb}", responses=_refusals(404, 409))
    async def operate(name: str, verb: Literal["pause", "resume", "abort"]) -> RolloutState:
        """pause, resume or abort; 409 where its status does not allow that."""
        deeds = {"pause": rollouts.pause, "resume": rollouts.resume, "abort": rollouts.abort}
        try:
            return await deeds[verb](name)
        except WrongState as wrong:
            raise HTTPException(409, str(wrong)) from None

    @face.get("/fleet", responses=_refusals())
    async def fleet() -> FleetState:
        """The whole fleet: counts by state, by version, by cohort."""
        return await rollouts.fleet()

    @face.get("/things/{thing}", responses=_refusals(404))
    async def thing(thing: str) -> ThingState:
        """One thing."""
        return await rollouts.thing(thing)

    face.openapi()["paths"]["/health"]["get"]["security"] = []
    return face


# ---- a client of it


class RemoteRollouts:
    """The port on somebody's API at `base` (scheme and authority)."""

    def __init__(self, http: HttpLink, base: str, token: str) -> None:
        self._http, self.base, self.token = http, base, token
        self._headers = (("authorization", f"Bearer {token}"), ("content-type", "application/json"))

    async def _ask(self, method: str, path: str, body: bytes = b"") -> Any:
        request = Request(method, self.base + path, self._headers, body)
        response = await self._http.request(request, timeout_s=60.0, bound=1 << 28)
        try:
            said = orjson.loads(response.body)
        except ValueError:
            raise PeerError(f"{method} {path}: {response.status}, and no JSON", code=response.status) from None
        if response.status < 300:
            return said
        text = said.get("error", "") if isinstance(said, dict) else ""
        if response.status in (404, 409, 422):
            raise {404: NoSuch, 409: WrongState, 422: ScenarioError}[response.status](text)
        raise PeerError(f"{method} {path}: {response.status} {text}", code=response.status)

    async def _read(self, kind: type[_Told], method: str, path: str, body: bytes = b"") -> _Told:
        try:
            return TypeAdapter(kind).validate_python(await self._ask(method, path, body))
        except ValidationError as invalid:
            raise PeerError(f"{method} {path}: {invalid}") from None

    async def _state(self, method: str, path: str, body: bytes = b"") -> RolloutState:
        return await self._read(RolloutState, method, path, body)

    async def create(self, request: RolloutRequest) -> RolloutState:
        """Begin a rollout."""
        return await self._state("POST", "/rollouts", request.model_dump_json(by_alias=True).encode())

    async def names(self) -> list[str]:
        """All rollouts, by age."""
        return await self._read(list[str], "GET", "/rollouts")

    async def state(self, name: str) -> RolloutState:
        """Where a rollout is."""
        return await self._state("GET", f"/rollouts/{quote(name, safe='')}")

    async def pause(self, name: str) -> RolloutState:
        """Offer nothing more until resumed."""
        return await self._state("POST", f"/rollouts/{quote(name, safe='')}/pause")

    async def resume(self, name: str) -> RolloutState:
        """Go on."""
        return await self._state("POST", f"/rollouts/{quote(name, safe='')}/resume")

    async def abort(self, name: str) -> RolloutState:
        """Cancel what was not offered yet."""
        return await self._state("POST", f"/rollouts/{quote(name, safe='')}/abort")

    async def fleet(self) -> FleetState:
        """The whole fleet."""
        return await self._read(FleetState, "GET", "/fleet")

    async def thing(self, thing: str) -> ThingState:
        """One thing."""
        return await self._read(ThingState, "GET", f"/things/{quote(thing, safe='')}")
