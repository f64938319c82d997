"""`fleetsim serve`: the stack alone, for a fleet or a tool of somebody else's, until interrupted."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from simulator.links.loop import run_live
from simulator.model.scenario import Scenario
from simulator.worlds import setup, signals
from simulator.worlds.live import machine
from simulator.worlds.live.options import Options, refuse_no_address
from simulator.worlds.live.protocol import Event, Warned
from simulator.worlds.live.servers import Stack, StackListener


def serve(scenario: Scenario, options: Options) -> int:
    """Start, say where everything is, stop on SIGINT or SIGTERM; the exit code. Raises ScenarioError, PartDied."""
    refuse_no_address(options)
    machine.raise_open_files()
    with tempfile.TemporaryDirectory(prefix="fleetsim-") as directory:
        return run_live(lambda: _serve(scenario, options, Path(directory)))


async def _serve(scenario: Scenario, options: Options, directory: Path) -> int:
    stop = asyncio.Event()
    for number in signals.BOTH:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    epoch = time.time() - time.monotonic()
    stack = Stack(scenario, options, directory, time.monotonic_ns(), epoch, traced=False, listener=_ShownWarnings())
    racers: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(stop.wait()),
        asyncio.ensure_future(_up(scenario, stack)),
    ]
    try:
        done, _ = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for racer in done:
            racer.result()
    finally:
        for racer in racers:
            racer.cancel()
        await asyncio.gather(*racers, return_exceptions=True)
        await stack.stop()
    return 0


async def _up(scenario: Scenario, stack: Stack) -> None:
    await stack.start()
    print(_where(scenario, stack), flush=True)
    await stack.watch()


class _ShownWarnings(StackListener):
    """Shows the servers' warnings to the user."""

    def receive(self, name: str, event: Event) -> None:
        """A warning goes to stderr."""
        if isinstance(event, Warned):
            print(f"{name}: {event.text}", file=sys.stderr, flush=True)


def _where(scenario: Scenario, stack: Stack) -> str:
    key, fleet = setup.run_key(scenario), scenario.fleet
    known = "" if stack.mosquitto is None else f" from {fleet.name(0)} to {fleet.name(fleet.devices - 1)}"
    lines = {
        "broker": stack.at.broker.url,
        "things": f"user THING{known}, password HMAC-SHA256(run key, THING), its first 32 hex digits; run key {key}",
        "backend": f"{stack.at.backend} (/health, /openapi.json)",
        "storage": f"{stack.at.storage} (/health, /openapi.json)",
        "rollouts": f"{stack.at.application} (/health, /openapi.json)",
        "token": stack.options.token,
    }
    return "\n".join(f"  {name:<9} {text}" for name, text in lines.items())
