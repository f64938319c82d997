"""Verbs that leave servers running, or write what one needs: `serve`, `mosquitto`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simulator.cli.parameters import ScenarioName, laid_over, loaded, loaded_target, options_of, with_flags


@with_flags("serve")
def serve(
    scenario: Annotated[
        str | None, typer.Argument(help="optional scenario to take target, device names and topics from")
    ] = None,
    **flags: Any,
) -> None:
    """Run broker, backend (replica and storage) and application alone, until interrupted."""
    from simulator.worlds.live.serve import serve as serving

    raise typer.Exit(serving(loaded_target(scenario, laid_over(flags)), options_of(flags)))


@with_flags("mosquitto")
def mosquitto(
    scenario: ScenarioName,
    directory: Annotated[Path, typer.Argument(help="the directory to write them to")],
    **flags: Any,
) -> None:
    """Write the files of a mosquitto that runs by itself and loses no message, for runs of this scenario, fleet and seed
    against it: `mosquitto -c DIRECTORY/mosquitto.conf`, and then `--broker mqtt://HOST`."""
    from simulator.worlds.live.servers import mosquitto_for

    mosquitto_for(loaded(scenario, laid_over(flags)), options_of(flags), directory).write()
    print(directory / "mosquitto.conf")
