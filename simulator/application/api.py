"""The rollouts' HTTP face: the port for operators anywhere, described by OpenAPI."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from simulator import __version__
from simulator.application.port import FleetState, NoSuch, RolloutRequest, Rollouts, RolloutState, ThingState
from simulator.application.rollout import WrongState
from simulator.links.asgi import error, guarded
from simulator.model.errors import ScenarioError


class Refusal(BaseModel):
    """Why a request was refused."""

    error: str


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
