"""From flags to what a verb works with. The rows of worlds/flags.py become typer's parameters here (`with_flags`), and
their values a scenario (`loaded`) and the options of a live run (`options_of`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.model.errors import ScenarioError
from simulator.worlds.flags import OPTION_OF, Flag, flags_of, laid

if TYPE_CHECKING:  # what a verb needs is imported when it is called: the others are quicker without
    from simulator.model.scenario import Scenario
    from simulator.worlds.live.options import Options

ScenarioName = Annotated[str, typer.Argument(help="a scenario file, or the name of a shipped one")]
RunPath = Annotated[Path, typer.Argument(help="a run directory")]
Verb = Callable[..., None]

_TYPES: dict[str, Any] = {"text": str, "number": int, "path": Path, "switch": bool, "several": list[str]}


def with_flags(verb: str) -> Callable[[Verb], Verb]:
    """A decorator: the function's `**flags` become the verb's flags, whose values it gets by parameter name."""

    def take(function: Verb) -> Verb:
        given = inspect.signature(function, eval_str=True)
        own = [p for p in given.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        flags = [_parameter(flag) for flag in flags_of(verb)]
        function.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
        return function

    return take


def _parameter(flag: Flag) -> inspect.Parameter:
    kind, default = _TYPES[flag.kind], flag.default
    names = [name for name in (flag.short, flag.option) if name]
    if flag.kind == "switch":
        names, default = [f"{flag.option}/--no-{flag.name}"], False
    elif default is None:
        kind = kind | None
    elif flag.kind == "path":
        default = Path(default)
    option = typer.Option(
        *names, envvar=flag.variable, help=flag.help, hidden=flag.hidden, min=flag.least, max=flag.most
    )
    return inspect.Parameter(
        flag.dest, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def laid_over(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What these flags lay over a scenario: dotted key -> value."""
    return laid({**flags, "storage": None} if flags.get("storage") == "embedded" else flags)


def options_of(flags: Mapping[str, Any]) -> Options:
    """How these flags set up a live run; what is not given is as by default. Raises ScenarioError."""
    from simulator.worlds.live.options import Options, Ports
    from simulator.worlds.live.protocol import TlsOptions

    if (link := flags.get("link", "lean")) not in ("lean", "library"):
        raise ScenarioError(f"--link {link}: there are lean, library")
    own = {field.name: flags[field.name] for field in fields(Options) if flags.get(field.name)}
    tls = {name: flags[name] for name in ("cafile", "cert", "key", "insecure") if flags.get(name)}
    servers = ("broker", "backend", "storage", "application")
    ports = {name: flags[f"{name}_port"] for name in servers if f"{name}_port" in flags}
    return Options(**own, tls=TlsOptions(**tls), ports=Ports(**ports))


def loaded(word: str, laid: dict[str, Any], faults: Sequence[str] = (), operators: int | None = None) -> Scenario:
    """A scenario by its name or file, with more faults, and split among so many operators, which makes sense to the
    rooms that will carry it out."""
    from simulator.model.scenario import with_operators
    from simulator.worlds import run as running

    scenario = _read(word, laid, running.sensible)
    return with_operators(running.with_faults(scenario, faults), operators)


def loaded_target(word: str | None, laid: dict[str, Any]) -> Scenario:
    """A scenario whose target alone is wanted, for live servers; without a name or file, one of defaults."""
    from simulator.model.scenario import parse_scenario
    from simulator.worlds import run as running

    def check(scenario: Scenario) -> None:
        running.sensible_target(scenario.target, live=True)

    if word is not None:
        return _read(word, laid, check)
    scenario = parse_scenario("{name: serve}", "serve", laid, flags=OPTION_OF)
    check(scenario)
    return scenario


def _read(word: str, laid: dict[str, Any], check: Callable[[Scenario], None]) -> Scenario:
    """A scenario by its name or file, which passes this check. Errors name file and line."""
    from simulator.model.scenario import load_scenario, located
    from simulator.worlds.shipped import find

    path = find(word)
    scenario = load_scenario(path, laid, OPTION_OF)
    try:
        check(scenario)
    except ScenarioError as error:
        raise located(path, error, {key: OPTION_OF[key] for key in laid if key in OPTION_OF}) from None
    return scenario
