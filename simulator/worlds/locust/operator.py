"""An operator as a Locust user: begins a rollout through the application's API, pauses, resumes or aborts it as the
scenario says, and measures how long the fleet takes to converge."""

from __future__ import annotations

import time
from typing import Any

import gevent
import orjson
from locust import HttpUser, LoadTestShape, task
from locust.exception import StopUser

from simulator.worlds.live.leading import Operate
from simulator.worlds.locust.waiting import DueRollout, set_waiting, waiting_of

_LOOK_S = 0.5
_RATE = 10.0  # operators that begin in a second, where nobody says


class Operator(HttpUser):
    """One rollout each."""

    host = "http://application.invalid"  # the conductor tells where it really is

    @task
    def roll_out(self) -> None:
        """Take a rollout that is due, and see it through."""
        waiting = waiting_of(self.environment)
        while (due := waiting.claim()) is not None:
            self.client.base_url = due.rollout.url
            self.client.headers["authorization"] = f"Bearer {due.rollout.token}"
            if self._begin(due.rollout):
                self._carry_out(due)
        raise StopUser

    def _begin(self, rollout: Operate) -> bool:
        """False where an operator elsewhere was faster."""
        body, headers = orjson.dumps(rollout.request), {"content-type": "application/json"}
        with self.client.post(
            "/rollouts", data=body, headers=headers, name="begin rollout", catch_response=True
        ) as response:
            taken = response.status_code == 422 and "already" in response.text
            if taken:
                response.success()
        return bool(response.status_code == 201)

    def _carry_out(self, due: DueRollout) -> None:
        """Until it has ended, or is paused when there is nothing more to do; then tell how long that took since it was
        due."""
        deeds, name = list(due.rollout.deeds), due.rollout.name
        began = time.monotonic()
        state: dict[str, Any] = {"status": "begun"}
        while state["status"] != "ended" and not (state["status"] == "paused" and not deeds and not _under_way(state)):
            gevent.sleep(_LOOK_S)
            while deeds and began + deeds[0][0] <= time.monotonic():
                self._do(name, deeds.pop(0)[1])
            response = self.client.get(f"/rollouts/{name}", name="look at rollout")
            state = response.json() if response.status_code == 200 else state
        short = ", ".join(f"{n} {state}" for state, n in state["states"].items() if state != "SUCCEEDED")
        self.environment.events.request.fire(
            request_type="rollout",
            name="time to convergence",
            response_time=(time.monotonic() - due.at_s) * 1000,
            response_length=0,
            exception=f"{name}: {short}" if short else None,
        )

    def _do(self, name: str, deed: str) -> None:
        """Pause, resume or abort; one that its status does not allow is no failure."""
        with self.client.post(f"/rollouts/{name}/{deed}", name=f"{deed} rollout", catch_response=True) as response:
            if response.status_code == 409:
                response.success()


def _under_way(state: dict[str, Any]) -> int:
    return int(state["states"].get("IN_PROGRESS", 0))


class Schedule(LoadTestShape):
    """As many operators as the scenario wants by now, until the run is over."""

    use_common_options = True

    def reset_time(self) -> None:
        """A test begins: what an earlier one left is forgotten before the first tick."""
        super().reset_time()
        assert self.runner is not None
        set_waiting(self.runner.environment)

    def tick(self) -> tuple[int, float] | None:
        """(operators, how many of them a second)."""
        assert self.runner is not None
        environment = self.runner.environment
        waiting, options = waiting_of(environment), environment.parsed_options
        rate = float((options and options.spawn_rate) or _RATE)
        return None if waiting.over else (waiting.due(), rate)
