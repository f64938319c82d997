"""Locust's command line and its start form: Locust's own flags, and beside them those of `fleetsim run` (worlds/flags.py).

A run under Locust is a `fleetsim run` that Locust starts: `words` says it in that command's flags, and `command` in
Locust's, which is what repeats it."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simulator.worlds.flags import Flag, flags_of, repeating, spelled

SCENARIO = "quickstart"
SERVERS = {"broker": ("broker",), "backend": ("storage", "replica"), "application": ("application",)}
"""What a worker may carry instead of a shard, and the parts of which that consists."""

_FORM = {"num_users": "users", "run_time": "run-time"}  # of Locust's own: what the start form may change


def add(parser: Any) -> None:
    """Teach Locust's parser the flags. (Its groups cannot hide one from the start form.)"""
    parser.add_argument(
        "--carry",
        choices=SERVERS,
        env_var="FLEETSIM_CARRY",
        help="of a worker: carry this server of a run, on --bind, instead of a shard of the devices",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--health",
        type=int,
        env_var="FLEETSIM_HEALTH",
        help="answer GET /health on this port of loopback",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--scenario",
        default=SCENARIO,
        env_var="FLEETSIM_SCENARIO",
        help="a scenario file, or the name of a shipped one",
    )
    for flag in flags_of("locust"):
        more: dict[str, Any] = {"default": ""} if flag.form else {}  # a form shows what is text
        parser.add_argument(
            *_names(flag), env_var=flag.variable, help=flag.help, include_in_web_ui=flag.form, **_action(flag), **more
        )


def _names(flag: Flag) -> list[str]:
    return [name for name in (flag.short, flag.option) if name]


def _action(flag: Flag) -> dict[str, Any]:
    return {"action": {"switch": "store_true", "several": "append"}.get(flag.kind, "store")}


def words(options: Namespace) -> list[str]:
    """The words of `fleetsim run` that say the same as these options of Locust's."""
    line = [str(options.scenario), *spelled("locust", vars(options))]
    if options.run_time:
        line += ["--run-time", f"{options.run_time}s"]
    if (options.num_users or 1) > 1:
        line += ["--operators", str(options.num_users)]
    return line


def command(
    line: Sequence[str], options: Namespace, before: Namespace, actions: Iterable[Any], environment: Mapping[str, str]
) -> list[str]:
    """The words that repeat a run, but for its seed. Ours are spelled from what is in force. Of Locust's own there are
    those of its command `line`, those that its parser's `actions` take from the environment, and what the start form
    has changed since `before`."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--carry", "--health", "--scenario"):
        parser.add_argument(name)
    for flag in flags_of("locust"):
        parser.add_argument(*_names(flag), **_action(flag))
    _, own = parser.parse_known_args(line)
    for action in actions:
        variable = getattr(action, "env_var", None) or ""
        if variable.startswith("LOCUST_") and variable in environment and not set(action.option_strings) & set(own):
            own += (
                [action.option_strings[-1]] if action.nargs == 0 else [action.option_strings[-1], environment[variable]]
            )
    for name, option in _FORM.items():
        if name in before and getattr(options, name) != getattr(before, name):
            own += [f"--{option}", str(getattr(options, name))]
    scenario = [] if options.scenario == SCENARIO else ["--scenario", str(options.scenario)]
    health = ["--health", str(options.health)] if options.health else []
    return ["locust", *own, *scenario, *health, *repeating("locust", {**vars(options), "seed": None}, environment)]


def repeated(line: Sequence[str], options: Namespace, before: Namespace) -> list[str]:
    """The same, of this process's Locust and environment."""
    from locust.argument_parser import get_parser

    return command(line, options, before, get_parser()._actions, os.environ)
