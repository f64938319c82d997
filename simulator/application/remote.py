"""The rollouts' port on an application's HTTP API, wherever that runs: a client of `api.py`."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from pydantic import TypeAdapter, ValidationError

from simulator.application.port import FleetState, NoSuch, RolloutRequest, RolloutState, ThingState
from simulator.application.rollout import WrongState
from simulator.links.base import HttpLink
from simulator.model.errors import PeerError, ScenarioError
from simulator.model.io import Request

_Facts = TypeVar("_Facts")


class RemoteRollouts:
    """The port on the API of an application at `base` (scheme and authority). Beside what the port raises: LinkError where
    nobody answers, PeerError for an answer that makes no sense."""

    def __init__(self, http: HttpLink, base: str, token: str) -> None:
        self._http, self.base, self.token = http, base, token
        self._headers = (("authorization", f"Bearer {token}"), ("content-type", "application/json"))

    async def _ask(self, method: str, path: str, body: bytes = b"") -> Any:
        request = Request(method, self.base + path, self._headers, body)
        response = await self._http.request(request, timeout_s=60.0, bound=1 << 28)
        try:
            answer = orjson.loads(response.body)
        except ValueError:
            raise PeerError(f"{method} {path}: {response.status}, and no JSON", code=response.status) from None
        if response.status < 300:
            return answer
        text = answer.get("error", "") if isinstance(answer, dict) else ""
        if response.status in (404, 409, 422):
            raise {404: NoSuch, 409: WrongState, 422: ScenarioError}[response.status](text)
        raise PeerError(f"{method} {path}: {response.status} {text}", code=response.status)

    async def _read(self, kind: type[_Facts], method: str, path: str, body: bytes = b"") -> _Facts:
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
