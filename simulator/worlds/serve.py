"""`fleetsim serve`: the stack alone, for a fleet or a tool of somebody else's, until interrupted."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from pathlib import Path

from simulator.links.loop import run_live
from simulator.model.errors import PartDied
from simulator.model.scenario import Scenario
from simulator.worlds import limits, setting
from simulator.worlds.stack import Options, Stack


def serve(scenario: Scenario, options: Options) -> int:
    """Start, say where everything is, stop on SIGINT or SIGTERM; the exit code. Raises ScenarioError, PartDied."""
    limits.raise_open_files()
    with tempfile.TemporaryDirectory(prefix="fleetsim-") as directory:
        return run_live(lambda: _serve(scenario, options, Path(directory)))


async def _serve(scenario: Scenario, options: Options, directory: Path) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stack = Stack(scenario, options, directory, time.monotonic_ns(), time.time() - time.monotonic())
    try:
        await stack.start()
        print(_where(scenario, stack), flush=True)
        racers = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(stack.watch())]
        done, _ = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for racer in racers:
            racer.cancel()
        for racer in done:
            if isinstance(racer.exception(), PartDied):
                racer.result()
    finally:
        await stack.stop()
    return 0


def _where(scenario: Scenario, stack: Stack) -> str:
    key = setting.run_key(scenario)
    lines = {
        "broker": f"{stack.broker['scheme']}://{stack.broker['host']}:{stack.broker['port']}",
        "things": f"user THING, password HMAC-SHA256(run key, THING), its first 32 hex digits; run key {key}",
        "backend": f"{stack.backend_url} (OpenAPI: /docs)",
        "rollouts": f"{stack.application_url} (OpenAPI: /docs)",
        "token": stack.options.token,
    }
    return "\n".join(f"  {name:<9} {text}" for name, text in lines.items())
